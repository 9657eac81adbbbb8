"""Reads all rows of the database at one moment, and writes them into another database, of whatever kind.

Models are those of the migrations that the database has, not those of the code. So a backup can be made before
`migrate`, and a backup of an older version is restored as that version had it and then migrated.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from conversations.management.archive import MAX_IN_MEMORY

Model = type[models.Model]

LEFT_OUT = {
    "sessions.session": "django_session",
    "conversations.signin": "conversations_signin",
    "conversations.searchable": "conversations_searchable",
    "conversations.searchstate": "conversations_searchstate",
}
"""Models whose rows are not backed up, with their tables: who has signed in, and the search index. After a restore
everybody signs in again, and `serve` or `manage.py reindex` makes the index anew."""

ROWS = 1000
"""Rows that one query reads or writes."""

PART = 4 * 1024 * 1024
"""Bytes of one part of a table, before compression."""

COMPRESSION = 3
"""gzip's level. Level 6 takes twice the time for 10 % less."""

BEGIN = {
    "sqlite": ["BEGIN"],  # in WAL mode readers and the writer do not wait for each other
    "postgresql": ["BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"],
    "mysql": [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ],
}


def migrations_of(loader: MigrationLoader) -> list[tuple[str, str]]:
    """The migrations that the database has, of apps that the code has."""
    return sorted(key for key in loader.applied_migrations if key[0] in loader.migrated_apps)


def unknown_migrations(loader: MigrationLoader, migrations: list[tuple[str, str]]) -> list[str]:
    """Those of the migrations that the code does not have, as in `conversations.0042_new`: it is older than they."""
    return [".".join(key) for key in migrations if key not in loader.disk_migrations]


def last_ones(loader: MigrationLoader, migrations: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the migrations on which none of the others depends."""
    every = set(migrations)
    return [key for key in migrations if not every.intersection(c.key for c in loader.graph.node_map[key].children)]


def models_at(loader: MigrationLoader, migrations: list[tuple[str, str]]) -> dict[str, Model]:
    """The models, by label, as they are after these migrations, with the tables of many-to-many relations."""
    apps = loader.project_state(last_ones(loader, migrations)).apps
    found = {model._meta.label_lower: model for model in apps.get_models(include_auto_created=True)}
    return {label: model for label, model in sorted(found.items()) if _is_stored(model)}


def columns(model: Model) -> list[str]:
    """The names of the model's columns, as fields."""
    return [field.attname for field in model._meta.concrete_fields]


@contextmanager
def one_moment() -> Iterator[None]:
    """All queries in this context read the same snapshot of the database. Writers do not wait for them."""
    lift_time_limits()
    with connection.cursor() as cursor:
        for statement in BEGIN[connection.vendor]:
            cursor.execute(statement)
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def lift_time_limits() -> None:
    """Let statements take as long as they need, also where PostgreSQL has time limits for this user or database."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SET {name} = 0")


def rows_of(model: Model) -> Iterator[list[Any]]:
    """All rows of a model, in the order of their primary keys. Only some are in memory at a time."""
    rows = model._base_manager.order_by("pk")
    place = columns(model).index(model._meta.pk.attname)
    last = None
    while True:
        batch = list((rows if last is None else rows.filter(pk__gt=last)).values_list(*columns(model))[:ROWS])
        yield from map(list, batch)
        if len(batch) < ROWS:
            return
        last = batch[-1][place]


def file_names(found: dict[str, Model]) -> Iterator[str]:
    """The names of all stored files that rows of these models have."""
    for model in found.values():
        fields = [field.attname for field in model._meta.concrete_fields if isinstance(field, models.FileField)]
        places = [columns(model).index(name) for name in fields]
        for row in rows_of(model) if places else ():
            yield from (str(row[place]) for place in places if row[place])


def parts_of(model: Model) -> Iterator[tuple[int, bytes]]:
    """All rows of a model as gzipped lines of JSON, in parts: the number of rows, and the bytes."""
    lines: list[str] = []
    size = 0
    for row in rows_of(model):
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=_as_json)
        lines.append(line)
        size += len(line)
        if size > PART:
            yield len(lines), _gzipped(lines)
            lines, size = [], 0
    if lines:
        yield len(lines), _gzipped(lines)


def write_part(model: Model, names: list[str], part: bytes) -> int:
    """Insert the rows of a part, whose columns have these names; return how many there are.

    Raises ValueError and others if it is not one that `parts_of` has made.
    """
    by_name = {field.attname: field for field in model._meta.concrete_fields}
    fields = [by_name[name] for name in names]
    quote = connection.ops.quote_name
    into = f"{quote(model._meta.db_table)} ({', '.join(quote(str(field.column)) for field in fields)})"
    statement = f"INSERT INTO {into} VALUES ({', '.join(['%s'] * len(fields))})"
    lines = _gunzipped(part).decode().split("\n")[:-1]  # splitlines() would split at other characters, too
    with connection.cursor() as cursor:
        for start in range(0, len(lines), ROWS):
            rows = [json.loads(line) for line in lines[start : start + ROWS]]
            cursor.executemany(
                statement,
                [
                    [
                        field.get_db_prep_save(field.to_python(value), connection)
                        for field, value in zip(fields, row, strict=True)
                    ]
                    for row in rows
                ],
            )
    return len(lines)


def create_tables(migrations: list[tuple[str, str]]) -> dict[str, Model]:
    """Create the tables as they are after these migrations, without rows, and return the models."""
    executor = MigrationExecutor(connection)
    executor.migrate(last_ones(executor.loader, migrations))
    found = models_at(executor.loader, migrations)
    empty_tables(found)  # migrations have made some rows
    return found


def empty_tables(found: dict[str, Model], also: list[str] | None = None) -> None:
    """Delete all rows of the models, and of these other tables."""
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        for table in [model._meta.db_table for model in found.values()] + (also or []):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")


def table_names(loader: MigrationLoader) -> list[str]:
    """The tables of Chatsite that are in the database."""
    found = models_at(loader, migrations_of(loader))
    ours = {model._meta.db_table for model in found.values()} | {"django_migrations", *LEFT_OUT.values()}
    return sorted(ours.intersection(connection.introspection.table_names()))


def _gzipped(lines: list[str]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), COMPRESSION, mtime=0)


def _gunzipped(part: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)  # gzip
    text = decompressor.decompress(part, MAX_IN_MEMORY)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("A part of a table is incomplete or too large.")
    return text


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"A {type(value).__name__} cannot be backed up yet.")


def _is_stored(model: Model) -> bool:
    return model._meta.managed and not model._meta.proxy and model._meta.label_lower not in LEFT_OUT
