"""Databases that hang, vanish or become read-only: every request ends soon, and all is well soon afterwards.

The servers have shorter limits than the defaults, set in the URL: so the tests show that these take effect. Nothing is
sensitive to how fast the machine is: without limits the requests would take minutes.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pymysql
import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, transaction
from django.db.utils import load_backend

from chatsite import databases
from chatsite.environment import DATABASE_LIMITS, Environment
from tests.conftest import PASSWORD
from tests.services import SOON, Chat, Line, Service, mariadb, postgresql

SHORT = {
    "postgresql": "read_timeout=2&connect_timeout=2&statement_timeout=1000&lock_timeout=500",
    "mariadb": "read_timeout=2&connect_timeout=2&max_statement_time=1&innodb_lock_wait_timeout=1&lock_wait_timeout=1",
}


SET_EMAIL = "from django.contrib.auth.models import User; User.objects.update(email='bob@example.com')"


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, Service, Line]]:
    """A database with a line to it."""
    with {"postgresql": postgresql, "mariadb": mariadb}[request.param]() as service:
        line = Line(service.port)
        yield request.param, service, line
        line.close()


@pytest.fixture(scope="module")
def chat(
    database: tuple[str, Service, Line], tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Chat]:
    """A server on that database."""
    name, service, line = database
    url = f"{service.url.replace(str(service.port), str(line.port))}?{SHORT[name]}"
    where = tmp_path_factory.mktemp("chat")
    mails = f"filemail:///{where / 'mails'}"
    chat = Chat(where, {"DATABASE_URL": url, "RATE_LIMITS": "off", "EMAIL_URL": mails})
    chat.manage("migrate", "--verbosity", "0")
    chat.manage("createagent", "bob", "--password", PASSWORD)
    chat.manage("shell", "--verbosity", "0", "-c", SET_EMAIL)
    chat.start()
    yield chat
    if chat.process and chat.process.poll() is None:
        chat.kill()


def test_a_line_that_is_cut_without_a_word_is_replaced(chat: Chat, database: tuple[str, Service, Line]) -> None:
    conversation = chat.begin()
    chat.at_once(8, "post", conversation)  # every thread has a connection
    chat.rings(conversation)
    database[2].cut()
    answers = chat.at_once(12, "post", conversation)
    assert max(seconds for _, seconds, _, _ in answers) < SOON
    assert chat.heals(conversation) < SOON
    chat.rings(conversation)
    assert "does not answer on an open connection" in chat.log


def test_while_the_database_hangs_requests_end_soon_with_a_sentence(
    chat: Chat, database: tuple[str, Service, Line]
) -> None:
    service = database[1]
    conversation = chat.begin()
    chat.at_once(8, "post", conversation)
    before = len(chat.log)
    service.freeze()
    try:
        answers = chat.at_once(12, "post", conversation) + chat.at_once(4, "poll", conversation)
        assert {status for status, _, _, _ in answers} == {503}
        assert max(seconds for _, seconds, _, _ in answers) < SOON
        _, _, headers, content = answers[0]
        assert (headers["Retry-After"], json.loads(content)["detail"]) == (
            "5",
            "The database does not answer. Please try again in a moment.",
        )
        # One request at a time waits for the database, the others end at once.
        seconds = sorted(answer[1] for answer in chat.at_once(8, "poll", conversation))
        assert seconds[6] < 1
        page = chat.ask("GET", "/inbox/", Cookie="sessionid=0123456789abcdef0123456789abcdef")
        assert page[0] == 503
        assert b"The database does not answer" in page[3]
        assert b"<html" in page[3]
        part = chat.ask("GET", f"/chat/messages/?since=0&conversation={conversation}", **{"HX-Request": "true"})
        assert part[0] != 500
    finally:
        service.thaw()
    assert chat.heals(conversation) < SOON
    log = chat.log[before:]
    assert "Traceback" not in log
    assert 1 <= log.count("\n") <= 4, log


def test_connections_that_the_server_has_ended_are_replaced_unseen(
    chat: Chat, database: tuple[str, Service, Line]
) -> None:
    name, service, _ = database
    conversation = chat.begin()
    chat.at_once(8, "post", conversation)
    chat.rings(conversation)  # the thread of all sockets has a connection, too
    end_connections(name, service)
    assert {status for status, _, _, _ in chat.at_once(8, "post", conversation)} == {200}
    chat.rings(conversation)


def test_connections_from_the_time_when_the_database_was_read_only_are_replaced(
    chat: Chat, database: tuple[str, Service, Line]
) -> None:
    name, service, _ = database
    conversation = chat.begin()
    read_only = {
        "postgresql": "ALTER DATABASE chat SET default_transaction_read_only = {}",
        "mariadb": "SET GLOBAL tx_read_only = {}",
    }[name]
    service.sql(read_only.format("on"))
    end_connections(name, service)
    assert {status for status, _, _, _ in chat.at_once(8, "post", conversation)} == {503}
    assert chat.poll(conversation)[0] == 200
    chat.at_once(8, "poll", conversation)
    service.sql(read_only.format("off"))
    assert chat.heals(conversation) < SOON


def test_a_row_that_is_held_does_not_hold_a_thread(chat: Chat, database: tuple[str, Service, Line]) -> None:
    name, service, _ = database
    conversation, other = chat.begin(), chat.begin()
    holder: Any
    if name == "postgresql":
        holder = psycopg.connect(service.url)
    else:
        holder = pymysql.connect(host="127.0.0.1", port=service.port, user="root", database="chat")
    holder.cursor().execute(f"SELECT id FROM conversations_conversation WHERE uuid = '{conversation}' FOR UPDATE")
    status, seconds, _, _ = chat.post(conversation)
    assert status == 503
    assert seconds < SOON
    assert chat.post(other)[0] == 200
    holder.rollback()
    holder.close()
    assert chat.post(conversation)[0] == 200


def test_a_mail_with_a_new_password_waits_for_the_database(chat: Chat, database: tuple[str, Service, Line]) -> None:
    _, service, _ = database
    mails = chat.log_file.with_name("mails")
    service.freeze()
    try:
        chat.forgets("bob@example.com")
        waits_for(lambda: "password reset mail waits for the database" in chat.log)
    finally:
        service.thaw()
    waits_for(lambda: any("bob@example.com" in path.read_text() for path in mails.glob("*")))


def waits_for(condition: Callable[[], bool]) -> None:
    """Return when the condition is true."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_connections(name: str, service: Service) -> None:
    """End all of Chatsite's connections, as the administrator does."""
    if name == "postgresql":
        service.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chat' AND pid <> pg_backend_pid()"
        )
        return
    with pymysql.connect(host="127.0.0.1", port=service.port, user="root") as administrator:
        cursor = administrator.cursor()
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = 'chat'")
        for [number] in cursor.fetchall():
            cursor.execute(f"KILL {number}")


@pytest.mark.django_db
def test_only_outages_are_called_so() -> None:
    from django.db import connection

    with pytest.raises(DatabaseError) as wrong, transaction.atomic():
        connection.cursor().execute("SELECT nonsense FROM nowhere")
    assert not databases.is_outage(wrong.value)
    assert not databases.is_outage(IntegrityError("a duplicate"))
    assert not databases.is_outage(None)
    assert databases.is_outage(OperationalError("database is locked"))
    assert databases.is_outage(InterfaceError("connection already closed"))


# Limits of one request ------------------------------------------------------------------------------------------------

SLEEP = {"postgresql": "SELECT pg_sleep({})", "mariadb": "SELECT SLEEP({})"}


@pytest.fixture
def connection(
    database: tuple[str, Service, Line], django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A connection of a process that serves: statements may take 0.5 seconds, or 10 if the server forgets its limit."""
    monkeypatch.setattr(databases.Trust, "is_serving", True)
    monkeypatch.setattr(databases.Trust, "lost_at", float("-inf"))
    name, service, _ = database
    slow = {"postgresql": "statement_timeout=500", "mariadb": "max_statement_time=0.5"}[name]
    monkeypatch.setenv("DATABASE_URL", f"{service.url}?read_timeout=2&{slow}")
    made = make_connection()
    with django_db_blocker.unblock():
        yield made
        made.close()


def make_connection() -> Any:
    """A connection as DATABASE_URL says."""
    from django.db import connections

    config = connections.configure_settings({"default": Environment(Path("none")).database("")})["default"]
    config.update(CONN_HEALTH_CHECKS=True, CONN_MAX_AGE=None)
    return load_backend(config["ENGINE"]).DatabaseWrapper(config, "default")


def run(connection: Any, statement: str) -> None:
    """Execute a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.fetchall()


def run_all(connection: Any, statements: list[str]) -> None:
    """Execute statements."""
    for statement in statements:
        run(connection, statement)


def test_the_server_ends_a_slow_statement_and_the_connection_goes_on(connection: Any, database: Any) -> None:
    sleep = SLEEP[database[0]]
    run(connection, "SELECT 1")
    driver = connection.connection
    started = time.monotonic()
    with pytest.raises(OperationalError):
        run(connection, sleep.format(60))
    assert time.monotonic() - started < SOON
    connection.close_if_unusable_or_obsolete()
    run(connection, "SELECT 1")
    assert connection.connection is driver


def test_a_request_waits_only_so_long_for_all_of_its_statements_together(connection: Any, database: Any) -> None:
    sleep = SLEEP[database[0]]
    started = time.monotonic()
    with pytest.raises(OperationalError, match=r"timed out|within 2 seconds"):
        run_all(connection, [sleep.format(0.4)] * 60)
    assert time.monotonic() - started < SOON
    connection.close_if_unusable_or_obsolete()  # the next request has its own time
    run(connection, "SELECT 1")


def test_statements_of_commands_may_take_any_time(
    connection: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases.Trust, "is_serving", False)
    sleep = SLEEP[database[0]]
    started = time.monotonic()
    run(connection, sleep.format(2.5))
    assert time.monotonic() - started > 2.4


def test_databases_on_servers_have_limits_that_the_url_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    def options(url: str) -> Any:
        monkeypatch.setenv("DATABASE_URL", url)
        environment = Environment(Path("none"))
        config = environment.database("")
        assert not environment.problems
        return config.get("OPTIONS")

    assert not options("sqlite:///x")
    for engine, url in (("postgresql", "postgres://u@h/n"), ("mysql", "mysql://u@h/n")):
        assert options(url) == DATABASE_LIMITS[engine]
        for name in DATABASE_LIMITS[engine]:
            assert options(f"{url}?{name}=77") == {**DATABASE_LIMITS[engine], name: 77}
    assert options("postgres://u@h/n?sslmode=require")["sslmode"] == "require"
    for limits in DATABASE_LIMITS.values():
        assert (limits["connect_timeout"], limits["read_timeout"]) == (5, 10)


def test_a_connection_that_has_just_answered_is_not_asked_again(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(wraps=connection.is_usable)
    monkeypatch.setattr(connection, "is_usable", asked)
    run(connection, "SELECT 1")
    connection.close_if_unusable_or_obsolete()  # the next request
    run_all(connection, ["SELECT 2", "SELECT 3"])
    assert asked.call_count == 0
    connection.answered_at -= databases.FRESH
    connection.close_if_unusable_or_obsolete()
    run_all(connection, ["SELECT 2", "SELECT 3"])
    assert asked.call_count == 1


@pytest.mark.parametrize("first", ["reads", "writes", "locks"])
def test_a_request_does_not_see_that_its_connection_has_ended(
    connection: Any, database: tuple[str, Service, Line], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    name, service, _ = database
    run(connection, "SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS note (line INT)")
        cursor.execute("DELETE FROM note")
    connection.close_if_unusable_or_obsolete()  # the next request
    connection.answered_at = time.monotonic()
    monkeypatch.setattr(databases, "FRESH", 60)
    end_connections(name, service)
    write = "INSERT INTO note VALUES (7)"
    if first == "reads":
        run(connection, "SELECT 1")
    elif first == "writes":
        with connection.cursor() as cursor:
            cursor.execute(write)
    else:
        connection.set_autocommit(False)
        run(connection, "SELECT line FROM note FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute(write)
        connection.commit()
        connection.set_autocommit(True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM note")
        assert cursor.fetchone()[0] == (first != "reads")


# Prepared statements --------------------------------------------------------------------------------------------------

FIND = "SELECT line FROM note WHERE line = %s"


@pytest.fixture
def on_postgresql(connection: Any, database: tuple[str, Service, Line]) -> Any:
    """A connection to PostgreSQL, and a table with one row."""
    if database[0] != "postgresql":
        pytest.skip("Only PostgreSQL prepares statements.")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS note; CREATE TABLE note (line INT); INSERT INTO note VALUES (7)")
    return connection


def find(connection: Any) -> list[tuple[int]]:
    """Read a row by a frequent statement."""
    with connection.prepared_cursor() as cursor:
        cursor.execute(FIND, [7])
        rows: list[tuple[int]] = cursor.fetchall()
        return rows


def plans(connection: Any) -> list[tuple[int, int]]:
    """How often the server has executed the statement by a kept plan, and by one of its own, on this connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%FROM note%'"
        )
        rows: list[tuple[int, int]] = cursor.fetchall()
        return rows


def test_frequent_statements_are_planned_once(on_postgresql: Any) -> None:
    assert [find(on_postgresql) for _ in range(3)] == [[(7,)]] * 3
    assert plans(on_postgresql) == [(3, 0)]


def test_a_table_that_a_migration_has_changed_is_read_at_once(on_postgresql: Any, database: Any) -> None:
    find(on_postgresql)
    driver = on_postgresql.connection
    database[1].sql("ALTER TABLE note ALTER line TYPE BIGINT", "chat")
    assert find(on_postgresql) == find(on_postgresql) == [(7,)]
    on_postgresql.close_if_unusable_or_obsolete()  # the next request
    assert find(on_postgresql) == [(7,)]
    assert on_postgresql.connection is not driver
    assert plans(on_postgresql) == [(1, 0)]


def test_a_transaction_that_a_migration_ends_is_an_outage_once(on_postgresql: Any, database: Any) -> None:
    find(on_postgresql)
    database[1].sql("ALTER TABLE note ALTER line TYPE BIGINT", "chat")
    on_postgresql.set_autocommit(False)
    with pytest.raises(DatabaseError) as error:
        find(on_postgresql)
    assert databases.is_outage(error.value)
    on_postgresql.rollback()
    on_postgresql.set_autocommit(True)
    on_postgresql.close_if_unusable_or_obsolete()
    on_postgresql.set_autocommit(False)
    assert find(on_postgresql) == [(7,)]
    on_postgresql.rollback()


@pytest.mark.parametrize(("option", "prepares"), [("", False), ("&prepared_statements=on", True)])
def test_behind_a_pooler_statements_are_prepared_only_on_request(
    on_postgresql: Any, monkeypatch: pytest.MonkeyPatch, option: str, prepares: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", os.environ["DATABASE_URL"] + option)
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)  # a pooler tells a number of its own
    pooled = make_connection()
    assert find(pooled) == [(7,)]
    assert bool(plans(pooled)) is prepares
    pooled.close()


def test_prepared_statements_can_be_switched_off(on_postgresql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", os.environ["DATABASE_URL"] + "&prepared_statements=off")
    unprepared = make_connection()
    assert find(unprepared) == [(7,)]
    assert plans(unprepared) == []
    unprepared.close()
