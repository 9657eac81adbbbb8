"""What `/readyz`, `/metrics` and `manage.py doctor` say of the message log."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from chatsite import health
from chatsite.doctor import OK, PROBLEM, WARNING, machine
from chatsite.metrics import exposition
from chatsite.serving.early_responses import early_response
from conversations import actions
from conversations.actions.replicate import Replicator
from conversations.log_state import LogState, log_state
from conversations.message_log import ENTRIES
from conversations.models import Conversation
from tests.conftest import free_port

pytestmark = pytest.mark.django_db(transaction=True)


def ask(path: str = "/readyz") -> tuple[int, str]:
    """Status and content of the response."""
    scope = {"path": path, "method": "GET", "headers": [], "client": ["127.0.0.1", 1], "scheme": "http"}
    response = asyncio.run(early_response({"type": "http", **scope}))
    assert response
    return response[0], response[2]


def log_metrics() -> dict[str, float]:
    """The numbers of the message log in /metrics."""
    status, content = ask("/metrics")
    assert status == 200
    lines = [line.split() for line in content.splitlines() if line.startswith("chatsite_log_")]
    return {name.removeprefix("chatsite_log_"): float(number) for name, number in lines}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known yet, nothing is remembered, and the database answers, as it does in other threads."""
    monkeypatch.setattr(health, "INTERVAL", 0)
    monkeypatch.setattr(health, "readiness", health.Readiness())
    monkeypatch.setattr(health, "database_problem", lambda: "")
    yield
    health.log_readiness.state = None


@pytest.fixture
def talk(message_log: ModuleType) -> Conversation:
    """A conversation in the log, not in SQL."""
    return actions.post_message(content="Hello").conversation


def test_ready_names_what_the_database_lacks_and_has_refused(message_log: ModuleType, talk: Conversation) -> None:
    message_log.bury(talk.pk, message_log.Entry(7, 0, "{}"), "It was refused")
    status, content = ask()
    assert status == 200
    ready, waiting, dead = content.splitlines()
    assert ready == "ready"
    assert waiting.startswith("The message log has 1 message that the database lacks, the oldest for 0 seconds")
    assert dead == "The database has refused 1 message: manage.py replicate --dead"
    Replicator(lambda: False).step()
    message_log.client().delete(message_log.DEAD)
    assert ask() == (200, "ready\n")


def test_while_the_database_is_away_the_log_makes_it_ready(
    talk: Conversation, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "database_problem", lambda: health.NO_ANSWER)
    status, content = ask()
    assert status == 200
    assert content.startswith("ready\nThe database does not answer. Conversations go on in the message log.\n")
    monkeypatch.setattr(health, "database_problem", lambda: health.NOT_MIGRATED)
    assert ask() == (503, "The database is not migrated.\n")
    monkeypatch.setattr(health, "database_problem", lambda: health.NO_ANSWER)
    settings.MESSAGE_LOG = False
    assert ask() == (503, "The database does not answer.\n")


@pytest.mark.parametrize("hangs", [True, False])
def test_without_redis_it_is_not_ready_and_says_so_soon(
    message_log: ModuleType, log_service: Any, settings: Any, hangs: bool
) -> None:
    if hangs:
        log_service.freeze()
    else:
        settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}"
    try:
        began = time.monotonic()
        assert ask() == (503, "Redis, which has the message log, does not answer.\n")
        assert log_metrics() == {}
        assert time.monotonic() - began < 7
    finally:
        log_service.thaw()


def test_metrics_have_the_lag(message_log: ModuleType, talk: Conversation, settings: Any) -> None:
    numbers = log_metrics()
    assert 0 <= numbers.pop("lag_seconds") < 60
    assert numbers == {"waiting": 1, "dead": 0}
    Replicator(lambda: False).step()
    assert log_metrics() == {"waiting": 0, "lag_seconds": 0, "dead": 0}
    settings.MESSAGE_LOG = False
    assert log_metrics() == {}
    assert "chatsite_log" not in exposition({"headers": []})[1]


def test_the_lag_is_that_of_the_oldest_message(message_log: ModuleType) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    talk = actions.post_message(content="Hello").conversation
    other = message_log.append(
        client_id=None, conversation=None, last=0, values={"at": long_ago.isoformat(), "author": "CUS"}, uuid=uuid4()
    )
    actions.post_message(content="Now", conversation=talk)
    replicator = Replicator(lambda: False)
    replicator.begin()
    client = message_log.client()
    assert log_state(client).waiting == 3
    [first, _, _] = replicator.read(">")  # it reads them, and dies
    client.xack(ENTRIES, "settle", first[0])
    state = log_state(client)
    assert (state.waiting, state.dead) == (2, 0)
    assert 3600 <= state.seconds < 3700
    message_log.forget(other.conversation, other.id)  # then Redis cannot say at once how many there are
    assert log_state(client).seconds < 60


def test_deleted_entries_do_not_count_for_ever(message_log: ModuleType, talk: Conversation) -> None:
    Replicator(lambda: False).step()
    for text in ("One", "Two", "Three"):
        actions.post_message(content=text, conversation=talk)
    client = message_log.client()
    client.xdel(ENTRIES, client.xrange(ENTRIES, "-", "+")[-2][0])
    assert log_state(client).waiting == 2


def levels(findings: Any) -> list[str]:
    """The levels of findings."""
    return [finding.level for finding in findings]


def test_doctor_says_what_is_wrong(message_log: ModuleType, talk: Conversation, settings: Any) -> None:
    assert levels(machine.check_log()) == [OK]
    message_log.bury(talk.pk, message_log.Entry(7, 0, "{}"), "It was refused")
    assert levels(machine.check_log()) == [OK, WARNING]
    message_log.client().config_set("appendonly", "no")
    try:
        [finding] = machine.check_log()
        assert (finding.level, "appendonly" in finding.sentence) == (PROBLEM, True)
    finally:
        message_log.client().config_set("appendonly", "yes")
    settings.MESSAGE_LOG = False
    assert levels(machine.check_log()) == [PROBLEM]  # the log is not drained


def test_doctor_warns_of_a_replicator_that_is_late_and_a_reader_that_is_gone(
    message_log: ModuleType, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levels(machine.log_findings(LogState(1, 61, 0))) == [WARNING]
    message_log.client().xgroup_create(ENTRIES, "analysis", "0")
    monkeypatch.setattr(machine, "MANY_UNREAD", 0)
    assert levels(machine.check_log()) == [OK, WARNING]


def test_doctor_advises_no_eviction_where_redis_has_the_messages(message_log: ModuleType, settings: Any) -> None:
    info = {"maxmemory": 1000, "maxmemory_policy": "noeviction", "aof_enabled": 1}
    assert levels(machine.redis_findings(info)) == [OK]
    settings.MESSAGE_LOG = False
    assert levels(machine.redis_findings(info)) == [OK, WARNING]
