"""Queries that are built once find the same as those that are not, among those that somebody may see."""

import pytest

from conversations.actions import close, post_message
from conversations.models import Agent, Conversation, Message
from conversations.models.prepared import insert, prepared, update

pytestmark = pytest.mark.django_db


def test_a_viewer_who_may_see_only_some_finds_only_those(talk: Conversation, bob: Agent) -> None:
    shut = close(conversation=post_message(content="Bye").conversation)
    for _ in range(2):  # whoever comes first must not decide for those who come after
        mine, all_of_them = Conversation.objects.closed(), Conversation.objects.all()
        assert mine.by_id(talk.pk) is None
        assert mine.by_uuid(talk.uuid) is None
        assert mine.by_id(shut.pk) == mine.by_uuid(shut.uuid) == shut
        assert mine.inbox(bob, "OPEN", ..., 10) == []
        assert all_of_them.by_id(talk.pk) == all_of_them.by_uuid(talk.uuid) == talk
        assert [each.pk for each in all_of_them.inbox(bob, "OPEN", ..., 10)] == [talk.pk]


def test_what_is_found_is_what_the_orm_finds(talk: Conversation) -> None:
    for _ in range(2):
        [found] = prepared(
            Conversation.objects.all(), "a test", lambda: Conversation.objects.filter(pk=-1), {-1: talk.pk}
        )
        fresh = Conversation.objects.get(pk=talk.pk)
        fields = [field.attname for field in Conversation._meta.concrete_fields]
        assert [getattr(found, name) for name in fields] == [getattr(fresh, name) for name in fields]
        assert found._state.db == fresh._state.db
        assert not found._state.adding


def test_a_row_that_is_inserted_or_updated_is_as_the_orm_would_have_written_it(talk: Conversation, bob: Agent) -> None:
    message = Message(conversation=talk, author="AGE", agent=bob, content="Grüße 🌱 '; --")
    insert(message)
    saved = Message.objects.get(pk=message.pk)
    for field in Message._meta.concrete_fields:
        assert getattr(saved, field.attname) == getattr(message, field.attname)
    talk.customer_name, talk.status = "Alice %s", Conversation.Status.CLOSED
    update(talk, "customer_name")
    assert Conversation.objects.values_list("customer_name", "status").get() == ("Alice %s", "OPEN")
