"""The JSON API for agents, by session or token."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from conversations.actions import close, post_message, take
from conversations.models import Agent, Conversation, Message, Token
from tests.conftest import PASSWORD

pytestmark = pytest.mark.django_db
LIST = "/api/conversation/"


def bearer(agent: User, scope: str = "WRITE") -> dict[str, str]:
    """Request headers with a new token of the agent."""
    return {"Authorization": f"Bearer {Token.objects.issue(agent, 'script', scope)}"}


def ids(response: Any) -> list[int]:
    """The ids of the conversations in a response."""
    return [item["id"] for item in response.json()["items"]]


def test_calls_without_a_session_or_token_of_an_agent_are_401(talk: Conversation) -> None:
    client = Client()
    client.force_login(User.objects.create_user("dora"))
    for caller in [Client(), client]:
        for response in [caller.get(LIST), caller.patch(f"{LIST}{talk.pk}/close"), caller.patch(f"{LIST}999/take")]:
            assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})
    talk.refresh_from_db()
    assert talk.is_open


def test_an_agent_lists_all_conversations_newest_first(bobs: Client, bob: Agent, talk: Conversation) -> None:
    newer = post_message(content="Hi", name="Nora", email="nora@example.com").conversation
    newer = take(conversation=newer, by=bob)
    body = bobs.get(LIST).json()
    assert newer.updated_at
    assert body["count"] == 2
    assert body["items"][0] == {
        "id": newer.pk,
        "uuid": str(newer.uuid),
        "created_at": newer.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "customer_name": "Nora",
        "customer_email": "nora@example.com",
        "website": "default",
        "verified": False,
        "status": "OPEN",
        "assignee": bob.pk,
        "last_message_id": newer.last_message_id,
        "last_message_at": newer.last_message_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "updated_at": newer.updated_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "labels": [],
        "priority": None,
        "snoozed_until": None,
    }
    assert body["items"][1]["id"] == talk.pk
    assert body["items"][1]["assignee"] is None


def test_filters_and_pages(bobs: Client, bob: Agent, carol: Agent, talk: Conversation) -> None:
    mine = take(conversation=post_message(content="b").conversation, by=bob)
    carols = take(conversation=post_message(content="c").conversation, by=carol)
    done = close(conversation=post_message(content="d").conversation)
    for query, expected in [
        ("", [done, carols, mine, talk]),
        ("?status=OPEN", [carols, mine, talk]),
        ("?status=CLOSED", [done]),
        ("?assigned=true", [carols, mine]),
        ("?assigned=false", [done, talk]),
        ("?assigned_to_me=true", [mine]),
        ("?status=OPEN&assigned=false", [talk]),
        ("?limit=1&offset=1", [carols]),
    ]:
        assert ids(bobs.get(LIST + query)) == [conversation.pk for conversation in expected], query
    assert bobs.get(LIST + "?limit=1").json()["count"] == 4
    assert bobs.get(LIST + "?status=OTHER").status_code == 422


def test_close_open_and_take(bob: Agent, talk: Conversation) -> None:
    client, headers = Client(), bearer(bob)
    for verb, field, value in [("close", "status", "CLOSED"), ("open", "status", "OPEN"), ("take", "assignee", bob.pk)]:
        response = client.patch(f"{LIST}{talk.pk}/{verb}", headers=headers)
        assert (response.status_code, response.json()["id"]) == (200, talk.pk)
        assert response.json()[field] == value
        assert client.get(LIST, headers=headers).json()["items"][0][field] == value


def test_an_unknown_conversation_is_404(bob: Agent) -> None:
    for number in [999, 2**63, 10**30]:
        response = Client().patch(f"{LIST}{number}/take", headers=bearer(bob))
        assert response.status_code == 404
        assert response.json()["detail"] == "Not Found"


def test_a_session_needs_the_csrf_token_and_a_bearer_token_does_not(bob: Agent, talk: Conversation) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    body = json.dumps({"content": "as bob", "conversation": str(talk.uuid)})
    refused = [
        browser.patch(f"{LIST}{talk.pk}/close"),
        browser.post("/api/messages/", body, content_type="application/json"),
        browser.post("/api/messages/", body, content_type="text/plain", headers={"Origin": "https://evil.example"}),
    ]
    for response in refused:
        assert response.status_code == 403
        assert response.json()["detail"]
    talk.refresh_from_db()
    assert talk.is_open
    assert talk.messages.count() == 1

    browser.get(f"/inbox/{talk.pk}/")
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    assert browser.patch(f"{LIST}{talk.pk}/close", headers=headers).status_code == 200
    assert browser.post("/api/messages/", body, content_type="application/json", headers=headers).status_code == 200
    script = Client(enforce_csrf_checks=True)
    assert script.patch(f"{LIST}{talk.pk}/open", headers=bearer(bob)).status_code == 200


def test_a_page_of_another_origin_cannot_send_json_as_text() -> None:
    response = Client().post(
        "/api/messages/",
        json.dumps({"content": "Hi"}),
        content_type="text/plain",
        headers={"Origin": "https://evil.example"},
    )
    assert response.status_code == 403
    assert not Conversation.objects.exists()


def test_only_the_hash_of_a_token_is_stored(bob: Agent) -> None:
    written = Token.objects.issue(bob, "script", "WRITE")
    secret = written.split("_", 2)[2]
    assert secret not in str(Token.objects.values())


@pytest.mark.parametrize(
    "spoil", [lambda t: t + "x", lambda t: t[:-1], lambda t: "", lambda t: "chat_99_x", lambda t: "é"]
)
def test_a_wrong_token_is_401_on_every_call(bob: Agent, talk: Conversation, spoil: Any) -> None:
    headers = {"Authorization": f"Bearer {spoil(Token.objects.issue(bob, 'script', 'WRITE'))}"}
    assert Client().get(LIST, headers=headers).status_code == 401
    response = Client().post("/api/messages/", '{"content": "x"}', content_type="application/json", headers=headers)
    assert response.status_code == 401


def test_a_read_only_token_cannot_write(bob: Agent, talk: Conversation) -> None:
    headers = bearer(bob, "READ")
    assert Client().get(LIST, headers=headers).status_code == 200
    assert Client().patch(f"{LIST}{talk.pk}/close", headers=headers).status_code == 403
    talk.refresh_from_db()
    assert talk.is_open


def test_a_token_ends_when_it_is_deleted_or_its_agent_loses_access(bob: Agent) -> None:
    def change_password() -> None:
        bob.set_password("another horse battery")
        bob.save()

    def leave_group() -> None:
        bob.groups.clear()

    def deactivate() -> None:
        User.objects.filter(pk=bob.pk).update(is_active=False)

    def remove_password() -> None:
        bob.set_unusable_password()
        bob.save()

    for end in [lambda: Token.objects.all().delete(), change_password, leave_group, deactivate, remove_password]:
        User.objects.filter(pk=bob.pk).update(is_active=True)
        bob = Agent.objects.promote(User.objects.get(pk=bob.pk))
        headers = bearer(bob)
        assert Client().get(LIST, headers=headers).status_code == 200
        end()
        assert Client().get(LIST, headers=headers).status_code == 401


def test_a_token_survives_rehashing_of_the_password(bob: Agent, settings: Any) -> None:
    settings.PASSWORD_HASHERS = [*settings.PASSWORD_HASHERS, "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    headers = bearer(bob)
    bob.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    bob.save()
    assert Client().login(username="bob", password=PASSWORD)  # with which it is hashed as is preferred now
    assert not User.objects.get(pk=bob.pk).password.startswith("pbkdf2")
    assert Client().get(LIST, headers=headers).status_code == 200


def test_createtoken_prints_a_valid_token(bob: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("createtoken", "bob", "crm")
    written = capsys.readouterr().out.strip()
    assert re.fullmatch(r"chat_\d+_\S{43}", written)
    assert Client().get(LIST, headers={"Authorization": f"Bearer {written}"}).status_code == 200


def test_read_only_fields_in_a_body_are_ignored(bob: Agent, talk: Conversation) -> None:
    body = {
        "content": "Hi",
        "author": "AGE",
        "id": 1,
        "date": "2001-01-01T00:00:00Z",
        "status": "CLOSED",
        "assignee": bob.pk,
        "agent": bob.pk,
    }
    item = Client().post("/api/messages/", json.dumps(body), content_type="application/json").json()["items"][0]
    assert item["author"] == "CUS"
    assert item["id"] > talk.last_message_id
    assert item["date"] > "2026"
    made = Conversation.objects.get(uuid=item["conversation"])
    assert made.is_open
    assert made.assignee is None


def test_deleting_messages_changes_when_their_conversation_was_updated(
    talk: Conversation, bob: Agent, bobs: Client
) -> None:
    other = post_message(content="Hello").conversation
    other.refresh_from_db()
    posted = post_message(content="my number is 7", conversation=talk)
    for delete in (posted.delete, Message.objects.filter(conversation=talk).delete):
        talk.refresh_from_db()
        before = talk.updated_at
        delete()
        talk.refresh_from_db()
        assert talk.updated_at
        assert before
        assert talk.updated_at > before
        moment = talk.updated_at.isoformat().replace("+00:00", "Z")
        assert ids(bobs.get(LIST, {"updated_since": moment})) == [talk.pk]
    assert other.updated_at == Conversation.objects.get(pk=other.pk).updated_at
