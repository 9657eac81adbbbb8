"""With wrong settings Chatsite does not start, and explains why."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from chatsite import settings as chatsite_settings
from chatsite.environment import Environment
from chatsite.private_files import hide_from_others
from chatsite.serving import http_connection, request_handler, server
from tests.conftest import ROOT

GOOD = {"SECRET_KEY": "0123456789" * 5, "ALLOWED_HOSTS": "chat.example.com", "DEBUG": "off"}


Check = Callable[..., "subprocess.CompletedProcess[str]"]

CHECK = ["manage.py", "check", "--deploy", "--fail-level", "WARNING"]

FORKS = """
import json, os, runpy, sys
import django.core.management.commands.check, django.db, django.http, django.template, django.urls
import chatsite.environment
for line in sys.stdin:
    environment, streams, arguments = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()
"""
"""Runs commands in copies of a process that has imported what takes long and depends on no setting."""


@pytest.fixture(scope="module")
def run_check(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    """Runs `manage.py check --deploy` with an environment only."""
    streams = [str(tmp_path_factory.mktemp("check") / name) for name in ("stdout", "stderr")]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FORKS],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        asked, answers = process.stdin, process.stdout

        def run(**environment: str) -> "subprocess.CompletedProcess[str]":
            env = {"PATH": os.environ["PATH"], **environment}
            print(json.dumps([env, streams, CHECK]), file=asked, flush=True)
            code = int(answers.readline())
            stdout, stderr = (Path(path).read_text() for path in streams)
            return subprocess.CompletedProcess(CHECK, code, stdout, stderr)

        yield run


def test_good_settings_pass_the_deployment_check() -> None:
    env = {"PATH": os.environ["PATH"], **GOOD}
    command = [sys.executable, "-W", "error", *CHECK]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ALLOWED_HOSTS": "*"}, "would let any website open a socket here"),
        ({"ALLOWED_HOSTS": "chat.example.com,*"}, "would let any website open a socket here"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS is empty"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": "change-me-to-fifty-random-characters"}, "or the example's"),
        ({"SECRET_KEY": "short"}, "too short"),
        ({"DEBUG": "maybe"}, "DEBUG is “maybe”, but it takes only on or off."),
        ({"PORT": "http"}, "PORT is “http”, but it takes a whole number from 1 to 65535."),
        ({"PORT": "0"}, "PORT is “0”"),
        ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES is “-1”"),
        ({"RATE_LIMITS": "5/m"}, "RATE_LIMITS is “5/m”"),
        ({"DATABASE_URL": "oracle://x/y"}, "DATABASE_URL starts with “oracle”"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL starts with “nonsense”"),
        ({"DATABASE_URL": "sqlite://db.sqlite3"}, "with three slashes"),
        ({"ALLOWED_HOSTS": "https://chat.example.com/"}, "Write chat.example.com: a name alone"),
        ({"HOST": "127.0.0.1:8000"}, "HOST is “127.0.0.1:8000”, but it takes an address alone"),
        ({"HOST": "unix:/run/chatsite.sock"}, "HOST is a Unix socket, so only a proxy can reach it"),
        ({"HSTS_PRELOAD": "on"}, "browsers preload only with HSTS_SUBDOMAINS=on"),
        ({"FORCE_SCRIPT_NAME": "/chat"}, "Chatsite cannot be served under a path"),
        ({"DATABASE_URL": "postgres://user:pass@host"}, "DATABASE_URL names no database"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL starts with “localhost”"),
        ({"EMAIL_URL": "pigeon://x"}, "EMAIL_URL starts with “pigeon”"),
        ({"DATABASE_URL": "postgres://user:pass@host:port/name"}, "DATABASE_URL looks like postgres://"),
        ({"DATABASE_URL": "mysql://user:pass@host:99999/name"}, "DATABASE_URL looks like mysql://"),
        ({"DATABASE_URL": "postgres://user:a/pass@host/name"}, "write that as %40"),
        ({"REDIS_URL": "redis://localhost:abc/0"}, "REDIS_URL looks like redis://"),
        (
            {"REDIS_URL": "redis://user:pass@host/0?socket_timeout=soon"},
            "REDIS_URL: Invalid value for 'socket_timeout'",
        ),
        ({"DATABASE_URL": "postgres://user:pass@host/name?read_timeout=soon"}, "DATABASE_URL has read_timeout=soon"),
        (
            {"DATABASE_URL": "postgres://user:pass@host/name?read_timeout=0"},
            "read_timeout=0, but it takes a number above 0",
        ),
        ({"DATABASE_URL": "mysql://user:pass@host/name?connect_timeout=0"}, "connect_timeout=0, but it takes a number"),
        ({"DATABASE_URL": "postgres://user:pass@host/name?read_timeout=nan"}, "DATABASE_URL has read_timeout=nan"),
        (
            {"DATABASE_URL": "postgres://user:pass@host/name?lock_timeout=-1"},
            "lock_timeout=-1, but it takes a number from",
        ),
        ({"PORT": "9" * 5000}, "but it takes a whole number from 1 to 65535."),
        ({"CSRF_TRUSTED_ORIGINS": "https://a.example:99999"}, "an origin looks like https://shop.example"),
        ({"AGENT_ORIGINS": "https://*.*.example"}, "an origin looks like https://shop.example"),
        ({"ALLOWED_HOSTS": "[::1"}, "ALLOWED_HOSTS has “[::1”. Write [::1]:"),
        ({"ALLOWED_HOSTS": "[::g"}, "ALLOWED_HOSTS has “[::g”. This is no host name."),
        ({"ALLOWED_HOSTS": "[:::]"}, "ALLOWED_HOSTS has “[:::]”. This is no host name."),
        ({"ALLOWED_HOSTS": "[zz:1"}, "ALLOWED_HOSTS has “[zz:1”. This is no host name."),
        ({"ALLOWED_HOSTS": "https://straße.example"}, "Write xn--strae-oqa.example:"),
        ({"REDIS_URL": "redis://user:pass@host:6379/abc"}, "REDIS_URL names the database “abc”, but it takes a number"),
        ({"REDIS_URL": "redis://user:pass@host:6379/1/2"}, "REDIS_URL names the database “1/2”"),
        ({"REDIS_URL": "redis://user:pass@host:6379?db=-1"}, "REDIS_URL names the database “-1”"),
        ({"REDIS_URL": "redis://user:pass@host:6379/0?foo=bar"}, "REDIS_URL has the option foo, which does not exist"),
        ({"REDIS_URL": "redis://user:pass@host:6379/0?socket_timeout=-1"}, "REDIS_URL has socket_timeout=-1"),
        (
            {"DATABASE_URL": "mysql://user:pass@host/name?ssl=yes"},
            "the option ssl, which mysql does not know. It knows bind_address, ",
        ),
        ({"DATABASE_URL": "mysql://user:pass@host/name?foo=bar"}, "DATABASE_URL has the option foo, which"),
        (
            {"DATABASE_URL": "mysql://user:pass@host/name?SSL_CA=/"},
            "which mysql does not know. Do you mean ssl_ca?",
        ),
        (
            {"DATABASE_URL": "mysql://user:pass@host/name?charset=klingon"},
            "charset=klingon, but Chatsite needs utf8mb4",
        ),
        ({"DATABASE_REPLICA_URL": "sqlite:///copy.sqlite3"}, "so both must be PostgreSQL, or both MariaDB"),
        ({"DATABASE_REPLICA_URL": "postgres://user:pass@host/name"}, "SQLite has no replicas."),
        ({"DATABASE_REPLICA_URL": "oracle://x/y"}, "DATABASE_REPLICA_URL starts with “oracle”"),
        (
            {"DATABASE_URL": "mysql://u:p@host/name", "DATABASE_REPLICA_URL": "postgres://user:pass@host/name"},
            "so both must be PostgreSQL, or both MariaDB",
        ),
        (
            {"DATABASE_URL": "mysql://u:p@host/name", "DATABASE_REPLICA_URL": "mysql://u:p@h/n?max_statement_time=1"},
            "DATABASE_REPLICA_URL has the option max_statement_time, which mysql does not know.",
        ),
        (
            {"DATABASE_URL": "postgres://u:p@host/name", "DATABASE_REPLICA_URL": "postgres://u:p@h/n?read_timeout=0"},
            "DATABASE_REPLICA_URL has read_timeout=0, but it takes a number above 0",
        ),
        ({"DATABASE_URL": "mysql://user:pass@host/name?ssl_ca=/nowhere"}, "/nowhere, a file that cannot be read"),
        ({"DATABASE_URL": "mysql://user:pass@host/name?ssl_disabled=maybe"}, "ssl_disabled=maybe, but it takes only"),
        ({"DATABASE_URL": "postgres://user:pass@host/name?foo=bar"}, "DATABASE_URL has the option foo, which"),
        ({"DATABASE_URL": "postgres://user:pass@host/name?ssl_mode=require"}, "Do you mean sslmode?"),
        ({"DATABASE_URL": "sqlite:///db.sqlite3?timeout=5"}, "the option timeout, which sqlite3 does not know.\n"),
        ({"FILES": "/"}, "FILES is /, but it takes a directory of its own"),
        ({"FILES": "/../tmp/.."}, "FILES is /../tmp/.., but it takes a directory of its own"),
        ({"STATIC_ROOT": "/"}, "Everybody can read what is in STATIC_ROOT"),
        ({"STATIC_ROOT": "."}, f"Everybody can read what is in STATIC_ROOT ({ROOT}), and {ROOT} is there"),
        ({"STATIC_ROOT": "/srv/a", "FILES": "/srv/b/../a/files"}, "(/srv/a), and /srv/b/../a/files is there"),
        ({"STATIC_ROOT": "/srv/a", "DATABASE_URL": "sqlite:////srv/a/db.sqlite3"}, "/srv/a/db.sqlite3 is there"),
        ({"EMAIL_URL": "smtp://user:pass@host:abc"}, "EMAIL_URL looks like smtp://"),
        ({"CSRF_TRUSTED_ORIGINS": "https://["}, "an origin looks like https://shop.example"),
        ({"CSRF_TRUSTED_ORIGINS": "shop.example"}, "an origin looks like https://shop.example"),
        ({"CSRF_TRUSTED_ORIGINS": "https://shop.example/path"}, "an origin looks like https://shop.example"),
    ],
)
def test_a_wrong_setting_is_explained(run_check: Check, change: dict[str, str], sentence: str) -> None:
    done = run_check(**{**GOOD, **change})
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "pass@" not in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"DATABASE_URL": "sqlite://:memory:"},
        {"REDIS_URL": "redis://host:6379?db=3&socket_timeout=0.5"},
        {"REDIS_URL": "unix:///run/redis.sock?db=3"},
        {"REDIS_URL": "rediss://host:6379/3?ssl_cert_reqs=none"},
        {
            "DATABASE_URL": "postgres://user:pass@host/name?sslmode=verify-full&application_name=x&disable_server_side_cursors=true"
        },
        {"FILES": "/srv/chatsite", "STATIC_ROOT": "/srv/chatsite/static", "DATABASE_URL": "sqlite:////srv/static.db"},
        {"DATABASE_URL": "postgres://user:pass@one:5432,two:5433/name"},
        {"DATABASE_URL": "postgres://user:pass@host/name?statement_timeout=0&keepalives=0"},
        {"DATABASE_URL": "mysql://user:a%2Fb@[::1]:3306/name"},
        {"CSRF_TRUSTED_ORIGINS": "https://*.shop.example,http://[::1]:8000"},
        {"HOST": "[::1]", "HSTS_SUBDOMAINS": "on", "HSTS_PRELOAD": "on", "ALLOWED_HOSTS": ".example.com,[::1]"},
        {"HOST": "unix:/run/chatsite.sock", "TRUSTED_PROXIES": "1"},
    ],
)
def test_an_unusual_setting_is_accepted(run_check: Check, change: dict[str, str]) -> None:
    done = run_check(**{**GOOD, **change})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///tmp/redis.sock"])
def test_a_cache_that_hangs_is_given_up_soon(url: str) -> None:
    script = """if True:
        import django
        django.setup()
        from django.core.cache import cache
        connection = cache._cache.get_client().connection_pool.make_connection()
        print(connection.socket_timeout, connection.socket_connect_timeout)"""
    env = {**GOOD, "PATH": os.environ["PATH"], "REDIS_URL": url, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0.25 0.25\n", done.stderr


def test_all_wrong_settings_are_reported_at_once(run_check: Check) -> None:
    done = run_check(DEBUG="off", PORT="x")
    for name in ["SECRET_KEY", "ALLOWED_HOSTS", "PORT"]:
        assert f"  - {name} is" in done.stderr


def test_debug_mode_needs_no_settings_and_answers_only_this_machine() -> None:
    script = "import django; django.setup(); from django.conf import settings; print(settings.ALLOWED_HOSTS)"
    env = {"PATH": os.environ["PATH"], "DEBUG": "on", "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['localhost', '127.0.0.1', '[::1]']"


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Forwarded-Proto"])
def test_forwarded_headers_are_ignored_without_trusted_proxies(header: str) -> None:
    for value in ["evil.example", "https"]:
        response = Client().get("/", headers={header: value})
        assert "evil.example" not in response["Location"]
        assert not response.wsgi_request.is_secure()
        assert response.wsgi_request.get_host() == "testserver"


@pytest.mark.django_db
def test_an_unknown_host_is_400() -> None:
    assert Client().get("/chat/", headers={"Host": "evil.example"}).status_code == 400


def problems_in(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said about a `.env`, whose values no variable of this process replaces."""
    monkeypatch.setattr(environ.Env, "ENVIRON", {})
    try:
        env = Environment(dotenv)
        env.text("TRUSTED_PROXIES")
        env.hosts("ALLOWED_HOSTS")
        env.database("sqlite:///db.sqlite3")
        env.verify()
    except ImproperlyConfigured as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"TRUSTED_PROXY=1", "TRUSTED_PROXY in {} is no setting. Do you mean TRUSTED_PROXIES?"),
        (b"ALLOWED_HOST=x\nPOSTGRES_PASSWORD=x", "ALLOWED_HOST in {} is no setting. Do you mean ALLOWED_HOSTS?"),
        (b"# fine\n\nSECRET_KEY = geheim", "Line 3 of {} sets nothing. A line is NAME=value"),
        (b"ALLOWED_HOSTS=chat.example.com # ours", "ALLOWED_HOSTS has “#”."),
        (b"ALLOWED_HOSTS=ch\xe4t", "{} is not in UTF-8"),
        (b"\xef\xbb\xbfALLOWED_HOSTS='chat.example.com'\r\nexport TRUSTED_PROXIES=1\r\n", ""),
        (b"POSTGRES_PASSWORD=x\nCADDY_PORT=8443\n", ""),
    ],
)
def test_what_is_wrong_in_the_file_of_settings_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sentence: str
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(content)
    said = problems_in(dotenv, monkeypatch)
    assert sentence.format(dotenv) in said
    assert bool(sentence) == bool(said)
    assert "geheim" not in said


def test_options_of_the_database_that_are_on_or_off_are_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://host/name?ssl_disabled=false&ssl_verify_cert=1&ssl_verify_identity=On")
    options = Environment(tmp_path / ".env").database("")["OPTIONS"]
    assert options["ssl_disabled"] is False
    assert options["ssl_verify_cert"] is options["ssl_verify_identity"] is True


def test_trusted_origins_are_written_as_browsers_send_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORIGINS", "https://münchen.de HTTPS://*.Straße.example:8443/ http://[0:0::1]")
    assert Environment(tmp_path / ".env").origins("ORIGINS") == [
        "https://xn--mnchen-3ya.de",
        "https://*.xn--strae-oqa.example:8443",
        "http://[::1]",
    ]


def test_usual_ports_are_left_out_of_trusted_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "ORIGINS", "https://a.example:443 http://a.example:80 https://a.example:80 https://*.b.example:8443"
    )
    assert Environment(tmp_path / ".env").origins("ORIGINS") == [
        "https://a.example",
        "http://a.example",
        "https://a.example:80",
        "https://*.b.example:8443",
    ]


def test_a_file_of_settings_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").mkdir()  # root may read every file
    assert "cannot be read (Is a directory)" in problems_in(tmp_path / ".env", monkeypatch)


def test_a_database_file_without_a_full_path_is_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///data/db.sqlite3")
    assert Environment(tmp_path / ".env").database("")["NAME"] == str(tmp_path / "data" / "db.sqlite3")
    monkeypatch.setenv("DATABASE_URL", "sqlite:////srv/db.sqlite3")
    assert Environment(tmp_path / ".env").database("")["NAME"] == "/srv/db.sqlite3"


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_what_commands_create_is_private(tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    env = {"PATH": os.environ["PATH"], "DEBUG": "on", "DATABASE_URL": f"sqlite:///{database}"}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=env, check=True, timeout=120
    )
    assert mode(database) == 0o600


def test_the_settings_made_for_a_trial_are_private(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", ".env"], cwd=tmp_path, check=True, timeout=60)
    assert mode(tmp_path / ".env") == 0o600


def test_a_file_of_a_message_is_private(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"
    name = default_storage.save("folder/file", ContentFile(b"x"))
    assert mode(tmp_path / "files" / name) == 0o600
    assert mode(tmp_path / "files" / "folder") == 0o700


def test_serve_makes_files_of_older_versions_private(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in (".env", "db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm")]
    for path in paths:
        path.touch(0o644)
        path.chmod(0o644)
    folder = tmp_path / "files" / "0f"
    folder.mkdir(0o755, parents=True)
    settings.BASE_DIR, settings.MEDIA_ROOT = tmp_path, tmp_path / "files"
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "db.sqlite3"}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    for path in (folder.parent, folder):
        path.chmod(0o755)
    hide_from_others()
    assert {mode(path) for path in paths} == {0o640}
    assert mode(folder) == 0o750


def test_a_file_that_another_process_deletes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = tmp_path / "db.sqlite3"
    readable.touch(0o644)
    monkeypatch.setattr("chatsite.private_files.private_files", lambda: [tmp_path / "db.sqlite3-wal", readable])
    hide_from_others()
    assert mode(readable) == 0o640


@pytest.fixture
def shared(settings: Any, tmp_path: Path) -> Path:
    """A directory that others use as well as Chatsite, such as /srv."""
    shared = tmp_path / "shared"
    (shared / "music").mkdir(parents=True)
    (shared / "b0").mkdir()
    (shared / "b1").touch()
    (shared / "b2").symlink_to(shared / "music")
    for path in (shared, *shared.iterdir()):
        path.chmod(0o777)
    settings.BASE_DIR, settings.MEDIA_ROOT = tmp_path, shared
    return shared


def test_what_chatsite_has_not_made_keeps_its_permissions(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    hide_from_others()
    changed = {path.name for path in (shared, *shared.iterdir()) if mode(path) != 0o777}
    assert changed == {"b0"}
    assert f"Every user of this machine can write to {shared}" in caplog.text


def test_what_others_own_keeps_its_permissions(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: shared.stat().st_uid + 1)
    hide_from_others()
    assert mode(shared / "b0") == 0o777
    assert f"Run: chmod o= {shared / 'b0'}" in caplog.text


def test_static_files_can_be_collected_by_another_user() -> None:
    env = {"PATH": os.environ["PATH"], **GOOD}
    script = (
        "import os, django; os.umask(0o077); django.setup()\n"
        "from django.contrib.staticfiles.storage import staticfiles_storage as storage\n"
        "print(oct(storage.file_permissions_mode), oct(storage.directory_permissions_mode))"
    )
    env["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0o644", "0o755"]


def test_the_documented_bounds_are_the_real_ones() -> None:
    rows = {
        "`CONNECTIONS`": chatsite_settings.CONNECTIONS,
        "WebSockets of one address": chatsite_settings.SOCKETS["sockets of one address"],
        "WebSockets of one conversation": chatsite_settings.SOCKETS["sockets of one conversation"],
        "head of a request": f"{http_connection.TIMEOUT} s",
        "pace": f"{http_connection.MIN_PACE * http_connection.TIMEOUT // 1000} kB in {http_connection.TIMEOUT} s",
        "body of a request": f"{http_connection.MAX_FORM // 1024} kB; {chatsite_settings.MAX_UPLOAD // 1024**2} MB",
        "time, of one address": f"{http_connection.MAX_UPLOAD_BYTES_OF_ADDRESS // 1024**3} GB",
        "bytes of all uploads at the same time ": f"{http_connection.MAX_UPLOAD_BYTES // 1024**3} GB",
        f"({request_handler.UPLOAD_THREADS}) or wait, of one address": request_handler.MAX_UPLOADS_OF_ADDRESS,
        f"({request_handler.UPLOAD_THREADS}) or wait ": request_handler.MAX_UPLOADS,
        "responses that wait": f"{server.MAX_UNSENT // 1024**2} MB",
    }
    text = (ROOT / "docs/running.md").read_text()
    for what, how_much in rows.items():
        assert re.search(rf"\| .*{re.escape(what)}.*\| {how_much}\b", text), what
