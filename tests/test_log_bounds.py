"""However much is in the message log, Redis and the database are asked for a little at a time."""

from types import ModuleType

import pytest

from conversations import actions
from conversations.models import Conversation
from conversations.models.settling import settle
from tests.test_message_log import replicate, stored, talk

__all__ = ["talk"]

pytestmark = pytest.mark.django_db(transaction=True)

MANY = [str(number) for number in range(70)]


def post_many(talk: Conversation) -> None:
    """Alice writes while nobody copies."""
    for text in MANY:
        actions.post_message(content=text, conversation=talk)


def test_much_is_copied_in_parts(talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_log, "MOST_BYTES", 2_000)
    post_many(talk)
    other = actions.post_message(content="Another customer").conversation
    found, is_all = message_log.tails({talk.pk: talk.last_message_id, other.pk: 0})
    assert len(found[talk.pk]) < len(MANY)
    assert not is_all
    replicate()
    assert stored() == ["Hello, is anybody there?", *MANY, "Another customer"]
    assert message_log.tails({talk.pk: Conversation.objects.get(pk=talk.pk).last_message_id}) == ({talk.pk: []}, True)


def test_who_changes_a_conversation_copies_all_of_it_in_parts(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_log, "MOST_BYTES", 2_000)
    post_many(talk)
    actions.close(conversation=talk)
    assert stored()[1:] == MANY
    assert not Conversation.objects.get().is_open


def test_what_is_refused_holds_up_no_part(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_log, "MOST_BYTES", 2_000)
    entry = {"client_id": None, "conversation": talk.pk, "last": talk.last_message_id, "uuid": talk.uuid}
    message_log.append(**entry, values={"content": "No author"})
    post_many(talk)
    message_log.append(**entry, values={"content": "No author either"})
    settle([talk.pk])
    assert stored()[1:] == MANY
    assert message_log.client().xlen(message_log.DEAD) == 2


def test_ids_rise_above_those_that_another_reader_has_not_read(talk: Conversation, message_log: ModuleType) -> None:
    client = message_log.client()
    client.xadd(message_log.ENTRIES, {"conversation": talk.pk, "entry": "{}"}, id="10000000-0")
    client.delete(message_log.MESSAGES, message_log.CONVERSATIONS)  # switched off, and SQL restored from a backup
    assert actions.post_message(content="It goes on", conversation=talk).pk > 10_000_000
