"""A database that takes no writes, as it is locked, full or read-only: reading works, and writing says why not."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from conversations.actions import post_message
from conversations.models import Agent, Conversation, Message, Reading, Token
from tests.conftest import PASSWORD, Page, texts

pytestmark = pytest.mark.django_db(transaction=True)

MOST = 3
"""Seconds that a page may take; it took 20 while it waited for the lock."""

OWN = {"Sec-Fetch-Site": "none"}


@contextmanager
def locked() -> Iterator[None]:
    """Another process holds the lock of SQLite's file."""
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def limited_by(pragma: str, otherwise: str) -> Iterator[None]:
    """Only our own connection takes no writes."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # pages that other tests have left free would take new rows
        cursor.execute("PRAGMA page_count")
        pages = cursor.fetchone()[0]
        cursor.execute(pragma.format(pages))
        try:
            yield
        finally:
            cursor.execute(otherwise)


@pytest.fixture(params=["locked", "full", "read-only"])
def held(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A context in which the database takes no writes."""
    if connection.vendor != "sqlite":
        pytest.skip("Only SQLite locks the whole database.")
    close, connection.close = connection.close, lambda: None  # type: ignore[method-assign]  # pragmas end with it
    # A full file still has room in its pages for small rows, unless all of them are used: 8 kB need another one.
    yield {
        "locked": locked,
        "full": lambda: limited_by("PRAGMA max_page_count = {}", "PRAGMA max_page_count = 1073741823"),
        "read-only": lambda: limited_by("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    }[request.param]
    connection.close = close  # type: ignore[method-assign]


@contextmanager
def impatient() -> Iterator[None]:
    """Writes wait for 50 ms, so that the test is fast."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50")
        yield
        cursor.execute("PRAGMA busy_timeout = 5000")


def test_an_unread_conversation_opens_and_is_marked_later(
    bobs: Page, bob: Agent, talk: Conversation, held: Any, caplog: pytest.LogCaptureFixture
) -> None:
    here, started = f"/inbox/{talk.pk}/", time.monotonic()
    with held():
        page = bobs.get(here, headers=OWN)
    stored = Reading.objects.exists()  # a full file may have room for so small a row
    assert time.monotonic() - started < MOST
    assert page.status_code == 200
    assert texts(page) == ["Hello, is anybody there?"]
    if not stored:
        assert 'data-read-up-to="0"' in page.content.decode()  # so that the page's script marks it
        [line] = [record for record in caplog.records if "which messages an agent has read" in record.getMessage()]
        assert line.exc_info is None
    bobs.get(here, headers=OWN)
    assert Reading.objects.get().last_message_id == talk.last_message_id


def test_every_page_is_read_without_a_write(bobs: Page, bob: Agent, talk: Conversation, held: Any) -> None:
    alice = Page()
    alice.cookies["chat"] = talk.uuid.hex
    token = {"Authorization": f"Bearer {Token.objects.issue(bob, 'a bot', 'READ')}"}
    started = time.monotonic()
    with held():
        for path in ("/chat/", "/chat/messages/", "/chat/state/", f"/api/messages/{talk.uuid}/", "/inbox/sign-in/"):
            assert alice.get(path).status_code == 200, path
        here = f"/inbox/{talk.pk}"
        for path in ("/inbox/", "/inbox/list/", f"{here}/", f"{here}/messages/", f"{here}/state/", f"{here}/about/"):
            assert bobs.get(path, headers=OWN).status_code == 200, path
        for path in ("/api/conversation/", f"/api/conversation/{talk.pk}/messages/"):
            assert Page().get(path, headers=token).status_code == 200, path
        report = alice.post("/chat/here/", b"{}", "text/plain", headers={"Origin": "http://testserver"})
        assert report.status_code == 200
    assert time.monotonic() - started < 2 * MOST


def test_a_session_that_a_new_password_has_ended_is_out(bobs: Page, bob: Agent, talk: Conversation, held: Any) -> None:
    bob.set_password("another password")
    bob.save()
    started = time.monotonic()
    with held():
        for _ in range(2):
            assert bobs.get("/inbox/")["Location"].startswith("/inbox/sign-in/")
    assert time.monotonic() - started < MOST


def test_who_writes_is_told_to_try_again(bobs: Page, bob: Agent, talk: Conversation, held: Any) -> None:
    alice, form = Page(), {"content": "x" * 20_000}
    alice.raise_request_exception = bobs.raise_request_exception = False
    before = Message.objects.count()
    with held(), impatient():
        answers = [
            alice.post("/chat/messages/", form),
            alice.htmx("/chat/messages/", form),
            bobs.htmx(f"/inbox/{talk.pk}/messages/", form),
            alice.post("/api/messages/", form, "application/json"),
        ]
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer["Retry-After"]) > 0
        words = answer.content.decode()
        assert ("The database does not answer" in words) or ("The server is full at the moment" in words)
    assert Message.objects.count() == before


def test_signing_in_says_that_it_does_not_work_now(bob: Agent, held: Any) -> None:
    page = Page(raise_request_exception=False)
    with held(), impatient():
        answer = page.post("/inbox/sign-in/", {"username": "bob", "password": PASSWORD})
    if answer.status_code != 302:  # a full file may have room for a session
        assert answer.status_code == 503
        assert "again" in answer.content.decode()


def test_an_unread_conversation_opens_while_another_transaction_has_its_lock(bobs: Page, talk: Conversation) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no locks of rows.")
    has_lock, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Conversation.objects.lock(talk.pk)
            has_lock.set()
            done.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert has_lock.wait(10)
    started = time.monotonic()
    page = bobs.get(f"/inbox/{talk.pk}/", headers=OWN)
    seconds = time.monotonic() - started
    done.set()
    holder.join()
    assert (page.status_code, texts(page)) == (200, ["Hello, is anybody there?"])
    assert seconds < MOST
    assert not Reading.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute(
            "SHOW lock_timeout" if connection.vendor == "postgresql" else "SELECT @@innodb_lock_wait_timeout"
        )
        assert cursor.fetchone()[0] not in {"200ms", 1}
    assert post_message(content="And now?", conversation=talk).pk
