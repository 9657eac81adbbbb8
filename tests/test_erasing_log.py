"""What is deleted in SQL is deleted in the message log, however it is deleted."""

import importlib
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from conversations import actions
from conversations.actions.delete_expired_conversations import delete_expired_conversations
from conversations.actions.replicate import Replicator
from conversations.message_log import ENTRIES
from conversations.models import Agent, Conversation, Message, Website

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(db: None) -> Client:
    """A superuser's browser."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    return client


@pytest.fixture
def shop(db: None) -> Website:
    """A website that keeps conversations for 30 days."""
    return Website.objects.create(key="shop", name="Fern & Fired", retention_days=30)


@pytest.fixture
def talk(message_log: ModuleType, shop: Website) -> Conversation:
    """A conversation in SQL, of which the log has more, and one message as a dead letter."""
    talk = actions.post_message(content="My secret", website=shop, name="Alice").conversation
    Replicator(lambda: False).step()
    Conversation.objects.update(last_message_at=timezone.now() - timedelta(days=31))
    dead = actions.post_message(content="My dead secret", conversation=talk)
    entry = message_log.tail(talk.pk, dead.pk - 1).entries[0]
    message_log.bury(talk.pk, entry, "It was refused")
    message_log.client().xgroup_create(ENTRIES, "analysis", "0")  # it has read nothing, so nothing is trimmed
    return Conversation.objects.get(pk=talk.pk)


def in_admin(admin: Client, talk: Conversation) -> Any:
    """Delete a conversation in the admin."""
    return admin.post(f"/admin/conversations/conversation/{talk.pk}/delete/", {"post": "yes"})


def in_list(admin: Client, talk: Conversation) -> Any:
    """Delete a conversation in the admin's list."""
    data = {"action": "delete_selected", "_selected_action": [talk.pk], "post": "yes"}
    return admin.post("/admin/conversations/conversation/", data)


def by_age(_admin: Client, _talk: Conversation) -> Any:
    """Delete old conversations, as `serve` does."""
    return list(delete_expired_conversations())


def secrets_in(log: ModuleType) -> list[str]:
    """The keys of the log that have messages of alice."""
    streams = sorted(log.client().scan_iter("{log}:*", _type="stream"))
    return [key for key in streams if "ecret" in str(log.client().xrange(key))]


@pytest.mark.parametrize("delete", [in_admin, in_list, by_age])
def test_a_deleted_conversation_is_deleted_in_the_log(
    message_log: ModuleType, talk: Conversation, admin: Client, delete: Callable[[Client, Conversation], Any]
) -> None:
    other = actions.post_message(content="Another customer", name="Mallory").conversation
    if delete is not by_age:  # a new message keeps a conversation
        actions.post_message(content="My last secret", conversation=talk)
    uuid = talk.uuid.hex
    assert len(secrets_in(message_log)) == 3  # the conversation, all entries, dead letters
    delete(admin, talk)
    assert not Conversation.objects.filter(pk=talk.pk)
    assert secrets_in(message_log) == []
    assert message_log.client().exists(f"{{log}}:c:{talk.pk}", f"{{log}}:u:{uuid}") == 0
    assert message_log.client().hgetall(f"{{log}}:h:{talk.pk}") == {"uuid": message_log.DELETED}
    assert 0 < message_log.client().ttl(f"{{log}}:h:{talk.pk}") <= message_log.KEPT_SECONDS
    assert [fields["conversation"] for _, fields in message_log.client().xrange(ENTRIES)] == [str(other.pk)]
    Replicator(lambda: False).step()
    assert not Conversation.objects.filter(pk=talk.pk)


def test_a_conversation_among_thousands_of_entries_is_found(
    message_log: ModuleType, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_log, "PAGE", 2)
    other = actions.post_message(content="Another customer").conversation
    for number in range(4):
        actions.post_message(content=f"Secret {number}", conversation=talk)
        actions.post_message(content=f"{number}", conversation=other)
    Conversation.objects.get(pk=talk.pk).delete()
    assert secrets_in(message_log) == []
    assert message_log.client().xlen(ENTRIES) == 5


def test_a_message_that_is_deleted_in_the_admin_is_deleted_in_the_log(
    message_log: ModuleType, talk: Conversation, admin: Client
) -> None:
    actions.post_message(content="It stays", conversation=talk)
    [message] = Message.objects.filter(content="My secret")
    data = {"action": "delete_selected", "_selected_action": [message.pk], "post": "yes"}
    assert admin.post("/admin/conversations/message/", data).status_code == 302
    assert secrets_in(message_log) == [message_log.DEAD, ENTRIES]  # of the dead letter, which is no message in SQL
    Replicator(lambda: False).step()
    assert list(Message.objects.order_by("pk").values_list("content", flat=True)) == ["It stays"]


def everything(log: ModuleType) -> str:
    """All that the log has in streams, and the database in tables of messages and conversations."""
    streams = [log.client().xrange(key) for key in sorted(log.client().scan_iter("{log}:*", _type="stream"))]
    return str([*streams, *Message.objects.values(), *Conversation.objects.values()])


def test_a_message_that_was_taken_back_is_erased_in_the_log(
    message_log: ModuleType, talk: Conversation, bob: Agent
) -> None:
    mine = actions.post_message(content="I was wrong", conversation=talk, agent=bob)
    actions.post_message(content="It stays", conversation=talk)
    before = message_log.newest(talk.pk, 10)
    assert everything(message_log).count("I was wrong") == 2
    actions.take_back(conversation=talk, pk=mine.pk, by=bob)
    assert "I was wrong" not in everything(message_log)
    *after, removal = message_log.newest(talk.pk, 10)
    assert [(entry.id, entry.follows) for entry in after] == [(entry.id, entry.follows) for entry in before]
    assert (removal.follows, removal.values["removed"]) == (after[-1].id, mine.pk)
    assert message_log.client().xrange(ENTRIES)[-1][0] == f"{removal.id}-0", "analysis learns it"
    Replicator(lambda: False).step()
    assert list(talk.messages.order_by("pk").values_list("content", "removed_id"))[-3:] == [
        ("", mine.pk),
        ("It stays", None),
        ("", mine.pk),
    ]


def test_a_removal_that_only_the_log_has_is_made_up_for(
    message_log: ModuleType, talk: Conversation, bob: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = actions.post_message(content="I was wrong", conversation=talk, agent=bob)

    def killed(_conversation: Conversation) -> None:
        raise KeyboardInterrupt

    module = importlib.import_module("conversations.actions.take_back")
    monkeypatch.setattr(module, "settle_locked", killed)
    with pytest.raises(KeyboardInterrupt):
        actions.take_back(conversation=talk, pk=mine.pk, by=bob)
    assert not Message.objects.filter(removed_id=mine.pk, pk__gt=mine.pk)
    Replicator(lambda: False).step()
    monkeypatch.undo()
    assert actions.take_back(conversation=talk, pk=mine.pk, by=bob).is_removed
    assert Message.objects.filter(removed_id=mine.pk).count() == 2
    assert "I was wrong" not in everything(message_log)
