"""`manage.py doctor`: each finding, provoked once; and what strangers learn, which is nothing."""

import gzip
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.core.signing import TimestampSigner
from django.db import NotSupportedError, connection

from chatsite import startup
from chatsite.doctor import OK, PROBLEM, WARNING, Finding, findings, machine, mirror, public
from chatsite.doctor.public import public_checks
from conversations.models import Website
from tests.conftest import ROOT, default_database, free_port, server_database
from tests.services import Chat


def said(found: Iterable[Finding], level: str) -> str:
    """The sentences of this level."""
    return "\n".join(finding.sentence for finding in found if finding.level == level)


# The machine ----------------------------------------------------------------------------------------------------------


def test_a_check_that_fails_or_hangs_is_a_finding_and_ends_no_other() -> None:
    def fails() -> Iterator[Finding]:
        yield Finding(OK, "So far")
        raise ValueError("unexpected")

    hangs = threading.Event()

    def never_ends() -> Iterator[Finding]:
        hangs.wait(60)
        yield Finding(OK, "Late")

    checks = [("one", fails), ("two", never_ends), ("three", lambda: [Finding(OK, "Fine")])]
    found = list(findings(checks, timeout=0.2))
    hangs.set()
    assert [(name, finding.level) for name, finding in found] == [
        ("one", OK), ("one", PROBLEM), ("two", PROBLEM), ("three", OK)]  # fmt: skip
    assert "ValueError: unexpected" in found[1][1].sentence
    assert "within 0.2 seconds" in found[2][1].sentence


def run(where: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code of the command, and what it prints."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "DEBUG": "off",
        "SECRET_KEY": "geheim-" + "0123456789" * 5,
        "ALLOWED_HOSTS": "127.0.0.1",
        "FILES": str(where / "files"),
        "STATIC_ROOT": str(where / "static"),
        "DATABASE_URL": f"sqlite:///{where}/db.sqlite3",
        "REDIS_URL": "",
        **settings,
    }
    command = [sys.executable, "manage.py", "doctor", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    assert "geheim" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_all_that_is_wrong_is_said_line_by_line_without_secrets(tmp_path: Path) -> None:
    code, lines = run(
        tmp_path,
        DATABASE_URL=f"postgres://chat:geheim@127.0.0.1:{free_port()}/chat",
        REDIS_URL=f"redis://:geheim@127.0.0.1:{free_port()}/0",
        EMAIL_URL=f"smtp://chat:geheim@127.0.0.1:{free_port()}",
        FILES="/proc/files",
        RATE_LIMITS="off",
    )
    assert code == 1
    for beginning in (
        "warning  settings: RATE_LIMITS is off",
        "problem  database: The database does not answer",
        "problem  static files: The static files are not collected",
        "problem  files: Files that come with messages cannot be written to /proc/files",
        "problem  Redis: Redis does not answer",
        "problem  mail: The mail server 127.0.0.1:",
        "The proxy was not checked.",
    ):
        assert f"\n{beginning}" in f"\n{lines}", lines


def test_a_right_installation_has_no_problem(tmp_path: Path, migrated: Path) -> None:
    shutil.copy(migrated, tmp_path / "db.sqlite3")
    (tmp_path / "db.sqlite3").chmod(0o600)
    code, lines = run(tmp_path, DEBUG="on")
    assert "ok       database: The database answers, can be written and is migrated." in lines
    assert "warning  settings: DEBUG is on" in lines
    assert "\n0 problems" in lines
    assert code == 0


def test_wrong_settings_end_the_command_with_a_sentence(tmp_path: Path) -> None:
    code, lines = run(tmp_path, TRUSTED_PROXIES="many")
    assert code == 1
    assert "TRUSTED_PROXIES is “many”, but it takes a whole number" in lines


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DEBUG", True, "DEBUG is on"),
        ("INSECURE_HTTP", True, "INSECURE_HTTP is on"),
        ("RATE_LIMITS", False, "RATE_LIMITS is off"),
    ],
)
def test_settings_that_are_not_for_production_are_warnings(
    settings: Any, name: str, value: bool, sentence: str
) -> None:
    settings.DEBUG, settings.INSECURE_HTTP, settings.RATE_LIMITS = False, False, True
    assert sentence not in said(machine.check_settings(), WARNING)
    setattr(settings, name, value)
    assert sentence in said(machine.check_settings(), WARNING)


@pytest.mark.django_db(transaction=True)
def test_the_database_is_described_and_a_slow_or_an_old_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.display_name in said(machine.check_database(), OK)
    monkeypatch.setattr(machine, "answer_time", lambda: 0.5)
    assert "answers slowly" in said(machine.check_database(), WARNING)

    def refuse() -> None:
        raise NotSupportedError("PostgreSQL 14 or later is required")

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    monkeypatch.setattr(startup, "find_database_problems", list)
    assert "The database is too old: PostgreSQL 14 or later" in said(machine.check_database(), PROBLEM)


@pytest.mark.django_db
def test_the_clock_of_a_database_on_a_server_is_compared() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("It has no clock of its own.")
    assert machine.clock_finding("the database", machine.database_time() - time.time()).level == OK


def test_time_limits_that_are_switched_off_are_a_warning() -> None:
    assert "statement_timeout" in said(machine.check_limits({"statement_timeout": 0, "read_timeout": 10}), WARNING)
    assert not list(machine.check_limits({"statement_timeout": 8000, "keepalives": 1, "keepalives_idle": 0}))


@pytest.mark.parametrize(("seconds", "level"), [(0.4, OK), (-7, WARNING), (300, PROBLEM)])
def test_clocks_that_differ_are_said(seconds: float, level: str) -> None:
    finding = machine.clock_finding("the database", seconds)
    assert finding.level == level
    assert (f"{abs(seconds):.0f} seconds {'ahead' if seconds > 0 else 'behind'}" in finding.sentence) is (level != OK)


@pytest.mark.parametrize(
    ("info", "level", "sentence"),
    [
        ({"redis_version": "7.0", "aof_enabled": 1}, OK, "Redis 7.0 answers. What it has is kept on disk"),
        ({"aof_enabled": 0}, OK, "is not kept on disk"),
        ({"role": "slave"}, PROBLEM, "names a replica"),
        ({"maxmemory": 1000, "maxmemory_policy": "noeviction"}, WARNING, "maxmemory-policy noeviction"),
        ({"aof_last_write_status": "err"}, PROBLEM, "cannot write to its disk"),
    ],
)
def test_what_redis_says_of_itself_is_explained(info: dict[str, Any], level: str, sentence: str) -> None:
    assert sentence in said(machine.redis_findings(info), level)


@pytest.mark.parametrize(("free", "level"), [(50 * 1024**3, OK), (1024**3, WARNING), (1024**2, PROBLEM)])
def test_a_full_disk_is_said(free: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free))
    assert "The disk of FILES" in said(machine.check_disks(), level)


def test_files_that_others_may_read_or_write_are_a_problem(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT, settings.STATIC_ROOT = tmp_path, tmp_path / "static"
    (tmp_path / "ab").mkdir(0o755)
    (tmp_path / "static").mkdir()
    for path in (tmp_path / "ab", tmp_path / "static"):
        path.chmod(0o777)
    problems = said(machine.check_files(), PROBLEM)
    assert f"Every user of this machine can read {tmp_path / 'ab'}. Run: chmod o= {tmp_path / 'ab'}" in problems
    assert f"can write to {tmp_path / 'static'} (STATIC_ROOT)" in problems


def test_the_directory_of_files_is_not_left_behind(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"
    assert "can be stored" in said(machine.check_files(), OK)
    assert not settings.MEDIA_ROOT.exists()


class MailServer(threading.Thread):
    """A mail server that refuses or accepts, and notes what it is told."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers = {b"EHLO": b"250-here\r\n250 AUTH PLAIN\r\n", b"QUIT": b"221 bye\r\n"}
        self.answers[b"AUTH"] = b"535 no\r\n" if refuses else b"235 yes\r\n"
        self.told: list[bytes] = []
        self.start()

    def run(self) -> None:
        client = self.listener.accept()[0]
        with client, client.makefile("rb") as lines:
            client.sendall(b"220 here\r\n")
            for line in lines:
                self.told.append(line[:4].upper())
                client.sendall(self.answers.get(self.told[-1], b"500 what\r\n"))


@pytest.mark.parametrize("refuses", [False, True])
def test_the_mail_server_is_tried_without_sending(settings: Any, refuses: bool) -> None:
    server = MailServer(refuses)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.listener.getsockname()
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "chat", "geheim"
    found = list(machine.check_mail())
    level, sentence = (PROBLEM, "refuses the user or the password (535)") if refuses else (OK, "lets Chatsite in")
    assert sentence in said(found, level)
    assert b"MAIL" not in server.told
    server.listener.close()


def test_a_mail_server_that_hangs_is_a_problem_soon(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    monkeypatch.setattr(machine, "MAIL_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        assert "timed out" in said(machine.check_mail(), PROBLEM)


def test_without_a_mail_server_there_is_a_warning(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert "EMAIL_URL names no mail server" in said(machine.check_mail(), WARNING)


# The proxy ------------------------------------------------------------------------------------------------------------


class Proxy(ThreadingHTTPServer):
    """A proxy in front of a server, which does to requests and responses what a test says."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.to = port
        self.set: dict[str, str] = {}  # request headers
        self.appends = True  # to X-Forwarded-For
        self.add: dict[str, str] = {}  # response headers
        self.remove: set[str] = set()
        self.compresses = False
        self.sockets = "pass"
        self.answer = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    server: Proxy

    def log_message(self, *args: Any) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        """Pass a request on."""
        proxy = self.server
        headers = dict(self.headers.items())
        if proxy.appends:
            before = headers.get("X-Forwarded-For")
            headers["X-Forwarded-For"] = f"{before}, 198.51.100.7" if before else "198.51.100.7"
        headers.update({"X-Forwarded-Proto": "http", "X-Forwarded-Host": headers["Host"], **proxy.set})
        headers = {name: value for name, value in headers.items() if value}
        if proxy.answer:
            self.send_response(proxy.answer)
            self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
        elif "Upgrade" in headers and proxy.sockets != "strip":
            self.tunnel(headers)
        else:
            client = http.client.HTTPConnection("127.0.0.1", proxy.to, timeout=30)
            if proxy.sockets == "strip":
                headers.pop("Upgrade", None)
                headers["Connection"] = "close"
            client.request("GET", self.path, headers=headers)
            self.pass_back(client.getresponse())
            client.close()

    def pass_back(self, response: http.client.HTTPResponse) -> None:
        """Pass a response back."""
        proxy, body = self.server, response.read()
        self.send_response_only(response.status)
        found = [(name, value) for name, value in response.getheaders() if name not in proxy.remove | proxy.add.keys()]
        found = [(name, value) for name, value in found if name.lower() not in ("content-length", "transfer-encoding")]
        if proxy.compresses and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            found.append(("Content-Encoding", "gzip"))
        for name, value in [*found, *proxy.add.items(), ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def tunnel(self, headers: dict[str, str]) -> None:
        """Pass a WebSocket on."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", self.server.to), 10) as inner:
            inner.sendall(f"GET {self.path} HTTP/1.1\r\n{lines}\r\n".encode())
            while data := inner.recv(65536):
                head, end, _ = data.partition(b"\r\n\r\n")
                self.wfile.write(head + end if self.server.sockets == "buffer" else data)
                if self.server.sockets == "buffer":
                    time.sleep(2)
                    return


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Chat]:
    """A server behind one proxy, with a website."""
    where = tmp_path_factory.mktemp("doctor")
    with django_db_blocker.unblock():
        for url in server_database(where):
            chat = Chat(where, {"DATABASE_URL": url, "REDIS_URL": "", "TRUSTED_PROXIES": "1"})
            chat.environment["SECRET_KEY"] = "tests-only-" + "0123456789" * 5
            chat.manage("migrate", "--verbosity", "0")
            with default_database(url):
                shop = Website.objects.create(key="shop", name="Shop")
                shop.origins.create(origin="https://shop.example")
                connection.close()
                chat.start()
                yield chat
                chat.kill()


@pytest.fixture
def proxy(chat: Chat, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Proxy]:
    """A right proxy, which a test then spoils."""
    monkeypatch.setattr(public, "TIMEOUT", 3)
    settings.SECRET_KEY = chat.environment["SECRET_KEY"]
    proxy = Proxy(chat.port)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def visit(url: str, only: str = "") -> list[Finding]:
    """What the checks of an address find, or only one of them."""
    found: list[Finding] = []
    for name, check in public_checks(url):
        if only in ("", name):
            try:
                found += check()
            except OSError as error:
                found.append(Finding(PROBLEM, str(error)))
    return found


def test_a_right_proxy_is_right(proxy: Proxy) -> None:
    found = visit(proxy.url)
    assert said(found, PROBLEM) == ""
    assert "The client's address arrives (198.51.100.7), by 1 proxy." in said(found, OK)
    assert "WebSockets work" in said(found, OK)
    assert "https://shop.example may embed the chat." in said(found, OK)
    assert said(found, WARNING).startswith("The address is plain http")


def test_who_asks_the_port_itself_is_told_that_no_proxy_was_checked(
    proxy: Proxy, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = visit(f"http://127.0.0.1:{chat.port}", only="proxy")
    assert "Name in --url the address that browsers use" in said(found, WARNING)
    assert said(found, PROBLEM) == ""
    monkeypatch.setattr(public, "is_this_machine", lambda host: False)
    found = visit(f"http://127.0.0.1:{chat.port}", only="proxy")
    assert "Let only the proxy reach its port" in said(found, PROBLEM)


def spoil(proxy: Proxy, **changes: Any) -> Proxy:
    """The proxy, with other attributes."""
    for name, value in changes.items():
        assert hasattr(proxy, name)
        setattr(proxy, name, value)
    return proxy


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"appends": False, "set": {"X-Forwarded-For": ""}}, PROBLEM, "no proxy has written X-Forwarded-For"),
        ({"appends": False}, PROBLEM, "let the proxy append to X-Forwarded-For"),
        ({"set": {"X-Forwarded-For": "198.51.100.7, 10.0.0.1"}}, PROBLEM, "set TRUSTED_PROXIES=2"),
        ({"set": {"X-Forwarded-For": "nobody"}}, PROBLEM, "The client's address is unknown"),
        ({"set": {"X-Forwarded-Proto": "https"}}, PROBLEM, "came by http, but Chatsite takes it for https"),
        ({"set": {"X-Forwarded-Host": "chat"}}, PROBLEM, "but Chatsite takes it for chat. Let the proxy pass on Host"),
        ({"answer": 301}, PROBLEM, "It redirects to https://elsewhere.example/"),
        ({"answer": 502}, PROBLEM, "The proxy answers 502: it does not reach Chatsite"),
        ({"answer": 200}, PROBLEM, "Something else than this Chatsite answers (200)"),
        ({"add": {"X-Frame-Options": "SAMEORIGIN"}}, PROBLEM, "The proxy adds X-Frame-Options"),
        ({"add": {"X-Frame-Options": "SAMEORIGIN"}}, PROBLEM, "keep https://shop.example from embedding"),
        ({"add": {"Content-Security-Policy": "default-src *"}}, PROBLEM, "The proxy adds Content-Security-Policy"),
        ({"remove": {"Content-Security-Policy"}}, PROBLEM, "removes the header Content-Security-Policy"),
        ({"remove": {"X-Frame-Options"}}, PROBLEM, "The proxy removes the header X-Frame-Options"),
        ({"compresses": True}, PROBLEM, "The proxy compresses pages"),
        ({"sockets": "strip"}, PROBLEM, "instead of 101, so pages only poll. Let the proxy pass on Upgrade"),
        ({"sockets": "buffer"}, PROBLEM, "The connection was closed before anything arrived"),
        ({"add": {"Date": formatdate(time.time() - 90_000, usegmt=True)}}, PROBLEM, "The clock of the proxy is"),
    ],
)  # fmt: skip
def test_a_wrong_proxy_is_said(proxy: Proxy, changes: dict[str, Any], level: str, sentence: str) -> None:
    assert sentence in said(visit(spoil(proxy, **changes).url), level)


def test_headers_that_clients_may_make_up_are_a_warning(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    passes_on = {"X-Forwarded-Host": public.FORGED_HOST}
    look = public.look

    def forge(url: Any, **headers: str) -> Any:
        proxy.set = passes_on if headers else {}
        return look(url, **headers)

    monkeypatch.setattr(public, "look", forge)
    assert "as a client has made them up" in said(visit(proxy.url, "proxy"), WARNING)


def test_a_host_that_is_not_allowed_is_said(proxy: Proxy) -> None:
    url = proxy.url.replace("127.0.0.1", "localhost")
    assert "ALLOWED_HOSTS does not name localhost" in said(visit(url, "proxy"), PROBLEM)


def test_an_address_where_nothing_listens_is_said() -> None:
    assert "cannot be reached from here" in said(visit(f"http://127.0.0.1:{free_port()}", "proxy"), PROBLEM)


def test_a_certificate_that_does_not_work_is_said(proxy: Proxy) -> None:
    assert "TLS does not work" in said(visit(proxy.url.replace("http:", "https:"), "proxy"), PROBLEM)


@pytest.mark.parametrize("url", ["ftp://x", "https://user:geheim@x", "https://x/path", "https://x:port", "https://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(CommandError, match=r"as in https://chat\.example\.com") as refused:
        public_checks(url)
    assert "geheim" not in str(refused.value)


def plain_http(
    monkeypatch: pytest.MonkeyPatch, answer: int, location: str = "", url: str = "https://chat.example"
) -> Any:
    """What is found where http://chat.example/ answers so; 0: not at all."""

    def ask(url: Any, path: str, **headers: str) -> Any:
        assert url.geturl() == "http://chat.example"
        if not answer:
            raise ConnectionRefusedError
        return public.Answer(answer, {"Location": location}, b"")  # type: ignore[arg-type]

    monkeypatch.setattr(public, "ask", ask)
    return visit(url, "plain http")


def test_plain_http_must_lead_to_https(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is redirected to https" in said(plain_http(monkeypatch, 301, "https://chat.example/chat/"), OK)
    assert "answers 200 instead of a redirect" in said(plain_http(monkeypatch, 200), PROBLEM)
    assert "answers 302 instead of" in said(plain_http(monkeypatch, 302, "http://chat.example/x"), PROBLEM)
    assert "Nothing answers on http://chat.example/" in said(plain_http(monkeypatch, 0), WARNING)
    assert "Not checked" in said(plain_http(monkeypatch, 0, url="https://chat.example:8443"), OK)


def test_a_clock_of_the_server_that_is_wrong_is_said(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    look = public.look

    def late(url: Any, **headers: str) -> Any:
        seen, answer = look(url, **headers)
        return {**seen, "time": seen["time"] - 100}, answer

    monkeypatch.setattr(public, "look", late)
    assert "The clock of the server is 100 seconds behind" in said(visit(proxy.url, "clock"), PROBLEM)


def test_a_page_that_fails_is_said(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "SIGN_IN", "/no-such-page/")
    assert "/no-such-page/ answers 404 instead of 200" in said(visit(proxy.url, "headers"), PROBLEM)


# Strangers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", ["", "x", "forged:1t:abc", "other salt", "too old"])
def test_mallory_learns_nothing_without_the_secret_key(
    chat: Chat, signed: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_KEY = chat.environment["SECRET_KEY"]
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "http"}
    right = chat.ask("GET", mirror.PATH, **{mirror.HEADER: mirror.signature()}, **forwarded)
    assert right[0] == 200
    assert b'"client"' in right[3]
    if signed == "other salt":
        signed = TimestampSigner(salt="chatsite.other").sign("x")
    elif signed == "too old":
        monkeypatch.setattr("django.core.signing.time.time", lambda: time.time_ns() / 1e9 - mirror.MAX_AGE - 5)
        signed = mirror.signature()
    unknown = chat.ask("GET", "/no-such-page/", **forwarded)
    asked = chat.ask("GET", mirror.PATH, **{mirror.HEADER: signed}, **forwarded)
    assert (asked[0], asked[3]) == (404, unknown[3])
    line = socket.create_connection(("127.0.0.1", chat.port), 10)
    with line:
        line.sendall(
            f"GET {mirror.SOCKET_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
            f"{mirror.HEADER}: {signed}\r\n\r\n".encode()
        )
        assert b" 403 " in line.recv(1000)
