"""Migrations, while servers of every earlier version go on writing.

An INSERT names the columns that its server knows, so an earlier version is simulated by the models as they were at its
last migration.
"""

import os
import secrets
import threading
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import NOT_PROVIDED

from conversations.management.commands.migrate import retry_locked
from conversations.migrations._operations import with_default
from conversations.models import Conversation, Message
from tests.conftest import default_database, server_database

APP = "conversations"
NAMES = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == APP)
SERVERS = [name for name in NAMES if name[:4] not in {"0002", "0003"}]
"""The last migrations of versions. Versions with 0002 or 0003 have 0004, too."""

CONTRACTED = {"conversations_conversation.website_id": "0004 gives it a default that only the database knows"}
"""Columns that became stricter or were removed, and why no server of the version before needs them as they were."""


@pytest.fixture
def database(tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """The default database is an empty one of its own, on the engine that the suite runs on."""
    with django_db_blocker.unblock():
        for url in server_database(tmp_path):
            with default_database(url):
                yield


def migrate(name: str) -> None:
    """Migrate forwards or backwards to the migration."""
    with connection.execute_wrapper(retry_locked):
        MigrationExecutor(connection).migrate([(APP, name)])


@cache
def server(name: str) -> Any:
    """The models of the version whose last migration this is."""
    return MigrationLoader(None).project_state((APP, name)).apps


def begin(apps: Any, text: str) -> None:
    """Begin a conversation with two messages, as a server with these models does."""
    conversation_model, message_model = apps.get_model(APP, "Conversation"), apps.get_model(APP, "Message")
    known = {field.name for field in conversation_model._meta.get_fields()}
    conversation = conversation_model()
    with transaction.atomic():
        if "website" in known:
            conversation.website = apps.get_model(APP, "Website").objects.get(key="default")
        conversation.save()
        for _ in range(2):
            message = message_model.objects.create(conversation=conversation, author="CUS", content=text)
        conversation.last_message_id = message.pk
        conversation.save(update_fields=["last_message_id"])


def write_more(apps: Any) -> None:
    """Store a website and a file as a server with these models does, if it knows them."""
    known = {model._meta.object_name for model in apps.get_app_config(APP).get_models()}
    if "Website" in known:
        apps.get_model(APP, "Website").objects.create(key=secrets.token_hex(8), name="Shop")
    if "Attachment" in known:
        message = apps.get_model(APP, "Message").objects.latest("pk")
        file = apps.get_model(APP, "Attachment")(message=message, name="a.txt", kind="text/plain", size=1, file="a")
        file.save()


def schema() -> dict[str, Any]:
    """The columns and constraints of every table of the app."""
    inspect, found = connection.introspection, {}
    with connection.cursor() as cursor:
        for table in inspect.table_names(cursor):
            if table.startswith(f"{APP}_"):
                columns = sorted(
                    (c.name, c.type_code, c.null_ok, c.default) for c in inspect.get_table_description(cursor, table)
                )
                constraints = inspect.get_constraints(cursor, table).values()
                keys = ("columns", "primary_key", "unique", "foreign_key", "check", "index", "orders")
                found[table] = columns, sorted(str([kind.get(key) for key in keys]) for kind in constraints)
    return found


def drop_defaults(apps: Any) -> None:
    """Make the schema what 0004, 0005 and 0006 made of it before version 0.2."""
    description = {table: columns for table, (columns, _) in schema().items()}
    for model in apps.get_app_config(APP).get_models():
        if model._meta.object_name not in {"Website", "Message", "Conversation"}:
            continue
        have = {column for column, _, _, default in description[model._meta.db_table] if default is not None}
        for field in model._meta.local_fields:
            if field.column in have and not field.primary_key:
                with connection.schema_editor() as editor:
                    editor.alter_field(model, with_default(field, 0), with_default(field))


def test_servers_of_every_earlier_version_go_on_writing_at_every_state(database: None) -> None:
    written = 0
    for name in NAMES:
        migrate(name)
        for version in SERVERS:
            if version <= name:
                begin(server(version), f"{version} at {name}")
                write_more(server(version))
                written += 1
    conversations = Conversation.objects
    assert conversations.count() == conversations.filter(website__key="default").count() == written
    assert Message.objects.filter(files=0, conversation__status="OPEN").count() == 2 * written


@pytest.mark.parametrize("version", SERVERS[:2])
def test_a_server_goes_on_writing_during_the_migrations(database: None, version: str) -> None:
    migrate(version)
    apps, stop, errors, begun = server(version), threading.Event(), [], []

    def write() -> None:
        try:
            while not stop.wait(0.02):  # SQLite has one writer at a time, and no queue
                try:
                    begin(apps, "Hello?")
                    begun.append(1)
                except OperationalError:  # MariaDB may choose a server in a deadlock: pages send again
                    if connection.vendor != "mysql":
                        raise
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        migrate(NAMES[-1])
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert errors == []
    assert Conversation.objects.filter(website__key="default").count() == len(begun) > 0


def test_a_database_that_earlier_versions_have_migrated_gets_the_schema_of_a_new_one(
    database: None,
) -> None:
    migrate(NAMES[-1])
    new = schema()
    for name in NAMES[NAMES.index("0004_every_conversation_has_a_website") : NAMES.index("0007_original_files") + 1]:
        migrate(name)
        drop_defaults(server(name))
    assert schema() != new
    migrate(NAMES[-1])
    assert schema() == new
    for version in SERVERS:
        begin(server(version), "after it")


UNDONE = pytest.mark.skipif(
    "mysql" not in os.environ["DATABASE_URL"], reason="This database undoes it, as it does 0004."
)


LATER = [
    pytest.param(name[:4], marks=[UNDONE] if migration.atomic else [])
    for (app, name), migration in sorted(MigrationLoader(None).disk_migrations.items())
    if app == APP and name > "0010_z"
]
"""All migrations that are not named in the test."""


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("0003", marks=UNDONE),
        "0004",
        "0005",
        pytest.param("0006", marks=UNDONE),
        pytest.param("0007", marks=UNDONE),
        "0008",
        "0010",
        *LATER,
    ],
)
def test_a_migration_that_failed_half_way_can_be_repeated(database: None, number: str) -> None:
    """MariaDB does not undo changes of the schema, and nobody does without `atomic`.

    Earlier servers begin conversations in between.
    """
    first = server(NAMES[0])
    name = next(name for name in NAMES if name.startswith(number))
    before = NAMES[NAMES.index(name) - 1]
    for statements in (2, 6, 15):
        migrate(before)
        if number <= "0008":
            drop_defaults(server(before))
        try:
            with connection.execute_wrapper(Failure(statements)):
                migrate(name)
        except DatabaseError:
            connection.close()  # as when the process is killed: SQLite and PostgreSQL undo
            del connections["default"]
            if number < "0005":
                begin(first, "in between")
            migrate(name)
        else:
            break
    assert statements > 1
    migrate(NAMES[-1])
    begin(first, "afterwards")


@pytest.mark.skipif(
    "postgres" not in os.environ["DATABASE_URL"], reason="Only PostgreSQL locks tables until the commit."
)
def test_no_transaction_of_a_migration_locks_two_tables_that_servers_use(database: None) -> None:
    """A server that uses them in another order would be in a deadlock with it."""
    migrate("0004_every_conversation_has_a_website")  # servers of the version before it know no websites
    for name in NAMES[4:]:
        with connection.execute_wrapper(locks := Locks(set(schema()))):
            migrate(name)
        assert locks.together == set(), name


@pytest.mark.skipif(
    "postgres" not in os.environ["DATABASE_URL"], reason="Elsewhere others may write meanwhile, or wait."
)
def test_an_index_is_created_without_a_lock_and_again_if_that_failed_half_way(database: None) -> None:
    made: list[str] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        made.extend([sql] if "inbox_assignee_waiting" in sql and not sql.startswith("SELECT") else [])
        return execute(sql, params, many, context)

    migrate("0027_email_in_any_case")
    with connection.cursor() as cursor, connection.execute_wrapper(record):
        cursor.execute("SHOW statement_timeout")
        limit = cursor.fetchone()
        migrate("0028_who_waits_for_whom")
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'inbox_assignee_waiting'::regclass")
        MigrationRecorder(connection).record_unapplied(APP, "0028_who_waits_for_whom")
        made.clear()
        migrate("0028_who_waits_for_whom")
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'inbox_assignee_waiting'::regclass")
        assert cursor.fetchone() == (True,)
        migrate("0027_email_in_any_case")
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == limit
    assert [sql.split('"')[0].strip() for sql in made] == [
        "DROP INDEX CONCURRENTLY IF EXISTS",
        "CREATE INDEX CONCURRENTLY",
        "DROP INDEX CONCURRENTLY IF EXISTS",
    ]


class Locks:
    """Finds which of these tables one transaction locks together against every other use."""

    query = """SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation
               WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND relkind = 'r'"""

    def __init__(self, used: set[str]) -> None:
        self.used = used
        self.together: set[str] = set()

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("ALTER"):
            with context["connection"].connection.cursor() as cursor:
                found = self.used & {table for (table,) in cursor.execute(self.query)}
            self.together.update(found if len(found) > 1 else ())
        return result


class Failure:
    """Lets a statement fail that changes something."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("ALTER", "UPDATE", "CREATE", "DROP", "INSERT")):
            self.left -= 1
            if self.left == 0:
                raise DatabaseError("The database has gone away.")
        return execute(sql, params, many, context)


def columns(name: str) -> "dict[str, models.Field[Any, Any]]":
    """The columns after the migration, by the names of table and column."""
    return {
        f"{model._meta.db_table}.{field.column}": field
        for model in server(name).get_app_config(APP).get_models(include_auto_created=True)
        if not model._meta.proxy
        for field in model._meta.local_concrete_fields
    }


def test_after_each_migration_servers_of_the_version_before_can_write() -> None:
    """Expand in one version, contract in the next: see CONTRIBUTING.md."""
    wrong = []
    for before, after in pairwise(NAMES):
        old, new = columns(before), columns(after)
        tables = {column.partition(".")[0] for column in old}
        for name in old.keys() - CONTRACTED.keys():
            if name not in new:
                wrong.append(f"{after} removes or renames {name}, which every INSERT of such a server names")
            elif old[name].null and not new[name].null:
                wrong.append(f"{after} forbids NULL in {name}, which such a server may write")
        wrong += [
            f"{after} adds {name} without null or db_default, which such a server does not know"
            for name in new.keys() - old.keys()
            if name.partition(".")[0] in tables and not new[name].null and new[name].db_default is NOT_PROVIDED
        ]
    assert wrong == []
