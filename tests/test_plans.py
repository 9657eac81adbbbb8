"""PostgreSQL finds what the frequent requests need by an index, also where few conversations are open among many."""

import pytest
from django.db import connection

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
