"""Prepared queries: SQL that the ORM compiles once, for queries that run all the time."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

from conversations.models.remembered import ACCESS, Kind, memory

Row = TypeVar("Row")
"""What a query returns: objects or, after `values_list`, tuples."""

Raw = tuple[Any, ...]
"""A row as the database gives it."""

_compiled: dict[tuple[str, Hashable], "PreparedQuery[Any]"] = {}
_filtered: dict[tuple[str, Hashable, Hashable], "PreparedQuery[Any]"] = {}

MOST_FILTERED = 1000
"""Compiled queries of filtered querysets that are kept: each agent who is limited to some websites has their own."""


def name_filter(queryset: QuerySet[Any], name: Hashable) -> None:
    """Let prepared queries of a filtered queryset be compiled once. `name`: what its filter depends on.

    What Django derives from it, such as `queryset.filter()`, has no name again.
    """
    queryset.filter_name = name  # type: ignore[attr-defined]  # Django's querysets have none


def prepared(
    queryset: QuerySet[Any],
    key: Hashable,
    build: Callable[[], QuerySet[Any, Row]],
    values: Mapping[Any, Any],
    *,
    is_planned_once: bool = True,
    kind: Kind | None = None,
) -> list[Row]:
    """What the query of `build()` finds, objects or tuples, with `values` in place of its placeholders.

    The ORM takes several times as long to compile a query as the database to run it, so each query is compiled once
    for each `key`. The key must name everything that varies besides the values, such as a LIMIT. `build` filters
    `queryset` with placeholders in place of the values: unique ones such as -1, which nothing else in the query equals.
    `values` maps each placeholder to its value. Annotations, `select_related` and `values_list` work as usual.

    `is_planned_once`: whether PostgreSQL may plan it once for all values. Not where the values decide which index is
    the best one: few conversations may be open among very many, for example.

    `kind`: with the message log, how the result is remembered for the time in which the database is away
    (models/remembered.py). None: it is not.
    """
    return prepared_rows(queryset, key, build, values, is_planned_once=is_planned_once, kind=kind).converted()


def prepared_rows(
    queryset: QuerySet[Any],
    key: Hashable,
    build: Callable[[], QuerySet[Any, Row]],
    values: Mapping[Any, Any],
    *,
    is_planned_once: bool = True,
    kind: Kind | None = None,
) -> "FoundRows[Row]":
    """The same, as the database gives it, for a caller who needs few of its rows in Python's types."""
    if queryset.query.where:  # already filtered by what the agent may see, which `key` does not name
        kind = kind and ACCESS
    query = _compile(queryset, key, build)
    return FoundRows(query, query.fetch(values, is_planned_once, kind))


Asked = tuple[Hashable, Callable[[], QuerySet[Any, Any]], Mapping[Any, Any]]
"""A query to count: `key`, `build` and `values` as in `prepared`."""


def prepared_counts(queryset: QuerySet[Any], asked: Sequence[Asked], kind: Kind | None = None) -> list[int]:
    """How many rows each of these queries finds, by one query. The other arguments are as in `prepared`."""
    return _numbers("COUNT(*)", queryset, asked, kind)


BASE = 10_000
"""`bounded_counts` gets two numbers as one: a subquery has one column, and two would read all rows twice."""


class AtLeast(int):
    """A count that may be higher: not all rows were read."""


def bounded_counts(queryset: QuerySet[Any], asked: Sequence[Asked], read: int, kind: Kind | None = None) -> list[int]:
    """How many of the first `read` rows of each query have a 1 in their only column, `fits`, by one query.

    Each query has a LIMIT of one more than `read`. If it has more rows, its count is an AtLeast.
    The other arguments are as in `prepared`.
    """
    numbers = _numbers(f"{BASE} * COUNT(*) + COALESCE(SUM(fits), 0)", queryset, asked, kind)
    found = [divmod(int(number), BASE) for number in numbers]
    return [AtLeast(fitting) if rows > read else fitting for rows, fitting in found]


def _numbers(number: str, queryset: QuerySet[Any], asked: Sequence[Asked], kind: Kind | None) -> list[int]:
    """This SQL expression over the rows of each query, by one query."""
    if not asked:
        return []
    parts: list[str] = []
    parameters: list[Any] = []
    for key, build, values in asked:
        query = _compile(queryset, key, build)
        parts.append(f"(SELECT {number} FROM ({query.sql}) AS counted)")
        parameters += query.filled(values)
    if queryset.query.where:  # as in `prepared`
        kind = kind and ACCESS
    [row] = _fetch(f"SELECT {', '.join(parts)}", parameters, False, kind)
    return list(row)


def _compile(queryset: QuerySet[Any], key: Hashable, build: Callable[[], QuerySet[Any, Any]]) -> "PreparedQuery[Any]":
    """The compiled query; compiled anew if the queryset has a filter without a name, which `key` does not name."""
    if queryset.query.where:
        name = getattr(queryset, "filter_name", None)
        return _compile_filtered(name, key, build) if name else PreparedQuery(build())
    cache_key = (current_connection().vendor, key)
    if cache_key not in _compiled:
        _compiled[cache_key] = PreparedQuery(build())
    return _compiled[cache_key]


def _compile_filtered(name: Hashable, key: Hashable, build: Callable[[], QuerySet[Any, Any]]) -> "PreparedQuery[Any]":
    cache_key = (current_connection().vendor, name, key)
    if found := _filtered.get(cache_key):
        return found
    if len(_filtered) >= MOST_FILTERED:
        _filtered.clear()
    query = _filtered[cache_key] = PreparedQuery(build())
    return query


def _fetch(sql: str, parameters: list[Any], is_planned_once: bool, kind: Kind | None) -> Any:
    """The rows of a statement, or what is remembered of it while the database is away."""

    def run() -> Any:
        with prepared_cursor() if is_planned_once else current_connection().cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    if kind is None or not settings.MESSAGE_LOG or current_connection().in_atomic_block:
        return run()
    return memory.read((sql, tuple(parameters)), run, kind)


class PreparedQuery(Generic[Row]):
    """A compiled query, and how its rows become objects: the steps of `django.db.models.query.ModelIterable`."""

    def __init__(self, queryset: QuerySet[Any, Row]) -> None:
        """Compile the query."""
        self.model = queryset.model
        self.compiler = queryset.query.get_compiler(connection=connection)
        self.sql, self.parameters = self.compiler.as_sql()
        select: Any = self.compiler.select
        self.converters = self.compiler.get_converters([expression for expression, _, _ in select])
        columns: Any = self.compiler.klass_info
        self.makes_objects = queryset._fields is None  # type: ignore[attr-defined]  # set by values_list
        if not self.makes_objects:
            return
        self.fields = [select[column][0].target.attname for column in columns["select_fields"]]
        self.annotations: Any = self.compiler.annotation_col_map
        self.related: list[Any] = get_related_populators(columns, select, connection.alias)  # type: ignore[call-arg]  # stubs of Django 6

    def fetch(self, values: Mapping[Any, Any], is_planned_once: bool, kind: Kind | None) -> "list[Raw]":
        """Run the query with these values in place of its placeholders."""
        return list(_fetch(self.sql, self.filled(values), is_planned_once, kind))

    def converted(self, rows: "Iterable[Raw]") -> list[Row]:
        """These rows in Python's types, or as objects."""
        if self.converters:
            rows = self.compiler.apply_converters(rows, self.converters)
        return [self._object(row) for row in rows] if self.makes_objects else list(rows)  # type: ignore[arg-type]

    def filled(self, values: Mapping[Any, Any]) -> list[Any]:
        """Its parameters with these values in place of its placeholders."""
        return [values.get(parameter, parameter) for parameter in self.parameters]

    def _object(self, row: Any) -> Row:
        found: Any = self.model.from_db(DEFAULT_DB_ALIAS, self.fields, row[: len(self.fields)])
        for related in self.related:
            related.populate(row, found)
        for name, column in self.annotations.items():
            setattr(found, name, row[column])
        return found  # type: ignore[no-any-return]


class FoundRows(Generic[Row]):
    """What a prepared query has found."""

    def __init__(self, query: PreparedQuery[Row], raw: list[Raw]) -> None:
        """`raw` are its rows as the database gives them: equal ones mean the same."""
        self.query, self.raw = query, raw

    def converted(self, rows: Iterable[Raw] | None = None) -> list[Row]:
        """These of its rows in Python's types, or all of them."""
        return self.query.converted(self.raw if rows is None else rows)


def insert(instance: Model) -> None:
    """INSERT an object and set its primary key, like `instance.save()` but without signals and with cached SQL."""
    database = current_connection()
    sql, fields = _insert_sql(type(instance), database.vendor)
    with prepared_cursor() as cursor:
        cursor.execute(sql, values_of(instance, fields, database))
        if database.features.can_return_columns_from_insert:
            [instance.pk] = database.ops.fetch_returned_insert_columns(cursor, ())
        else:
            meta: Any = instance._meta
            instance.pk = database.ops.last_insert_id(cursor, meta.db_table, meta.pk.column)
    instance._state.adding, instance._state.db = False, database.alias


def update(instance: Model, *names: str) -> None:
    """UPDATE these fields of an object, like `instance.save(update_fields=names)` without signals, with cached SQL."""
    database = current_connection()
    sql, fields = _update_sql(type(instance), database.vendor, names)
    with prepared_cursor() as cursor:
        cursor.execute(sql, [*values_of(instance, fields, database), instance.pk])


def update_all(instances: Sequence[Model], *names: str) -> None:
    """UPDATE these fields of several objects of one model."""
    if not instances:
        return
    database = current_connection()
    sql, fields = _update_sql(type(instances[0]), database.vendor, names)
    with database.cursor() as cursor:
        cursor.executemany(sql, [[*values_of(instance, fields, database), instance.pk] for instance in instances])


def prepared_cursor() -> Any:
    """A cursor for a statement that runs all the time. Where the database can, it is parsed and planned only once.

    Its rows must be fetched before the next statement.
    """
    database = current_connection()
    return getattr(database, "prepared_cursor", database.cursor)()


def current_connection() -> Any:
    """This thread's connection. `django.db.connection` looks it up again for every attribute."""
    return connections[DEFAULT_DB_ALIAS]


def _meta_and_ops(model: type[Model]) -> tuple[Any, Any]:
    # Typed as Any: the stubs lack much of what Django's models and backends have.
    return model._meta, connection.ops


def values_of(instance: Model, fields: list[Any], database: Any) -> list[Any]:
    """The values of these fields as parameters of a statement."""
    return [field.get_db_prep_save(getattr(instance, field.attname), database) for field in fields]


@cache
def _insert_sql(model: type[Model], _vendor: str) -> tuple[str, list[Any]]:
    """The statement, and the fields whose values it takes."""
    meta, ops = _meta_and_ops(model)
    fields = [field for field in meta.local_concrete_fields if not field.primary_key]
    columns = [ops.quote_name(field.column) for field in fields]
    returning = ops.return_insert_columns([meta.pk])[0] if connection.features.can_return_columns_from_insert else ""
    placeholders = ", ".join(["%s"] * len(columns))
    sql = f"INSERT INTO {ops.quote_name(meta.db_table)} ({', '.join(columns)}) VALUES ({placeholders}) {returning}"
    return sql, fields


@cache
def _update_sql(model: type[Model], _vendor: str, names: tuple[str, ...]) -> tuple[str, list[Any]]:
    """The statement, and the fields whose values it takes, before the primary key."""
    meta, ops = _meta_and_ops(model)
    fields = [meta.get_field(name) for name in names]
    assignments = ", ".join(f"{ops.quote_name(field.column)} = %s" for field in fields)
    sql = f"UPDATE {ops.quote_name(meta.db_table)} SET {assignments} WHERE {ops.quote_name(meta.pk.column)} = %s"
    return sql, fields
