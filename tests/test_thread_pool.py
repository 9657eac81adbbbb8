"""The thread pool runs every job, on as few threads at once as make progress."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from chatsite.serving import thread_pool
from chatsite.serving.thread_pool import ThreadPool

MakePool = Callable[..., ThreadPool]


def ignore(value: Any) -> None:
    """For results that need no cleaning up."""


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """Makes thread pools, and ends their threads after the test."""
    pools: list[ThreadPool] = []

    def make(threads: int, **callbacks: Any) -> ThreadPool:
        pools.append(ThreadPool(threads, **callbacks))
        return pools[-1]

    yield make
    for pool in pools:
        pool.executor.shutdown()


async def test_every_job_returns_its_own_result(make_pool: MakePool) -> None:
    two = make_pool(2)
    results = await asyncio.gather(*(two.run(partial(pow, number, 2), ignore) for number in range(500)))
    assert results == [number**2 for number in range(500)]
    assert two.active == two.undelivered == 0


async def test_clients_take_turns(make_pool: MakePool) -> None:
    one = make_pool(1)
    done: list[str] = []
    clients = ["mallory"] * 50 + ["alice", "bob", "alice"]
    await asyncio.gather(*(one.run(partial(done.append, client), ignore, client) for client in clients))
    assert sorted(done) == sorted(clients)
    assert {"alice", "bob"} <= set(done[:5])
    assert done.index("bob") < 5


async def test_an_exception_is_raised_where_the_result_is_awaited(
    make_pool: MakePool,
) -> None:
    one = make_pool(1)
    jobs = [one.run(partial(int, text), ignore) for text in ("seven", "7")]
    bad, good = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(bad, ValueError)
    assert good == 7


async def test_a_job_that_raises_stop_iteration_keeps_nobody_waiting(make_pool: MakePool) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(make_pool(1).run(partial(next, iter(())), ignore), 10)


async def test_after_results_is_called_even_if_the_job_was_cancelled() -> None:
    queued: list[str] = []
    flushed: list[tuple[str, str]] = []
    local = threading.local()

    def flush() -> None:
        flushed.extend((item, threading.current_thread().name) for item in queued)
        queued.clear()

    one = ThreadPool(1, initializer=lambda: setattr(local, "ready", True), after_results=flush)
    go = threading.Event()

    def work() -> None:
        go.wait(10)
        queued.append("ready" if local.ready else "not ready")

    waiting = asyncio.create_task(one.run(work, ignore))
    await asyncio.sleep(0)  # the job starts
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    go.set()
    async with asyncio.timeout(10):
        while not flushed:
            await asyncio.sleep(0.001)
    assert flushed == [("ready", threading.main_thread().name)]
    one.executor.shutdown()


async def test_one_thread_runs_all_jobs_while_it_makes_progress(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "MAX_IDLE_POLLS", 10**6)  # a busy machine must not look like a slow job
    monkeypatch.setattr(thread_pool, "BUSY_CPU_SHARE", 0)
    four = make_pool(4)
    names = await asyncio.gather(*(four.run(lambda: threading.current_thread().name, ignore) for _ in range(100)))
    assert len(set(names)) == 1


async def test_jobs_that_wait_run_at_the_same_time(
    make_pool: MakePool,
) -> None:
    four, most = make_pool(4), []

    def work() -> None:
        most.append(four.active)
        time.sleep(0.003)  # as a database that is a network away would take

    await asyncio.gather(*(four.run(work, ignore) for _ in range(100)))
    assert max(most) == 4


async def test_another_thread_starts_when_the_first_is_blocked(make_pool: MakePool) -> None:
    two, gate = make_pool(2), threading.Event()
    stuck = asyncio.create_task(two.run(lambda: gate.wait(30), ignore))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(two.run(lambda: "done", ignore), 10) == "done"
    gate.set()
    assert await stuck


async def test_a_result_does_not_wait_for_the_slow_job_behind_it(make_pool: MakePool) -> None:
    one, gate = make_pool(1), threading.Event()
    quick = asyncio.create_task(one.run(lambda: "quick", ignore))
    slow = asyncio.create_task(one.run(lambda: gate.wait(30), ignore))
    assert await asyncio.wait_for(quick, 10) == "quick"
    assert not slow.done()
    gate.set()
    assert await slow


async def test_no_more_jobs_run_at_once_than_there_are_threads(make_pool: MakePool) -> None:
    three, together, most = make_pool(3), threading.Barrier(3), []

    def work() -> None:
        most.append(three.active)
        together.wait(30)  # until three are here

    await asyncio.gather(*(three.run(work, ignore) for _ in range(9)))
    assert max(most) == 3
    assert len(three.executor._threads) == 3


async def test_the_result_of_a_cancelled_job_is_discarded_once(make_pool: MakePool) -> None:
    one, gate, started, discarded = make_pool(1), threading.Event(), threading.Event(), []

    def work() -> str:
        started.set()
        gate.wait(30)
        return threading.current_thread().name

    task = asyncio.create_task(one.run(work, lambda name: discarded.append((name, threading.current_thread().name))))
    await asyncio.to_thread(started.wait, 30)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    gate.set()
    assert await one.run(lambda: "next", ignore) == "next"
    [(ran_in, discarded_in)] = discarded
    assert ran_in == discarded_in


def test_a_pool_outlives_its_event_loop(make_pool: MakePool) -> None:
    one, gate, started = make_pool(1), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(30)

    async def leave() -> None:
        task = asyncio.create_task(one.run(work, ignore))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(one.run(lambda: "still here", ignore)) == "still here"


async def test_a_callback_that_raises_does_not_end_the_pool(make_pool: MakePool, caplog: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("This callback fails.")

    one, gate, started = make_pool(1, initializer=fail, after_results=fail), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(30)

    slow = asyncio.create_task(one.run(work, fail))
    await asyncio.to_thread(started.wait, 30)
    slow.cancel()
    gate.set()
    for _ in range(3):
        assert await asyncio.wait_for(one.run(lambda: "next", ignore), 10) == "next"
    assert "This callback fails." in caplog.text


async def test_a_callback_that_raises_does_not_end_the_polls(make_pool: MakePool) -> None:
    two, queued, gate = make_pool(2, after_results=lambda: 1 / 0), threading.Event(), threading.Event()
    quick = asyncio.create_task(two.run(lambda: queued.wait(30), ignore))
    slow = asyncio.create_task(two.run(lambda: gate.wait(30), ignore))
    waiting = asyncio.create_task(two.run(lambda: "done", ignore))
    await asyncio.sleep(0)
    queued.set()
    assert await asyncio.wait_for(quick, 10)
    assert await asyncio.wait_for(waiting, 10) == "done"
    gate.set()
    assert await slow


async def test_a_thread_that_cannot_be_started_is_tried_again(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, failures = make_pool(1), iter([RuntimeError("can't start new thread")] * 2)
    submit = one.executor.submit

    def flaky(*args: Any) -> Any:
        for error in failures:
            raise error
        return submit(*args)

    monkeypatch.setattr(one.executor, "submit", flaky)
    assert await asyncio.wait_for(one.run(lambda: "done", ignore), 10) == "done"


async def test_a_job_that_is_cancelled_before_it_begins_is_not_run(make_pool: MakePool) -> None:
    one, gate, ran = make_pool(1), threading.Event(), []
    slow = asyncio.create_task(one.run(lambda: gate.wait(30), ignore))
    waiting = asyncio.create_task(one.run(lambda: ran.append(1), ignore))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await slow
    assert await one.run(lambda: "next", ignore) == "next"
    assert not ran


class Transactions:
    """A connection that commits several jobs together, unless it `fails`."""

    def __init__(self, log: list[str], fails: bool) -> None:
        self.log, self.fails, self.may_share = log, fails, False

    def hold_commits(self) -> None:
        self.may_share = True

    def commit_held(self) -> bool:
        self.log.append("commit")
        self.may_share = False
        return not self.fails


@pytest.mark.parametrize("fails", [False, True])
async def test_jobs_that_wait_share_a_commit_and_have_their_results_after_it(make_pool: MakePool, fails: bool) -> None:
    log: list[str] = []
    one = make_pool(1, connection=lambda: Transactions(log, fails))
    go = threading.Event()
    running = asyncio.create_task(one.run(go.wait, ignore))

    async def job(name: str, *, shares_commit: bool) -> None:
        await one.run(partial(log.append, name), ignore, name, shares_commit=shares_commit)
        log.append(f"{name} done")

    names = {"alice posts": True, "bob polls": False, "carol posts": True}
    jobs = [asyncio.create_task(job(name, shares_commit=shares)) for name, shares in names.items()]
    while sum(map(len, one.jobs.values())) < len(jobs):
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(running, *jobs)
    again = ["alice posts", "carol posts"] if fails else []
    done = ["alice posts done", "carol posts done"]
    assert [line for line in log if "bob" not in line] == ["alice posts", "carol posts", "commit", *again, *done]
    assert log.index("bob polls") > log.index("commit")


async def test_no_other_thread_joins_while_jobs_make_progress_and_wait_for_their_commit(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, started = make_pool(2), list[int]()
    monkeypatch.setattr(thread_pool, "BUSY_CPU_SHARE", 0)
    monkeypatch.setattr(two, "start_thread", lambda limit: started.append(limit))
    loop = asyncio.get_running_loop()
    two.jobs["alice"] = deque([(str, loop.create_future(), ignore, False)])
    for _ in range(10):
        two.run_together_count += 1
        two.poll(loop)
    assert not started
    for _ in range(thread_pool.MAX_IDLE_POLLS):
        two.poll(loop)
    assert started


async def test_posts_wait_for_the_thread_that_commits_others_and_polls_do_not(make_pool: MakePool) -> None:
    log: list[str] = []
    two = make_pool(2, connection=lambda: Transactions(log, fails=False))
    gate, threads = threading.Event(), dict[str, int]()

    def post(name: str) -> None:
        threads[name] = threading.get_ident()
        gate.wait(30)

    first = asyncio.create_task(two.run(partial(post, "alice"), ignore, "alice", shares_commit=True))
    while not two.is_sharing:
        await asyncio.sleep(0)
    second = asyncio.create_task(two.run(partial(post, "bob"), ignore, "bob", shares_commit=True))
    assert await two.run(lambda: "nothing new", ignore, "carol") == "nothing new"
    assert "bob" not in threads
    gate.set()
    await asyncio.gather(first, second)
    assert threads["alice"] == threads["bob"]
    assert not two.is_sharing
