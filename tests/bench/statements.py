"""The statements of the frequent requests, and how PostgreSQL executes them: see tests/bench/plans.py."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

EACH = 20
"""Messages in a conversation. Their ids are spread over the table, as when people write in turns."""

MOST_NEEDLESS = 200
"""Rows that a statement may read and drop again."""

TABLES = ("conversations_conversation", "conversations_message", "conversations_reading")

FILL = """
    INSERT INTO conversations_conversation (
        id, website_id, uuid, created_at, status, customer_name, customer_email, assignee_id, last_message_id,
        last_message_at, last_line, last_author, customer_messages, answered_messages, updated_at, first_answer_after,
        waiting_since, snoozed_until, priority, label_ids)
    SELECT n, {website}, gen_random_uuid(), at, CASE WHEN n % 5000 = 0 THEN 'OPEN' ELSE 'CLOSED' END,
           'Customer ' || n, '', CASE WHEN n % 3 = 0 THEN {agent} END, n + {last}, at, 'Thank you!', 'CUS', 14, 10, at,
           n % 600, at, CASE WHEN n % 50000 = 0 THEN now() + interval '1 hour' END,
           CASE WHEN n % 7 = 0 THEN 1 + n % 4 END, CASE WHEN n % 20 = 0 THEN '{label}' END
    FROM (SELECT n, now() - interval '365 days' * (1 - n::float / {talks}) AS at
          FROM generate_series(1, {talks}) AS n) AS numbers;
    INSERT INTO conversations_message (id, conversation_id, created_at, author, agent_id, content, client_id, files)
    SELECT n, 1 + (n - 1) % {talks}, now() - interval '365 days' * (1 - n::float / {total}),
           CASE WHEN n % 3 = 0 THEN 'AGE' ELSE 'CUS' END, CASE WHEN n % 3 = 0 THEN {agent} END,
           'It is order ' || n || ', with the two blue planters and the tall terracotta one.',
           CASE WHEN n % 3 > 0 THEN gen_random_uuid() END, 0
    FROM generate_series(1, {total}) AS n;
    INSERT INTO conversations_reading (conversation_id, agent_id, last_message_id, customer_messages)
    SELECT n, {agent}, n, 1 FROM generate_series(1, {talks}, 2) AS n;
    INSERT INTO conversations_conversationlabel (conversation_id, label_id, status, last_message_id)
    SELECT id, {label}, status, last_message_id FROM conversations_conversation WHERE label_ids IS NOT NULL;
    SELECT setval(pg_get_serial_sequence('conversations_conversation', 'id'), {talks});
    SELECT setval(pg_get_serial_sequence('conversations_message', 'id'), {total});
    VACUUM ANALYZE
"""
"""One of 5,000 conversations is open, as in a team that answers all."""


@dataclass(frozen=True)
class Statement:
    """A statement of a request."""

    request: str
    sql: str  # with $1, $2 ... for its values
    values: list[str]  # as SQL
    is_planned_once: bool  # by PostgreSQL, for all values: see chatsite/databases/postgresql/base.py


def fill(total: int) -> None:
    """Store so many messages, and an agent, in an empty database."""
    from django.contrib.auth.models import User
    from django.db import connection

    from conversations.models import Agent, Label, Website

    label = Label.objects.create(name="Billing").pk
    agent = Agent.objects.promote(User.objects.create_user("bob")).pk
    numbers = {
        "agent": agent,
        "label": label,
        "website": Website.objects.default().pk,
        "talks": total // EACH,
        "total": total,
    }
    with connection.cursor() as cursor:
        for statement in FILL.split(";\n"):
            cursor.execute(statement.format(**numbers, last=total - total // EACH))


def statements() -> Iterator[Statement]:
    """Make each request once, and yield what it has asked the database. Nothing is written."""
    from django.db import connection, transaction
    from django.utils import timezone

    from conversations.actions import mark_read, post_message
    from conversations.models import Agent, Conversation, Cursor, Label, Message, News, View, Website
    from conversations.models.prepared import current_connection

    bob, website, label = Agent.objects.get(username="bob"), Website.objects.default(), Label.objects.get()
    talk = Conversation.objects.order_by("id")[100]
    views = {
        "all": View(),
        "mine": View(assignee=bob.pk),
        "unassigned": View(assignee=None),
        "closed": View("closed"),
        "closed, mine": View("closed", assignee=bob.pk),
        "of one website": View(website_id=website.pk),
        "snoozed": View("snoozed"),
        "waiting longest": View(order="waiting"),
        "of a label": View(label_id=label.pk),
        "closed, of a label": View("closed", label_id=label.pk),
        "urgent": View(priority=Conversation.Priority.URGENT),
    }
    after = {
        "closed": Cursor(talk.last_message_id),
        "closed, of a label": Cursor(talk.last_message_id),
        "snoozed": Cursor(talk.pk, timezone.now()),
        "waiting longest": Cursor(talk.pk, talk.last_message_at),
    }
    visible = bob.visible_conversations()

    def opening() -> None:
        if found := visible.by_id(talk.pk, "website", "contact", "assignee"):
            Message.objects.newest(talk.pk, 51)
            mark_read(conversation=found, agent=bob, last=found.last_message_id)

    requests: dict[str, Callable[[], Any]] = {
        "poll of a customer": lambda: News.with_previous(talk.uuid, talk.last_message_id, 50, website="default"),
        "poll of an agent": lambda: News.with_previous(talk.pk, talk.last_message_id, 50),
        "reading a conversation from its beginning": lambda: News.after(talk.uuid, 0, 25),
        "post": lambda: post_message(content="Hello", conversation=Conversation.objects.all().by_uuid(talk.uuid)),
        "opening as an agent": opening,
        "older messages": lambda: Message.objects.newest(talk.pk, 51, before=talk.last_message_id),
        **{f"inbox, {name}": partial(visible.inbox, bob, view, 51) for name, view in views.items()},
        **{f"inbox, more {name}": partial(visible.inbox, bob, views[name], 51, after[name]) for name in after},
        "inbox, counts": lambda: visible.counts(list(views.values())),
        "API, conversations by activity": lambda: list(visible.newest_first()[:100]),
        "API, changed since": lambda: list(visible.updated_since(timezone.now() - timedelta(hours=1))[:100]),
        "usual reply time": lambda: Conversation.objects.of(website).median_wait(3, 50),
    }
    found: list[tuple[str, list[str], bool]] = []
    is_prepared = False

    def prepared_cursor(database: Any) -> Any:
        nonlocal is_prepared
        is_prepared = True
        return database.cursor()

    def record(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        nonlocal is_prepared
        parts, ops = sql.split("%s"), context["connection"].ops
        numbered = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)) + parts[-1]
        values = [ops.compose_sql("%s", [value]) for value in parameters or ()]
        found.append((" ".join(numbered.split()), values, is_prepared))
        is_prepared = False
        return execute(sql, parameters, many, context)

    database = current_connection()
    database.prepared_cursor = lambda: prepared_cursor(database)
    try:
        for name, request in requests.items():
            found.clear()
            with transaction.atomic(), connection.execute_wrapper(record):
                request()
                transaction.set_rollback(True)
            for sql, values, once in found:
                if sql.split(None, 1)[0] in {"SELECT", "WITH", "INSERT", "UPDATE", "DELETE"}:
                    yield Statement(name, sql, values, once)
    finally:
        del database.prepared_cursor


def explain(statement: Statement) -> list[str]:
    """What PostgreSQL does for a statement, as lines, with the numbers of rows and the times."""
    from django.db import connection, transaction

    mode = "force_generic_plan" if statement.is_planned_once else "force_custom_plan"
    values = f"({', '.join(statement.values)})" if statement.values else ""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL plan_cache_mode = {mode}; PREPARE statement AS {statement.sql}")
        for _ in range(2):  # the second time from memory
            with transaction.atomic():  # a row can be inserted once
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE statement{values}")
                lines = [row[0] for row in cursor.fetchall()]
                transaction.set_rollback(True)
        cursor.execute("DEALLOCATE statement")
        transaction.set_rollback(True)
    return lines


def needless_rows(plan: list[str]) -> int:
    """How many rows a statement has read and dropped again."""
    return sum(int(number) for line in plan for number in re.findall(r"Rows Removed by \w+(?: \w+)*: (\d+)", line))


def main() -> None:
    """Fill the database, and print the plans."""
    from django.db import connection

    total, began = int(sys.argv[1]), time.monotonic()
    fill(total)
    print(f"{total:,} messages in {total // EACH:,} conversations, filled in {time.monotonic() - began:.0f} s")
    with connection.cursor() as cursor:
        for table in TABLES:
            sizes = "SELECT pg_size_pretty(pg_table_size(%s)), pg_size_pretty(pg_indexes_size(%s))"
            cursor.execute(sizes.replace("%s", f"'{table}'::regclass"))
            rows, indexes = cursor.fetchone() or ("", "")
            print(f"  {table:28} {rows}, indexes {indexes}")
    slow = set()
    for statement in statements():
        plan = explain(statement)
        print(f"\n{statement.request}: {statement.sql[:60]}{' (planned once)' if statement.is_planned_once else ''}")
        print("\n".join(line[:150] for line in plan if re.search("Scan|Removed|Time:", line)))
        if needless_rows(plan) > MOST_NEEDLESS:
            slow.add(statement.request)
    if slow:
        sys.exit("They read many rows that they do not need: " + ", ".join(sorted(slow)))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    import django

    django.setup()
    main()
