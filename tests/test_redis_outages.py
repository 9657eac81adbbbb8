"""A Redis that hangs or stops: no request waits long for it, and rate limits still apply."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from chatsite.cache import RedisCache
from conversations.redis_client import RedisClient
from conversations.threshold.sliding_window import RedisStore
from tests.services import SOON, Chat, Service, redis_server


@pytest.fixture
def chat_with_redis(tmp_path: Path, migrated: Path) -> Iterator[tuple[Chat, Service]]:
    """A server with Redis and the default limits."""
    with redis_server() as service:
        chat = Chat(tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}", "REDIS_URL": service.url})
        shutil.copy(migrated, tmp_path / "db.sqlite3")
        chat.start()
        yield chat, service
        if chat.process and chat.process.poll() is None:
            chat.kill()


def test_posts_hardly_wait_for_a_redis_that_hangs_and_limits_go_on(chat_with_redis: tuple[Chat, Service]) -> None:
    chat, service = chat_with_redis
    conversations = [chat.begin() for _ in range(8)]
    assert chat.post(conversations[0])[0] == 200
    before = len(chat.log)
    service.freeze()
    try:
        answers = [chat.post(conversation) for conversation in conversations * 4]
        assert {answer[0] for answer in answers} == {200}
        seconds = sorted(answer[1] for answer in answers)
        assert sum(seconds) < 16  # before: 25 seconds each
        assert seconds[len(seconds) // 2] < 0.5
        while chat.post(conversations[0])[0] == 200:  # each process counts by itself
            pass
        assert chat.post(conversations[0])[0] == 429
    finally:
        service.thaw()
    log = chat.log[before:]
    assert "Traceback" not in log
    assert log.count("\n") <= 5, log  # lost and back, limits, the 429
    store = redis.Redis.from_url(service.url)
    store.flushall()
    deadline = time.monotonic() + SOON
    while not store.keys("limits:*"):
        assert time.monotonic() < deadline, "Redis counts no more."
        chat.post(conversations[1])


def test_redis_has_limits_that_the_url_overrides() -> None:
    for cautious in (
        lambda url: RedisCache(url, {})._cache.get_client(),
        lambda url: RedisStore(url).client,
    ):
        made = cautious("redis://h?socket_timeout=1&socket_connect_timeout=2").connection_pool.connection_kwargs
        assert (made["socket_timeout"], made["socket_connect_timeout"]) == (1, 2)


def test_redis_is_not_asked_for_a_second_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("conversations.breaker.time.monotonic", lambda: now)
    asked = []

    def fail(*args: Any, **options: Any) -> None:
        asked.append(args)
        raise redis.TimeoutError("no answer")

    monkeypatch.setattr(redis.Redis, "execute_command", fail)
    cache, store = RedisCache("redis://h", {}), RedisStore("redis://h")
    with pytest.raises(redis.TimeoutError):
        cache.get("x")
    for _ in range(5):
        with pytest.raises(redis.ConnectionError, match="no answer"):
            cache.get("x")
        store.use("x", 1, 60, now)
    assert len(asked) == 1
    now += 1.1
    store.use("x", 1, 60, now)
    store.use("x", 1, 60, now)
    assert len(asked) == 2


def test_a_redis_that_has_become_a_replica_gets_new_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise redis.ReadOnlyError("You can't write against a read only replica.")

    monkeypatch.setattr(redis.Redis, "execute_command", refuse)
    client, closed = RedisClient.from_url("redis://h"), []
    monkeypatch.setattr(client.connection_pool, "disconnect", lambda: closed.append(True))
    with pytest.raises(redis.ReadOnlyError):
        client.set("x", 1)
    assert closed
