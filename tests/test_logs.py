"""The log: clients cannot flood it, and it has no secrets."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from chatsite import logs
from tests.conftest import Page


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
