"""Queries that the ORM builds once and the database runs often."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.query import RawQuerySet

M = TypeVar("M", bound=Model)

_written: dict[tuple[str, Hashable], tuple[str, tuple[Any, ...]]] = {}


def prepared(
    model: type[M], key: Hashable, build: Callable[[], QuerySet[M]], values: Mapping[Any, Any]
) -> "RawQuerySet[M]":
    """What the query of `build()` finds, with other values.

    Building a query takes the ORM several times as long as the database takes to answer it. So it is built once for
    every `key`, which must name all in it that varies and is no value, such as a LIMIT. `build` puts a mark where a
    value belongs, one that nothing else in the query equals, such as -1; `values` has the value for each mark.
    """
    at = (connection.vendor, key)
    if at not in _written:
        _written[at] = build().query.sql_with_params()
    sql, parameters = _written[at]
    return model._default_manager.raw(sql, [values.get(parameter, parameter) for parameter in parameters])
