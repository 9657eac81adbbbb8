"""`serve` copies the message log into SQL by itself, unless `manage.py replicate` does."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection

from conversations.actions.replicate import Replicator
from conversations.log_state import GROUP, waiting
from conversations.message_log import ENTRIES
from conversations.models import Message
from tests.conftest import ROOT, default_database, server_database
from tests.services import Chat, Service, redis_server


def eventually(is_so: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"It did not come true within {seconds} seconds."
        time.sleep(0.05)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Service]:
    """A Redis that keeps everything."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as service:
        yield service


@pytest.fixture
def chat(tmp_path: Path, log: Service, django_db_blocker: Any) -> Iterator[Chat]:
    """A server with a message log. It does not run yet."""
    with django_db_blocker.unblock():
        for url in server_database(tmp_path):
            more = {"REDIS_URL": log.url, "MESSAGE_LOG": "redis", "POLL_CACHE": "on", "RATE_LIMITS": "off"}
            chat = Chat(tmp_path, {"DATABASE_URL": url, **more})
            chat.manage("migrate", "--verbosity", "0")
            with default_database(url):
                yield chat
                if chat.process and chat.process.poll() is None:
                    chat.kill()


def stored() -> int:
    """How many messages SQL has."""
    connection.close()  # see what is new
    return Message.objects.count()


def test_serve_copies_messages_into_sql(chat: Chat, log: Service) -> None:
    chat.start()
    conversation = chat.begin()
    assert {chat.post(conversation)[0] for _ in range(4)} == {200}
    eventually(lambda: stored() == 5)
    eventually(lambda: waiting(redis.Redis.from_url(log.url, decode_responses=True)) == 0)
    assert chat.ask("GET", f"/api/messages/{conversation}/")[0] == 200
    started = time.monotonic()
    assert chat.stop() == 0
    assert time.monotonic() - started < 4
    assert not redis.Redis.from_url(log.url).xinfo_consumers(ENTRIES, GROUP)  # it has left the group
    assert "ERROR" not in chat.log


def test_what_a_killed_server_has_not_copied_is_copied_by_the_next(chat: Chat) -> None:
    chat.environment["REPLICATING"] = "off"
    chat.start()
    conversation = chat.begin()
    assert {chat.post(conversation)[0] for _ in range(4)} == {200}  # each finds what SQL lacks
    chat.kill()
    before = stored()
    assert before < 5
    chat.environment["REPLICATING"] = "on"
    chat.start()
    eventually(lambda: stored() == 5)  # nobody asks for anything
    assert chat.stop() == 0
    assert "ERROR" not in chat.log


def test_with_replicating_off_only_the_command_copies(chat: Chat) -> None:
    chat.environment["REPLICATING"] = "off"
    chat.start()
    chat.begin()
    for _ in range(5):
        assert chat.ask("GET", "/healthz")[0] == 200
        time.sleep(0.2)
    assert stored() == 0
    command = [sys.executable, "manage.py", "replicate"]
    replicator = subprocess.Popen(command, cwd=ROOT, env=chat.environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: stored() == 1)
    finally:
        started = time.monotonic()
        replicator.send_signal(signal.SIGTERM)
        assert replicator.wait(30) == 0
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("is_frozen", [True, False], ids=["hangs", "is stopped"])
def test_serve_ends_soon_while_redis_is_away(chat: Chat, log: Service, is_frozen: bool) -> None:
    chat.start()
    chat.begin()
    eventually(lambda: stored() == 1)
    if is_frozen:
        log.freeze()
    else:
        log.kill()
    try:
        eventually(lambda: "Redis" in chat.log)  # whoever notices first: an outage is one line a minute
        started = time.monotonic()
        assert chat.stop() == 0
        assert time.monotonic() - started < 6
    finally:
        log.thaw() if is_frozen else log.start()


def test_day_files_are_written_until_sigterm_and_the_log_keeps_what_is_not_in_them(
    chat: Chat, log: Service, tmp_path: Path, settings: Any
) -> None:
    settings.REDIS_URL = log.url
    client: Any = redis.Redis.from_url(log.url, decode_responses=True)
    client.xgroup_create(ENTRIES, "analysis", "0", mkstream=True)  # it was stopped before it has read anything
    chat.start()
    chat.begin()
    eventually(lambda: stored() == 1)
    eventually(lambda: waiting(client) == 0)
    Replicator(lambda: False).trim()
    assert client.xlen(ENTRIES) == 1
    command = [sys.executable, "manage.py", "replicate", "--to", str(tmp_path / "analysis")]
    writer = subprocess.Popen(command, cwd=ROOT, env=chat.environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: client.xpending(ENTRIES, "analysis")["pending"] == 1)
    finally:
        writer.send_signal(signal.SIGTERM)
        assert writer.wait(30) == 0
    assert len(list((tmp_path / "analysis").glob("messages/day=*/part-*"))) == 1
    Replicator(lambda: False).trim()
    assert client.xlen(ENTRIES) == 0
