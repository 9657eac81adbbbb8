"""What the message log and what was read before give access to while the database is away, and to whom they do not."""

import uuid
from types import ModuleType
from typing import Any

import pytest
import redis

from conversations import actions
from conversations.models import Agent, Conversation, Message, Website
from conversations.models.remembered import memory
from conversations.models.settling import values_of
from tests.conftest import Page, texts
from tests.test_log_without_sql import _nothing_read_before, database_away, new_on
from tests.test_message_log import replicate, talk

__all__ = ["_nothing_read_before", "talk"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mallory(message_log: ModuleType) -> Page:
    """An outsider's browser, whose requests are answered without the database as far as possible."""
    Page().get("/chat/")
    Website.objects.by_id(Website.objects.default().pk)
    return Page(raise_request_exception=False)


def test_a_retry_does_not_bring_a_renewed_secret(mallory: Page) -> None:
    key = uuid.uuid4()
    before = actions.post_message(content="Hello", client_id=key).conversation
    replicate()
    body = {"content": "Hello", "client_id": str(key)}
    mallory.get(f"/api/messages/{before.uuid}/")
    with database_away():
        assert str(before.uuid) in mallory.post("/api/messages/", body, "application/json").content.decode()
    renewed = actions.renew_secret(conversation=Conversation.objects.get())
    with database_away():
        for conversation in ({}, {"conversation": str(before.uuid)}):
            response = mallory.post("/api/messages/", {**body, **conversation}, "application/json")
            assert str(renewed.uuid) not in response.content.decode()
            assert response.status_code in {404, 409, 503}


def test_what_another_process_has_read_later_holds(talk: Conversation, bobs: Page) -> None:
    bobs.raise_request_exception = False
    new_on(bobs, f"/inbox/{talk.pk}/messages/", talk.last_message_id)
    for key, read in list(memory.results.items()):
        memory.results[key] = read._replace(at=read.at - 3600)
    with database_away():
        assert new_on(bobs, f"/inbox/{talk.pk}/messages/", talk.last_message_id) == []


def test_strangers_make_no_keys_in_redis(message_log: ModuleType, mallory: Page) -> None:
    before = message_log.client().dbsize()
    for number in range(5):
        mallory.cookies["chat"] = uuid.uuid4().hex
        mallory.cookies["sessionid"] = f"{number:032}"
        mallory.defaults["HTTP_ORIGIN"] = f"https://{number}.example"
        for path in ("/chat/", f"/chat/site{number}/", f"/api/messages/{uuid.uuid4()}/", "/inbox/"):
            mallory.get(path)
        mallory.get("/api/conversation/", HTTP_AUTHORIZATION=f"Bearer {uuid.uuid4().hex}")
    assert message_log.client().dbsize() <= before + 1


def test_that_an_agent_lost_access_replaces_what_was_shared(talk: Conversation, bob: Agent, bobs: Page) -> None:
    bobs.raise_request_exception = False
    bobs.get(f"/inbox/{talk.pk}/")
    memory.results.clear()
    memory.shared.clear()
    bob.groups.clear()
    bobs.get(f"/inbox/{talk.pk}/")
    memory.results.clear()  # as in another process
    with database_away():
        assert bobs.htmx(f"/inbox/{talk.pk}/messages/?since=0").status_code != 200


def test_a_secret_that_is_renewed_while_redis_is_away_gives_no_access(
    talk: Conversation, message_log: ModuleType, mallory: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    mallory.cookies["chat"] = talk.uuid.hex

    def fail(*_arguments: Any) -> None:
        raise redis.ConnectionError("Redis is away.")

    with monkeypatch.context() as patched:
        patched.setattr(message_log, "_run", fail)
        renewed = actions.renew_secret(conversation=actions.renew_secret(conversation=talk))
        message_log.client().connection_pool.disconnect()
    Website.objects.default()
    message_log.client().ping()
    with database_away():
        assert not texts(mallory.htmx("/chat/messages/?since=0"))
        mallory.cookies["chat"] = renewed.uuid.hex
        assert texts(mallory.htmx("/chat/messages/?since=0"))


def test_a_renewed_secret_is_refused_for_as_long_as_requests_may_be_on_their_way(
    talk: Conversation, message_log: ModuleType
) -> None:
    head = f"{{log}}:h:{talk.pk}"
    message_log.client().expire(head, 1)  # nobody has written for nearly an hour
    actions.renew_secret(conversation=talk)
    assert message_log.client().ttl(head) > 1


def test_no_log_line_has_the_secret_of_a_conversation_that_sql_refuses(
    talk: Conversation, message_log: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    again = Message(conversation=Conversation(website=talk.website, uuid=talk.uuid), author="CUS", content="Hello")
    message_log.append(
        client_id=None, conversation=None, last=0, values=values_of(again, "", "", ()), uuid=uuid.uuid4()
    )
    replicate()
    [(_, letter)] = message_log.client().xrange(message_log.DEAD)
    for text in (caplog.text, letter["reason"]):
        assert "uuid" in text.lower()  # why it was refused
        assert talk.uuid.hex not in text.replace("-", "")
