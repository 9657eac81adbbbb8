"""Every list of the inbox is served by one index, on every database: nothing is sorted, and no table is read whole."""

import json
from datetime import timedelta
from itertools import product
from random import Random
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from conversations.models import (
    Agent,
    Conversation,
    ConversationLabel,
    Cursor,
    Label,
    Mention,
    View,
    Website,
    conversation,
    leads,
)
from conversations.models.leads import best_leads
from conversations.models.prepared import AtLeast

pytestmark = pytest.mark.django_db(transaction=True)  # MariaDB commits before ANALYZE

TOTAL = 4000


def fill(bob: Agent, mostly: str = "CLOSED") -> Label:
    """Many conversations, of which few are open or few are closed, and some colleagues."""
    leads.forget()
    by_chance = Random(1)
    User.objects.bulk_create(User(username=f"colleague{n}") for n in range(50))
    label, website, now = Label.objects.create(name="Billing"), Website.objects.default(), timezone.now()
    made = Conversation.objects.bulk_create(
        Conversation(
            website=website,
            status=mostly if n % 20 else "OPEN" if mostly == "CLOSED" else "CLOSED",
            assignee=bob if by_chance.random() < 0.2 else None,
            last_message_id=n + 1,
            waiting_since=now + timedelta(seconds=n),
            customer_messages=1,
            snoozed_until=now + timedelta(days=1) if n % 300 == 0 else None,
            priority=by_chance.randrange(1, 5) if by_chance.random() < 0.2 else None,
            label_ids=f"{label.pk}" if by_chance.random() < 0.25 else None,
        )
        for n in range(TOTAL)
    )
    made = list(Conversation.objects.order_by("pk")) if made[0].pk is None else made
    ConversationLabel.objects.bulk_create(
        ConversationLabel(conversation=each, label=label, status=each.status, last_message_id=each.last_message_id)
        for each in made
        if each.label_ids
    )
    Mention.objects.bulk_create(
        Mention(conversation=each, agent_id=pk, entry_id=TOTAL + each.pk, unread=each.pk % 20 == 0)
        for pk in (bob.pk, User.objects.get(username="colleague1").pk)
        for each in made
    )
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            tables = ("conversation", "conversationlabel", "mention")
            cursor.execute(f"ANALYZE TABLE {', '.join(f'conversations_{table}' for table in tables)}")
            cursor.fetchall()
        elif connection.vendor == "postgresql":
            cursor.execute("ANALYZE")  # SQLite gets no statistics: nobody analyzes the database of an installation
    return label


def plan_of(request: Any) -> str:
    """How the database finds what the request asks for."""
    found: list[tuple[str, Any]] = []

    def record(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        found.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(record):
        request()
    [(sql, parameters)] = found
    if connection.vendor == "postgresql":  # it sorts few rows although it need not
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN", "mysql": "EXPLAIN FORMAT=JSON"}
    with connection.cursor() as cursor:
        cursor.execute(f"{explain[connection.vendor]} {sql}", parameters)
        rows = cursor.fetchall()
    if connection.vendor == "mysql":
        return json.dumps(json.loads(rows[0][0]))
    return "\n".join(str(row[-1]) for row in rows)


WRONG = {
    "sqlite": ("SCAN conversations_", "TEMP B-TREE FOR ORDER BY"),
    "postgresql": ("Seq Scan on conversations_conv", "Sort Key"),
    "mysql": ('"access_type": "ALL"', "filesort"),
}
"""What a plan has only where no index serves the list."""


@pytest.mark.parametrize("is_later", [False, True])
def test_one_index_serves_each_list(bob: Agent, is_later: bool) -> None:
    label, website = fill(bob), Website.objects.default()
    talk, everything = Conversation.objects.order_by("-pk")[100], bob.visible_conversations()
    views = {
        "all": (View(), "inbox_all"),
        "mine": (View(assignee=bob.pk), "inbox_assignee"),
        "unassigned": (View(assignee=None), "inbox_assignee"),
        "closed": (View("closed"), "inbox_all"),
        "closed, mine": (View("closed", assignee=bob.pk), "inbox_assignee"),
        "closed, unassigned": (View("closed", assignee=None), "inbox_assignee"),
        "of a website": (View(website_id=website.pk), "inbox_"),
        "snoozed": (View("snoozed"), "inbox_snoozed"),
        "snoozed, mine": (View("snoozed", assignee=bob.pk), "inbox_snoozed"),
        "snoozed, unassigned": (View("snoozed", assignee=None), "inbox_snoozed"),
        "snoozed, of a website": (View("snoozed", website_id=website.pk), "inbox_snoozed"),
        "snoozed, urgent": (View("snoozed", priority=3), "inbox_snoozed"),
        "waiting longest": (View(order="waiting"), "inbox_waiting"),
        "waiting longest, mine": (View(order="waiting", assignee=bob.pk), "inbox_assignee_waiting"),
        "waiting longest, unassigned": (View(order="waiting", assignee=None), "inbox_assignee_waiting"),
        "of a label": (View(label_id=label.pk), "inbox_label"),
        "closed, of a label": (View("closed", label_id=label.pk), "inbox_label"),
        "urgent": (View(priority=3), "inbox_priority"),
        "mentions": (View("any", mentioned=bob.pk), "inbox_mentions"),
    }
    wrong = []
    for name, (view, index) in views.items():
        moment = {"snoozed": timezone.now(), "waiting longest": talk.waiting_since}.get(name.split(",")[0])
        last = talk.mentions.get(agent=bob.pk).entry_id if name == "mentions" else talk.last_message_id
        after = Cursor(talk.pk if moment else last, moment) if is_later else None
        with transaction.atomic():
            best_leads([view])  # which asks the database
            plan = plan_of(lambda view=view, after=after: everything.inbox(bob, view, 51, after))
        # Which index PostgreSQL chooses depends on how many rows there are: see tests/test_plans.py.
        if (connection.vendor != "postgresql" and index not in plan) or any(
            part in plan for part in WRONG[connection.vendor]
        ):
            wrong.append((name, plan))
    assert [name for name, _ in wrong] == [], "\n\n".join(plan for _, plan in wrong)


def test_one_index_counts_unread_mentions(bob: Agent) -> None:
    fill(bob)
    view = View("any", mentioned=bob.pk, is_unread=True)
    with transaction.atomic():
        plan = plan_of(lambda: bob.visible_conversations().counts([view]))
    assert ("unread_mentions (agent_id=? AND unread=?)" if connection.vendor == "sqlite" else "unread_mentions") in plan


def test_one_index_finds_conversations_by_email(bob: Agent) -> None:
    fill(bob)
    with transaction.atomic():
        plan = plan_of(lambda: bob.visible_conversations().with_email("Alice@Shop.example", 10))
    assert ("conversation_email" if connection.vendor == "mysql" else "conversation_email_any_case") in plan
    assert not any(part in plan for part in WRONG[connection.vendor]), plan


def test_a_list_without_an_index_is_found_out(bob: Agent) -> None:
    fill(bob)
    found = Conversation.objects.filter(status="OPEN").order_by("customer_name")[:51]
    with transaction.atomic():
        plan = plan_of(lambda: list(found))
    assert any(part in plan for part in WRONG[connection.vendor])


@pytest.mark.parametrize("view", [View(), View("closed"), View("snoozed"), View(priority=3)], ids=str)
def test_drafts_are_counted_from_the_agents_drafts(bob: Agent, view: View) -> None:
    fill(bob)
    with transaction.atomic():
        plan = plan_of(lambda: bob.visible_conversations().counts([view._replace(writer=bob.pk)]))
    index = '"key": "inbox_' if connection.vendor == "mysql" else "inbox_"
    assert "conversations_draft" in plan
    assert index not in plan


def every_view(bob: Agent, label: Label) -> list[View]:
    """Every list with every filter, in every order."""
    sites, labels, priorities = (None, Website.objects.default().pk), (None, label.pk), (None, 3)
    narrowed = [
        View(website_id=site, label_id=label_id, priority=priority)
        for site, label_id, priority in product(sites, labels, priorities)
    ]
    found: list[View] = []
    for view in narrowed:
        found += [view._replace(assignee=whose) for whose in (..., bob.pk, None)]
        found += [view._replace(assignee=whose, order="waiting") for whose in (..., bob.pk, None)]
        found += [view._replace(assignee=whose, status="snoozed") for whose in (..., bob.pk, None)]
        found += [view._replace(assignee=whose, status="closed") for whose in (..., bob.pk, None)]
        found += [view._replace(writer=bob.pk), view._replace(status="any", mentioned=bob.pk, is_unread=True)]
    return found


def work(request: Any) -> int:
    """How many steps SQLite takes for a request, or how many rows MariaDB reads, 8 steps each."""
    if connection.vendor == "mysql":

        def rows_read() -> int:
            with connection.cursor() as cursor:
                cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'")
                return sum(int(value) for _, value in cursor.fetchall())

        before = rows_read()
        request()
        return 8 * (rows_read() - before)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 100
        return 0

    connection.connection.set_progress_handler(step, 100)
    try:
        request()
    finally:
        connection.connection.set_progress_handler(None, 0)
    return steps


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it reads small tables whole: see tests/test_plans.py")
@pytest.mark.parametrize("mostly", ["OPEN", "CLOSED"])
def test_no_list_and_no_count_reads_all_conversations(bob: Agent, monkeypatch: pytest.MonkeyPatch, mostly: str) -> None:
    label = fill(bob, mostly)
    for module, name in ((conversation, "MAX_READ"), (leads, "FEW"), (leads, "MANY")):
        monkeypatch.setattr(module, name, getattr(module, name) // 10)  # as there are only 4,000 conversations
    views, everything = every_view(bob, label), bob.visible_conversations()
    best_leads(views)
    # A list of mentions may read all mentions of its agent.
    lists = {view: work(lambda view=view: everything.inbox(bob, view, 51)) for view in views if not view.mentioned}
    counts = {view: work(lambda view=view: everything.counts([view])) for view in views}
    assert {view: steps for view, steps in lists.items() if steps > 25_000} == {}
    assert {view: steps for view, steps in counts.items() if steps > 5_000} == {}


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it reads small tables whole: see tests/test_plans.py")
def test_those_who_wait_for_one_agent_are_found_among_all_who_wait(bob: Agent) -> None:
    fill(bob, "OPEN")
    everything, earlier = bob.visible_conversations(), Cursor(1, timezone.now() - timedelta(days=1))
    for whose in (bob.pk, None):
        view = View(assignee=whose, order="waiting")
        Conversation.objects.filter(assignee=whose, last_message_id__gte=100).update(waiting_since=None)
        assert work(lambda view=view: everything.inbox(bob, view, 51)) < 5_000
        assert work(lambda view=view: everything.inbox(bob, view, 51, earlier)) < 5_000


def test_a_count_that_has_not_read_all_says_so(bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    label = fill(bob, "OPEN")
    everything, views = bob.visible_conversations(), every_view(bob, label)
    monkeypatch.setattr(conversation, "MAX_READ", 100)
    counts = everything.counts(views)
    monkeypatch.setattr(conversation, "MAX_READ", TOTAL)
    recounts = everything.counts(views)
    assert not any(isinstance(count, AtLeast) for count in recounts)
    assert recounts == [len(everything.inbox(bob, view, TOTAL)) for view in views]
    for view, count, recount in zip(views, counts, recounts, strict=True):
        assert count <= recount if isinstance(count, AtLeast) else count == recount, view
    assert any(isinstance(count, AtLeast) and count < 99 for count in counts)
