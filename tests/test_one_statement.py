"""On PostgreSQL a message is written by one statement; what it writes is what a transaction would write."""

import time
import uuid
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatsite.databases import Trust
from conversations.actions import AlreadySent, close, post_message, renew_secret, take
from conversations.models import Agent, Conversation, Message, one_statement

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL writes by one statement."),
]


def rows(talk: Conversation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is stored of a conversation and its messages, without ids and times."""
    times = ("created_at", "last_message_at", "updated_at", "waiting_since")
    unlike = ("id", "uuid", "last_message_id", "conversation_id", *times)
    [stored] = Conversation.objects.filter(pk=talk.pk).values()
    messages = talk.messages.order_by("pk").values()
    assert stored["last_message_id"] == messages[len(messages) - 1]["id"]
    assert stored["waiting_since"] == stored["updated_at"] == stored["last_message_at"]
    assert stored["updated_at"] == messages[len(messages) - 1]["created_at"]
    return {name: value for name, value in stored.items() if name not in unlike}, [
        {name: value for name, value in message.items() if name not in unlike} for message in messages
    ]


def talk_with(bob: Agent, client_ids: list[uuid.UUID]) -> Conversation:
    """A conversation in which both sides write, and which is closed and opened again."""
    talk = post_message(content="Hello", name="Alice").conversation
    for text, agent, client_id in (("Hi 'Alice' %s", bob, client_ids[0]), ("x" * 300, None, client_ids[1])):
        found = Conversation.objects.get(pk=talk.pk)
        post_message(content=text, conversation=found, agent=agent, client_id=client_id)
    close(conversation=Conversation.objects.get(pk=talk.pk))
    found = Conversation.objects.get(pk=talk.pk)
    return post_message(content="Again", conversation=found, email="alice@example.com").conversation


def test_one_statement_writes_what_a_transaction_writes(bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [uuid.uuid4() for _ in range(4)]
    at_once = rows(talk_with(bob, ids[:2]))
    monkeypatch.setattr(one_statement, "is_possible", lambda: False)
    by_steps = rows(talk_with(bob, ids[2:]))
    for _, messages in (at_once, by_steps):
        assert [bool(message.pop("client_id")) for message in messages] == [False, True, True, False]
    assert at_once == by_steps


def test_a_post_has_two_statements(talk: Conversation) -> None:
    client = Client()
    with CaptureQueriesContext(connection) as queries:
        sent = client.post(
            "/api/messages/?since=" + str(talk.last_message_id),
            {"conversation": talk.uuid.hex, "content": "Hello?"},
            content_type="application/json",
        )
    assert sent.json()["items"][0]["content"] == "Hello?"
    assert len(queries) == 2  # reading the conversation, and writing


def test_what_others_have_changed_meanwhile_is_kept(talk: Conversation, bob: Agent) -> None:
    as_read = Conversation.objects.get(pk=talk.pk)
    take(conversation=Conversation.objects.get(pk=talk.pk), by=bob)
    bobs = post_message(content="Hi", conversation=Conversation.objects.get(pk=talk.pk), agent=bob)
    message = post_message(content="Hello?", conversation=as_read)
    now = Conversation.objects.get(pk=talk.pk)
    assert (now.assignee_id, now.answered_messages, now.customer_messages) == (bob.pk, 1, 2)
    assert (message.follows, now.last_message_id) == (bobs.pk, message.pk)


def test_nothing_is_written_with_a_renewed_secret_or_to_a_deleted_conversation(talk: Conversation) -> None:
    as_read = Conversation.objects.get(pk=talk.pk)
    renew_secret(conversation=Conversation.objects.get(pk=talk.pk))
    with pytest.raises(Conversation.DoesNotExist):
        post_message(content="Hello?", conversation=as_read)
    Conversation.objects.filter(pk=talk.pk).delete()
    with pytest.raises(Conversation.DoesNotExist):
        post_message(content="Hello?", conversation=as_read)
    assert not Message.objects.filter(content="Hello?").exists()


def test_a_message_sent_again_is_the_first_one(talk: Conversation) -> None:
    key = uuid.uuid4()
    first, again = (
        post_message(content="Once", conversation=Conversation.objects.get(pk=talk.pk), client_id=key) for _ in range(2)
    )
    assert first == again
    with pytest.raises(AlreadySent):
        post_message(content="Other", conversation=Conversation.objects.get(pk=talk.pk), client_id=key)
    assert talk.messages.filter(client_id=key).count() == 1


def test_within_a_transaction_a_message_belongs_to_it(talk: Conversation) -> None:
    key = uuid.uuid4()
    with transaction.atomic():
        first = post_message(content="Never", conversation=talk, client_id=key)
        found = Conversation.objects.get(pk=talk.pk)
        assert post_message(content="Never", conversation=found, client_id=key) == first  # it goes on
        transaction.set_rollback(True)
    assert not Message.objects.filter(content="Never").exists()


def test_nothing_is_written_after_the_request_has_given_up(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    as_read = Conversation.objects.get(pk=talk.pk)
    monkeypatch.setattr(Trust, "is_serving", True)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "read_timeout", 0.5)  # as if it had waited before
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT 1 FROM conversations_conversation WHERE id = %s FOR UPDATE", [talk.pk])
        with pytest.raises(OperationalError):
            post_message(content="Too late", conversation=as_read)
    monkeypatch.setattr(Trust, "is_serving", False)
    connection.close()
    running = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%FOR UPDATE%' AND state <> 'idle'
    """
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        while other.execute(running).fetchall():
            time.sleep(0.02)
    assert not Message.objects.filter(content="Too late").exists()
