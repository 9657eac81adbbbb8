"""On SQLite, posts that wait together are committed together: all of them or none, and nobody hears of them before."""

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from io import BytesIO
from json import dumps, loads
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.backends.sqlite3 import base

from chatsite.databases.sqlite3.base import locks
from chatsite.serving import thread_pool
from chatsite.serving.request_handler import RequestHandler
from conversations.actions import post_message
from conversations.models import Conversation, Message, Website
from tests.conftest import Server

Commit = Callable[[], None]


@pytest.fixture(autouse=True)
def sqlite(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """This thread's connection."""
    if connection.vendor != "sqlite":
        pytest.skip("Other databases commit together by themselves.")
    monkeypatch.setattr(thread_pool, "MAX_SHARING", 60)
    yield connections["default"]
    assert locks[str(connection.settings_dict["NAME"])].holder is None


def stored() -> list[str]:
    """The messages that everybody sees."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        return [row[0] for row in other.execute("SELECT content FROM conversations_message ORDER BY id")]


def test_nobody_sees_or_hears_of_what_is_not_committed(sqlite: Any) -> None:
    heard: list[str] = []
    sqlite.hold_commits()
    for text in ("one", "two"):
        with transaction.atomic():
            post_message(content=text)
            transaction.on_commit(lambda text=text: heard.append(text))  # type: ignore[misc]
    transaction.on_commit(lambda: heard.append("three"))
    assert Message.objects.count() == 2
    assert (stored(), heard) == ([], [])
    assert sqlite.commit_held()
    assert (stored(), heard) == (["one", "two"], ["one", "two", "three"])
    post_message(content="alone")
    assert stored()[-1] == "alone"


def test_without_any_write_nothing_is_committed(sqlite: Any) -> None:
    sqlite.hold_commits()
    with suppress(ValueError), transaction.atomic():
        raise ValueError
    assert not sqlite.may_share
    assert sqlite.commit_held()
    assert not connection.connection.in_transaction


def test_one_that_fails_undoes_only_itself(sqlite: Any) -> None:
    heard: list[str] = []
    sqlite.hold_commits()
    post_message(content="one")
    with suppress(ValueError), transaction.atomic():
        post_message(content="two")
        transaction.on_commit(lambda: heard.append("two"))
        raise ValueError
    post_message(content="three")
    assert sqlite.commit_held()
    assert (stored(), heard) == (["one", "three"], [])


def test_if_the_commit_fails_nothing_is_stored_or_told(sqlite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    sqlite.hold_commits()
    post_message(content="one")
    transaction.on_commit(lambda: heard.append("one"))

    def fail(*_arguments: Any) -> None:
        raise OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(base.DatabaseWrapper, "_commit", fail)
        assert not sqlite.commit_held()
    assert (stored(), heard) == ([], [])
    assert post_message(content="one").pk
    assert stored() == ["one"]


@pytest.mark.parametrize("lost", ["rolled back", "closed"])
def test_if_what_waits_is_lost_all_of_it_must_be_repeated(sqlite: Any, lost: str) -> None:
    sqlite.hold_commits()
    post_message(content="one")
    if lost == "closed":
        connection.close()
    else:  # as SQLite does if it has no memory or no room
        connection.connection.rollback()
    with pytest.raises(DatabaseError):
        post_message(content="two")
    assert not sqlite.may_share
    assert not sqlite.commit_held()
    assert stored() == []
    assert post_message(content="three").pk
    assert stored() == ["three"]


def test_what_sqlite_has_rolled_back_by_itself_is_not_acknowledged(sqlite: Any) -> None:
    sqlite.hold_commits()
    post_message(content="one")
    connection.connection.rollback()  # at a statement that only reads
    assert not sqlite.commit_held()
    assert stored() == []


def test_a_connection_that_is_opened_meanwhile_writes_as_usual(sqlite: Any) -> None:
    sqlite.hold_commits()
    post_message(content="one")
    connection.close()
    assert not Message.objects.exists()
    assert not sqlite.commit_held()
    Conversation.objects.create(website=Website.objects.default())
    assert not connection.connection.in_transaction


def test_a_hook_that_fails_harms_no_other(sqlite: Any) -> None:
    heard: list[str] = []

    def broken() -> None:
        raise RuntimeError("broken")

    sqlite.hold_commits()
    for hook in (broken, lambda: heard.append("two")):
        post_message(content="Hello?")
        transaction.on_commit(hook)
    assert sqlite.commit_held()
    assert (len(stored()), heard) == (2, ["two"])


class Posts:
    """Posts that wait while the only thread of the server is busy."""

    def __init__(self) -> None:
        self.app = RequestHandler(1)

    async def post(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Post a message to the API; return the status and the answer."""
        content, sent = dumps(body).encode(), list[Any]()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/api/messages/", "query_string": b"", "headers": headers}
        await self.app(scope, receive, send)
        return sent[0]["status"], loads(sent[1]["body"])

    async def all(self, bodies: list[dict[str, Any]]) -> list[tuple[int, Any]]:
        """Post them so that all wait before the first is handled."""
        go = threading.Event()
        busy = asyncio.create_task(self.app.pool.run(go.wait, lambda _: None))
        posts = [asyncio.create_task(self.post(body)) for body in bodies]
        while sum(len(jobs) for jobs in self.app.pool.jobs.values()) < len(bodies):
            await asyncio.sleep(0.001)
        go.set()
        await busy
        return await asyncio.gather(*posts)

    def run(self, *bodies: dict[str, Any]) -> list[tuple[int, Any]]:
        """The answers."""
        try:
            return asyncio.run(self.all(list(bodies)))
        finally:
            self.app.pool.executor.submit(connections.close_all)
            self.app.pool.executor.shutdown()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[Commit]:
    """What happens at the next commits, instead of them; then each really happens. Counts down."""
    planned: list[Commit] = []
    commit = base.DatabaseWrapper._commit  # type: ignore[attr-defined]

    def commit_or_fail(self: Any) -> Any:
        if planned:
            planned.pop(0)()
        return commit(self)

    monkeypatch.setattr(base.DatabaseWrapper, "_commit", commit_or_fail)
    return planned


def fail() -> None:
    raise OperationalError("disk I/O error")


def messages(talk: Conversation, number: int) -> list[dict[str, Any]]:
    return [
        {"conversation": str(talk.uuid), "content": f"Message {each}", "client_id": str(uuid.uuid4())}
        for each in range(number)
    ]


def test_posts_that_wait_are_committed_at_once(talk: Conversation, commits: list[Commit]) -> None:
    seen: list[list[str]] = []
    commits += [lambda: seen.append(stored())] * 9
    answers = Posts().run(*messages(talk, 5))
    assert [status for status, _ in answers] == [200] * 5
    assert seen == [["Hello, is anybody there?"]]  # one commit, with nothing visible before it
    assert stored()[1:] == [f"Message {each}" for each in range(5)]
    ids = [answer["items"][-1]["id"] for _, answer in answers]
    assert ids == sorted(ids)


def test_if_the_common_commit_fails_each_is_posted_by_itself(talk: Conversation, commits: list[Commit]) -> None:
    commits.append(fail)
    answers = Posts().run(*messages(talk, 5))
    assert [status for status, _ in answers] == [200] * 5
    assert stored()[1:] == [f"Message {each}" for each in range(5)]
    assert [answer["items"][-1]["content"] for _, answer in answers] == stored()[1:]


def test_if_no_commit_is_possible_all_are_told_to_try_again(talk: Conversation, commits: list[Commit]) -> None:
    commits += [fail] * 20
    answers = Posts().run(*messages(talk, 5))
    commits.clear()
    assert [status for status, _ in answers] == [503] * 5
    assert stored() == ["Hello, is anybody there?"]


def test_a_post_that_is_refused_harms_no_other(talk: Conversation) -> None:
    first, second, third, fourth = messages(talk, 4)
    second["client_id"] = first["client_id"]
    third["content"] = ""
    answers = Posts().run(first, second, third, fourth)
    assert [status for status, _ in answers] == [200, 409, 422, 200]
    assert stored()[1:] == ["Message 0", "Message 3"]


def test_what_was_acknowledged_outlives_a_killed_server(migrated: Path, tmp_path: Path) -> None:
    copy(migrated, tmp_path / "db.sqlite3")
    url = f"sqlite:///{tmp_path}/db.sqlite3"
    server = Server({"DEBUG": "on", "RATE_LIMITS": "off", "DATABASE_URL": url, "FILES": str(tmp_path / "files")})
    server.start()
    acknowledged: list[str] = []
    enough = threading.Event()

    def write(customer: int) -> None:
        http = HTTPConnection(server.url.partition("//")[2])
        with suppress(OSError, ValueError):
            for number in range(10_000):
                text = f"{customer}: {number}"
                http.request("POST", "/api/messages/", dumps({"content": text}), {"Content-Type": "application/json"})
                response = http.getresponse()
                response.read()
                assert response.status == 200
                acknowledged.append(text)
                if len(acknowledged) >= 60:
                    enough.set()
        http.close()

    with ThreadPoolExecutor(8) as customers:
        writing = [customers.submit(write, customer) for customer in range(8)]
        assert enough.wait(60)
        server.kill()
    for each in writing:
        with suppress(Exception):
            each.result()
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        kept = [row[0] for row in database.execute("SELECT content FROM conversations_message")]
    assert len(acknowledged) >= 60
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))


class CountedBody(BytesIO):
    """A body that counts how much of it is read at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Count."""
        found = super().read(size)
        self.most = max(self.most, len(found))
        return found


def test_a_body_that_is_too_large_for_a_form_is_not_read_into_memory() -> None:
    posts, body, sent = Posts(), CountedBody(bytes(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)), list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/chat/messages/", "query_string": b"", "headers": headers}
    asyncio.run(posts.app({**scope, "chatsite.body": body}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    assert body.most == 0
