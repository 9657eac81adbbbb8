"""After whatever people do, all that is counted or copied equals what the rows say, and customers see no note."""

import html
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from conversations import message_log
from conversations.actions import create_label
from conversations.models import (
    Agent,
    Attachment,
    Conversation,
    ConversationLabel,
    DeskEntry,
    Draft,
    Label,
    Mention,
    Message,
    Reading,
    Searchable,
    View,
    Website,
)
from conversations.models.conversation import LAST_LINE_LENGTH
from conversations.models.desk_entry import Kind
from conversations.models.mention import read_names
from conversations.models.searchable import different_words, prefix_of
from tests.conftest import Page, promote

SECRET = "zebra"
"""A word of all notes and of all names of labels: no customer may see it."""

MOST_TALKS = 3

NAMES = ["bob", "carol"]

QUOTE = "> Hello?\n\n"

OFTEN = ["customer_writes", "answers", "answers", "looks", "closes", "reopens", "snoozes", "undoes", "takes_back"]
SOMETIMES = ["customer_looks", "writes_a_note", "takes", "assigns", "labels", "prioritizes", "types", "reads"]
SOMETIMES += ["corrects", "is_deleted", "deletes_a_label", "a_conversation_begins_or_is_deleted"]
ACTS = ["a_snooze_ends", *SOMETIMES, *OFTEN, *OFTEN]
"""What happens, by the names of methods: the agent's, if nobody else is named."""

number = st.integers(0, 11)
"""Which of some things, modulo how many there are."""


@cache
def words_of(pk: int, *texts: str) -> str:
    """What the search index has of a row."""
    return " ".join(prefix_of(pk) + word for word in different_words(*texts))


class Rows:
    """All rows of now, by conversation."""

    def __init__(self) -> None:
        """Read them, without any of the columns that are copies."""
        self.talks = list(Conversation.objects.order_by("pk"))
        self.messages: dict[int, list[Message]] = {talk.pk: [] for talk in self.talks}
        self.entries: dict[int, list[DeskEntry]] = {talk.pk: [] for talk in self.talks}
        for message in Message.objects.order_by("pk"):
            self.messages[message.conversation_id].append(message)
        for entry in DeskEntry.objects.order_by("pk"):
            self.entries[entry.conversation_id].append(entry)

    @property
    def ids(self) -> list[int]:
        """The ids of all messages, removals, notes and activities."""
        talks = [talk.pk for talk in self.talks]
        return sorted(row.pk for pk in talks for row in (*self.messages[pk], *self.entries[pk]))

    def written(self, talk: Conversation) -> list[Message]:
        """What somebody wrote, although it may be taken back."""
        return [each for each in self.messages[talk.pk] if not each.is_removal]

    def by_customer(self, talk: Conversation) -> list[Message]:
        """The customer's messages."""
        return [each for each in self.messages[talk.pk] if each.author == "CUS"]

    def last_answer(self, talk: Conversation) -> int:
        """The id of the last answer that was not taken back, or 0."""
        return max((each.pk for each in self.written(talk) if each.author == "AGE" and not each.is_removed), default=0)

    def mentions(self, talk: Conversation, agent: Agent) -> int:
        """The id of the last note in which somebody else mentions the agent, or 0."""
        notes = [each for each in self.entries[talk.pk] if each.agent_id != agent.pk]
        return max((each.pk for each in notes if agent.pk in read_names(each.mentions).values()), default=0)


class Desk(RuleBasedStateMachine):
    """Two agents and two customers with some conversations."""

    def __init__(self) -> None:
        """Nobody has written anything yet."""
        super().__init__()
        self.customer, self.browsers = Page(), dict[str, Page]()
        self.step, self.is_checked = 0, False
        self.ids: list[int] = []
        self.read: dict[tuple[int, int], int] = {}  # how far each agent has read each conversation
        self.undoable: list[str] = []

    def teardown(self) -> None:
        """Delete everything; of a conversation that is deleted nothing is left."""
        for talk in Conversation.objects.all():
            talk.delete()
        for model in (Message, DeskEntry, Mention, Reading, Draft, ConversationLabel, Searchable):
            assert not model._default_manager.exists(), model
        Label.objects.all().delete()
        Agent.objects.all().delete()

    # Who and what there is

    def agent(self, name: str) -> Agent:
        """The agent with this name."""
        return Agent.objects.get(username=name)

    def talk(self, which: int) -> Conversation:
        """One of the conversations."""
        pks = list(Conversation.objects.order_by("pk").values_list("pk", flat=True))
        return Conversation.objects.get(pk=pks[which % len(pks)])

    def talks(self, which: int) -> list[Conversation]:
        """Some of the conversations, at least one."""
        found = list(Conversation.objects.order_by("pk"))
        return [each for place, each in enumerate(found) if which >> place & 1] or found[:1]

    def label(self, which: int) -> Label:
        """One of three labels, which is made if it is missing."""
        name = f"{SECRET} {'cab'[which % 3]}"
        return Label.objects.by_name(name) or create_label(name=name)

    def comes(self, name: str) -> None:
        """An agent is made, and signs in."""
        promote(name, name.title())
        self.browsers[name] = Page()
        self.browsers[name].force_login(self.agent(name))

    def read_up_to(self, name: str, talk: Conversation, last: int) -> None:
        """Note that an agent's page has reported this row."""
        key = self.agent(name).pk, talk.pk
        self.read[key] = max(last, self.read.get(key, 0))

    def change(self, name: str, which: int, **form: Any) -> None:
        """An agent changes some conversations at once."""
        chosen = [f"{each.pk}-{each.last_message_id}" for each in self.talks(which)]
        response = self.browsers[name].htmx("/inbox/changes/", {"pk": chosen, **form})
        assert response.status_code == 200
        if found := re.search(r'name="changed" value="([^"]*)"', response.content.decode()):
            self.undoable.append(html.unescape(found[1]))

    # What they do. `value` decides between the ways to do it.

    @initialize()
    def everybody_comes(self) -> None:
        """The agents come, and the customers write."""
        for name in NAMES:
            self.comes(name)
        self.begins()
        self.begins()

    @rule(act=st.sampled_from(ACTS), name=st.sampled_from(NAMES), which=number, value=number)
    def happens(self, act: str, name: str, which: int, value: int) -> None:
        """One rule for everything: of several, Hypothesis leaves some out of each history."""
        self.is_checked = False
        getattr(self, act)(name, which, value)

    def begins(self) -> None:
        """A customer begins a conversation."""
        assert Page().says("Hello", name="Alice", email="alice@example.com").status_code == 302

    def a_snooze_ends(self, name: str, which: int, value: int) -> None:
        snoozed = Conversation.objects.filter(pk=self.talk(which).pk, snoozed_until__isnull=False)
        self.is_checked = not snoozed.update(snoozed_until=timezone.now())  # the simplest history has only this

    def customer_writes(self, name: str, which: int, value: int) -> None:
        talk, text = self.talk(which), ["Hello?", "It is\nbroken", "a" * 200][value % 3]
        self.customer.cookies["chat"] = talk.uuid.hex
        assert self.customer.says(text, name="Al" if value % 2 else "").status_code == 302

    def customer_looks(self, name: str, which: int, value: int) -> None:
        talk = self.talk(which)
        self.customer.cookies["chat"] = talk.uuid.hex
        assert self.customer.post("/chat/state/", {"seen": talk.last_message_id}).status_code == 204

    def answers(self, name: str, which: int, value: int) -> None:
        talk, has_looked = self.talk(which), value % 3
        draft = Draft.objects.one(self.agent(name), talk.pk)
        form = {"content": ["Hi!", QUOTE + "We **know**"][value % 2], "draft": draft.version if draft else ""}
        form["seen"] = talk.last_message_id if has_looked else 0
        response = self.browsers[name].htmx(f"/inbox/{talk.pk}/messages/", form)
        assert response.status_code in ({204} if has_looked else {204, 409})  # 409 asks whether to answer, too

    def writes_a_note(self, name: str, which: int, value: int) -> None:
        text = f"{SECRET} {['', '@bob', '@carol', '@bob and @carol'][value % 4]}"
        assert self.browsers[name].post(f"/inbox/{self.talk(which).pk}/notes/", {"content": text}).status_code == 302

    def takes(self, name: str, which: int, value: int) -> None:
        talk = self.talk(which)
        assert self.browsers[name].htmx(f"/inbox/{talk.pk}/take/", {"seen_assignee": talk.assignee_id or ""}).content

    def assigns(self, name: str, which: int, value: int) -> None:
        self.change(name, which, assignee=["", *(self.agent(each).pk for each in NAMES)][value % 3])

    def labels(self, name: str, which: int, value: int) -> None:
        self.change(name, which, **{"remove" if value % 3 == 0 else "add": self.label(value).pk})

    def prioritizes(self, name: str, which: int, value: int) -> None:
        self.change(name, which, priority=["", 1, 4][value % 3])

    def snoozes(self, name: str, which: int, value: int) -> None:
        hours = value % 3
        self.change(name, which, until=(timezone.now() + timedelta(hours=hours)).isoformat() if hours else "")

    def closes(self, name: str, which: int, value: int) -> None:
        if value % 2:
            self.change(name, which, status="CLOSED")
        else:
            assert self.browsers[name].htmx(f"/inbox/{self.talk(which).pk}/close/", {}).status_code in {200, 204}

    def reopens(self, name: str, which: int, value: int) -> None:
        if value % 2:
            self.change(name, which, status="OPEN")
        else:
            assert self.browsers[name].htmx(f"/inbox/{self.talk(which).pk}/open/", {}).status_code == 200

    def undoes(self, name: str, which: int, value: int) -> None:
        if self.undoable:
            form = {"changed": self.undoable[-1 - value % len(self.undoable)]}
            assert self.browsers[name].htmx("/inbox/undo/", form).status_code == 200

    def takes_back(self, name: str, which: int, value: int) -> None:
        talk, agent = self.talk(which), self.agent(name)
        mine = list(talk.messages.written().by_agents().filter(agent=agent).order_by("-pk"))
        if mine:
            path = f"/inbox/{talk.pk}/messages/{mine[value % 4 % len(mine)].pk}/"
            assert self.browsers[name].htmx(path, {}).status_code == 204

    def types(self, name: str, which: int, value: int) -> None:
        talk, is_note = self.talk(which), value % 2 == 1
        known = Draft.objects.one(self.agent(name), talk.pk, is_note=is_note)
        path = f"/inbox/{talk.pk}/notes/draft/" if is_note else f"/inbox/{talk.pk}/draft/"
        form = {"content": ["Dear", "Dear Al", ""][value % 3], "version": known.version if known else 0, "age": 0}
        assert self.browsers[name].htmx(path, form).status_code == 204

    def corrects(self, name: str, which: int, value: int) -> None:
        form = {"name": ["", "Alicia"][value % 2], "email": ["", "al@example.com"][value // 2 % 2]}
        assert self.browsers[name].post(f"/inbox/{self.talk(which).pk}/customer/", form).status_code == 302

    def looks(self, name: str, which: int, value: int) -> None:
        talk = self.talk(which)
        assert self.browsers[name].htmx(f"/inbox/{talk.pk}/").status_code == 200
        self.read_up_to(name, talk, max(talk.last_message_id, talk.last_entry_id or 0))

    def reads(self, name: str, which: int, value: int) -> None:
        talk, rows = self.talk(which), Rows()
        pks = sorted(each.pk for each in (*rows.messages[talk.pk], *rows.entries[talk.pk]))
        last = pks[-1 - value % len(pks)]
        assert self.browsers[name].htmx(f"/inbox/{talk.pk}/read/", {"last": last}).status_code == 204
        self.read_up_to(name, talk, last)

    def is_deleted(self, name: str, which: int, value: int) -> None:
        self.agent(name).delete()
        self.comes(name)  # another one, with the same name

    def deletes_a_label(self, name: str, which: int, value: int) -> None:
        self.label(value).delete()

    def a_conversation_begins_or_is_deleted(self, name: str, which: int, value: int) -> None:
        if Conversation.objects.count() < MOST_TALKS:
            self.begins()
        elif value % 3 == 0:
            self.talk(which).delete()

    # What is true after each of it

    @invariant()
    def counters_equal_a_recount(self) -> None:
        """Everything that one row has of others is right."""
        if self.is_checked:
            return
        self.step += 1
        self.rows = Rows()
        for talk in self.rows.talks:
            self.check_messages(talk)
            self.check_waiting(talk)
            assert talk.last_entry_id == max((each.pk for each in self.rows.entries[talk.pk]), default=None)
        self.check_ids()
        self.check_labels()
        self.check_index()
        self.check_agent(self.agent(NAMES[self.step % 2]), timezone.now())
        if self.step % 4 == 0:  # it takes as long as all the rest, and what is shown once is shown the next time
            self.check_customer(self.rows.talks[self.step // 4 % len(self.rows.talks)])

    def check_ids(self) -> None:
        """Ids are never given twice, and what is new has higher ones than all before."""
        ids, known = self.rows.ids, set(self.ids)
        new = [pk for pk in ids if pk not in known]
        assert len(set(ids)) == len(ids)
        assert min(new, default=0) > max(self.ids, default=-1) or not new
        self.ids += new

    def check_messages(self, talk: Conversation) -> None:
        """What a conversation says of its messages."""
        everything, written = self.rows.messages[talk.pk], self.rows.written(talk)
        customers, answer, last = self.rows.by_customer(talk), self.rows.last_answer(talk), written[-1]
        line = "" if last.is_removed else last.content.removeprefix(QUOTE).replace("*", "")
        assert talk.last_message_id == everything[-1].pk
        assert talk.last_line == " ".join(line.split())[:LAST_LINE_LENGTH]
        assert (talk.last_message_at, talk.last_author) == (last.created_at, last.author)
        assert talk.customer_messages == len(customers)
        assert talk.answered_messages == sum(each.pk < answer for each in customers)
        waits = {int((each.created_at - talk.created_at).total_seconds()) for each in written if each.author == "AGE"}
        assert talk.first_answer_after in waits or (talk.first_answer_after is None and not waits)
        assert talk.seen_id is None or talk.seen_id in {each.pk for each in everything}
        assert (talk.seen_id is None) == (talk.seen_at is None)
        assert talk.updated_at
        assert talk.updated_at >= talk.last_message_at
        removed = [each.pk for each in written if each.is_removed]
        assert removed == sorted(each.removed_id or 0 for each in everything if each.is_removal)
        assert not any(each.content for each in everything if each.is_removed or each.is_removal)
        assert not Attachment.objects.filter(message__in=removed).exists()
        if settings.MESSAGE_LOG:
            assert message_log.lasts([talk.pk]) == [talk.last_message_id]

    def check_waiting(self, talk: Conversation) -> None:
        """Since when the customer waits, and until when the conversation is snoozed."""
        answer = self.rows.last_answer(talk)
        unanswered = [each for each in self.rows.by_customer(talk) if each.pk > answer]
        closed = [each.pk for each in self.rows.entries[talk.pk] if each.kind == Kind.CLOSED and each.pk > answer]
        # Who writes again after it was closed, waits since then.
        assert bool(talk.waiting_since) == bool(unanswered)
        assert not talk.waiting_since or talk.waiting_since in {each.created_at for each in unanswered}
        if unanswered and not closed:
            assert talk.waiting_since == unanswered[0].created_at
        assert talk.is_open or talk.snoozed_until is None

    def check_labels(self) -> None:
        """Rows of labels have copies of their conversation, which has their ids in the order of their names."""
        rows = ConversationLabel.objects.order_by("label__folded").values_list(
            "conversation_id", "label_id", "status", "last_message_id"
        )
        existing = set(Label.objects.values_list("pk", flat=True))
        expected = [
            (talk.pk, label_id, talk.status, talk.last_message_id)
            for talk in self.rows.talks
            for label_id in talk.labels
            if label_id in existing
        ]
        assert sorted(rows) == sorted(expected)
        for talk in self.rows.talks:
            assert [pk for pk in talk.labels if pk in existing] == [row[1] for row in rows if row[0] == talk.pk]

    def check_index(self) -> None:
        """What is found by a search."""
        expected = {}
        for talk in self.rows.talks:
            expected[-talk.pk] = talk.pk, words_of(-talk.pk, talk.customer_name, talk.customer_email)
            for message in self.rows.messages[talk.pk]:
                expected[message.pk] = talk.pk, words_of(message.pk, message.content)
            for entry in self.rows.entries[talk.pk]:
                if entry.kind == Kind.NOTE:
                    expected[entry.pk] = talk.pk, words_of(entry.pk, entry.content)
        found = Searchable.objects.values_list("pk", "conversation_id", "words")
        assert {pk: rest for pk, *rest in found} == {pk: [*rest] for pk, rest in expected.items() if rest[1]}

    def check_agent(self, agent: Agent, now: datetime) -> None:
        """What an agent has read, what mentions them, and what their lists count."""
        readings = {each.conversation_id: each for each in Reading.objects.filter(agent=agent)}
        mentions = {each.conversation_id: each for each in Mention.objects.filter(agent=agent)}
        shown = {each.pk: each for each in agent.visible_conversations().inbox(agent, View("any"), 50)}
        assert list(shown) == [each.pk for each in sorted(self.rows.talks, key=lambda each: -each.last_message_id)]
        for talk in self.rows.talks:
            customers, reading = self.rows.by_customer(talk), readings.get(talk.pk)
            read = reading.last_message_id if reading else 0
            assert (reading.customer_messages if reading else 0) == sum(each.pk <= read for each in customers)
            assert read <= self.read.get((agent.pk, talk.pk), 0)
            handled = max(read, self.rows.last_answer(talk))
            assert shown[talk.pk].unread == sum(each.pk > handled for each in customers)
            mention, newest = mentions.get(talk.pk), self.rows.mentions(talk, agent)
            assert (mention.entry_id if mention else 0) == newest
            is_unread = newest > self.read.get((agent.pk, talk.pk), 0)
            assert (mention is not None and mention.unread) == is_unread == bool(shown[talk.pk].is_mentioned)
        self.check_lists(agent, now, [pk for pk, each in mentions.items() if each.unread])

    def check_lists(self, agent: Agent, now: datetime, mentioned: list[int]) -> None:
        """What the lists have, and how many the tabs say."""
        drafts = set(Draft.objects.of(agent).values_list("conversation_id", flat=True))
        some, everyone = Label.objects.first(), self.rows.talks
        snoozed = {each.pk for each in everyone if each.snoozed_until and each.snoozed_until > now}
        is_open: Callable[[Conversation], bool] = lambda each: each.is_open and each.pk not in snoozed  # noqa: E731
        expected = {
            View("open"): [each.pk for each in everyone if is_open(each)],
            View("snoozed"): [each.pk for each in everyone if each.pk in snoozed],
            View("closed"): [each.pk for each in everyone if each.is_closed],
            View("open", assignee=agent.pk): [
                each.pk for each in everyone if is_open(each) and each.assignee_id == agent.pk
            ],
            View("open", assignee=None): [each.pk for each in everyone if is_open(each) and not each.assignee_id],
            View("open", writer=agent.pk): [each.pk for each in everyone if is_open(each) and each.pk in drafts],
            View("open", priority=4): [each.pk for each in everyone if is_open(each) and each.priority == 4],
            View("open", order="waiting"): [each.pk for each in everyone if is_open(each) and self.is_waiting(each)],
            View("any", mentioned=agent.pk, is_unread=True): mentioned,
        }
        if some:
            for status in ("open", "closed"):
                view = View(status, label_id=some.pk)
                expected[view] = [pk for pk in expected[View(status)] if some.pk in self.labels_of(pk)]
        visible = agent.visible_conversations()
        counts = visible.counts(list(expected))
        assert counts == [len(pks) for pks in expected.values()], dict(zip(expected, counts, strict=True))

    def is_waiting(self, talk: Conversation) -> bool:
        """Whether a customer waits for an answer."""
        return any(each.pk > self.rows.last_answer(talk) for each in self.rows.by_customer(talk))

    def labels_of(self, pk: int) -> list[int]:
        """The labels of a conversation."""
        return next(each.labels for each in self.rows.talks if each.pk == pk)

    def check_customer(self, talk: Conversation) -> None:
        """A customer sees what was written, and nothing of notes and activities."""
        self.customer.cookies["chat"] = talk.uuid.hex
        path = "/chat/" if self.step % 8 else f"/chat/messages/?since={talk.last_message_id - 1}"
        shown = self.customer.get(path).content.decode()
        ids = {int(pk) for pk in re.findall(r'data-id="(\d+)"', shown)}
        assert SECRET not in shown
        assert talk.last_message_id in ids
        assert ids <= {each.pk for each in self.rows.messages[talk.pk]}


@pytest.mark.django_db
def test_counters_equal_a_recount_after_random_actions() -> None:
    Website.objects.update(receipts=True)
    run_state_machine_as_test(
        Desk,
        settings=hypothesis_settings(
            max_examples=4,  # the first two are the simplest ones
            stateful_step_count=250,
            phases=[Phase.generate],  # with Phase.shrink it takes minutes more to show a shorter history
            deadline=None,
            derandomize=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
