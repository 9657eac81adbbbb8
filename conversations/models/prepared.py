"""What the ORM builds once and the database runs often."""

from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

_built: dict[tuple[str, Hashable], "Prepared[Any]"] = {}


def prepared(
    among: QuerySet[Any], key: Hashable, build: Callable[[], QuerySet[M]], values: Mapping[Any, Any]
) -> list[M]:
    """What the query of `build()` finds, with other values; `among` is where it starts from.

    Building a query and understanding its answer takes the ORM several times as long as the database takes to give it.
    So it is built once for every `key`, which must name all in it that varies and is no value, such as a LIMIT. `build`
    puts a mark where a value belongs, one that nothing else in the query equals, such as -1; `values` has the value
    for each mark. Annotations come along; related objects (`select_related`) do not.
    """
    if among.query.where:  # somebody may see only some of them: that query is another one
        return Prepared(build()).find(values)
    at = (connection.vendor, key)
    if at not in _built:
        _built[at] = Prepared(build())
    found: list[M] = _built[at].find(values)
    return found


class Prepared(Generic[M]):
    """One query, as the database understands it, and how its rows become objects.

    The steps are those of `django.db.models.query.ModelIterable`.
    """

    def __init__(self, queryset: QuerySet[M]) -> None:
        """Build it."""
        self.model = queryset.model
        self.compiler = queryset.query.get_compiler(connection=connection)
        self.sql, self.parameters = self.compiler.as_sql()
        select: Any = self.compiler.select
        self.converters = self.compiler.get_converters([expression for expression, _, _ in select])
        columns: Any = self.compiler.klass_info
        self.fields = [select[column][0].target.attname for column in columns["select_fields"]]
        self.annotations: Any = self.compiler.annotation_col_map

    def find(self, values: Mapping[Any, Any]) -> list[M]:
        """Ask with these values for its marks."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [values.get(parameter, parameter) for parameter in self.parameters])
            rows: Any = cursor.fetchall()
        if self.converters:
            rows = self.compiler.apply_converters(rows, self.converters)
        return [self._object(row) for row in rows]

    def _object(self, row: Any) -> M:
        found: M = self.model.from_db(connection.alias, self.fields, row[: len(self.fields)])
        for name, column in self.annotations.items():
            setattr(found, name, row[column])
        return found


def insert(row: Model) -> None:
    """INSERT an object's row and give it its id: `row.save()` without signals and without building the SQL anew."""
    meta, ops = _about(row)
    fields = [field for field in meta.local_concrete_fields if not field.primary_key]
    with connection.cursor() as cursor:
        cursor.execute(_insertion(type(row), connection.vendor), _values(row, fields))
        if connection.features.can_return_columns_from_insert:
            [row.pk] = ops.fetch_returned_insert_columns(cursor, ())
        else:
            row.pk = ops.last_insert_id(cursor, meta.db_table, meta.pk.column)
    row._state.adding, row._state.db = False, connection.alias


def update(row: Model, *names: str) -> None:
    """UPDATE these columns of an object's row, the same way."""
    meta, _ = _about(row)
    fields = [meta.get_field(name) for name in names]
    with connection.cursor() as cursor:
        cursor.execute(_change(type(row), connection.vendor, names), [*_values(row, fields), row.pk])


def _about(model: Model | type[Model]) -> tuple[Any, Any]:
    # Django's stubs do not have all that its backends and models say of themselves.
    return model._meta, connection.ops


def _values(row: Model, fields: list[Any]) -> list[Any]:
    return [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]


@cache
def _insertion(model: type[Model], _vendor: str) -> str:
    meta, ops = _about(model)
    columns = [ops.quote_name(field.column) for field in meta.local_concrete_fields if not field.primary_key]
    returning = ops.return_insert_columns([meta.pk])[0] if connection.features.can_return_columns_from_insert else ""
    marks = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {ops.quote_name(meta.db_table)} ({', '.join(columns)}) VALUES ({marks}) {returning}"


@cache
def _change(model: type[Model], _vendor: str, names: tuple[str, ...]) -> str:
    meta, ops = _about(model)
    changes = ", ".join(f"{ops.quote_name(meta.get_field(name).column)} = %s" for name in names)
    return f"UPDATE {ops.quote_name(meta.db_table)} SET {changes} WHERE {ops.quote_name(meta.pk.column)} = %s"
