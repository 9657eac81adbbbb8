"""Several processes with Redis: no poll is answered with what was true before another process has changed it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha1
from typing import Any

import pytest
from redis import Redis

from conversations.poll_cache import Kept, PollCache
from conversations.redis_client import breaker
from conversations.shared_changes import SECONDS, SharedChanges
from tests.services import SOON, Service, redis_server

ANSWER = (204, (), b"")
TALK, OTHER = 7, 8


@pytest.fixture(scope="module")
def redis() -> Iterator[Service]:
    """A Redis of its own."""
    with redis_server() as service:
        yield service


@asynccontextmanager
async def processes(redis: Service) -> AsyncIterator[tuple[PollCache, PollCache]]:
    """The caches of two processes."""
    async with AsyncExitStack() as stack:
        shared = [SharedChanges(f"{redis.url}?socket_timeout=5", SECONDS) for _ in range(2)]
        for each in shared:
            stack.push_async_callback(each.close)
        yield PollCache(shared[0]), PollCache(shared[1])


async def poll(cache: PollCache, conversation: int) -> bool:
    """Poll a conversation that has nothing new; return whether the answer was kept from an earlier poll."""
    answer, began = await cache.look_up(b"%d" % conversation)
    if not answer and began:
        cache.put(b"%d" % conversation, Kept(conversation, began, ANSWER))
    return answer is not None


def test_a_change_by_another_process_ends_an_answer(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(OTHER)
            assert await poll(here, TALK)
            there.forget(TALK)
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]

    asyncio.run(go())


def test_an_answer_that_another_process_has_outdated_meanwhile_is_not_used(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            _, began = await here.look_up(b"7")
            assert began is not None
            there.forget(TALK)  # after the poll has begun, and before its answer is kept
            here.put(b"7", Kept(TALK, began, ANSWER))
            assert not await poll(here, TALK)

    asyncio.run(go())


def test_no_answer_outlives_what_redis_knows_of_changes(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(TALK)
            redis.kill()
            redis.start()  # without its data
            deadline = time.monotonic() + SOON
            while (await here.look_up(b"8"))[1] is None:
                assert time.monotonic() < deadline, "Redis is not asked again."
                await asyncio.sleep(0.05)
            breaker.succeeded()
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]

    asyncio.run(go())


def evict(client: Redis) -> None:
    """Fill the memory with values that expire late: Redis then drops first what expires soon."""
    client.config_set("maxmemory-policy", "volatile-ttl")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 300_000)
    for number in range(1_000):
        client.set(f"filling:{number}", "x" * 1_000, ex=86_400)
    client.config_set("maxmemory", 0)


def fill(client: Redis) -> None:
    """Let Redis refuse all writes that need memory."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)


@pytest.mark.parametrize("changes", [[], [OTHER]], ids=["a-poll-finds-it", "a-change-finds-it"])
@pytest.mark.parametrize("lose", [Redis.flushall, evict])
def test_no_answer_is_used_after_redis_has_dropped_what_it_knew(
    redis: Service, lose: Callable[[Redis], None], changes: list[int]
) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(TALK)
            lose(client)
            for conversation in changes:
                there.forget(conversation)
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]

    with Redis.from_url(redis.url) as client:
        asyncio.run(go())


def test_no_answer_is_used_after_redis_has_no_memory_for_a_change(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            fill(client)
            there.forget(TALK)
            assert not await poll(here, TALK)

    with Redis.from_url(redis.url) as client:
        try:
            asyncio.run(go())
        finally:
            client.config_set("maxmemory", 0)
            breaker.succeeded()


def test_no_answer_is_used_after_the_clock_of_redis_was_set_forward(redis: Service) -> None:
    """Then Redis drops the changes of the last seconds early, as if they were old."""

    async def go() -> None:
        async with processes(redis) as (here, there):
            assert here.shared is not None
            assert there.shared is not None
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(TALK)
            set_clock(here.shared.read_script, "READ", 3600)
            set_clock(there.shared.add_script, "ADD", 3600)
            there.forget(OTHER)
            assert not await poll(here, TALK)

    asyncio.run(go())


def set_clock(script: Any, name: str, seconds: int) -> None:
    """Set the clock of Redis, as this script sees it, forward from the true time."""
    script.script = getattr(SharedChanges, name).replace("time[1]", f"(time[1] + {seconds})")
    script.sha = sha1(script.script.encode(), usedforsecurity=False).hexdigest()


def test_no_answer_is_used_after_the_clock_of_redis_was_set_back(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert here.shared is not None
            assert not await poll(here, OTHER)  # connects
            set_clock(here.shared.read_script, "READ", 5)
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(TALK)
            set_clock(here.shared.read_script, "READ", 0)
            assert not await poll(here, TALK)

    asyncio.run(go())


def test_no_answer_is_used_after_the_clock_of_redis_was_set_back_and_has_caught_up(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert here.shared is not None
            assert not await poll(here, OTHER)  # connects
            set_clock(here.shared.read_script, "READ", 1)
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            set_clock(here.shared.read_script, "READ", 0)
            there.forget(TALK)
            while int(client.time()[0]) * 1_000_000 <= here.shared.latest:  # nobody polls meanwhile
                await asyncio.sleep(0.1)
            assert not await poll(here, TALK)

    with Redis.from_url(redis.url) as client:
        asyncio.run(go())


def test_answers_are_kept_again_after_the_clock_of_redis_was_set_back(redis: Service) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert there.shared is not None
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            set_clock(there.shared.add_script, "ADD", 5)
            there.forget(OTHER)
            set_clock(there.shared.add_script, "ADD", 0)
            there.forget(TALK)
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            assert [await poll(here, OTHER), await poll(here, OTHER)] == [False, True]

    asyncio.run(go())


def test_polls_at_the_same_time_ask_redis_together(redis: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = SharedChanges.ask

    async def ask(self: SharedChanges, conversations: list[int]) -> list[int] | None:
        asked.append(len(conversations))
        return await original(self, conversations)

    async def go() -> None:
        async with processes(redis) as (here, _):
            for _ in range(2):
                await asyncio.gather(*(poll(here, number) for number in range(100)))
            assert all(await asyncio.gather(*(poll(here, number) for number in range(100))))

    monkeypatch.setattr(SharedChanges, "ask", ask)
    asyncio.run(go())
    assert sum(asked) == 300
    assert len(asked) <= 12


def test_while_redis_hangs_the_database_answers_and_later_answers_are_kept_again(
    redis: Service,
) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            assert here.shared is not None
            here.shared.timeout = 0.1
            redis.freeze()
            try:
                assert not await poll(here, TALK)
                there.forget(TALK)  # is not lost: `there` waits, and says so in the log
                began = time.monotonic()
                assert not any([await poll(here, TALK) for _ in range(100)])
                assert time.monotonic() - began < SOON  # it is asked once a second
            finally:
                redis.thaw()
                here.shared.timeout = 5
                breaker.succeeded()
            deadline = time.monotonic() + SOON
            while not await poll(here, TALK):
                assert time.monotonic() < deadline, "Answers are not kept again."
                await asyncio.sleep(0.05)

    asyncio.run(go())


def test_an_answer_that_a_busy_event_loop_reads_late_is_no_failure_of_redis(redis: Service) -> None:
    async def go() -> None:
        changes = SharedChanges(redis.url, SECONDS)
        assert await changes.read(TALK)
        for _ in range(3):
            redis.freeze()
            try:
                reading = asyncio.ensure_future(changes.read(TALK))
                await asyncio.sleep(0.05)  # it has asked
            finally:
                redis.thaw()
            time.sleep(changes.timeout)
            assert await reading
        assert not breaker.is_open  # else each post of the next second would be refused
        await changes.close()

    asyncio.run(go())
