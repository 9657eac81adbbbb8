"""Prepared queries find and write the same as the ORM, within what an agent may see."""

from typing import Any

import pytest
from django.db.models import Value

from conversations.actions import close, post_message, take
from conversations.models import Agent, Conversation, Message, View, Website
from conversations.models.prepared import PreparedQuery, insert, prepared, update

pytestmark = pytest.mark.django_db


def test_a_prepared_query_keeps_the_filter_of_its_queryset(talk: Conversation, bob: Agent) -> None:
    closed = close(conversation=post_message(content="Bye").conversation)
    for _ in range(2):  # the second time from the cache of compiled queries
        filtered, unfiltered = Conversation.objects.closed(), Conversation.objects.all()
        assert filtered.by_id(talk.pk) is None
        assert filtered.by_uuid(talk.uuid) is None
        assert filtered.by_id(closed.pk) == filtered.by_uuid(closed.uuid) == closed
        assert filtered.inbox(bob, View(), 10) == []
        assert unfiltered.by_id(talk.pk) == unfiltered.by_uuid(talk.uuid) == talk
        assert [each.pk for each in unfiltered.inbox(bob, View(), 10)] == [talk.pk]


def test_lists_of_limited_agents_are_compiled_once_for_each(
    talk: Conversation, bob: Agent, carol: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Website.objects.create(key="other", name="Other")
    theirs = post_message(content="Hi", website=other).conversation
    talk.website.agents.add(bob)
    other.agents.add(carol)
    compiled = []

    class Watched(PreparedQuery[Any]):
        def __init__(self, queryset: Any) -> None:
            compiled.append(queryset)
            super().__init__(queryset)

    monkeypatch.setattr("conversations.models.prepared.PreparedQuery", Watched)

    def lists() -> list[list[int]]:
        agents = [Agent.objects.get(pk=agent.pk) for agent in (bob, carol)]
        return [[each.pk for each in agent.visible_conversations().inbox(agent, View(), 10)] for agent in agents]

    assert lists() == [[talk.pk], [theirs.pk]]
    assert compiled
    compiled.clear()
    assert lists() == [[talk.pk], [theirs.pk]]
    assert not compiled
    closed = bob.visible_conversations().closed()  # what is derived has another filter
    assert closed.inbox(bob, View(), 10) == []


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


def test_a_prepared_query_returns_related_objects(
    talk: Conversation, bob: Agent, django_assert_num_queries: Any
) -> None:
    take(conversation=talk, by=bob)
    for _ in range(2):
        with django_assert_num_queries(1):
            found = Conversation.objects.by_id(talk.pk, "website", "assignee", "contact")
            assert found
            assert (found.website, found.contact) == (talk.website, None)
            assert found.assignee
            assert (found.assignee.pk, found.assignee.get_full_name()) == (bob.pk, "Bob")


def test_the_latest_messages_have_their_agents(talk: Conversation, bob: Agent, django_assert_num_queries: Any) -> None:
    other = post_message(content="In another conversation").conversation
    for number in range(4):
        post_message(content=f"{number}", conversation=talk, agent=bob if number % 2 else None)
    first, *_, last = Message.objects.of(talk.pk).order_by("pk")
    for _ in range(2):
        with django_assert_num_queries(1):
            found = Message.objects.newest(talk.pk, 4, since=first.pk, before=last.pk)
            names = [(message.content, str(message.agent and message.agent.first_name)) for message in found]
            assert names == [("0", "None"), ("1", "Bob"), ("2", "None")]
        assert [message.content for message in Message.objects.newest(talk.pk, 4)] == ["0", "1", "2", "3"]
        assert [message.content for message in Message.objects.newest(other.pk, 4)] == ["In another conversation"]


def test_a_prepared_query_returns_tuples(talk: Conversation, bob: Agent) -> None:
    take(conversation=talk, by=bob)
    for _ in range(2):
        [entry] = Conversation.objects.all().inbox(bob, View(assignee=bob.pk), 10)
        annotated = Conversation.objects.with_unread(bob.pk).with_assignee().with_mention(bob.pk)
        assert entry == annotated.annotate(mention_id=Value(0)).values_list(*entry._fields).get()
        assert (entry.pk, entry.customer_name, entry.assignee_name, entry.unread) == (talk.pk, "Alice", "Bob", 1)
        assert entry.last_message_at == Conversation.objects.get().last_message_at
