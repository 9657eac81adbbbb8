"""`manage.py serve`: what it refuses with a sentence, where it listens, and what it answers to monitoring."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import environ
import pymysql
import pytest
from django.core.management import call_command
from django.db.utils import ConnectionHandler, Error, OperationalError, ProgrammingError
from django.template import engines

from chatsite import health, startup
from chatsite.environment import host_advice
from chatsite.serving.listening import CannotListen, endpoint, explain
from chatsite.serving.warm_up import warm_up
from conversations.customer import assets
from conversations.management.commands.serve import Command
from conversations.models import links
from conversations.screen import bundles
from tests.conftest import ROOT, free_port

HEAD = "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n"


def environment(where: Path, **settings: str) -> dict[str, str]:
    """Settings for a server whose data are in `where`."""
    defaults = {"DEBUG": "on", "DATABASE_URL": f"sqlite:///{where / 'db.sqlite3'}", "FILES": str(where / "files")}
    return {"PATH": os.environ["PATH"], "PORT": str(free_port()), "REDIS_URL": "", **defaults, **settings}


def refusal(where: Path, *arguments: str, **settings: str) -> str:
    """What `serve`, or another command, says when it does not start."""
    command = [sys.executable, "manage.py", *(arguments or ["serve"])]
    env = environment(where, **settings)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr


@contextmanager
def serving(where: Path, migrated: Path, **settings: str) -> Iterator[str]:
    """A server in a separate process; yields what it prints as soon as it listens. Stopped with SIGTERM afterwards."""
    shutil.copy(migrated, where / "db.sqlite3")
    env = environment(where, **settings)
    with subprocess.Popen(
        [sys.executable, "manage.py", "serve"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        said = ""
        while "Stop with" not in said:
            line = process.stdout.readline()
            assert line, "It has ended."
            said += line
        yield said
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def ask(client: socket.socket, path: str, host: str = "localhost", headers: str = "") -> str:
    """Send a request on a connection; returns the whole response."""
    with client:
        client.settimeout(30)
        client.sendall(HEAD.format(path, host, headers).encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode("latin1")


# Refusals -------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_1(tmp_path: Path, migrated: Path) -> None:
    shutil.copy(migrated, tmp_path / "db.sqlite3")
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = refusal(tmp_path, PORT=str(other.getsockname()[1]))
    assert "is in use, perhaps by another Chatsite" in said
    assert len(said.splitlines()) == 2


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, FILES="/proc/files", DEBUG="off", SECRET_KEY="x" * 50, ALLOWED_HOSTS="chat.example.com",
                   STATIC_ROOT=str(tmp_path / "static"))  # fmt: skip
    assert "does not exist yet. Run: manage.py migrate" in said
    assert "cannot be written to /proc/files" in said
    assert "static files are not collected" in said
    assert "collectstatic --noinput" in said


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ("a-file", "FILES is {}, which is a file. Set it to a directory."),
        ("a-file/files", "FILES is {}, but {parent} is a file."),
        ("nowhere/files", "The directory {parent} of FILES does not exist. Create it, or look at FILES."),
    ],
)
def test_why_files_cannot_be_written_is_said(tmp_path: Path, migrated: Path, files: str, sentence: str) -> None:
    shutil.copy(migrated, tmp_path / "db.sqlite3")
    (tmp_path / "a-file").touch()
    said = refusal(tmp_path, FILES=str(tmp_path / files))
    assert sentence.format(tmp_path / files, parent=(tmp_path / files).parent) in said
    assert len(said.splitlines()) == 2


def test_a_database_that_is_away_is_said_and_its_password_is_not(tmp_path: Path) -> None:
    said = refusal(tmp_path, DATABASE_URL=f"postgres://chatsite:geheim@127.0.0.1:{free_port()}/chatsite")
    assert "The database does not answer" in said
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("command", "database", "sentence"),
    [
        ("createagent bob", "sqlite:///{0}/db.sqlite3", "The database is empty. Run: manage.py migrate\n"),
        ("forgetold", "sqlite:///{0}/nowhere/db.sqlite3", "/nowhere of the database does not exist. Create it, or"),
        ("migrate", "sqlite:///{0}/nowhere/db.sqlite3", "/nowhere of the database does not exist. Create it, or"),
        ("migrate", "postgres://chatsite:geheim@127.0.0.1:{1}/chatsite", "Look whether it runs, and DATABASE_URL.\n"),
    ],
)
def test_commands_say_in_a_sentence_what_is_wrong_with_the_database(
    tmp_path: Path, command: str, database: str, sentence: str
) -> None:
    said = refusal(tmp_path, *command.split(), DATABASE_URL=database.format(tmp_path, free_port()))
    assert sentence in said
    assert "geheim" not in said


def test_a_mistake_of_the_code_or_of_a_migration_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "find_database_problems", lambda _with_migrations: [])
    locked = OperationalError("database is locked")
    assert startup.explain(locked, migrating=False) == "The database did not do this: database is locked. Try again."
    assert startup.explain(locked, migrating=True) == ""
    assert startup.explain(ProgrammingError("syntax error"), migrating=False) == ""


def test_a_database_in_a_directory_that_may_not_be_read_is_not_taken_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", refuse)
    connection = ConnectionHandler({"default": environ.Env.db_url_config("sqlite:////root/db.sqlite3")})["default"]
    assert not startup.is_missing_file(connection)


def test_a_database_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "DATABASE_TIMEOUT", 0.05)
    hanging = threading.Event()
    monkeypatch.setattr(startup, "find_database_problems", lambda: [] if hanging.wait(30) else ["?"])
    assert startup.find_problems()[0].startswith("The database does not answer within")
    hanging.set()


def test_an_unmigrated_and_a_newer_database_are_said() -> None:
    known = startup.known_migrations()
    last = max(name for app, name in known if app == "conversations")
    assert startup.find_migration_problems(known | {("gone", "0001_initial")}) == []
    assert startup.find_migration_problems([]) == ["The database is empty. Run: manage.py migrate"]
    assert (
        "lacks 1 of this version's migrations" in startup.find_migration_problems(known - {("conversations", last)})[0]
    )
    newer = startup.find_migration_problems(known | {("conversations", "9999_later")})[0]
    assert "is newer than this code, which does not know conversations.9999_later" in newer


def test_a_file_that_cannot_be_written_is_said(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"
    assert startup.find_file_problems() == []
    assert stat.S_IMODE(settings.MEDIA_ROOT.stat().st_mode) == 0o700
    assert list(settings.MEDIA_ROOT.iterdir()) == []
    settings.MEDIA_ROOT = tmp_path / "nowhere" / "files"
    assert "nowhere of FILES does not exist. Create it" in startup.find_file_problems()[0]


def test_a_database_file_that_cannot_be_written_is_said(tmp_path: Path, django_db_blocker: Any) -> None:
    connection = ConnectionHandler({"default": environ.Env.db_url_config(f"sqlite:///{tmp_path}/db.sqlite3")})[
        "default"
    ]
    assert startup.is_missing_file(connection)
    (tmp_path / "db.sqlite3").write_bytes(b"")
    connection.settings_dict["OPTIONS"] = {"init_command": "PRAGMA query_only=on;", "transaction_mode": "IMMEDIATE"}
    with django_db_blocker.unblock():
        assert (
            "must be allowed to write the file" in startup.find_write_problem(connection, f"{tmp_path}/db.sqlite3")[0]
        )
    connection.close()


def test_static_files_that_are_missing_or_of_another_version_are_said(settings: Any, tmp_path: Path) -> None:
    manifest = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": manifest}}
    assert "are not collected" in startup.find_static_problems()[0]
    call_command("collectstatic", "--noinput", "--verbosity", "0")
    settings.STATIC_ROOT = str(tmp_path)  # a new storage reads the new manifest
    assert startup.find_static_problems() == []
    (tmp_path / "icon.svg").write_text("<svg/>")
    assert "are of another version (icon.svg)" in startup.find_static_problems()[0]
    (tmp_path / "icon.svg").unlink()
    assert "are of another version (icon.svg)" in startup.find_static_problems()[0]


def own_database(url: str, create: str, drop: str) -> Iterator[Any]:
    """A connection to an own database on a server that runs here. Skips without one, but not in CI."""
    name = f"chatsite_{secrets.token_hex(4)}"
    admin = ConnectionHandler({"default": environ.Env.db_url_config(url)})["default"]
    try:
        with admin.cursor() as cursor:
            cursor.execute(create.format(name))
    except Error as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Needs {url.partition(':')[0]} on this machine: {error}")
    connection = ConnectionHandler({"default": {**admin.settings_dict, "NAME": name}})["default"]
    yield connection
    connection.close()
    with admin.cursor() as cursor:
        cursor.execute(drop.format(name))
    admin.close()


@pytest.fixture
def utf8mb3(django_db_blocker: Any) -> Iterator[Any]:
    """A MariaDB database with the character set utf8mb3."""
    pymysql.install_as_MySQLdb()
    with django_db_blocker.unblock():
        yield from own_database(
            "mysql://root@127.0.0.1:3306/mysql", "CREATE DATABASE {} CHARACTER SET utf8mb3", "DROP DATABASE {}"
        )


@pytest.fixture
def latin1(django_db_blocker: Any) -> Iterator[Any]:
    """A PostgreSQL database with the encoding LATIN1."""
    with django_db_blocker.unblock():
        yield from own_database(
            "postgres://postgres@127.0.0.1:5432/postgres",
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
            "DROP DATABASE {}",
        )


def test_a_mysql_database_that_is_not_utf8mb4_is_refused_with_the_statements_that_mend_it(utf8mb3: Any) -> None:
    with utf8mb3.cursor() as cursor:
        cursor.execute("CREATE TABLE conversations_message (content longtext)")
        cursor.execute("CREATE TABLE other (content longtext)")  # of another program: not ours to judge
    said = startup.find_encoding_problems(utf8mb3)[0]
    assert "has the character set utf8mb3" in said
    with utf8mb3.cursor() as cursor:
        for statement in said.partition("run in the database: ")[2].split(";")[:-1]:
            cursor.execute(statement)
    assert startup.find_encoding_problems(utf8mb3) == []
    with utf8mb3.cursor() as cursor:
        cursor.execute("INSERT INTO conversations_message VALUES ('😀')")
        cursor.execute("DELETE FROM conversations_message")
        cursor.execute("ALTER TABLE conversations_message CONVERT TO CHARACTER SET latin1")
    assert "ALTER TABLE `conversations_message`" in startup.find_encoding_problems(utf8mb3)[0]


def test_a_postgresql_database_that_is_not_utf8_is_refused(latin1: Any) -> None:
    assert "has the encoding LATIN1" in startup.find_encoding_problems(latin1)[0]


def test_a_redis_that_does_not_answer_is_a_warning(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        settings.REDIS_URL = f"redis://:geheim@127.0.0.1:{port}/0"
        before = time.monotonic()
        said = startup.find_warnings()[0]
        assert time.monotonic() - before < 5
    assert said.startswith("Redis does not answer (")
    assert "geheim" not in said
    settings.REDIS_URL = ""
    assert startup.find_warnings() == []


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("https://chat.example.com", "Write chat.example.com:"),
        ("chat.example.com:8000", "Write chat.example.com:"),
        ("https://chat.example.com:8443/", "Write chat.example.com:"),
        ("chat.example.com/support", "cannot be served under a path"),
        ("*.example.com", "Write .example.com:"),
        ("::1", "Write [::1]:"),
        ("[::1]:8000", "Write [::1]:"),
        ("chät.example", "Write xn--cht-rla.example:"),
        ("#", "no host name"),
        ("chat..example", "no host name"),
        ("chat.example.com", ""),
        (".example.com", ""),
        ("[::1]", ""),
        ("127.0.0.1", ""),
    ],
)
def test_a_wrong_host_is_answered_with_the_right_one(written: str, right: str) -> None:
    advice = host_advice(written)
    assert right in advice
    assert bool(right) == bool(advice)


# Listening ------------------------------------------------------------------------------------------------------------


def test_every_address_is_listened_on_with_ipv6_and_the_addresses_are_printed_then(
    tmp_path: Path, migrated: Path
) -> None:
    port = free_port()
    with serving(tmp_path, migrated, HOST="[::]", PORT=str(port)) as said:
        assert f"listens on http://[::]:{port}\n" in said
        assert f"Chat        http://localhost:{port}/chat/" in said
        assert f"Settings    http://localhost:{port}/admin/ (for superusers" in said
        for address in ("::1", "127.0.0.1"):
            try:
                client = socket.create_connection((address, port))
            except OSError:
                assert address == "::1", "IPv4 is refused"
                pytest.skip("This machine has no IPv6.")
            assert ask(client, "/healthz", "192.0.2.1").endswith("\r\n\r\nok\n")


def test_a_unix_socket_is_for_the_proxy_and_replaced_if_it_is_stale(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "chatsite.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        return client

    settings = {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1", "ALLOWED_HOSTS": "chat.example.com"}
    with serving(tmp_path, migrated, **settings, INSECURE_HTTP="off", STATIC_ROOT=str(tmp_path / "static")) as said:
        assert f"listens on unix:{path}\n" in said
        assert "Chat        https://chat.example.com/chat/" in said
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        https = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n"
        page = ask(connect(), "/chat/", "chat.example.com", https)
        assert page.startswith("HTTP/1.1 200")
        assert "includeSubDomains" not in page
        with pytest.raises(CannotListen, match="Another process listens"):
            endpoint(f"unix:{path}", 0)

        for health_path, word in (("/healthz", "ok"), ("/readyz", "ready")):
            answer = ask(connect(), health_path, "192.0.2.1:8000")
            assert answer.startswith("HTTP/1.1 200")
            assert answer.endswith(f"\r\n\r\n{word}\n")
            assert "Set-Cookie" not in answer
        icon = ask(connect(), "/favicon.ico", "chat.example.com", https)
        assert icon.startswith("HTTP/1.1 200")
        assert "image/x-icon" in icon
        assert "public, max-age" in icon
        robots = ask(connect(), "/robots.txt", "chat.example.com", https)
        assert "\nDisallow: /inbox/\n" in robots
        assert "chat.js" not in robots
    assert not path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "chatsite.sock"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="is not a socket"):
        endpoint(f"unix:{path}", 0)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("error", "host", "port", "sentence"),
    [
        (PermissionError(13, "Permission denied"), "0.0.0.0", 80, "Only root may listen on port 80"),
        (OSError(99, "Cannot assign"), "10.9.9.9", 8000, "HOST is 10.9.9.9, which is no address of this machine"),
        (socket.gaierror(-2, "unknown"), "nosuch", 8000, "HOST is nosuch, which is no address of this machine"),
        (OSError(2, "No such file"), "unix:/nosuch/x", 0, "There is no directory /nosuch for the socket"),
        (PermissionError(13, "Permission denied"), "unix:/proc/x", 0, "the user has no permission to write to /proc"),
        (OSError(24, "?"), "127.0.0.1", 8000, "cannot listen on 127.0.0.1, port 8000: Too many open files"),
    ],
)
def test_why_it_cannot_listen_is_a_sentence(error: OSError, host: str, port: int, sentence: str) -> None:
    assert sentence in explain(error, host, port)


# Health ---------------------------------------------------------------------------------------------------------------


async def test_many_who_ask_whether_it_is_ready_ask_the_database_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(problem: str) -> str:
        asked.append(problem)
        return problem

    monkeypatch.setattr(health, "database_problem", lambda: answer(""))
    readiness = health.Readiness()
    assert set(await asyncio.gather(*(readiness.find_problem() for _ in range(50)))) == {""}
    assert await readiness.find_problem() == ""
    assert len(asked) == 1
    readiness.started -= health.INTERVAL
    monkeypatch.setattr(health, "database_problem", lambda: answer(health.NO_ANSWER))
    assert await readiness.find_problem() == health.NO_ANSWER
    assert len(asked) == 2


async def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(health, "TIMEOUT", 0.1)
    monkeypatch.setattr(health, "database_problem", lambda: "" if hanging.wait(30) else "?")
    readiness = health.Readiness()
    for _ in range(3):
        assert await readiness.find_problem() == health.NO_ANSWER
    running = readiness.running
    assert running is not None
    hanging.set()
    assert await running == ""
    assert await readiness.find_problem() == ""


@pytest.mark.django_db
def test_a_database_that_is_not_migrated_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_in_thread() -> str:
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(health.database_problem()))
        thread.start()
        thread.join()
        return said[0]

    assert ask_in_thread() == ""
    monkeypatch.setattr(health, "needed_migrations", lambda: {("conversations", "9999_later")})
    assert ask_in_thread() == health.NOT_MIGRATED


# Preparing for requests -----------------------------------------------------------------------------------------------


def test_serve_prepares_for_requests_once_it_listens(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.CLEANING = settings.REPLICATING = False  # nothing stops them here
    prepared = threading.Event()
    monkeypatch.setattr("chatsite.serving.warm_up.warm_up", prepared.set)
    Command(stdout=StringIO()).ready()
    assert prepared.wait(30)


def test_the_first_requests_find_templates_links_scripts_and_styles_ready(caplog: pytest.LogCaptureFixture) -> None:
    caches: list[Any] = [links.addresses, bundles._compress, bundles._bundle, assets._script]
    for cached in caches:
        cached.cache_clear()
    warm_up()
    assert [cached.cache_info().currsize for cached in caches] == [1, 2 + len(bundles.FILES), len(bundles.FILES), 1]
    [loader] = engines["django"].engine.template_loaders  # type: ignore[attr-defined]
    assert "customer/chat.html" in loader.get_template_cache
    assert not caplog.records
