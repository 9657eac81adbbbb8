"""Prepared queries find and write the same as the ORM, within what an agent may see."""

import pytest

from conversations.actions import close, post_message
from conversations.models import Agent, Conversation, Message
from conversations.models.prepared import insert, prepared, update

pytestmark = pytest.mark.django_db


def test_a_prepared_query_keeps_the_filter_of_its_queryset(talk: Conversation, bob: Agent) -> None:
    closed = close(conversation=post_message(content="Bye").conversation)
    for _ in range(2):  # the second time from the cache of compiled queries
        filtered, unfiltered = Conversation.objects.closed(), Conversation.objects.all()
        assert filtered.by_id(talk.pk) is None
        assert filtered.by_uuid(talk.uuid) is None
        assert filtered.by_id(closed.pk) == filtered.by_uuid(closed.uuid) == closed
        assert filtered.inbox(bob, "OPEN", ..., 10) == []
        assert unfiltered.by_id(talk.pk) == unfiltered.by_uuid(talk.uuid) == talk
        assert [each.pk for each in unfiltered.inbox(bob, "OPEN", ..., 10)] == [talk.pk]


def test_a_prepared_query_returns_the_same_objects_as_the_orm(talk: Conversation) -> None:
    for _ in range(2):
        [found] = prepared(
            Conversation.objects.all(), "a test", lambda: Conversation.objects.filter(pk=-1), {-1: talk.pk}
        )
        fresh = Conversation.objects.get(pk=talk.pk)
        fields = [field.attname for field in Conversation._meta.concrete_fields]
        assert [getattr(found, name) for name in fields] == [getattr(fresh, name) for name in fields]
        assert found._state.db == fresh._state.db
        assert not found._state.adding


def test_insert_and_update_write_the_same_row_as_the_orm(talk: Conversation, bob: Agent) -> None:
    message = Message(conversation=talk, author="AGE", agent=bob, content="Grüße 🌱 '; --")
    insert(message)
    saved = Message.objects.get(pk=message.pk)
    for field in Message._meta.concrete_fields:
        assert getattr(saved, field.attname) == getattr(message, field.attname)
    talk.customer_name, talk.status = "Alice %s", Conversation.Status.CLOSED
    update(talk, "customer_name")
    assert Conversation.objects.values_list("customer_name", "status").get() == ("Alice %s", "OPEN")
