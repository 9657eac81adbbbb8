"""A crew's threads do all that they are given, as few of them at once as get something done."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from chatsite.serving import thread_pool
from chatsite.serving.thread_pool import ThreadPool


def ignore(value: Any) -> None:
    """For results that nobody minds."""


@pytest.fixture
def hire() -> Iterator[Callable[[int], ThreadPool]]:
    """Hires crews, and lets them go in the end."""
    crews: list[ThreadPool] = []

    def hire(threads: int) -> ThreadPool:
        crews.append(ThreadPool(threads))
        return crews[-1]

    yield hire
    for each in crews:
        each.pool.shutdown()


async def test_everybody_gets_their_own_result(hire: Callable[[int], ThreadPool]) -> None:
    two = hire(2)
    results = await asyncio.gather(*(two.run(partial(pow, number, 2), ignore) for number in range(500)))
    assert results == [number**2 for number in range(500)]
    assert two.at_work == two.awaited == 0


async def test_errors_are_raised_where_a_result_is_awaited(
    hire: Callable[[int], ThreadPool],
) -> None:
    one = hire(1)
    jobs = [one.run(partial(int, word), ignore) for word in ("seven", "7")]
    bad, good = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(bad, ValueError)
    assert good == 7


async def test_what_jobs_leave_for_the_event_loop_is_fetched_even_if_nobody_waits_for_their_result() -> None:
    left: list[str] = []
    fetched: list[tuple[str, str]] = []
    marks = threading.local()

    def fetch() -> None:
        fetched.extend((word, threading.current_thread().name) for word in left)
        left.clear()

    one = ThreadPool(1, begins=lambda: setattr(marks, "begun", True), delivered=fetch)
    go = threading.Event()

    def work() -> None:
        go.wait(10)
        left.append("began" if marks.begun else "has not begun")

    waiting = asyncio.create_task(one.run(work, ignore))
    await asyncio.sleep(0)  # it is at work
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    go.set()
    async with asyncio.timeout(10):
        while not fetched:
            await asyncio.sleep(0.001)
    assert fetched == [("began", threading.main_thread().name)]
    one.pool.shutdown()


async def test_one_thread_does_it_all_while_it_gets_on(
    hire: Callable[[int], ThreadPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "PATIENCE", 10**6)  # a busy machine must not look like a slow job
    monkeypatch.setattr(thread_pool, "BUSY", 0)
    four = hire(4)
    names = await asyncio.gather(*(four.run(lambda: threading.current_thread().name, ignore) for _ in range(100)))
    assert len(set(names)) == 1


async def test_jobs_that_wait_are_worked_on_at_the_same_time(
    hire: Callable[[int], ThreadPool],
) -> None:
    four, most = hire(4), []

    def work() -> None:
        most.append(four.at_work)
        time.sleep(0.003)  # as a database that is a network away would take

    await asyncio.gather(*(four.run(work, ignore) for _ in range(100)))
    assert max(most) == 4


async def test_another_thread_joins_in_when_the_first_is_stuck(hire: Callable[[int], ThreadPool]) -> None:
    two, gate = hire(2), threading.Event()
    stuck = asyncio.create_task(two.run(lambda: gate.wait(30), ignore))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(two.run(lambda: "done", ignore), 10) == "done"
    gate.set()
    assert await stuck


async def test_a_result_does_not_wait_for_the_slow_job_behind_it(hire: Callable[[int], ThreadPool]) -> None:
    one, gate = hire(1), threading.Event()
    quick = asyncio.create_task(one.run(lambda: "quick", ignore))
    slow = asyncio.create_task(one.run(lambda: gate.wait(30), ignore))
    assert await asyncio.wait_for(quick, 10) == "quick"
    assert not slow.done()
    gate.set()
    assert await slow


async def test_no_more_work_at_once_than_there_are_threads(hire: Callable[[int], ThreadPool]) -> None:
    three, together, most = hire(3), threading.Barrier(3), []

    def work() -> None:
        most.append(three.at_work)
        together.wait(30)  # nobody goes on before three are here

    await asyncio.gather(*(three.run(work, ignore) for _ in range(9)))
    assert max(most) == 3
    assert len(three.pool._threads) == 3


async def test_a_result_that_nobody_awaits_any_more_is_given_back_once(hire: Callable[[int], ThreadPool]) -> None:
    one, gate, begun, unwanted = hire(1), threading.Event(), threading.Event(), []

    def work() -> str:
        begun.set()
        gate.wait(30)
        return threading.current_thread().name

    task = asyncio.create_task(one.run(work, lambda name: unwanted.append((name, threading.current_thread().name))))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    gate.set()
    assert await one.run(lambda: "next", ignore) == "next"
    [(worked_in, given_back_in)] = unwanted
    assert worked_in == given_back_in


def test_a_crew_survives_the_event_loop_that_it_worked_for(hire: Callable[[int], ThreadPool]) -> None:
    one, gate, begun = hire(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(30)

    async def leave() -> None:
        task = asyncio.create_task(one.run(work, ignore))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(one.run(lambda: "still here", ignore)) == "still here"
