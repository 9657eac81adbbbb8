"""Labels, priorities and snoozing: what agents do to a conversation, and customers never see."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from conversations.actions import (
    LabelRefused,
    assign,
    close,
    create_label,
    label,
    post_message,
    prioritize,
    reopen,
    snooze,
)
from conversations.agent.question import ask
from conversations.models import Agent, Conversation, ConversationLabel, Cursor, Label, View, Website
from conversations.models.label import MAX_LABELS, MAX_ON_CONVERSATION, NAME_LENGTH
from tests.conftest import Page

pytestmark = pytest.mark.django_db


def listed(agent: Agent, view: View, most: int = 50, after: Cursor | None = None) -> list[int]:
    """The conversations of a view, from top to bottom."""
    return [entry.pk for entry in agent.visible_conversations().inbox(agent, view, most, after)]


def begin(name: str = "Alice") -> Conversation:
    """A conversation of a customer."""
    return post_message(content="Hello?", name=name).conversation


def soon() -> datetime:
    """In an hour."""
    return timezone.now() + timedelta(hours=1)


def test_a_label_is_made_once_in_upper_or_lower_case() -> None:
    first = create_label(name="  Große   Rechnung ")
    assert first.name == "Große Rechnung"
    assert create_label(name="GROSSE RECHNUNG").pk == first.pk
    assert create_label(name="Refund").colour != first.colour
    assert create_label(name="Blue one", colour="blue").colour == "blue"


def test_labels_that_look_the_same_are_one_and_others_are_not_on_every_database(
    bob: Agent, talk: Conversation, bobs: Page
) -> None:
    composed, apart = "Caf\u00e9", "CAFE\u0301"
    cafe = create_label(name=apart)
    assert cafe.name == "CAF\u00c9"
    assert create_label(name=composed).pk == cafe.pk
    others = [create_label(name=name) for name in ("Cafe", "\U0001f389", "\U0001f525", "\u00d6", "O")]
    assert len({cafe.pk, *(each.pk for each in others)}) == 6
    body = {"add": [composed, "\U0001f525"]}
    answer = bobs.patch(f"/api/conversation/{talk.pk}/labels", body, content_type="application/json")
    assert answer.json()["labels"] == ["CAF\u00c9", "\U0001f525"]
    assert ask(f"label:{apart}", bob).question.labels == (cafe.pk,)
    assert (
        create_label(name="\u0390" * NAME_LENGTH).name == "\u0390" * NAME_LENGTH
    )  # in lower case, each is three letters


def test_a_label_of_an_earlier_version_is_found_and_stands_in_nobodys_way() -> None:
    Label.objects.bulk_create([Label(name="Caf\u00e9", folded="caf\u00e9"), Label(name="\u00d6", folded="\u00f6")])
    assert create_label(name="cafe\u0301").name == "Caf\u00e9"
    assert create_label(name="cafe").name in {"cafe", "Caf\u00e9"}  # MariaDB takes them for one
    assert create_label(name="\u00f6").name == "\u00d6"


@pytest.mark.parametrize("name", ["", " \u200b ", "x" * 41, "nul\x00"])
def test_a_label_with_a_name_that_nobody_can_read_is_refused(name: str) -> None:
    with pytest.raises(LabelRefused):
        create_label(name=name)
    assert not Label.objects.exists()


def test_there_is_a_bound_of_labels() -> None:
    Label.objects.bulk_create(Label(name=f"{n}", folded=f"{n}") for n in range(MAX_LABELS))
    with pytest.raises(LabelRefused, match="200"):
        create_label(name="one more")
    assert create_label(name="7").name == "7"


def test_labels_are_put_on_and_taken_off(talk: Conversation, bob: Agent) -> None:
    billing, urgent = create_label(name="Billing"), create_label(name="Angry")
    assert label(conversation=talk, add=[billing, urgent], by=bob).labels == [urgent.pk, billing.pk]  # by name
    assert label(conversation=talk, add=[billing], by=bob).labels == [urgent.pk, billing.pk]
    assert label(conversation=talk, remove=[urgent], by=bob).labels == [billing.pk]
    assert ConversationLabel.objects.count() == 1
    assert label(conversation=talk, remove=[urgent, billing], by=bob).labels == []
    assert not ConversationLabel.objects.exists()


def test_a_deleted_label_is_on_no_conversation(talk: Conversation, bob: Agent) -> None:
    gone, left = create_label(name="Gone"), create_label(name="Left")
    label(conversation=talk, add=[gone], by=bob)
    old = Label.objects.get(pk=gone.pk)
    gone.delete()
    assert label(conversation=talk, add=[old, left], by=bob).labels == [left.pk]


def test_a_conversation_has_a_bound_of_labels(talk: Conversation, bob: Agent) -> None:
    Label.objects.bulk_create(Label(name=f"{n}", folded=f"{n}") for n in range(MAX_ON_CONVERSATION + 9))
    assert len(label(conversation=talk, add=Label.objects.everyone(), by=bob).labels) == MAX_ON_CONVERSATION
    talk.refresh_from_db()
    assert len(talk.labels) == ConversationLabel.objects.count() == MAX_ON_CONVERSATION


def test_the_list_of_a_label_follows_messages_and_the_status(bob: Agent) -> None:
    billing = create_label(name="Billing")
    first, second = begin(), begin()
    for each in (first, second):
        label(conversation=each, add=[billing], by=bob)
    begin()
    is_open, closed = View(label_id=billing.pk), View("closed", label_id=billing.pk)
    assert listed(bob, is_open) == [second.pk, first.pk]
    first = post_message(content="And?", conversation=Conversation.objects.get(pk=first.pk)).conversation
    assert listed(bob, is_open) == [first.pk, second.pk]
    assert listed(bob, is_open, after=Cursor(first.last_message_id)) == [second.pk]
    close(conversation=second, by=bob)
    assert (listed(bob, is_open), listed(bob, closed)) == ([first.pk], [second.pk])
    post_message(content="Not yet", conversation=Conversation.objects.get(pk=second.pk))
    assert listed(bob, is_open) == [second.pk, first.pk]
    assert listed(bob, closed) == []


def test_a_snoozed_conversation_is_in_its_own_list_until_its_moment(bob: Agent, talk: Conversation) -> None:
    other = begin()
    snooze(conversation=talk, until=soon(), by=bob)
    assert (listed(bob, View()), listed(bob, View("snoozed"))) == ([other.pk], [talk.pk])
    Conversation.objects.filter(pk=talk.pk).update(snoozed_until=timezone.now() - timedelta(seconds=1))
    assert (listed(bob, View()), listed(bob, View("snoozed"))) == ([other.pk, talk.pk], [])


@pytest.mark.parametrize("way", ["a message", "an agent", "closing"])
def test_a_snooze_ends(bob: Agent, talk: Conversation, way: str) -> None:
    talk = snooze(conversation=talk, until=soon(), by=bob)
    assert talk.is_snoozed
    post_message(content="Note that an answer does not end it.", conversation=talk, agent=bob)
    talk.refresh_from_db()
    assert talk.is_snoozed
    if way == "a message":
        post_message(content="Hello again", conversation=talk)
    elif way == "an agent":
        snooze(conversation=talk, until=None, by=bob)
    else:
        close(conversation=talk, by=bob)
    talk.refresh_from_db()
    assert (talk.is_snoozed, talk.snoozed_until) == (False, None)
    assert listed(bob, View("snoozed")) == []


def test_a_closed_conversation_is_not_snoozed(bob: Agent, talk: Conversation) -> None:
    close(conversation=talk, by=bob)
    assert snooze(conversation=talk, until=soon(), by=bob).snoozed_until is None


def test_snoozed_ones_are_listed_by_when_they_come_back(bob: Agent) -> None:
    begun = [begin() for _ in range(3)]
    moments = [soon() + timedelta(hours=hours) for hours in (2, 0, 1)]
    for each, moment in zip(begun, moments, strict=True):
        snooze(conversation=each, until=moment, by=bob)
    expected = [begun[1].pk, begun[2].pk, begun[0].pk]
    assert listed(bob, View("snoozed")) == expected
    assert listed(bob, View("snoozed"), after=Cursor(expected[0], moments[1])) == expected[1:]


def test_who_waits_longest_comes_first(bob: Agent) -> None:
    first, second, third = (begin() for _ in range(3))
    view = View(order="waiting")
    post_message(content="still there?", conversation=first)  # waits since the first message
    assert listed(bob, view) == [first.pk, second.pk, third.pk]
    post_message(content="Hi", conversation=Conversation.objects.get(pk=first.pk), agent=bob)
    assert listed(bob, view) == [second.pk, third.pk]
    post_message(content="Thanks, one more", conversation=Conversation.objects.get(pk=first.pk))
    assert listed(bob, view) == [second.pk, third.pk, first.pk]
    waiting = Conversation.objects.get(pk=second.pk)
    assert listed(bob, view, after=Cursor(waiting.pk, waiting.waiting_since)) == [third.pk, first.pk]
    close(conversation=second, by=bob)
    assert listed(bob, view) == [third.pk, first.pk]
    reopen(conversation=second, by=bob)
    assert listed(bob, view) == [second.pk, third.pk, first.pk]


def test_views_narrow_by_priority_website_and_assignee(bob: Agent, carol: Agent) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    there = post_message(content="Hello?", website=shop).conversation
    here = begin()
    prioritize(conversation=here, priority=4, by=bob)
    assign(conversation=there, to=carol, by=bob)
    for view, expected in [
        (View(priority=4), [here.pk]),
        (View(priority=1), []),
        (View(website_id=shop.pk), [there.pk]),
        (View(assignee=carol.pk), [there.pk]),
        (View(assignee=None), [here.pk]),
        (View(assignee=None, priority=4, order="waiting"), [here.pk]),
        (View(assignee=carol.pk, website_id=shop.pk, order="waiting"), [there.pk]),
    ]:
        assert listed(bob, view) == expected, view
        assert bob.visible_conversations().counts([view, View()]) == [len(expected), 2]
    assert bob.visible_conversations().counts([]) == []


def test_counts_and_lists_of_a_limited_agent_have_only_their_websites(bob: Agent) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    shop.agents.add(bob)
    bob = Agent.objects.get(pk=bob.pk)
    begin()
    there = post_message(content="Hello?", website=shop).conversation
    assert listed(bob, View()) == [there.pk]
    assert bob.visible_conversations().counts([View(), View(assignee=None)]) == [1, 1]


def test_what_agents_do_changes_nothing_that_the_customer_gets(alice: Page, talk: Conversation, bob: Agent) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    paths = ["/chat/messages/?since=0", f"/api/messages/{talk.uuid}/", "/chat/state/"]

    def answers() -> list[Any]:
        return [(response.status_code, response.content) for response in map(alice.get, paths)]

    before = answers()
    snooze(conversation=talk, until=soon(), by=bob)
    prioritize(conversation=talk, priority=4, by=bob)
    label(conversation=talk, add=[create_label(name="Troublemaker")], by=bob)
    assert answers() == before


def test_the_header_of_open_pages_is_redrawn_after_each_change(talk: Conversation, bob: Agent) -> None:
    states = {talk.state}
    states.add(prioritize(conversation=talk, priority=2, by=bob).state)
    states.add(snooze(conversation=talk, until=soon(), by=bob).state)
    states.add(label(conversation=talk, add=[create_label(name="Billing")], by=bob).state)
    assert len(states) == 4
