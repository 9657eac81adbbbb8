"""Agents read and answer over the API by a conversation's id; its uuid, with which customers write, stays secret."""

import json
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from conversations.actions import post_message
from conversations.api.message_list import BATCH_SIZE
from conversations.models import Agent, Attachment, Conversation, Message, Token, Website
from conversations.models.conversation import ConversationQuerySet
from conversations.pictures.process import DecoderBusy
from tests.conftest import Page, Server

pytestmark = pytest.mark.django_db
READ, WRITE = Token.Scope.READ, Token.Scope.WRITE


@pytest.fixture(autouse=True)
def _files(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"


@pytest.fixture
def plan(talk: Conversation) -> Attachment:
    """A file that alice has sent."""
    attachments = [Attachment.from_upload("plan.txt", ContentFile(b"a plan"))]
    return post_message(content="My plan", conversation=talk, attachments=attachments).attached[0]


def script(agent: Agent, scope: str = WRITE) -> Client:
    """A program with a token of the agent."""
    token = Token.objects.issue(agent, "script", scope)
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"})


def answer(client: Client, path: str, headers: Any = None, **body: Any) -> Any:
    """POST JSON."""
    return client.post(path, json.dumps(body), content_type="application/json", headers=headers)


def upload(client: Client, path: str, content: bytes = b"an offer", headers: Any = None, **fields: Any) -> Any:
    """POST a file."""
    return client.post(path, {"files": [SimpleUploadedFile("offer.txt", content)], **fields}, headers=headers)


def calls(talk: Conversation, file: Any, number: int | None = None) -> list[Callable[[Client], Any]]:
    """Every call for one conversation."""
    at = f"/api/conversation/{number or talk.pk}/"
    return [
        lambda client: client.get(at),
        lambda client: client.get(f"{at}messages/"),
        lambda client: answer(client, f"{at}messages/", content="An answer"),
        lambda client: upload(client, f"{at}files/"),
        lambda client: client.get(f"{at}files/{file}/"),
        lambda client: client.patch(f"{at}close"),
        lambda client: client.patch(f"{at}open"),
        lambda client: client.patch(f"{at}take"),
        lambda client: client.patch(f"{at}release"),
        lambda client: client.patch(f"{at}assign", '{"agent": 1}', content_type="application/json"),
    ]


def test_an_agent_reads_messages_by_the_conversations_id(bob: Agent, talk: Conversation, plan: Attachment) -> None:
    at = f"/api/conversation/{talk.pk}/"
    customers = Client().get(f"/api/messages/{talk.uuid}/").json()
    response = script(bob).get(f"{at}messages/")
    assert response.status_code == 200
    body = response.json()
    assert [item.pop("conversation") for item in body["items"]] == [None, None]
    assert body["items"][1]["attachments"][0].pop("url") == f"{at}files/{plan.uuid}/"
    for item in customers["items"]:
        del item["conversation"]
    del customers["items"][1]["attachments"][0]["url"]
    assert body == customers
    newer = script(bob).get(f"{at}messages/?since={talk.last_message_id}").json()
    assert [item["content"] for item in newer["items"]] == ["My plan"]
    assert script(bob).get(f"{at}messages/?since=0&limit=1&offset=1").json() == {"items": newer["items"], "count": 2}
    assert b"".join(script(bob).get(f"{at}files/{plan.uuid}/")) == b"a plan"


def test_an_agent_answers_by_the_conversations_id(bob: Agent, talk: Conversation) -> None:
    at = f"/api/conversation/{talk.pk}/"
    name = "5b5e1c0e-6d0f-4a3e-9a52-0c1b5f8a7f11"
    once, again = (answer(script(bob), f"{at}messages/", content="Hello Alice", client_id=name) for _ in range(2))
    assert once.status_code == again.status_code == 200
    assert once.json() == again.json()
    assert [item["author"] for item in once.json()["items"]] == ["CUS", "AGE"]
    assert answer(script(bob), f"{at}messages/", content="Other", client_id=name).status_code == 409
    since = once.json()["items"][-1]["id"]
    response = upload(script(bob), f"{at}files/?since={since}", content=b"an offer")
    [item] = response.json()["items"]
    assert (item["author"], item["conversation"]) == ("AGE", None)
    assert b"".join(script(bob).get(item["attachments"][0]["url"])) == b"an offer"
    assert set(Message.objects.filter(author="AGE").values_list("agent", flat=True)) == {bob.pk}
    assert str(talk.uuid) not in (once.content + response.content).decode()


def test_an_answer_returns_the_newest_messages_where_not_all_fit(bob: Agent, talk: Conversation) -> None:
    for _ in range(BATCH_SIZE):
        post_message(content="🌱" * 3000, conversation=talk)
    body = answer(script(bob), f"/api/conversation/{talk.pk}/messages/", content="last").json()
    assert (len(body["items"]), body["items"][-1]["content"], body["more"]) == (5, "last", True)
    page = script(bob).get(f"/api/conversation/{talk.pk}/messages/").json()
    assert (len(page["items"]), page["count"], page["more"]) == (5, BATCH_SIZE + 2, True)


def test_a_read_only_token_learns_no_uuid_and_cannot_write(bob: Agent, talk: Conversation, plan: Attachment) -> None:
    reader, writer = script(bob, READ), script(bob)
    assert writer.get("/api/conversation/").json()["items"][0]["uuid"] == str(talk.uuid)
    assert writer.get(f"/api/conversation/{talk.pk}/").json()["uuid"] == str(talk.uuid)
    assert reader.get("/api/conversation/").json()["items"][0]["uuid"] is None
    assert reader.get(f"/api/conversation/{talk.pk}/").json()["uuid"] is None
    statuses = []
    for call in [lambda client: client.get("/api/conversation/"), *calls(talk, plan.uuid)]:
        response = call(reader)
        whole = f"{b''.join(response)!r} {response.headers}".replace("-", "")
        assert talk.uuid.hex not in whole
        statuses.append(response.status_code)
    assert statuses == [200, 200, 200, 403, 403, 200, *[403] * 5]
    talk.refresh_from_db()
    assert (talk.is_open, talk.messages.count()) == (True, 2)


def test_what_an_agent_may_not_see_is_404_like_what_does_not_exist(
    bob: Agent, talk: Conversation, plan: Attachment
) -> None:
    bob.websites.add(Website.objects.create(key="club", name="The Club"))
    bob = Agent.objects.get(pk=bob.pk)
    for numbers in (talk.pk, 999, 2**63, 10**30):
        for call in calls(talk, plan.uuid, numbers):
            response = call(script(bob))
            assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
    assert talk.messages.count() == 2


def test_callers_who_are_not_agents_get_401_whether_the_conversation_exists_or_not(
    talk: Conversation, plan: Attachment, alice: Page
) -> None:
    alice.force_login(User.objects.create_user("dora"))
    for number in (talk.pk, 999):
        for call in calls(talk, plan.uuid, number):
            for client in (Client(), alice):
                response = call(client)
                assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})


def test_a_session_needs_the_csrf_token_to_answer(bob: Agent, talk: Conversation) -> None:
    at = f"/api/conversation/{talk.pk}/"
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    foreign = {"Origin": "https://evil.example"}
    for response in [
        answer(browser, f"{at}messages/", content="Forged"),
        answer(browser, f"{at}messages/", content="Forged", headers=foreign),
        browser.post(f"{at}messages/", '{"content": "Forged"}', content_type="text/plain", headers=foreign),
        upload(browser, f"{at}files/"),
        upload(browser, f"{at}files/", headers=foreign),
    ]:
        assert response.status_code == 403
    assert talk.messages.count() == 1
    browser.get(f"/inbox/{talk.pk}/")
    token = browser.cookies["csrftoken"].value
    headers = {"X-CSRFToken": token}
    assert answer(browser, f"{at}messages/", content="By header", headers=headers).status_code == 200
    assert upload(browser, f"{at}files/", headers=headers).status_code == 200
    assert upload(browser, f"{at}files/", csrfmiddlewaretoken=token).status_code == 200


def test_a_file_of_another_conversation_is_404(bob: Agent, talk: Conversation, plan: Attachment) -> None:
    other = post_message(content="Hi").conversation
    for path in [f"{other.pk}/files/{plan.uuid}/", f"{talk.pk}/files/x/", f"{talk.pk}/files/{other.uuid}/"]:
        assert script(bob).get(f"/api/conversation/{path}").status_code == 404


@pytest.mark.parametrize("body", [{}, {"content": " "}, {"content": "x" * 20_481}, {"content": "x", "client_id": "x"}])
def test_an_invalid_answer_is_422_and_changes_nothing(bob: Agent, talk: Conversation, body: dict[str, str]) -> None:
    response = answer(script(bob), f"/api/conversation/{talk.pk}/messages/", **body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["msg"]
    assert talk.messages.count() == 1


def test_a_too_large_upload_is_refused_before_its_form_is_parsed(bob: Agent, talk: Conversation) -> None:
    path = f"/api/conversation/{talk.pk}/files/"
    body: Any = {"content_type": "multipart/form-data; boundary=x", "CONTENT_LENGTH": str(80 * 1024 * 1024)}
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    for client in (script(bob), browser):  # the CSRF check, which parses the form, comes later
        response = client.generic("POST", path, **body)
        assert (response.status_code, list(response.json())) == (413, ["detail"])
    assert Client().generic("POST", path, **body).status_code == 401


@pytest.mark.parametrize("slash", ["", "/"])
def test_every_url_works_with_and_without_its_last_slash(
    bob: Agent, talk: Conversation, plan: Attachment, slash: str
) -> None:
    client = script(bob)
    at = f"/api/conversation/{talk.pk}"
    for path in [at, f"{at}/messages", f"{at}/files/{plan.uuid}", "/api/conversation", f"/api/messages/{talk.uuid}"]:
        assert client.get(path + slash).status_code == 200, path
    for path in [f"{at}/messages", "/api/messages"]:
        assert answer(client, path + slash, content="Hi").status_code == 200, path
    for path in [f"{at}/files", f"/api/messages/{talk.uuid}/files"]:
        assert upload(client, path + slash).status_code == 200, path
    for verb in ("close", "open", "take", "release"):
        assert client.patch(f"{at}/{verb}{slash}").status_code == 200


def test_a_conversation_that_is_deleted_during_the_call_is_404(
    bob: Agent, talk: Conversation, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(ConversationQuerySet, "by_id", lambda *_: talk)
    with django_capture_on_commit_callbacks(execute=True):  # the message log forgets it too
        Conversation.objects.filter(pk=talk.pk).delete()
    at = f"/api/conversation/{talk.pk}/"
    for response in [
        answer(script(bob), f"{at}messages/", content="Hi"),
        upload(script(bob), f"{at}files/"),
        script(bob).patch(f"{at}close"),
        script(bob).patch(f"{at}take"),
    ]:
        assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_chunked_uploads_are_received_and_have_the_same_limits(server: Server) -> None:
    token = server.manage("createtoken", "bob", "script").strip()
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
    megabyte = b"x" * 1024 * 1024

    def send(path: str, body: list[bytes] | bytes, kind: str) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {"Content-Type": kind}
        if "conversation" in path:
            headers["Authorization"] = f"Bearer {token}"
        connection.request("POST", path, body, headers)  # a list has no length: it is sent in chunks
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    uuid = send("/api/messages/", b'{"content": "Hi"}', "application/json")[1]["items"][0]["conversation"]
    list_newest = Request(f"{server.url}/api/conversation/?limit=1", headers={"Authorization": f"Bearer {token}"})
    found: list[Any] = []
    while not found:  # with the message log, the list has it a moment later
        with urlopen(list_newest) as response:
            found = json.load(response)["items"]
    number = found[0]["id"]
    for path in (f"/api/messages/{uuid}/files/", f"/api/conversation/{number}/files/"):
        kind = "multipart/form-data; boundary=x"
        status, body = send(path, [head, b"a plan", b"\r\n--x--\r\n"], kind)
        assert (status, body["items"][-1]["attachments"][0]["size"]) == (200, 6)
        status, body = send(path, [head, *[megabyte] * 11, b"\r\n--x--\r\n"], kind)
        assert (status, body["detail"][:30]) == (413, "“a.bin” is larger than 10 MB. ")
        status, body = send(path, [head, *[megabyte] * 52, b"\r\n--x--\r\n"], kind)
        assert (status, body["detail"][:24]) == (413, "The request is too large")


def test_too_many_pictures_at_once_are_429(bob: Agent, talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attachment, "from_upload", Mock(side_effect=DecoderBusy))
    for path in (f"/api/messages/{talk.uuid}/files/", f"/api/conversation/{talk.pk}/files/"):
        response = upload(script(bob), path)
        assert (response.status_code, response["Retry-After"]) == (429, "60")
    assert talk.messages.count() == 1
