"""Several processes with Redis: no poll is answered with what was true before another process has changed it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from conversations.poll_cache import MAX_AGE, Kept, PollCache
from conversations.redis_client import breaker
from conversations.shared_changes import SharedChanges
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
        shared = [SharedChanges(f"{redis.url}?socket_timeout=5", 2 * MAX_AGE) for _ in range(2)]
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


def test_no_answer_is_used_after_the_clock_of_redis_was_set_back(
    redis: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with processes(redis) as (here, there):
            assert here.shared is not None
            with monkeypatch.context() as early:
                early.setattr(SharedChanges, "READ", SharedChanges.READ.replace("+ time[2]}", "+ time[2] + 5e6}"))
                assert [await poll(here, TALK), await poll(here, TALK)] == [False, True]
            there.forget(TALK)
            here.shared.read_script.script = SharedChanges.READ
            here.shared.read_script.sha = here.shared.client.register_script(SharedChanges.READ).sha
            assert not await poll(here, TALK)

    asyncio.run(go())


def test_polls_at_the_same_time_ask_redis_together(redis: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = SharedChanges.ask

    async def ask(self: SharedChanges, keys: list[str]) -> list[int] | None:
        asked.append(len(keys))
        return await original(self, keys)

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
