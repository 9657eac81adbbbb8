"""Rows of the inbox are remembered, and yet show what is so now: whatever changes, and however time passes."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django.utils.safestring import SafeString
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conversations.actions import post_message
from conversations.agent import inbox, inbox_rows
from conversations.agent.inbox_rows import Frame, Reader, Rendered, RowMemory
from conversations.models import Agent, AgentProfile, Conversation, Draft, Label, Mention, Reading, SavedView, Website
from conversations.models.conversation import InboxEntry
from tests.conftest import Page
from tests.test_prepared_templates import html

pytestmark = pytest.mark.django_db

PATHS = [
    "/inbox/list/",
    "/inbox/list/?chosen={first}",
    "/inbox/list/?whose=mine",
    "/inbox/list/?status=snoozed",
    "/inbox/list/?status=closed",
    "/inbox/list/?whose=mentions",
    "/inbox/list/?order=waiting&priority=4",
    "/inbox/",
    "/inbox/?label=1&whose=2",
    "/inbox/list/?website=other&shown=",
]


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Render everything anew, and remember what was remembered before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox_rows, "memory", RowMemory(10**9))
        for name in ("_status_tabs", "_assignee_tabs", "_saved", "_render_tab", "_render_sheet"):
            patch.setattr(inbox, name, getattr(inbox, name).__wrapped__)
        for template in (inbox_rows.ROW, inbox.TAB, inbox.COUNTS, inbox.LIST, inbox.INBOX):
            patch.setattr(template, "rendered", {})
        yield


class Desk:
    """Two conversations, and everything that an agent's list shows of them."""

    def __init__(self, bob: Agent, carol: Agent) -> None:
        """The conversations are new."""
        self.agents, self.began, self.passed = [bob, carol], timezone.now(), timedelta()
        self.website = Website.objects.default()
        self.talks = [
            Conversation.objects.create(website=self.website, last_message_id=pk, last_author="CUS", last_line="Hello")
            for pk in (1, 2)
        ]
        self.labels = [Label.objects.create(name=name) for name in ("Billing", "Invoices")]

    def now(self) -> datetime:
        """The time, as far as the list knows it."""
        return self.began + self.passed

    def change(self, name: str, talk: int, value: int) -> None:
        """Change what the name says, to one of few values."""
        one, agent = Conversation.objects.filter(pk=self.talks[talk].pk), self.agents[value % 2]
        fields: dict[str, Any] = {
            "status": ["OPEN", "CLOSED"],
            "customer_name": ["", "Alice", "Älis %s", "<b>"],
            "customer_email": ["", "alice@shop.example"],
            "assignee": [None, *self.agents],
            "last_message_id": [3 + talk, 5 + talk],
            "last_message_at": [self.began - timedelta(minutes=minutes) for minutes in (0, 4, 29, 2000)],
            "last_line": ["", "Hello & %(line)s", "🌱"],
            "last_author": ["CUS", "AGE", ""],
            "priority": [None, 1, 2, 3, 4],
            "label_ids": [None, f"{self.labels[0].pk}", f"{self.labels[0].pk} {self.labels[1].pk}"],
            "snoozed_until": [None, *(self.began + timedelta(minutes=minutes) for minutes in (-5, 3, 40))],
            "waiting_since": [None, *(self.began - timedelta(minutes=minutes) for minutes in (4, 29, 31))],
            "customer_messages": [0, 1, 3],
        }
        if name in fields:
            one.update(**{name: fields[name][value % len(fields[name])]})
            return
        changes: dict[str, Callable[[], object]] = {
            "read": lambda: Reading.objects.update_or_create(
                conversation=one.get(), agent=agent, defaults={"customer_messages": value % 3, "last_message_id": 1}
            ),
            "draft": lambda: Draft.objects.keep(
                agent, one.get().pk, ["", "So far"][value % 4 // 2], typed_at=self.now(), known=0
            ),
            "mention": lambda: Mention.objects.update_or_create(
                conversation=one.get(), agent=agent, defaults={"entry_id": 9 + value, "unread": value % 4 > 1}
            ),
            "colleague": lambda: Agent.objects.filter(pk=agent.pk).update(first_name=["", "Bobby", "<i>"][value % 3]),
            "label's name": lambda: Label.objects.filter(pk=self.labels[0].pk).update(name=f"Billing {value}"),
            "label's colour": lambda: Label.objects.filter(pk=self.labels[0].pk).update(
                colour=Label.Colour.values[value]
            ),
            "label deleted": lambda: Label.objects.filter(pk=self.labels[1].pk).delete(),
            "website's name": lambda: Website.objects.filter(pk=self.website.pk).update(name=f"Shop {value}"),
            "other website": lambda: Website.objects.get_or_create(key="other", defaults={"name": "Other"}),
            "moved": lambda: one.update(website=Website.objects.all()[value % Website.objects.count()]),
            "language": lambda: AgentProfile.objects.change(agent, language=["", "de", "ar"][value % 3]),
            "zone": lambda: AgentProfile.objects.change(agent, time_zone=["", "Asia/Tokyo"][value % 4 // 2]),
            "saved view": lambda: SavedView.objects.update_or_create(
                name="Mine", owner=None, defaults={"query": ["whose=mine", "website=other"][value % 2]}
            ),
            "time": lambda: setattr(self, "passed", timedelta(minutes=[0, 1, 2, 7, 33, 90][value % 6])),
        }
        changes[name]()


CHANGES = [
    *("status", "customer_name", "customer_email", "assignee", "last_message_id", "last_message_at", "last_line"),
    *("last_author", "priority", "label_ids", "snoozed_until", "waiting_since", "customer_messages", "read", "draft"),
    *("mention", "colleague", "label's name", "label's colour", "label deleted", "website's name", "other website"),
    *("moved", "language", "zone", "saved view", "time"),
]


Step = tuple[str, int, int, str]
STEPS = st.permutations(CHANGES).flatmap(
    lambda names: st.tuples(
        *(st.tuples(st.just(name), st.integers(0, 1), st.integers(0, 11), st.sampled_from(PATHS)) for name in names)
    )
)
"""Each change once: of single ones, Hypothesis would leave out too many."""


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],  # to find the simplest steps takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_a_remembered_list_is_the_same_as_a_new_one(
    bob: Agent, bobs: Page, carol: Agent, carols: Page, steps: tuple[Step, ...]
) -> None:
    with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
        desk = Desk(*Agent.objects.filter(pk__in=[bob.pk, carol.pk]).order_by("pk"))
        patch.setattr(timezone, "now", desk.now)
        for page in (bobs, carols):
            page.get(PATHS[0])
        for name, talk, value, path in steps:
            desk.change(name, talk, value)
            for page in (bobs, carols):
                for shown in {PATHS[0], path}:
                    url = shown.format(first=desk.talks[0].pk)
                    remembered = html(page, url)
                    with nothing_remembered():
                        assert html(page, url) == remembered, (name, url)
        transaction.set_rollback(True)


def test_a_row_is_rendered_once_until_it_changes(
    bobs: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_message(content="Hi", name="Mallory")
    rendered: list[str] = []
    render = inbox_rows._render

    def record(entry: InboxEntry, *rest: Any) -> SafeString:
        rendered.append(str(entry))
        return render(entry, *rest)

    monkeypatch.setattr(inbox_rows, "_render", record)
    bobs.get("/inbox/list/")
    rendered.clear()
    bobs.get("/inbox/list/")
    assert rendered == []
    post_message(content="Is anybody there?", conversation=talk)
    bobs.get("/inbox/list/")
    assert rendered == [str(talk)]


@pytest.mark.parametrize("seconds", [299, 301, 1799, 1801])
def test_who_waits_for_too_long_is_marked_without_any_change(
    bobs: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    shown = ["", "soon", "soon", "late"][[299, 301, 1799, 1801].index(seconds)]
    began = Conversation.objects.get().waiting_since or timezone.now()
    for now, word in [(began, ""), (began + timedelta(seconds=seconds), shown), (began, "")]:  # the clock is set back
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        page = bobs.get("/inbox/list/").content.decode()
        assert (f'class="waits {word}"' in page) if word else ('class="waits' not in page)


def test_the_end_of_a_snooze_is_shown_at_its_moment(
    bobs: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = timezone.now() + timedelta(hours=1)
    Conversation.objects.update(snoozed_until=until)
    for now, is_snoozed in [(until - timedelta(microseconds=1), True), (until, False)]:
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        page = bobs.get("/inbox/list/?status=snoozed").content.decode()  # the database's clock has not moved
        assert ('class="snoozed"' in page, 'class="waits soon"' in page) == (is_snoozed, not is_snoozed)


def remember(memory: RowMemory, rows: int) -> None:
    """Let it have so many rows, whose texts are all different."""
    number = memory.number(Frame("", (), (), False, "en", "UTC"))
    for pk in range(rows):
        line = f"{pk} 🌱 " + "x" * 100
        raw = (10**9 + pk, 1, f"OPEN{pk}", f"Alice {pk}", "", None, "", None, 10**10 + pk, f"2026-{pk}", line)
        at = timezone.now()
        memory.put((number, Reader(False, False, False), raw), Rendered(SafeString(line * 6), at, at))


def test_remembered_rows_take_no_more_memory_than_they_may() -> None:
    memory = RowMemory(3_000_000)
    tracemalloc.start()
    try:
        remember(memory, 5_000)
        assert tracemalloc.get_traced_memory()[0] < 3_300_000
    finally:
        tracemalloc.stop()
    assert 2_900_000 < memory.size <= 3_000_000
    assert memory.size == sum(inbox_rows._bytes(key, row) for key, row in memory.rows.items())
    assert f"{4_999} 🌱" in list(memory.rows.values())[-1].html


def test_few_frames_are_known_at_once() -> None:
    memory = RowMemory(3_000_000)
    numbers = [memory.number(Frame(f"?label={n}", (), (), False, "en", "UTC")) for n in range(2_500)]
    assert len(set(numbers)) == 2_500  # a row never stands in the frame of another list
    assert len(memory.frames) <= inbox_rows.MOST_FRAMES
