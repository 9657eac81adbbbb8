"""On SQLite, transactions of one process write in the order in which they began, and none is left waiting."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.backends.sqlite3 import base

from chatsite.databases.sqlite3.base import locks
from chatsite.databases.sqlite3.fair_lock import FairLock
from conversations.actions import post_message
from conversations.models import Conversation, Message
from tests.conftest import Page


class Owner:
    """Who holds a lock."""


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for_waiters(lock: FairLock, number: int) -> None:
    changed = threading.Event()
    while len(lock.waiters) < number:
        changed.wait(0.001)


def test_who_comes_first_is_served_first() -> None:
    lock, alice, served = FairLock(), Owner(), []
    assert lock.acquire(alice, 0)

    def write(number: int) -> None:
        owner = Owner()
        assert lock.acquire(owner, 30)
        served.append(number)
        lock.release(owner)

    threads = []
    for number in range(8):
        threads.append(in_thread(lambda number=number: write(number)))  # type: ignore[misc]
        wait_for_waiters(lock, number + 1)
    assert not lock.acquire(Owner(), 0)
    lock.release(alice)
    for thread in threads:
        thread.join(30)
    assert served == list(range(8))
    assert lock.holder is None


def test_nobody_overtakes_those_who_wait() -> None:
    lock, alice, bob = FairLock(), Owner(), Owner()
    lock.acquire(alice, 0)
    waiting = in_thread(lambda: lock.acquire(bob, 30))
    wait_for_waiters(lock, 1)
    lock.release(alice)
    assert not lock.acquire(alice, 0)
    waiting.join(30)
    assert lock.holder is not None
    assert lock.holder() is bob


def test_who_has_waited_for_long_enough_gives_up() -> None:
    lock, alice = FairLock(), Owner()
    lock.acquire(alice, 0)
    assert not lock.acquire(Owner(), 0.01)
    assert not lock.waiters
    lock.release(Owner())  # mallory releases what she does not hold
    assert not lock.acquire(Owner(), 0)
    lock.release(alice)
    assert lock.acquire(Owner(), 0)


def test_a_holder_that_is_gone_holds_nothing() -> None:
    lock, bob = FairLock(), Owner()
    alice = [Owner()]
    lock.acquire(alice[0], 0)
    waiting = in_thread(lambda: lock.acquire(bob, 30))
    wait_for_waiters(lock, 1)
    alice.clear()
    mallory = Owner()
    assert not lock.acquire(mallory, 0)  # bob has waited
    waiting.join(30)
    assert lock.holder is not None
    assert lock.holder() is bob


@pytest.fixture
def lock(transactional_db: None) -> FairLock:
    """The lock of the test's database."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite locks the whole database.")
    return locks[str(connection.settings_dict["NAME"])]


def holds(lock: FairLock) -> bool:
    return lock.holder is not None


@contextmanager
def pragma(name: str, value: int, before: int) -> Iterator[None]:
    connection.ensure_connection()
    connection.connection.execute(f"PRAGMA {name} = {value}")
    try:
        yield
    finally:
        if connection.connection:
            connection.connection.execute(f"PRAGMA {name} = {before}")


def test_a_transaction_holds_it_until_it_ends(lock: FairLock) -> None:
    with transaction.atomic():
        assert holds(lock)
        with suppress(ValueError), transaction.atomic():
            raise ValueError
        assert holds(lock)
    assert not holds(lock)
    with suppress(ValueError), transaction.atomic():
        raise ValueError
    assert not holds(lock)


def test_a_connection_that_is_closed_holds_nothing(lock: FairLock) -> None:
    with suppress(DatabaseError), transaction.atomic():
        connection.close()
        assert not holds(lock)
    connection.close()
    assert not holds(lock)
    assert post_message(content="Hello?").pk


def test_a_transaction_that_cannot_begin_holds_nothing(lock: FairLock) -> None:
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pragma("busy_timeout", 10, 5000), pytest.raises(OperationalError), transaction.atomic():
        pass
    other.execute("ROLLBACK")
    other.close()
    assert not holds(lock)
    assert post_message(content="Hello?").pk


@pytest.mark.parametrize("failing", [["commit"], ["commit", "rollback"]])
def test_a_transaction_that_cannot_end_holds_nothing(
    lock: FairLock, failing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise OperationalError("disk I/O error")

    with monkeypatch.context() as patch, suppress(OperationalError), transaction.atomic():
        for name in failing:
            patch.setattr(base.DatabaseWrapper, f"_{name}", fail)
        assert holds(lock)
    assert not holds(lock)
    assert post_message(content="Hello?").pk


def test_a_thread_that_ends_within_a_transaction_holds_nothing_for_long(lock: FairLock) -> None:
    def begin() -> None:
        transaction.atomic().__enter__()
        connection.close()

    in_thread(begin).join(30)
    assert post_message(content="Hello?").pk


def test_customers_who_post_while_another_transaction_writes_wait_for_it(lock: FairLock, talk: Conversation) -> None:
    answers = []

    def post(number: int) -> None:
        data = {"conversation": str(talk.uuid), "content": f"Message {number}"}
        answers.append(Page().post("/api/messages/", data, "application/json").status_code)
        connection.close()

    threads = []
    with transaction.atomic():
        for number in range(4):
            threads.append(in_thread(lambda number=number: post(number)))  # type: ignore[misc]
            wait_for_waiters(lock, number + 1)
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 4
    posted = Message.objects.after(talk.last_message_id).values_list("content", flat=True)
    assert list(posted) == [f"Message {number}" for number in range(4)]


def test_who_waits_for_as_long_as_sqlite_would_is_told_to_try_again(lock: FairLock, talk: Conversation) -> None:
    answers = []

    def post() -> None:
        page = Page(raise_request_exception=False)
        with pragma("busy_timeout", 10, 5000):
            answers.append(page.post("/api/messages/", {"content": "Hello?"}, "application/json"))
        connection.close()

    with transaction.atomic():
        in_thread(post).join(30)
    assert answers[0].status_code == 503
    assert answers[0]["Retry-After"]
    assert not lock.waiters
    assert post_message(content="And now?", conversation=talk).pk
