"""With the message log, the next message of a customer needs no query, and is refused where a query would refuse it."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations import actions
from conversations import message_log as log
from conversations.live.doorbell import look_up
from conversations.models import Agent, Contact, Conversation, News, Origin, Website
from conversations.models.contact import Claim
from conversations.models.recipients import recipients
from conversations.redis_client import RedisClient
from tests.conftest import Page
from tests.test_message_log import replicate

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    recipients.clear()
    yield
    recipients.clear()


@pytest.fixture
def alice(message_log: ModuleType) -> Page:
    return Page(raise_request_exception=False)


def send(page: Page, content: str, conversation: uuid.UUID) -> dict[str, object]:
    body = {"content": content, "client_id": str(uuid.uuid4()), "conversation": str(conversation)}
    found: dict[str, object] = page.post("/api/messages/", body, "application/json").json()
    return found


def stored(conversation: Conversation) -> list[str]:
    """The texts of its messages in SQL."""
    return list(conversation.messages.order_by("pk").values_list("content", flat=True))


def begun(page: Page) -> Conversation:
    """A conversation with one message, which this process remembers."""
    response = page.post("/api/messages/", {"content": "one"}, "application/json")
    assert response.status_code == 200
    replicate()
    found = Conversation.objects.get()
    assert recipients.get(found.uuid)
    return found


def test_the_next_message_needs_no_query(alice: Page) -> None:
    conversation = begun(alice)
    path = "/api/messages/?since=" + str(conversation.last_message_id)
    body = {"content": "two", "conversation": str(conversation.uuid)}
    with CaptureQueriesContext(connection) as queries:
        response = alice.post(path, body, "application/json")
    assert [item["content"] for item in response.json()["items"]] == ["two"]
    assert len(queries) == 0
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


def test_the_next_message_on_the_page_needs_no_query(alice: Page) -> None:
    assert alice.post("/chat/messages/", {"content": "one"}, headers=HTMX).status_code == 204
    with CaptureQueriesContext(connection) as queries:
        assert alice.post("/chat/messages/", {"content": "two"}, headers=HTMX).status_code == 204
    assert len(queries) == 0
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


def test_a_secret_that_another_process_has_renewed_is_not_used(alice: Page) -> None:
    before = begun(alice)
    renewed = actions.renew_secret(conversation=before)
    assert recipients.get(before.uuid), "this process was not told"
    send(alice, "for somebody new", before.uuid)
    replicate()
    assert stored(Conversation.objects.get(pk=renewed.pk)) == ["one"]
    assert Conversation.objects.count() == 2  # as without the log: an unknown uuid begins another


def test_a_page_whose_secret_was_renewed_is_told_so(alice: Page) -> None:
    alice.post("/chat/messages/", {"content": "one"}, headers=HTMX)
    replicate()
    actions.renew_secret(conversation=Conversation.objects.get())
    response = alice.post("/chat/messages/", {"content": "two"}, headers=HTMX)
    assert response.headers["HX-Trigger"] == "stranger"
    replicate()
    assert stored(Conversation.objects.get()) == ["one"]


def test_a_deleted_conversation_is_not_begun_again(alice: Page) -> None:
    gone = begun(alice)
    Conversation.objects.get().delete()
    send(alice, "anybody there?", gone.uuid)
    replicate()
    assert not Conversation.objects.filter(pk=gone.pk).exists()
    assert stored(Conversation.objects.get()) == ["anybody there?"]


def test_a_conversation_that_the_log_has_forgotten_goes_on(alice: Page, message_log: ModuleType) -> None:
    conversation = begun(alice)
    keys = [f"{{log}}:{kind}:{conversation.pk}" for kind in ("h", "c")]
    message_log.client().delete(*keys)
    send(alice, "two", conversation.uuid)
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


def test_a_change_of_the_website_holds_at_once_here_and_later_in_other_processes(
    alice: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = begun(alice)
    Website.objects.update(identity_required=True)  # as another process does it: no signal
    assert "items" in send(alice, "two", conversation.uuid)
    now = time.monotonic()
    monkeypatch.setattr("conversations.models.recipients.time.monotonic", lambda: now + 11)
    assert "items" not in send(alice, "three", conversation.uuid)
    monkeypatch.undo()
    recipients.websites.clear()  # what was read in the future
    Website.objects.update(identity_required=False)
    send(alice, "four", conversation.uuid)
    website = Website.objects.get()
    website.identity_required = True
    website.save()
    assert "items" not in send(alice, "five", conversation.uuid)
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two", "four"]


def test_a_contact_that_was_deleted_does_not_come_back(alice: Page, message_log: ModuleType) -> None:
    conversation = begun(alice)
    message_log.client().hset(f"{{log}}:h:{conversation.pk}", "contact", "7")
    send(alice, "two", conversation.uuid)
    assert message_log.known(conversation.pk)["contact"] == "7", "what was remembered does not replace it"


def test_a_redis_that_has_lost_its_data_while_a_conversation_is_remembered(
    alice: Page, message_log: ModuleType
) -> None:
    conversation = begun(alice)
    message_log.client().flushall()
    assert "items" in send(alice, "two", conversation.uuid)
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


def test_a_secret_whose_renewal_redis_has_lost_is_not_used(alice: Page, message_log: ModuleType) -> None:
    before = begun(alice)
    client = message_log.client()
    head = client.hgetall(f"{{log}}:h:{before.pk}")
    actions.renew_secret(conversation=before)
    # A copy of Redis takes over that does not know of it; another process was the first that has connected to it.
    client.hset(f"{{log}}:h:{before.pk}", mapping=head)
    client.set(message_log.RUN, "another")
    assert recipients.get(before.uuid)
    send(alice, "for somebody new", before.uuid)
    replicate()
    assert stored(Conversation.objects.get(pk=before.pk)) == ["one"]


def test_nothing_is_remembered_over_a_failure_of_redis(alice: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    before = begun(alice)
    monkeypatch.setattr(RedisClient, "failed_at", time.monotonic())
    assert recipients.get(before.uuid) is None
    send(alice, "two", before.uuid)
    assert recipients.get(before.uuid)


@pytest.mark.parametrize("way", ["api", "page"])
def test_a_message_with_a_renewed_secret_is_counted_once(
    alice: Page, settings: Any, message_log: ModuleType, way: str
) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "messages of one address": (2, 3600)}
    alice.post("/chat/messages/", {"content": "one"}, headers=HTMX)
    replicate()
    before = Conversation.objects.get()
    recipients.put(Conversation.objects.select_related("website").get())
    actions.renew_secret(conversation=before)
    if way == "page":
        assert alice.post("/chat/messages/", {"content": "two"}, headers=HTMX).headers["HX-Trigger"] == "stranger"
        del alice.cookies["chat"]
        assert alice.post("/chat/messages/", {"content": "two"}, headers=HTMX).status_code == 204
        assert alice.post("/chat/messages/", {"content": "three"}, headers=HTMX).status_code == 429
    else:
        assert "items" in send(alice, "two", before.uuid)
        assert "items" not in send(alice, "three", before.uuid)


def test_a_page_that_sends_again_after_its_customer_was_identified_is_told_so(alice: Page) -> None:
    """As without the log. It was told that it had sent another text, and a press on Send wrote the message twice."""
    key = str(uuid.uuid4())
    assert alice.post("/chat/messages/", {"content": "one", "client_id": key}, headers=HTMX).status_code == 204
    replicate()
    conversation = Conversation.objects.select_related("website").get()
    actions.identify(claim=Claim("7", Contact.Proof.TOKEN), website=conversation.website, current=conversation)
    again = {"content": "one", "client_id": key, "state": f"OPEN {conversation.pk}"}
    response = alice.post("/chat/messages/", again, headers=HTMX)
    assert response.headers.get("HX-Trigger") == "stranger", response.content


def test_the_first_message_after_the_page_was_opened_needs_no_query(alice: Page) -> None:
    alice.post("/chat/messages/", {"content": "one"}, headers=HTMX)
    replicate()
    recipients.clear()
    assert alice.get("/chat/").status_code == 200
    with CaptureQueriesContext(connection) as queries:
        assert alice.post("/chat/messages/", {"content": "two"}, headers=HTMX).status_code == 204
    assert len(queries) == 0


@pytest.mark.parametrize("way", ["widget", "page", "socket"])
def test_the_first_message_of_an_open_chat_needs_no_query(alice: Page, way: str) -> None:
    alice.post("/chat/messages/", {"content": "one"}, headers=HTMX)
    replicate()
    recipients.clear()
    conversation = Conversation.objects.get()
    if way == "widget":
        alice.get(f"/api/messages/{conversation.uuid}/?since=1")
    elif way == "page":
        alice.get(f"/chat/messages/?since={conversation.last_message_id}", headers=HTMX)
    else:
        look_up([Bell(conversation.uuid)])  # type: ignore[list-item]  # it has what a look-up reads
    recipients.get(conversation.uuid)  # reads the website, once in ten seconds for all customers
    body = {"content": "two", "conversation": str(conversation.uuid)}
    with CaptureQueriesContext(connection) as queries:
        alice.post(f"/api/messages/?since={conversation.last_message_id}", body, "application/json")
    assert len(queries) == 0
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


@dataclass
class Bell:
    """A customer's open socket."""

    secret: uuid.UUID

    def subscription(self, conversations: object) -> None:
        """What it may hear."""


def lose_the_renewal(conversation: Conversation, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew the secret; then a copy of Redis takes over that does not know of it, and this process connects to it."""
    head = client.hgetall(f"{{log}}:h:{conversation.pk}")
    actions.renew_secret(conversation=conversation)
    client.hset(f"{{log}}:h:{conversation.pk}", mapping=head)
    client.set(log.RUN, "another")
    monkeypatch.setattr(log.Run, "id", "another")


def test_a_failover_while_a_poll_reads_a_conversation(
    alice: Page, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the poll is answered, the secret is renewed, and Redis loses that: the poll has read what does not hold."""
    before = begun(alice)
    recipients.clear()
    read = News._read_settled

    def slowly(*arguments: Any) -> Any:
        found = read(*arguments)
        lose_the_renewal(before, message_log.client(), monkeypatch)
        return found

    monkeypatch.setattr(News, "_read_settled", slowly)
    alice.get(f"/api/messages/{before.uuid}/?since=0")
    monkeypatch.setattr(News, "_read_settled", read)
    send(alice, "for somebody new", before.uuid)
    replicate()
    assert stored(Conversation.objects.get(pk=before.pk)) == ["one"]


def test_a_failover_while_a_message_is_posted(
    alice: Page, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = begun(alice)
    append = log.append

    def late(**arguments: Any) -> Any:
        monkeypatch.setattr(log, "append", append)
        lose_the_renewal(before, message_log.client(), monkeypatch)
        return append(**arguments)

    monkeypatch.setattr(log, "append", late)
    send(alice, "for somebody new", before.uuid)
    replicate()
    assert stored(Conversation.objects.get(pk=before.pk)) == ["one"]


def test_an_origin_that_another_process_has_removed_may_not_post(alice: Page) -> None:
    conversation = begun(alice)
    shops = {"Origin": "https://shop.example"}
    Website.objects.get().origins.create(origin="https://shop.example")
    body = {"content": "two", "conversation": str(conversation.uuid)}
    assert alice.post("/api/messages/", body, "application/json", headers=shops).status_code == 200
    assert recipients.get(conversation.uuid)
    Origin.objects.all()._raw_delete("default")  # no signal, as of another process
    assert (
        alice.post("/api/messages/", {**body, "content": "three"}, "application/json", headers=shops).status_code == 403
    )
    replicate()
    assert stored(Conversation.objects.get()) == ["one", "two"]


def test_a_message_to_what_another_process_has_closed_and_snoozed_opens_it(alice: Page, bob: Agent) -> None:
    conversation = begun(alice)
    later = timezone.now() + timedelta(hours=1)
    Conversation.objects.update(status="CLOSED", assignee=bob, priority=3, snoozed_until=later)
    send(alice, "two", conversation.uuid)
    replicate()
    found = Conversation.objects.get()
    assert (found.status, found.snoozed_until, found.assignee_id, found.priority) == ("OPEN", None, bob.pk, 3)
    assert (found.customer_messages, found.waiting_since is not None) == (2, True)


def test_a_website_that_was_deleted_with_its_conversations_gets_no_message(alice: Page) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    response = alice.post("/api/messages/", {"content": "one", "website": "shop"}, "application/json")
    replicate()
    gone = Conversation.objects.get()
    assert recipients.get(gone.uuid)
    gone.delete()
    Website.objects.filter(pk=shop.pk)._raw_delete("default")
    response = alice.post(
        "/api/messages/", {"content": "two", "website": "shop", "conversation": str(gone.uuid)}, "application/json"
    )
    assert response.status_code == 422, "as for any unknown website"
    replicate()
    assert not Conversation.objects.exists()


def test_a_verified_customer_who_was_forgotten_meanwhile_stays_forgotten(alice: Page) -> None:
    website = Website.objects.get()
    claim = Claim("7", Contact.Proof.TOKEN, name="Vera", email="vera@shop.example")
    uuid_ = actions.post_message(content="one", claim=claim, website=website).conversation.uuid
    replicate()
    send(alice, "two", uuid_)
    replicate()
    remembered = recipients.get(uuid_)
    assert remembered
    assert remembered.contact_id
    Conversation.objects.update(contact=None)  # as another process does it
    Contact.objects.all()._raw_delete("default")
    send(alice, "three", uuid_)
    replicate()
    found = Conversation.objects.get()
    assert stored(found) == ["one", "two", "three"]
    assert found.contact_id is None
