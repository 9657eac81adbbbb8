"""Databases that `manage.py restore` fills: each has its old content until everything is restored."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from django.apps import apps
from django.conf import settings
from django.core.management.color import no_style
from django.db import DatabaseError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from conversations.counted import counted
from conversations.management import snapshot
from conversations.management.archive import sync_directory
from conversations.management.in_use import left_in_log
from conversations.management.snapshot import Model

FAR_ABOVE = 1_000_000
"""By how much new ids are above the highest one that is known. Pages that were opened before may know higher ones."""

IDS_PER_SECOND = {"conversations.conversation": 1, "conversations.message": 100}
"""Models whose ids pages and programs keep (as `?since=`): after a restore they begin above all that were ever given.

They begin at this number for each second since EPOCH. So they are above those after earlier restores, too, however
often the same backup is restored, unless more than that are written each second. They stay below 2**53, for JavaScript.
"""

EPOCH = 1_735_689_600
"""2025-01-01, in Unix time."""


class CannotRestore(Exception):
    """Nothing was changed. The message is a sentence for the operator."""


STILL_USED = (
    "The database is in use{by}. Stop Chatsite (all its processes) and everything else that uses the database. "
    "Nothing was changed."
)

NOT_LOCKED = (
    "{path} cannot be locked ({error}), so somebody may be writing it. Let this user write the file and its "
    "directory, and look whether the disk is full. Nothing was changed."
)

NOT_EMPTY = (
    "The database is not empty: {content}. To delete them all and restore the "
    "backup instead, say --replace; to keep them, make a backup first. Nothing was changed."
)


LOG_LEFT = (
    "Redis has a message log of this database{lacks}. It would be copied into the restored one. Empty it first, while "
    "the database is as it is: stop all processes of Chatsite, and run `MESSAGE_LOG=redis manage.py replicate "
    "--drain`. If that is not possible, restore into an empty database instead. Nothing was changed."
)

LOG_UNKNOWN = (
    "Redis does not answer ({error}), so nobody knows whether it has a message log of this database. Start Redis, and "
    "run `manage.py replicate --drain`. Nothing was changed."
)


def next_id(label: str, highest: int) -> int:
    """The id of the first row of a model after a restore, if no id above `highest` is known."""
    seconds = int(timezone.now().timestamp()) - EPOCH
    return max(highest + FAR_ABOVE, seconds * IDS_PER_SECOND[label])


@contextmanager
def database_to_fill(
    migrations: list[tuple[str, str]], highest: dict[str, int], replace: bool
) -> Iterator[dict[str, Model]]:
    """Give the models of empty tables, which are as they were after these migrations.

    At the end of this context they take the place of the old content; after an exception, the database is as it was.
    New ids then begin above `highest` and those of the old content. Raises CannotRestore, also if the database is not
    empty, unless `replace`.
    """
    fill = {"sqlite": _fill_sqlite, "postgresql": _fill_postgresql, "mysql": _fill_mariadb}[connection.vendor]
    with fill(migrations, highest, replace) as models:
        yield models


@contextmanager
def loading() -> Iterator[None]:
    """One transaction, in which rows may be written before those that they refer to. Raises IntegrityError."""
    with transaction.atomic():
        _set_constraints("DEFERRED")
        with connection.constraint_checks_disabled():
            yield
        connection.check_constraints()
        _set_constraints("IMMEDIATE")


def count_on(models: dict[str, Model]) -> None:
    """Let new ids begin after the highest. PostgreSQL does not do that by itself for rows that were copied."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(models.values())):
            cursor.execute(statement)


def raise_ids(models: dict[str, Model], highest: dict[str, int]) -> None:
    """Let new ids begin far above all that were given; those of other models after their highest."""
    quote = connection.ops.quote_name
    count_on(models)
    with connection.cursor() as cursor:
        for label in IDS_PER_SECOND:
            table, first = models[label]._meta.db_table, next_id(label, highest.get(label, 0))
            if connection.vendor == "sqlite":
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, first - 1])
            elif connection.vendor == "postgresql":
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s, false)", [quote(table), first])
            else:
                cursor.execute(f"ALTER TABLE {quote(table)} AUTO_INCREMENT = {first}")


def check_nobody_is_connected() -> None:
    """Raise CannotRestore if another connection uses the database (not for SQLite, which is locked instead)."""
    query = {
        "postgresql": "SELECT count(*), min(host(client_addr)), min(application_name) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "mysql": "SELECT count(*), min(host), min(user) FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(query)
        count, address, name = cursor.fetchone()
    if count:
        by = " ".join(str(part) for part in (name, address) if part)
        raise CannotRestore(
            STILL_USED.format(by=f" by {counted(count, 'other connection')}, such as {by or 'a local one'}")
        )


@dataclass
class OldContent:
    """What is in the database that a backup is restored into."""

    tables: list[str] = field(default_factory=list)
    migrations: list[tuple[str, str]] = field(default_factory=list)
    is_empty: bool = True
    ids: dict[str, int] = field(default_factory=dict)

    def highest(self, others: dict[str, int]) -> dict[str, int]:
        """The highest ids that are known, of the old content and of these others."""
        return {label: max(self.ids.get(label, 0), others.get(label, 0)) for label in IDS_PER_SECOND}


def _check_content(replace: bool) -> OldContent:
    """Return what is in the database. Raises CannotRestore if there is something, unless `replace`."""
    loader = MigrationLoader(connection)
    migrations = snapshot.migrations_of(loader)
    if unknown := snapshot.unknown_migrations(loader, migrations):
        raise CannotRestore(
            f"The database is from a newer version of Chatsite than this code: it has {', '.join(unknown)}. "
            "Restore with that version, or into an empty database. Nothing was changed."
        )
    if not migrations:
        return OldContent()
    models = snapshot.models_at(loader, migrations)
    rows = {label: model._base_manager.order_by("-pk") for label, model in models.items()}
    users, conversations = rows["auth.user"].count(), rows["conversations.conversation"].count()
    if (users or conversations) and not replace:
        content = f"{counted(users, 'user')}, {counted(conversations, 'conversation')}"
        raise CannotRestore(NOT_EMPTY.format(content=content))
    if users or conversations:
        _refuse_left_log()
    ids = {label: rows[label].values_list("pk", flat=True).first() or 0 for label in IDS_PER_SECOND}
    return OldContent(snapshot.table_names(loader), migrations, not (users or conversations), ids)


def _refuse_left_log() -> None:
    """Raise CannotRestore if Redis has a message log of the content that is to be deleted."""
    try:
        lacks = left_in_log()
    except redis.RedisError as error:
        if settings.MESSAGE_LOG:
            raise CannotRestore(LOG_UNKNOWN.format(error=error)) from error
        return
    if lacks is not None:
        some = f", with {counted(lacks, 'message')} that the database lacks" if lacks else ""
        raise CannotRestore(LOG_LEFT.format(lacks=some))


@contextmanager
def _fill_postgresql(
    migrations: list[tuple[str, str]], highest: dict[str, int], replace: bool
) -> Iterator[dict[str, Model]]:
    """Everything is one transaction: PostgreSQL creates and drops tables in it, too."""
    snapshot.lift_time_limits()
    check_nobody_is_connected()
    with transaction.atomic():
        old = _check_content(replace)
        _set_constraints("IMMEDIATE")
        _drop(old.tables)
        yield snapshot.create_tables(migrations)
        raise_ids(_models_of_the_code(), old.highest(highest))


@contextmanager
def _fill_mariadb(
    migrations: list[tuple[str, str]], highest: dict[str, int], replace: bool
) -> Iterator[dict[str, Model]]:
    """MariaDB commits whenever a table is changed: rows are replaced only in tables that are already right."""
    snapshot.lift_time_limits()
    check_nobody_is_connected()
    old = _check_content(replace)
    if old.is_empty:
        try:
            _drop(old.tables)
            models = snapshot.create_tables(migrations)
            raise_ids(models, highest)
            yield models
        except BaseException:
            _drop(snapshot.table_names(MigrationLoader(connection)))
            raise
        return
    if old.migrations != migrations:
        raise CannotRestore(
            "The backup is from another version of Chatsite than the database, and MariaDB cannot replace tables in "
            "one transaction. Create an empty database, name it in DATABASE_URL, and restore there. "
            "Nothing was changed."
        )
    models = snapshot.models_at(MigrationLoader(connection), migrations)
    raise_ids(models, old.highest(highest))
    with transaction.atomic():
        snapshot.empty_tables(models, also=sorted(set(snapshot.LEFT_OUT.values()).intersection(old.tables)))
        yield models


@contextmanager
def _fill_sqlite(
    migrations: list[tuple[str, str]], highest: dict[str, int], replace: bool
) -> Iterator[dict[str, Model]]:
    """A new file beside the old one, which is locked until the new one gets its name."""
    configured = connection.settings_dict["NAME"]
    path = Path(configured).resolve()  # it may be a link to a file on another disk
    new = path.with_name(f"{path.name}.restoring")
    try:
        old = _check_content(replace) if path.exists() else OldContent()
    except DatabaseError as error:
        if not replace:
            raise CannotRestore(
                f"{path} cannot be read: {error}. To put the backup in its place, say --replace."
            ) from error
        old = OldContent()
    connection.close()
    with locked(path):
        _delete_sqlite(new)
        connection.settings_dict["NAME"] = str(new)
        try:
            yield snapshot.create_tables(migrations)
            raise_ids(_models_of_the_code(), old.highest(highest))
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            for name in ("-wal", "-shm"):  # the new file with an old log beside it would be destroyed
                path.with_name(f"{path.name}{name}").unlink(missing_ok=True)
            new.replace(path)
            sync_directory(path.parent)
        finally:
            connection.close()
            connection.settings_dict["NAME"] = configured
            _delete_sqlite(new)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep all others from using a SQLite database. Raises CannotRestore if somebody uses it."""
    if not path.exists():
        yield
        return
    with ExitStack() as stack:
        try:
            old = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None, timeout=1)))
            old.execute("PRAGMA journal_mode=DELETE")  # needs the file alone, and moves the log into it
            old.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its details
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise CannotRestore(STILL_USED.format(by="")) from error
            if code not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:  # broken: it is replaced
                raise CannotRestore(NOT_LOCKED.format(path=path, error=error)) from error
        yield


def _delete_sqlite(path: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def _drop(tables: list[str]) -> None:
    """Drop all these tables. Foreign keys among them do not matter."""
    if not tables:
        return
    names = ", ".join(map(connection.ops.quote_name, tables))
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {names}")


def _set_constraints(when: str) -> None:
    """PostgreSQL alters no table of which rows wait for the check of their foreign keys, as they do by default."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET CONSTRAINTS ALL {when}")


def _models_of_the_code() -> dict[str, Model]:
    models = {model._meta.label_lower: model for model in apps.get_models(include_auto_created=True)}
    return {label: model for label, model in models.items() if not model._meta.proxy}
