"""A renewed secret ends the old one: when a customer is identified, when they sign out, and for requests in flight."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from conversations.actions import identify, post_message, renew_secret
from conversations.models import Agent, Attachment, Contact, Conversation, Message, Website
from conversations.models.contact import Claim
from conversations.threshold import limits
from tests.conftest import Page, texts
from tests.test_identity import SECRET, token

pytestmark = pytest.mark.django_db
PATH = "/chat/shop/"
VERA = "vera-7"
CLIENT_ID = "9b0c2a56-7c3e-4d0c-9d3f-0e7cf1a0c0de"


@pytest.fixture(autouse=True)
def shop(settings: Any, tmp_path: Path, transactional: bool) -> Website:
    """A website with identity verification; uploaded files are in an empty folder."""
    settings.MEDIA_ROOT = tmp_path / "files"
    return Website.objects.create(key="shop", name="The shop", identity_secret=SECRET)


@pytest.fixture
def transactional(request: pytest.FixtureRequest) -> bool:
    """Set up the database in the way that the test is marked with, before the website is created."""
    marker = request.node.get_closest_marker("django_db")
    request.getfixturevalue("transactional_db" if marker.kwargs.get("transaction") else "db")
    return bool(marker.kwargs.get("transaction"))


@pytest.fixture
def anonymous() -> Conversation:
    """A conversation that somebody has begun on a shared computer."""
    website = Website.objects.get(key="shop")
    return post_message(content="Anonymous", website=website, client_id=uuid.uuid4()).conversation


def claim(sub: str = VERA) -> Claim:
    """A verified customer."""
    return Claim(sub, Contact.Proof.TOKEN)


def browser(conversation: Conversation) -> Page:
    """A browser with the secret that the conversation has now."""
    page = Page()
    page.cookies["chat-shop"] = conversation.uuid.hex
    return page


def file() -> SimpleUploadedFile:
    """A file to send."""
    return SimpleUploadedFile("a.txt", b"text")


# Each writes as the customer with a secret and maybe a proof, and returns the answer and the secret in it, if any.


def by_page(secret: uuid.UUID, proof: str = "", **form: Any) -> tuple[Any, str | None]:
    page = Page()
    page.cookies["chat-shop"] = secret.hex
    headers = {"HX-Request": "true"} | ({"X-Identity": proof} if proof else {})
    answer = page.post(f"{PATH}messages/", {"content": "Hers", **form}, headers=headers)
    cookie = answer.cookies.get("chat-shop")
    return answer, cookie.value if cookie else None


def by_page_with_file(secret: uuid.UUID, proof: str = "", **form: Any) -> tuple[Any, str | None]:
    return by_page(secret, proof, files=[file()], **form)


def by_api(secret: uuid.UUID, proof: str = "", **body: Any) -> tuple[Any, str | None]:
    body = {"content": "Hers", "conversation": str(secret), "identity": proof or None, **body}
    answer = Page().post("/api/messages/", json.dumps(body), content_type="application/json")
    items = answer.json().get("items")
    return answer, uuid.UUID(items[-1]["conversation"]).hex if items else None


def by_api_with_file(secret: uuid.UUID, proof: str = "", **form: Any) -> tuple[Any, str | None]:
    form = {"content": "Hers", "files": [file()], **form} | ({"identity": proof} if proof else {})
    answer = Page().post(f"/api/messages/{secret}/files/", form)
    items = answer.json().get("items")
    return answer, uuid.UUID(items[-1]["conversation"]).hex if items else None


WRITES = pytest.mark.parametrize("write", [by_page, by_page_with_file, by_api, by_api_with_file])
Write = Callable[..., tuple[Any, str | None]]


def by_identify(secret: uuid.UUID, proof: str, **_form: Any) -> tuple[Any, str | None]:
    page = Page()
    page.cookies["chat-shop"] = secret.hex
    answer = page.post(f"{PATH}identify/", headers={"X-Identity": proof})
    cookie = answer.cookies.get("chat-shop")
    return answer, cookie.value if cookie else None


# Identification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("become", [by_identify, by_page, by_page_with_file, by_api, by_api_with_file])
def test_identification_renews_the_secret_of_an_anonymous_conversation(anonymous: Conversation, become: Write) -> None:
    earlier = post_message(content="Earlier", website=Website.objects.get(key="shop"), claim=claim()).conversation
    answer, secret = become(anonymous.uuid, token(VERA))
    assert answer.status_code in {200, 204}
    anonymous_now = Conversation.objects.get(pk=anonymous.pk)
    assert anonymous_now.is_verified
    assert anonymous_now.uuid != anonymous.uuid
    newest = Conversation.objects.newest_first()[0]
    assert secret == newest.uuid.hex
    mallory = browser(anonymous)
    assert texts(mallory.get(PATH)) == []
    assert mallory.get(f"{PATH}messages/?since=0")["HX-Trigger"] == "stranger"
    assert mallory.get(f"/api/messages/{anonymous.uuid}/").json()["count"] == 0
    assert mallory.post(f"{PATH}resume/", {"conversation": earlier.pk}).status_code == 404
    assert mallory.post(f"{PATH}code/").status_code == 404
    before = Message.objects.filter(conversation=anonymous).count()
    for write in (by_page, by_page_with_file, by_api, by_api_with_file):
        for proof in ("", token("mallory")):
            _answer, given = write(anonymous.uuid, proof)
            assert given is None or given not in {one.uuid.hex for one in (anonymous_now, earlier)}
    assert Message.objects.filter(conversation=anonymous).count() == before


@WRITES
def test_a_retry_with_the_old_secret_and_the_proof_is_the_same_message(anonymous: Conversation, write: Write) -> None:
    first, retry = (write(anonymous.uuid, token(VERA), client_id=CLIENT_ID) for _ in range(2))
    assert first[0].status_code == retry[0].status_code
    assert first[1] == retry[1] == Conversation.objects.get().uuid.hex
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["Anonymous", "Hers"]
    assert write(anonymous.uuid, token(VERA), client_id=str(uuid.uuid4()))[1] == first[1]
    assert Conversation.objects.count() == 1


@WRITES
def test_a_retry_of_an_anonymous_message_after_identification_is_the_same_message(
    anonymous: Conversation, write: Write
) -> None:
    _answer, secret = write(anonymous.uuid, client_id=CLIENT_ID)
    assert secret == anonymous.uuid.hex
    identified = by_identify(anonymous.uuid, token(VERA))[1]
    assert write(anonymous.uuid, token(VERA), client_id=CLIENT_ID)[1] == identified
    assert write(uuid.UUID(identified), token(VERA), client_id=CLIENT_ID)[1] == identified
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["Anonymous", "Hers"]


def test_identifying_again_after_a_lost_answer_gives_the_new_secret(anonymous: Conversation) -> None:
    secrets = {by_identify(anonymous.uuid, token(VERA))[1] for _ in range(3)}
    assert secrets == {Conversation.objects.get().uuid.hex}


def test_a_second_tab_of_the_same_browser_follows(anonymous: Conversation) -> None:
    page = browser(anonymous)
    state = f"OPEN {anonymous.pk}"
    poll, shown = f"{PATH}messages/", {"since": f"{anonymous.last_message_id}", "state": state}
    assert page.get(poll, shown).status_code == 204
    page.post(f"{PATH}identify/", headers={"X-Identity": token(VERA)})
    same = page.get(poll, shown)
    assert (same.status_code, "HX-Trigger" in same) == (204, False)
    assert page.htmx(poll, {"content": "From the second tab", "state": state})["X-Message"]
    assert Conversation.objects.get().messages.count() == 2


def test_earlier_conversations_need_the_proof(anonymous: Conversation) -> None:
    earlier = post_message(content="Earlier", website=Website.objects.get(key="shop"), claim=claim()).conversation
    vera = browser(anonymous)
    post_message(content="Again", conversation=anonymous)
    vera.post(f"{PATH}identify/", headers={"X-Identity": token(VERA)})
    for proof in ("", token("mallory"), token(VERA, "x" * 64)):
        headers = {"X-Identity": proof} if proof else {}
        assert "Earlier" not in vera.get(PATH, headers=headers).content.decode()
        refused = vera.post(f"{PATH}resume/", {"conversation": earlier.pk}, headers=headers)
        assert (refused.status_code, refused.cookies) == (404, {})
    headers = {"X-Identity": token(VERA)}
    assert "Earlier" in vera.get(PATH, headers=headers).content.decode()
    assert vera.post(f"{PATH}resume/", {"conversation": earlier.pk}, headers=headers).status_code == 204
    assert texts(vera.get(PATH)) == ["Earlier"]


def test_a_conversation_whose_verified_customer_is_deleted_is_opened_by_no_client_id(bob: Agent) -> None:
    first = {"website": "shop", "client_id": CLIENT_ID, "content": "Hello"}
    secret = by_api(uuid.uuid4(), **first)[1]
    by_identify(uuid.UUID(secret), token(VERA))
    post_message(content="For Vera alone", conversation=Conversation.objects.get(), agent=bob)
    Contact.objects.all().delete()
    answer, secret = by_api(uuid.uuid4(), **first)
    assert "For Vera alone" not in answer.content.decode()
    assert secret == Conversation.objects.latest("pk").uuid.hex


# Requests in flight ---------------------------------------------------------------------------------------------------


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Do something after the next message's conversation has been found, and before it is locked."""

    def do(action: Callable[[], Any]) -> None:
        original = limits.enforce_message

        def allow(*args: Any) -> None:
            monkeypatch.setattr(limits, "enforce_message", original)
            action()

        monkeypatch.setattr(limits, "enforce_message", allow)

    return do


@pytest.mark.parametrize("proof", ["", VERA])
@WRITES
def test_a_message_in_flight_when_the_customer_signs_out_is_not_written_and_brings_no_secret(
    anonymous: Conversation, write: Write, proof: str, in_flight: Any, settings: Any
) -> None:
    if proof:
        identify(claim=claim(), website=Website.objects.get(key="shop"), current=anonymous)
        anonymous = Conversation.objects.get()
    in_flight(lambda: renew_secret(conversation=anonymous))
    answer, secret = write(anonymous.uuid, token(VERA) if proof else "")
    assert secret is None
    assert "X-Secret" not in answer
    if write in (by_api, by_api_with_file):
        assert answer.status_code == 404
    else:
        assert (answer.status_code, answer["HX-Trigger"]) == (204, "stranger")
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["Anonymous"]
    assert not Attachment.objects.exists()
    assert [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()] == []


@WRITES
def test_a_message_in_flight_when_its_customer_is_identified_is_written_with_the_proof_only(
    anonymous: Conversation, write: Write, in_flight: Any
) -> None:
    def identified() -> None:
        identify(claim=claim(), website=Website.objects.get(key="shop"), current=anonymous)

    in_flight(identified)
    assert write(anonymous.uuid)[1] is None
    Conversation.objects.update(uuid=anonymous.uuid, contact=None)
    in_flight(identified)
    assert write(anonymous.uuid, token(VERA))[1] == Conversation.objects.get().uuid.hex
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["Anonymous", "Hers"]


@pytest.mark.parametrize("proof", ["", VERA])
@pytest.mark.parametrize("write", [by_page, by_page_with_file])
def test_a_message_that_was_sent_before_its_secret_ended_begins_no_new_conversation(
    anonymous: Conversation, write: Write, proof: str
) -> None:
    renew_secret(conversation=anonymous)
    answer, secret = write(anonymous.uuid, token(VERA) if proof else "", state=f"OPEN {anonymous.pk}")
    assert (answer.status_code, answer["HX-Trigger"], secret) == (204, "stranger", None)
    assert Message.objects.count() == 1
    assert write(anonymous.uuid, state="")[1] == Conversation.objects.latest("pk").uuid.hex


def test_without_javascript_a_message_in_flight_at_sign_out_leads_to_an_empty_chat(
    anonymous: Conversation, in_flight: Any
) -> None:
    in_flight(lambda: renew_secret(conversation=anonymous))
    answer = browser(anonymous).post(f"{PATH}messages/", {"content": "Hers"})
    assert (answer.status_code, answer["Location"], answer.cookies) == (302, PATH, {})
    assert Message.objects.count() == 1


def test_agents_can_write_after_the_secret_was_renewed(anonymous: Conversation, bob: Agent) -> None:
    renew_secret(conversation=anonymous)
    post_message(content="An answer", conversation=anonymous, agent=bob)
    assert Message.objects.count() == 2


def test_signing_out_with_a_secret_that_is_renewed_at_this_moment_ends_nothing_else(anonymous: Conversation) -> None:
    now = renew_secret(conversation=anonymous).uuid
    with pytest.raises(Conversation.DoesNotExist):
        renew_secret(conversation=anonymous)
    assert Conversation.objects.get().uuid == now


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Run all at once, each with its own database connection."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.django_db(transaction=True)
@WRITES
def test_one_claimed_message_sent_many_times_at_once_is_one_message_with_one_secret(
    anonymous: Conversation, write: Write
) -> None:
    proof = token(VERA)
    answers = in_threads(*[lambda: write(anonymous.uuid, proof, client_id=CLIENT_ID)] * 6)
    assert {answer.status_code for answer, _secret in answers} <= {200, 204}
    assert {secret for _answer, secret in answers} == {Conversation.objects.get().uuid.hex}
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["Anonymous", "Hers"]


@pytest.mark.django_db(transaction=True)
@WRITES
def test_no_secret_outlives_signing_out_at_the_same_moment(anonymous: Conversation, write: Write) -> None:
    def sign_out() -> None:
        browser(anonymous).post(
            f"{PATH}forget/", "{}", content_type="text/plain", headers={"Origin": "http://testserver"}
        )

    answers = in_threads(*[lambda: write(anonymous.uuid)] * 3, sign_out)
    now = Conversation.objects.get(pk=anonymous.pk)
    assert now.uuid != anonymous.uuid
    assert now.uuid.hex not in {answer[1] for answer in answers if answer}
    assert texts(browser(anonymous).get(PATH)) == []


# Windows and files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["sign out", "identify"])
def test_a_window_code_ends_with_the_secret(anonymous: Conversation, end: str) -> None:
    code = browser(anonymous).post(f"{PATH}code/").content.decode()
    if end == "identify":
        identify(claim=claim(), website=Website.objects.get(key="shop"), current=anonymous)
    else:
        renew_secret(conversation=anonymous)
    refused = Page().post(f"{PATH}enter/", {"code": code, "window": "1"}, headers={"X-Keep": "yes"})
    assert (refused.status_code, refused.cookies, "X-Secret" in refused) == (403, {}, False)


def test_a_code_without_the_name_of_a_window_works_once(anonymous: Conversation) -> None:
    code = browser(anonymous).post(f"{PATH}code/").content.decode()
    assert [Page().post(f"{PATH}enter/", {"code": code}).status_code for _ in range(2)] == [204, 403]


@pytest.mark.parametrize("path", ["code/", "enter/"])
def test_opening_windows_is_rate_limited(anonymous: Conversation, settings: Any, path: str) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "windows of one address": (2, 60)}
    page = browser(anonymous)
    answers = [page.post(PATH + path) for _ in range(3)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert int(answers[-1]["Retry-After"]) > 0


def test_a_signed_file_url_ends_with_the_secret(anonymous: Conversation) -> None:
    by_page_with_file(anonymous.uuid)
    page = browser(anonymous)
    url = page.post(f"{PATH}files/{Attachment.objects.get().uuid}/sign/").content.decode()
    opened: Any = Page().get(url)
    assert b"".join(opened.streaming_content) == b"text"
    renew_secret(conversation=anonymous)
    assert Page().get(url).status_code == 404


# Other websites, and placeholders as client_id ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["nowhere", "bakery", "default"])
def test_new_messages_are_not_returned_on_another_website(anonymous: Conversation, key: str) -> None:
    Website.objects.create(key="bakery", name="The bakery")
    headers = {"X-Chat": anonymous.uuid.hex}
    answer = Page().get(f"/chat/{key}/messages/?since=0", headers=headers)
    assert (answer.status_code, answer["HX-Trigger"], answer.content) == (204, "stranger", b"")
    assert texts(Page().get(f"{PATH}messages/?since=0", headers=headers)) == ["Anonymous"]


@pytest.mark.parametrize(
    "client_id", [str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1)), "3fa85f64-5717-4562-b3fc-2c963f66afa6"]
)
def test_a_placeholder_as_client_id_is_ignored(client_id: str) -> None:
    unknown = uuid.uuid4()
    secrets = {by_api(unknown, client_id=client_id)[1] for _ in range(2)}
    assert len(secrets) == Conversation.objects.count() == 2
