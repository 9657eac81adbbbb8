"""Fixtures: alice the customer, bob and carol the agents, mallory the outsider, and a real server."""

import importlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import redis
from django.conf import settings
from django.conf.global_settings import PASSWORD_HASHERS
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, connections
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from django.test import Client, override_settings
from django.utils import translation

from conversations import announce, redis_client
from conversations import message_log as log
from conversations.actions import post_message
from conversations.models import Agent, Conversation, Website
from conversations.models.settling import settle
from conversations.threshold import limits

if TYPE_CHECKING:
    from tests.services import Service

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "correct horse battery"
UNKNOWN = UUID("0d5b7a5e-3c0f-4f0e-9d8a-6f1d2b3c4d5e")
"""No conversation's uuid. It is constant, because all workers of pytest-xdist must collect the same parameters."""


SLOWEST = [
    "test_replica",
    "test_log_faults",
    "test_redis_waits",
    "test_backup",
    "test_migrations",
    "test_processes",
    "test_server",
    "test_running",
    "test_storm",
    "test_outages",
    "test_websocket",
    "test_lost_database",
    "test_log_chaos",
    "test_settings",
    "test_serve",
    "test_delivery",
    "test_redis_outage",
    "test_remembering",
    "test_embedding",
    "test_healing",
    "test_input_and_screens",
    "test_conversation",
    "test_chaos",
]
"""The slowest modules. They run first, so that no worker of pytest-xdist is left alone with one at the end."""


ONLY_IN_SQL = {
    "test_a_restore_refuses_while_the_server_runs_and_replaces_the_rest_only_if_it_is_told": "its log was not drained",
    "test_a_restore_that_fails_half_way_leaves_the_old_database_and_no_new_files": "its log was not drained",
    "test_a_restore_replaces_no_database_of_which_redis_has_a_log": "the database has another log, its own",
    "test_one_statement": "one statement of PostgreSQL writes a message only where there is no message log",
    "test_a_message_that_cannot_be_saved_leaves_no_file": "a message in the log is acknowledged before it is saved",
    "test_a_widget_notices_that_the_database_was_restored": "the log still has what a restored database lacks",
    "test_a_page_that_is_ahead_of_a_restored_database_gets_all_that_there_is": "likewise",
    "test_a_poll_is_answered_anew_after_a_message_was_acknowledged_when_sent_again": "appending tells of it too",
    "test_plans": "it cannot explain statements of executemany, by which messages are copied",
    "test_while_redis_fails_the_process_counts_by_itself": "nobody writes to the log while Redis fails",
    "test_a_program_is_rung_without_an_origin": "agents are rung when the log has a message and when SQL does",
    "test_all_sockets_ring_on_connect_and_for_every_message": "likewise",
    "test_all_that_is_written_while_an_inbox_opens_rings_it": "likewise",
    "test_a_limited_agent_is_rung_only_for_their_own_websites": "likewise",
}
"""Modules and tests that are skipped with MESSAGE_LOG=redis, and why they make no sense there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option with which the suite is run again on other databases."""
    parser.addoption("--only-database", action="store_true", help="Run only tests that use the database.")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slowest modules first. With --only-database, deselect tests that use neither the ORM nor a server."""
    order = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items if settings.MESSAGE_LOG else []:
        if reason := ONLY_IN_SQL.get(item.path.stem) or ONLY_IN_SQL.get(getattr(item, "originalname", "")):
            item.add_marker(pytest.mark.skip(reason))
    if not config.getoption("--only-database"):
        return
    used = {"db", "transactional_db", "database", "server", "killable_server", "installation", "shops", "prepared"}
    with_database = [
        item
        for item in items
        if used & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("django_db") is not None
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in with_database])
    items[:] = with_database


class Page(Client):
    """A browser without JavaScript: Django's test client with shortcuts."""

    def says(self, text: str, **more: Any) -> Any:
        """Post a message with the form of the chat page."""
        return self.post("/chat/messages/", {"content": text, **more})

    def answers(self, conversation: Conversation, text: str, **more: Any) -> Any:
        """Post an answer with the form of the inbox."""
        return self.post(f"/inbox/{conversation.pk}/messages/", {"content": text, **more})

    def closes(self, conversation: Conversation, query: str = "") -> str:
        """Close it as an agent; returns where they are then, without what is said there."""
        response = self.post(f"/inbox/{conversation.pk}/close/{query}")
        return re.sub(r"[?&]done=.*", "", response["Location"])

    def htmx(self, path: str, data: Any = None, **headers: str) -> Any:
        """GET, or POST if there is data, as htmx does."""
        head = {"HX-Request": "true", **headers}
        return self.get(path, headers=head) if data is None else self.post(path, data, headers=head)


@pytest.fixture(scope="session", autouse=True)
def _empty_tables_fast() -> None:
    """Let `flush` delete rows on PostgreSQL: TRUNCATE, which Django uses, makes new files of all tables and indexes."""
    if connection.vendor != "postgresql":
        return

    def sql_flush(style: Any, tables: list[str], **options: Any) -> list[str]:
        return [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]

    connection.ops.sql_flush = sql_flush  # type: ignore[assignment,method-assign]  # of this connection only


@receiver(post_migrate)
def _create_default_website(**signal: Any) -> None:
    """Create the default website again after `flush`, which transactional tests call. Only `migrate` sends a plan."""
    if signal["app_config"].label == "conversations" and "plan" not in signal:
        Website.objects.default()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database. At the end, connections that threads have left open are closed, so it can be dropped."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid), query FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            print(cursor.fetchall(), file=sys.stderr)


@pytest.fixture(autouse=True)
def _reset_language() -> Iterator[None]:
    yield
    translation.deactivate()  # a view called by a test may have activated one


@pytest.fixture(autouse=True)
def _reset_rate_limits() -> Iterator[None]:
    redis_client.breaker.succeeded()  # the test before may have stopped Redis
    cache.clear()
    limits.store.cache_clear()
    yield
    redis_client.breaker.succeeded()
    cache.clear()
    limits.store.cache_clear()


@pytest.fixture(autouse=True)
def _settle_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MESSAGE_LOG=redis in the environment, messages are in SQL before `post_message` returns.

    So tests that post and then look at SQL hold in this mode too, and all that reads and writes the log is run. Tests
    of what happens before that use the fixture `message_log`.
    """
    if settings.MESSAGE_LOG and "message_log" not in request.fixturenames:
        log.prepare(FIRST_MESSAGE, FIRST_CONVERSATION)
        settle_at_once(monkeypatch)


FIRST_MESSAGE, FIRST_CONVERSATION = 1_000_000_000, 100_000_000
"""Above what the sequences of SQL reach, from which tests take ids too. The log is flushed before each test."""


def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy each message into SQL right after it was appended to the message log, in the same thread."""
    module = importlib.import_module("conversations.actions.post_message")  # the package has a function of this name

    def announce_and_settle(conversation: Conversation) -> None:
        announce.announce_appended(conversation)
        announce.announce_settled(settle([conversation.pk]))

    monkeypatch.setattr(module, "announce_appended", announce_and_settle)


@pytest.fixture
def alice() -> Page:
    """A customer's browser."""
    return Page()


@pytest.fixture
def mallory() -> Page:
    """An outsider's browser."""
    return Page()


def promote(username: str, first_name: str) -> Agent:
    """An agent with the password PASSWORD."""
    return Agent.objects.promote(User.objects.create_user(username, password=PASSWORD, first_name=first_name))


@pytest.fixture
def bob(db: None) -> Agent:
    """An agent."""
    return promote("bob", "Bob")


@pytest.fixture
def carol(db: None) -> Agent:
    """Another agent."""
    return promote("carol", "Carol")


@pytest.fixture
def bobs(bob: Agent) -> Page:
    """Bob's browser, signed in."""
    page = Page()
    page.force_login(bob)
    return page


@pytest.fixture
def carols(carol: Agent) -> Page:
    """Carol's browser, signed in."""
    page = Page()
    page.force_login(carol)
    return page


@pytest.fixture
def talk(db: None) -> Conversation:
    """A conversation that alice has begun."""
    return post_message(content="Hello, is anybody there?", name="Alice").conversation


@pytest.fixture(scope="session")
def log_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Service"]:
    """A Redis that keeps everything."""
    from tests.services import redis_server

    with redis_server(tmp_path_factory.mktemp("redis")) as service:
        yield service


@pytest.fixture
def message_log(log_service: "Service", settings: Any) -> Iterator[ModuleType]:
    """The message log is on, and empty. No replicator runs."""
    settings.MESSAGE_LOG, settings.REDIS_URL = True, log_service.url
    use_new_client()
    log.client().flushall()
    yield log
    use_new_client()


def use_new_client() -> None:
    """Let the message log connect to the REDIS_URL of now."""
    log.client.cache_clear()
    log.Run.seen = 0
    log._registered.cache_clear()


def texts(response: Any) -> list[str]:
    """The texts of the messages in an HTML response, in order."""
    shown = re.sub("<template>.*?</template>", "", response.content.decode(), flags=re.DOTALL)
    found = re.findall(r'<div class="bubble[^"]*" dir="auto">(.*?)</div>', shown, re.DOTALL)
    return [str(text) for text in found]


# A real server -------------------------------------------------------------------------------------------------------


PORTS = 1000
"""How many ports each worker of pytest-xdist has for its servers."""

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

_ports = cycle(sorted(range(PORTS), key=lambda number: (number - os.getpid()) % PORTS))


def free_port() -> int:
    """A TCP port that nothing listens on, and that no other worker takes while its server is killed and started again.

    It is below those that systems give to clients (from 32768 on Linux), which may be in use at any moment.
    """
    for number in islice(_ports, PORTS):
        port = 12_000 + WORKER * PORTS + number
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("All ports are in use.")


_logs: dict[str, int] = {}


def with_own_log(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a server. With MESSAGE_LOG=redis, each database has a message log of its own.

    A log belongs to one SQL database, so it is a Redis database of its own: the first of them are those of the workers.
    A server with a Redis that its test has chosen has no log.
    """
    if os.environ.get("MESSAGE_LOG") != "redis" or "MESSAGE_LOG" in environment:
        return environment
    if "REDIS_URL" in environment:
        return {**environment, "MESSAGE_LOG": "sql"}
    database = environment.get("DATABASE_URL", "")
    is_new = database not in _logs
    number = _logs.setdefault(database, 100 * (1 + int(os.environ["WORKER"])) + len(_logs) % 100)
    url = re.sub(r"/\d*$", f"/{number}", os.environ["REDIS_URL"])
    if is_new:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
            client.mset({log.MESSAGES: FIRST_MESSAGE, log.CONVERSATIONS: FIRST_CONVERSATION})
    return {**environment, "REDIS_URL": url}


class Server:
    """`manage.py serve` in a separate process, on its own database. It can be killed and started again."""

    command = ("manage.py", "serve")

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.environment = {**os.environ, **with_own_log(environment), "PORT": str(self.port), "HOST": "127.0.0.1"}
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def manage(self, *args: str) -> str:
        """Run a management command and return its output."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        command = [sys.executable, *self.command]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "The server has exited before it was ready."
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("The server was not ready within 30 s.")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=30)


def server_database(where: Path, template: str = "") -> Iterator[str]:
    """The URL of a database on the engine that the suite runs on; it is dropped afterwards.

    It is empty, or a copy of the database with the URL `template`, which nobody uses. MariaDB makes no copies.
    """
    url = os.environ["DATABASE_URL"]
    if url.startswith("sqlite"):
        path = where / "server.sqlite3"
        if template:
            shutil.copy(template.removeprefix("sqlite:///"), path)
        yield f"sqlite:///{path}"
        return
    name = f"chatsite_{secrets.token_hex(4)}"
    quoted = connection.ops.quote_name(name)
    like = f" TEMPLATE {connection.ops.quote_name(template.rpartition('/')[2])}" if template else ""
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {quoted}{like}")
    yield re.sub(r"/[^/]*$", f"/{name}", url)
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {quoted}" + (" WITH (FORCE)" if connection.vendor == "postgresql" else ""))


@contextmanager
def default_database(url: str) -> Iterator[None]:
    """In this context, this process uses the database with this URL, on the engine that the suite runs on."""
    before, values = connections["default"], connections.settings["default"]
    name = url.removeprefix("sqlite:///") if url.startswith("sqlite") else url.rpartition("/")[2]
    connections.settings["default"] = {**values, "NAME": name}
    del connections["default"]
    log_url = with_own_log({"DATABASE_URL": url}).get("REDIS_URL", settings.REDIS_URL)
    try:
        with override_settings(REDIS_URL=log_url):
            use_new_client()
            yield
    finally:
        use_new_client()
        connection.close()
        connections["default"], connections.settings["default"] = before, values


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    Server({"DEBUG": "on", "DATABASE_URL": f"sqlite:///{path}"}).manage("migrate", "--verbosity", "0")
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Server]:
    """A server with the agents bob and carol, whose password is PASSWORD."""
    with django_db_blocker.unblock():
        for url in server_database(tmp_path_factory.mktemp("server")):
            files = str(tmp_path_factory.mktemp("files"))
            server = Server({"DEBUG": "on", "RATE_LIMITS": "off", "DATABASE_URL": url, "FILES": files})
            with default_database(url), override_settings(PASSWORD_HASHERS=PASSWORD_HASHERS):
                call_command("migrate", verbosity=0)  # here, because each process takes a second to start
                for name in ("bob", "carol"):
                    call_command("createagent", name, password=PASSWORD, stdout=StringIO())
            server.start()
            yield server
            if server.process and server.process.poll() is None:
                server.kill()
