"""A conversation is deleted while somebody writes to it, or Redis is away: nothing is lost, and nothing comes back."""

from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
import redis
from django.utils import timezone

from conversations import actions
from conversations.actions.delete_expired_conversations import delete_expired_conversations
from conversations.models import Conversation, Message, Website
from conversations.models.settling import settle, values_of
from tests.conftest import Page
from tests.test_message_log import replicate, stored, talk

__all__ = ["talk"]

pytestmark = pytest.mark.django_db(transaction=True)


def fail(*_arguments: Any) -> None:
    """Redis is away."""
    raise redis.ConnectionError("Redis is away.")


@pytest.fixture
def old(talk: Conversation) -> Conversation:
    """A conversation that has expired."""
    Website.objects.update(retention_days=1)
    Conversation.objects.update(last_message_at=timezone.now() - timedelta(days=3))
    return Conversation.objects.get()


def append(message_log: ModuleType, conversation: Conversation, text: str) -> None:
    """As a request that has read the conversation before. Raises SecretRenewed."""
    message = Message(conversation=conversation, author="CUS", content=text)
    values = values_of(message, "", "", ())
    message_log.append(client_id=None, conversation=conversation.pk, last=0, uuid=conversation.uuid, values=values)


def test_who_writes_at_the_moment_of_deletion_keeps_the_conversation(
    old: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = message_log.fence

    def write_before(pk: int) -> None:
        monkeypatch.undo()
        append(message_log, old, "I am back")
        fence(pk)

    monkeypatch.setattr(message_log, "fence", write_before)
    list(delete_expired_conversations())
    replicate()
    assert stored()[-1] == "I am back"
    assert actions.post_message(content="And write on", conversation=old).conversation == old
    replicate()
    assert stored()[-1] == "And write on"


def test_who_writes_after_that_learns_that_it_is_deleted(old: Conversation, message_log: ModuleType) -> None:
    message_log.fence(old.pk)
    with pytest.raises(message_log.SecretRenewed):
        append(message_log, old, "Too late")
    list(delete_expired_conversations())
    with pytest.raises(Conversation.DoesNotExist):
        actions.post_message(content="Too late", conversation=old)


def test_nothing_is_deleted_while_redis_is_away(
    old: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions.post_message(content="I am back", conversation=old)
    with monkeypatch.context() as patched:
        patched.setattr(message_log, "_run", fail)
        with pytest.raises(redis.RedisError):
            list(delete_expired_conversations())
        with pytest.raises(redis.RedisError):
            old.delete()
    list(delete_expired_conversations())
    replicate()
    assert stored()[-1] == "I am back"


def test_what_was_deleted_does_not_come_back(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pk = talk.pk
    actions.post_message(content="One more thing", conversation=talk)
    with monkeypatch.context() as patched:
        patched.setattr(message_log, "forget", fail)  # Redis goes away, or the process dies
        Conversation.objects.get().delete()
    alice = Page()
    alice.cookies["chat"] = talk.uuid.hex
    alice.htmx("/chat/messages/?since=0")
    settle([pk])
    replicate()
    assert not Conversation.objects.exists()
