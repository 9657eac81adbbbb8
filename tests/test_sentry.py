"""Errors that are sent to Sentry: nothing of customers is in them, and floods are cut off."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import sentry_sdk
from sentry_sdk.integrations.logging import EventHandler
from sentry_sdk.transport import Transport

from chatsite import logs, sentry
from chatsite.request_id import answering
from tests.conftest import ROOT, UNKNOWN

DSN = "https://key@sentry.example/7"


class Post(Transport):
    """Keeps what would be sent."""

    events: ClassVar[list[Any]]

    def capture_envelope(self, envelope: Any) -> None:
        self.events.append(envelope.get_event())


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """The events that were sent. The handler is that of the settings."""
    Post.events = []
    sentry.start(DSN, transport=Post)
    handler = EventHandler(logging.ERROR)
    handler.addFilter(logs.FloodFilter())
    logging.getLogger().addHandler(handler)
    yield Post.events
    logging.getLogger().removeHandler(handler)
    sentry_sdk.get_global_scope().set_client(None)


def fail(secret: str = "hidden") -> None:
    """Log an exception of a request."""
    words = f"alice wrote: {secret}"
    try:
        raise RuntimeError(f"No conversation {UNKNOWN}", len(words))
    except RuntimeError:
        extra = {"status_code": 500, "request": f"<ASGIRequest: GET '/api/messages/{UNKNOWN}/'>"}
        logging.getLogger("django.request").exception("Internal Server Error: %s", f"/x/{UNKNOWN}/", extra=extra)


def test_an_error_is_sent_without_secrets(sent: list[Any]) -> None:
    with answering({"chatsite.request_id": f"{UNKNOWN}", "path": "/x/"}):
        fail()
    assert not sentry_sdk.get_client().should_send_default_pii()
    [event] = sent
    assert event["logentry"]["formatted"] == "Internal Server Error: /x/[uuid]/"
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert event["exception"]["values"][0]["value"].startswith("('No conversation [uuid]'")
    assert event["exception"]["values"][0]["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["tags"].pop("request_id") == str(UNKNOWN)  # what a proxy has given is no secret
    assert len(event["event_id"]) == 32
    text = repr(event)
    assert str(UNKNOWN) not in text
    assert UNKNOWN.hex not in text
    assert "alice wrote: hidden" not in text  # variables
    assert not {"extra", "request", "user", "breadcrumbs"} & {name for name, part in event.items() if part}


def test_a_link_for_a_new_password_is_masked(sent: list[Any]) -> None:
    logging.getLogger("django.request").error("Internal Server Error: /inbox/forgotten/MQ/cz3gzp-7d1f0c2e5b7a9d8c/")
    assert sent[0]["logentry"]["formatted"] == "Internal Server Error: /inbox/forgotten/[secret]/"
    assert "cz3gzp" not in repr(sent)


def test_warnings_are_not_sent_and_floods_are_cut_off(sent: list[Any]) -> None:
    logging.getLogger("chatsite").warning("Something is odd.")
    assert sent == []
    for _ in range(50):
        fail()
    assert len(sent) == 1


def run(dsn: str) -> subprocess.CompletedProcess[str]:
    """Print the handlers of a process with this SENTRY_DSN, and whether Sentry has started."""
    code = "import django, logging, sys; django.setup(); print(logging.getLogger().handlers)"
    end = "; print('sentry_sdk' in sys.modules and sys.modules['sentry_sdk'].is_initialized())"
    env = {"DEBUG": "on", "SENTRY_DSN": dsn, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    return subprocess.run([sys.executable, "-c", code + end], cwd=ROOT, env=env, capture_output=True, text=True)


def test_only_sentry_dsn_starts_it() -> None:
    assert run(DSN).stdout.split("]")[0].count("Handler") == 2
    assert run(DSN).stdout.endswith("True\n")
    without = run("").stdout
    assert without.split("]")[0].count("Handler") == 1
    assert without.endswith("False\n")


def test_without_the_package_nothing_starts() -> None:
    code = "import sys; sys.modules['sentry_sdk'] = None; sys.argv = ['manage.py', 'serve']"
    command = [sys.executable, "-c", f"{code}; exec(open('manage.py').read())"]
    env = {"DEBUG": "on", "SENTRY_DSN": DSN}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"  - {sentry.INSTALL}\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("dsn", ["sentry.example/7", "https://sentry.example/7", "https://key@sentry.example/"])
def test_a_wrong_address_is_refused(dsn: str) -> None:
    assert "SENTRY_DSN is no address of a project" in sentry.find_problem(dsn)
