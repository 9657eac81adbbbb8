"""PostgreSQL finds what the frequent requests need by an index, also where few conversations are open among many."""

import re

import pytest
from django.db import connection

from conversations.models import Conversation, Message
from conversations.models.news import BY_ID, BY_UUID
from tests.bench.statements import MOST_NEEDLESS, explain, fill, needless_rows, statements

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Other databases plan in other ways."),
]


def test_no_frequent_statement_reads_many_rows_that_it_does_not_need() -> None:
    fill(200_000)
    found = [(statement, explain(statement)) for statement in statements()]
    slow = {(statement.request, *plan) for statement, plan in found if needless_rows(plan) > MOST_NEEDLESS}
    assert slow == set()
    planned_once = {statement.request for statement, _ in found if statement.is_planned_once}
    assert {"poll of a customer", "post"} <= planned_once


def test_reading_a_long_conversation_reads_only_the_messages_of_the_page(talk: Conversation) -> None:
    Message.objects.bulk_create([Message(conversation=talk, author="CUS", content=str(n)) for n in range(3_000)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        for query, key in ((BY_UUID, talk.uuid), (BY_ID, talk.pk)):
            cursor.execute(f"EXPLAIN ANALYZE {query}", [key, 0, 25, 100, key])
            read = [int(rows) for (line,) in cursor.fetchall() for rows in re.findall(r"actual .*?rows=(\d+)", line)]
            assert max(read) == 125
