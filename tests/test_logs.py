"""The log: clients cannot flood it, and it has no secrets."""

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core import signing
from django.db import OperationalError
from django.test import Client
from redis._parsers.base import BaseParser

from chatsite import logs
from chatsite.request_id import current_request
from chatsite.serving.request_handler import RequestHandler
from tests.conftest import UNKNOWN, Page
from tests.test_request_handler import shut_down


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the console shows."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.SecretMaskingFormatter(fmt="{levelname} {message}", style="{"))
    handler.addFilter(logs.FloodFilter())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_the_console_has_both() -> None:
    logging_settings: Any = settings.LOGGING
    console = logging_settings["handlers"]["console"]
    assert (console["formatter"], console["filters"]) == ("line", ["floods"])


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["host", "form", "json", "fields"])
def test_a_bad_request_is_one_line(alice: Page, log: io.StringIO, kind: str) -> None:
    if kind == "host":
        Client().get("/chat/", headers={"Host": "evil.example"})
    elif kind == "form":
        alice.generic("POST", "/chat/messages/", b"no form", "multipart/form-data; boundary=x")
    elif kind == "json":
        alice.generic("POST", "/api/messages/", b"{", "application/json")
    else:
        alice.post("/chat/messages/", {str(number): "1" for number in range(200)})
    assert "Traceback" not in log.getvalue()
    assert log.getvalue().count("\n") <= 2


@pytest.mark.django_db
def test_no_client_writes_lines_of_its_own(log: io.StringIO) -> None:
    path = "/api/conversations/%0AERROR forged\x1b[2J%E2%80%AE/"
    Client().options(path, headers={"Origin": "https://a.example\r\nERROR", "Access-Control-Request-Method": "GET"})
    assert "forged" in log.getvalue()
    assert [line.split()[0] for line in log.getvalue().splitlines()] == ["WARNING"] * log.getvalue().count("\n")
    assert log.getvalue().replace("\n", "").isprintable()


def test_an_error_that_quotes_a_client_begins_no_line_either(log: io.StringIO) -> None:
    try:
        raise RuntimeError("wrong\nERROR forged\x1b[2J")
    except RuntimeError:
        logging.getLogger("django.request").exception("Internal Server Error", extra={"status_code": 500})
    assert "\n  RuntimeError: wrong\n  ERROR forged\\x1b[2J\n" in log.getvalue()
    assert [line for line in log.getvalue().splitlines() if line[0] != " "] == ["ERROR Internal Server Error"]


def test_a_server_error_has_its_traceback(log: io.StringIO) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("django.request").exception("Internal Server Error", extra={"status_code": 500})
    assert "RuntimeError: broken" in log.getvalue()


@pytest.mark.django_db
def test_a_flood_is_cut_off_and_counted(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr("chatsite.logs.time.monotonic", lambda: now)
    for number in range(100):
        Client().get("/chat/", headers={"Host": f"evil{number}.example"})
    lines = log.getvalue().splitlines()
    assert len([line for line in lines if "evil" in line]) == logs.MAX_OF_A_KIND
    logging.getLogger("chatsite").warning("Something else")
    assert "Something else" in log.getvalue()
    now += 60
    Client().get("/chat/", headers={"Host": "evil.example"})
    assert f"({100 - logs.MAX_OF_A_KIND} more like this were left out before)" in log.getvalue()


def test_kinds_are_bounded_however_messages_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    floods = logs.FloodFilter()
    for number in range(1000):
        record = logging.LogRecord("daphne", logging.ERROR, "server.py", 7, f"Error {number}", (), None)
        floods.filter(record)
    assert len(floods.kinds) == 1


def fail(error: Exception, text: str = "It failed.") -> None:
    """Log an exception."""
    try:
        raise error
    except Exception:
        logging.getLogger("chatsite").exception(text)


def test_what_repeats_is_one_line_a_minute_with_one_traceback(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 600.0
    monkeypatch.setattr("chatsite.logs.time.monotonic", lambda: now)
    for _ in range(5):
        for _ in range(100):
            fail(RuntimeError("broken"))
        now += 60
    assert log.getvalue().count("ERROR It failed.") == 5
    assert log.getvalue().count("Traceback") == 1
    assert log.getvalue().count("RuntimeError: broken (99 more like this were left out before)") == 4


def test_each_place_that_raises_has_its_own_traceback(log: io.StringIO) -> None:
    def one() -> None:
        raise IndexError

    def another() -> None:
        raise IndexError

    for function in (one, another):
        try:
            function()
        except IndexError:
            logging.getLogger("django.request").exception("Internal Server Error: /", extra={"status_code": 500})
    assert log.getvalue().count("Traceback") == 2


@pytest.mark.parametrize(
    ("error", "name"), [(OperationalError("no answer"), "database"), (redis.TimeoutError("no answer"), "Redis")]
)
def test_an_outage_is_one_line_a_minute_wherever_it_shows(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch, error: Exception, name: str
) -> None:
    monkeypatch.setattr("chatsite.logs.time.monotonic", lambda: 600.0)
    fail(error, "A page failed.")
    fail(error, "A heartbeat failed.")
    fail(type(error)("and again"), "A page failed.")
    assert log.getvalue() == f"ERROR A page failed. {type(error).__name__}: no answer\n"


def from_redis(answer: str) -> Exception:
    """The exception that redis-py raises for an error of Redis."""
    error: Exception = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]  # redis-py has no types here
    return error


@pytest.mark.parametrize(
    "answer",
    [
        "BUSY Redis is busy running a script.",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist on disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "ERR Error running script (call to f_1): @user_script:4: -READONLY You can't write.",
    ],
)
def test_a_redis_that_refuses_is_one_line_a_minute(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("chatsite.logs.time.monotonic", lambda: 600.0)
    error = from_redis(answer)
    fail(error, "A page failed.")
    fail(error, "A heartbeat failed.")
    assert log.getvalue() == f"ERROR A page failed. {type(error).__name__}: {error}\n"


@pytest.mark.parametrize("answer", ["ERR unknown command 'LREMM'", "WRONGTYPE Operation against a key", "NOSCRIPT No"])
def test_a_mistake_in_a_command_to_redis_has_its_traceback(log: io.StringIO, answer: str) -> None:
    fail(from_redis(answer))
    assert "Traceback" in log.getvalue()


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/messages/0d5b7a5e-3c0f-4f0e-9d8a-6f1d2b3c4d5e/", "/api/messages/[uuid]/"),
        ("/inbox/forgotten/MQ/cz3gzp-7d1f0c2e5b7a9d8c6e4f2a1b3c5d7e9f/", "/inbox/forgotten/[secret]/"),
        ("/chat/files/WyJhIiwiYiJd:1vOeXs:7aBc-D_e/cat.png", "/chat/files/[secret]/cat.png"),
        ("/chat/shop/files/WyJhIiwiYiJd%3A1vOeXs%3A7aBc-D_e/cat.png", "/chat/shop/files/[secret]/cat.png"),
        ("/inbox/forgotten/", "/inbox/forgotten/"),
    ],
)
def test_what_gives_access_is_masked(log: io.StringIO, path: str, shown: str) -> None:
    logging.getLogger("django.request").warning("Not Found: %s", path)
    assert log.getvalue() == f"WARNING Not Found: {shown}\n"


@pytest.mark.django_db
def test_a_real_signed_address_is_masked(log: io.StringIO) -> None:
    signed = signing.dumps(["0d5b7a5e3c0f4f0e9d8a6f1d2b3c4d5e", "digest"], salt="any")
    Client().get(f"/chat/files/{signed}/cat.png")
    assert log.getvalue() == "WARNING Not Found: /chat/files/[secret]/cat.png\n"


# Request ids ----------------------------------------------------------------------------------------------------------


class Fault:
    """A handler of requests whose views fail."""

    def __init__(self) -> None:
        self.handler = RequestHandler(1)

    async def ask(self, path: str = "/crash/", *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], str]:
        """The status, headers and text of a response."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http", "headers": []}
        await self.handler({**scope, "headers": [(b"host", b"localhost"), *headers]}, receive, send)
        found = {name.lower(): value for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, sent[1]["body"].decode()


@pytest.fixture
def fault(settings: Any) -> Iterator[Fault]:
    """Pages that fail."""
    settings.ROOT_URLCONF = "tests.request_handler_urls"
    settings.MIDDLEWARE = ["chatsite.errors.ApiMiddleware"]
    settings.ALLOWED_HOSTS = ["*"]
    fault = Fault()
    yield fault
    shut_down(fault.handler, 1)


async def test_an_error_has_the_id_of_its_log_lines(fault: Fault, log: io.StringIO) -> None:
    status, headers, _ = await fault.ask()
    assert status == 500
    found = headers[b"x-request-id"].decode()
    assert re.fullmatch("[0-9a-f]{12}", found)
    assert f"ERROR Internal Server Error: /crash/ [{found}]\n" in log.getvalue()
    assert (await fault.ask())[1][b"x-request-id"].decode() != found


async def test_what_is_no_error_has_no_id(fault: Fault, log: io.StringIO) -> None:
    status, headers, _ = await fault.ask("/nothing/")
    assert (status, b"x-request-id" in headers) == (404, False)
    assert re.search(r"WARNING Not Found: /nothing/ \[[0-9a-f]{12}\]\n", log.getvalue())
    logging.getLogger("chatsite").warning("Something else")
    assert log.getvalue().endswith("WARNING Something else\n")


async def test_a_thread_forgets_the_id(fault: Fault) -> None:
    await fault.ask()
    assert fault.handler.pool.executor.submit(current_request.get).result(10) is None


@pytest.mark.parametrize(
    ("proxies", "given", "is_taken"),
    [
        (1, "0d5b7a5e-3c0f-4f0e-9d8a-6f1d2b3c4d5e", True),
        (1, "Root=1-67891233-abcdef012345678912345678", True),
        (0, "trace-7", False),  # anybody may have written it
        (1, "", False),
        (1, "x" * 101, False),
        (1, "two words", False),
        (1, "line\nbreak", False),
        (1, "\x1b[2J", False),
        (1, "ä", False),
    ],
)
async def test_a_trusted_proxy_gives_the_id(
    fault: Fault, log: io.StringIO, settings: Any, proxies: int, given: str, is_taken: bool
) -> None:
    settings.TRUSTED_PROXIES = proxies
    _, headers, _ = await fault.ask("/crash/", (b"x-request-id", given.encode()))
    found = headers[b"x-request-id"].decode()
    assert (found == given) is is_taken
    assert re.fullmatch(r"[\w=-]{7,100}", found)
    assert f"[{found}]\n" in log.getvalue()  # a uuid that numbers a request is not masked


# JSON -----------------------------------------------------------------------------------------------------------------


def objects(log: io.StringIO) -> list[dict[str, Any]]:
    """The lines of a JSON log."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.fixture
def json_log(log: io.StringIO) -> io.StringIO:
    """What the console shows with LOG_FORMAT=json."""
    logging.getLogger().handlers[-1].setFormatter(logs.JsonFormatter())
    return log


async def test_json_has_one_object_a_line(fault: Fault, json_log: io.StringIO) -> None:
    _, headers, _ = await fault.ask()
    [line] = objects(json_log)
    assert list(line) == ["time", "level", "logger", "message", "request_id", "path", "traceback"]
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["logger"]) == ("ERROR", "django.request")
    assert (line["message"], line["path"]) == ("Internal Server Error: /crash/", "/crash/")
    assert line["request_id"] == headers[b"x-request-id"].decode()
    assert line["traceback"].startswith("Traceback (most recent call last):\n")


async def test_json_has_no_secrets_and_no_lines_of_clients(fault: Fault, json_log: io.StringIO) -> None:
    await fault.ask(f"/nothing/{UNKNOWN}/\nERROR forged\x1b[2J/")
    [line] = objects(json_log)
    assert line["path"] == "/nothing/[uuid]/\\nERROR forged\\x1b[2J/"
    assert str(UNKNOWN) not in json_log.getvalue()
    try:
        raise RuntimeError(f"{UNKNOWN} is\nunknown")
    except RuntimeError:
        logging.getLogger("chatsite").exception("No %s", UNKNOWN)
    assert objects(json_log)[1]["message"] == "No [uuid]"
    assert objects(json_log)[1]["traceback"].endswith("RuntimeError: [uuid] is\nunknown")
    assert "path" not in objects(json_log)[1]


def test_json_counts_what_repeats_too(json_log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600.0
    monkeypatch.setattr("chatsite.logs.time.monotonic", lambda: now)
    for _ in range(100):
        fail(RuntimeError("broken"))
    now += 60
    fail(RuntimeError("broken"))
    assert [line["message"] for line in objects(json_log)] == [
        "It failed.",
        "It failed. RuntimeError: broken (99 more like this were left out before)",
    ]
