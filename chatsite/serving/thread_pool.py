"""A thread pool for an event loop that does not compete with it for the GIL.

Only one thread runs Python at a time. If the event loop woke up for every result while a thread works on the next job,
both would take the GIL from each other several times per request, and each time another core would wake up: that cost
more than Django's own work (docs/performance.md). So one thread works through the whole queue while the event loop
sleeps, and another thread joins in only when the first one waits for something other than the GIL.

Jobs that write and wait at the same moment may also share one commit of the database: see `run_together`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

MAX_UNDELIVERED = 16
"""Finished results after which the event loop is woken up although jobs are waiting in the queue."""

POLL_INTERVAL = 0.005
"""Seconds after which the event loop checks for results by itself: none waits for a slow job behind it."""

MAX_IDLE_POLLS = 2
"""Polls in a row without a finished job after which another thread is started."""

MAX_SHARING = 0.05
"""Seconds after which no job is added to those that share a commit: meanwhile no other process can write."""

BUSY_CPU_SHARE = 0.5
"""The share of one core from which on the process counts as busy, so that another thread would not help."""

logger = logging.getLogger(__name__)

Callback = Callable[[], None]
Discard = Callable[[Any], None]
Job = tuple[Callable[[], Any], "asyncio.Future[Any]", Discard, bool]
"""A function, the future of its result, what to do with a result that nobody awaits, and whether it shares a commit."""

Done = tuple[Job, Any, BaseException | None]
"""A job with its result or exception."""


class Connection(Protocol):
    """A thread's connection to a database, as in chatsite/databases/sqlite3/shared_commit.py."""

    @property
    def may_share(self) -> bool:
        """Whether a commit waits, to which other transactions may be added."""

    def hold_commits(self) -> None:
        """From now on let commits wait."""

    def commit_held(self) -> bool:
        """Commit what waits. False if that failed: then nothing of it is stored."""


def do_nothing() -> None:
    """The default for callbacks."""


def guard(function: Callable[..., object], *args: Any) -> None:
    """Call a function that must not end its caller; log its exception."""
    try:
        function(*args)
    except Exception:
        logger.exception("A callback of the thread pool failed.")


def run(job: Job) -> Done:
    """Run a job, unless its caller was cancelled."""
    function, future, discard, _ = job
    result = None
    try:
        if not future.cancelled():
            result = function()
            if future.cancelled():
                discard(result)
        if future.cancelled():
            raise asyncio.CancelledError
    except BaseException as error:
        return job, result, error
    return job, result, None


class ThreadPool:
    """A pool of threads. One does all jobs; another joins only if it waits for something or a job takes long."""

    def __init__(
        self,
        threads: int,
        initializer: Callback = do_nothing,
        after_results: Callback = do_nothing,
        connection: Callable[[], Connection] | None = None,
    ) -> None:
        """`threads` is the largest number of jobs that run at the same time.

        `initializer` is called once in each thread. `after_results` is called in the event loop whenever results have
        been delivered: what jobs have queued for the event loop need not wake it up a second time.
        `connection` returns the connection of the thread that calls it; None if jobs cannot share a commit.
        """
        self.threads = threads
        self.after_results = after_results
        self.connection = connection
        self.executor = ThreadPoolExecutor(
            threads, thread_name_prefix="request", initializer=partial(guard, initializer)
        )
        self.loop: asyncio.AbstractEventLoop | None = None
        self.jobs: dict[str, deque[Job]] = {}  # by client; the first client's turn is next
        self.results: deque[Done] = deque()
        self.lock = threading.Lock()  # for `jobs` and `active`
        self.active = 0  # threads that work through the queue
        self.is_sharing = False  # whether one of them runs jobs that share a commit
        self.delivery_scheduled = False
        self.undelivered = 0  # jobs whose result has not been delivered
        # Jobs that have run and then waited for a common commit, since the start. `poll` sees by it that a thread does
        # not hang, although there are no results yet.
        self.run_together_count = 0
        self.last_run_together_count = 0
        self.idle_polls = 0
        self.next_poll: asyncio.TimerHandle | None = None
        self.last_poll = (0.0, 0.0)  # the time, and the CPU time that the process had used

    async def run(
        self, function: Callable[[], Any], discard: Discard, client: str = "", *, shares_commit: bool = False
    ) -> Any:
        """Call the function in a thread; return its result or raise its exception.

        Clients take turns, one job each, so a client with many jobs does not delay the others for long.

        `shares_commit`: what the function writes may be committed together with what others write, if the pool has a
        connection that can. The function may be called twice: the first call then has changed nothing in the database.

        A function that has begun runs to its end even if the caller is cancelled: then `discard` is called with the
        result, in a thread.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.loop, self.delivery_scheduled, self.undelivered, self.next_poll = loop, False, 0, None
        future = loop.create_future()
        with self.lock:
            self.jobs.setdefault(client, deque()).append(
                (function, future, discard, shares_commit and self.connection is not None)
            )
        self.undelivered += 1
        self.start_thread(limit=1)
        if self.next_poll is None:
            self.last_poll = (loop.time(), time.process_time())
            self.next_poll = loop.call_later(POLL_INTERVAL, self.poll, loop)
        return await future

    def start_thread(self, limit: int) -> None:
        """Let one more thread work through the queue, unless `limit` threads do."""
        with self.lock:
            if self.active >= limit:
                return
            self.active += 1
        try:
            self.executor.submit(self.work)
        except RuntimeError:  # no thread could be started; the next poll tries again
            logger.exception("The thread pool could not start a thread.")
            with self.lock:
                self.active -= 1

    def next_job(self) -> Job | None:
        """Take a job of the client whose turn it is. None if there is none: the thread is not active any more.

        Jobs that share a commit are left to the thread that runs such jobs now: this one would only wait for its lock.
        """
        with self.lock:  # `run` adds its job before it reads `active` under this lock, so no job is left behind
            job = self.take(sharing=False) if self.is_sharing else self.take()
            if job is None:
                self.active -= 1
            elif job[-1]:
                self.is_sharing = True
            return job

    def take(self, *, sharing: bool | None = None) -> Job | None:
        """Take a job of the client whose turn it is, or None if there is none. Call it under the lock.

        `sharing`: only jobs that share a commit, or only those that do not; None for all.
        """
        for client, jobs in self.jobs.items():
            if sharing is None or jobs[0][-1] is sharing:
                del self.jobs[client]
                job = jobs.popleft()
                if jobs:
                    self.jobs[client] = jobs  # at the end
                return job
        return None

    def work(self) -> None:
        """In a thread: run jobs until the queue is empty."""
        while job := self.next_job():
            done = self.run_together(job, self.connection()) if job[-1] and self.connection else [run(job)]
            self.results.extend(done)
            future = job[1]
            if not self.delivery_scheduled and (not self.jobs or len(self.results) >= MAX_UNDELIVERED):
                self.delivery_scheduled = True
                with suppress(RuntimeError):  # the event loop is closed
                    future.get_loop().call_soon_threadsafe(self.deliver)

    def run_together(self, first: Job, connection: Connection) -> list[Done]:
        """Run a job that writes, then others that write and are waiting in the queue, and commit all of it together.

        They have their results after the commit. If it fails, each is run again by itself.
        """
        done: list[Done] = []
        job: Job | None = first
        ends = time.monotonic() + MAX_SHARING
        connection.hold_commits()
        try:
            while job:
                done.append(run(job))
                self.run_together_count += 1
                goes_on = connection.may_share and len(done) < MAX_UNDELIVERED and time.monotonic() < ends
                with self.lock:
                    job = self.take(sharing=True) if goes_on else None
        finally:
            is_stored = connection.commit_held()
            self.is_sharing = False
        return done if is_stored else [run(job) for job, _, _ in done]

    def deliver(self) -> None:
        """In the event loop: set the results of the futures that wait for them."""
        self.delivery_scheduled = False  # before the loop, so that a result that comes during it schedules another
        self.idle_polls = 0
        while self.results:
            (_, future, discard, _), result, error = self.results.popleft()
            self.undelivered -= 1
            if future.cancelled():
                if error is None:
                    guard(self.executor.submit, discard, result)
            elif isinstance(error, StopIteration):  # a future refuses it, and its caller would wait for ever
                future.set_exception(RuntimeError("A job raised StopIteration."))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        guard(self.after_results)
        if self.undelivered <= 0 and self.next_poll is not None:
            self.next_poll.cancel()
            self.next_poll = None

    def has_work_for_another(self) -> bool:
        """Whether jobs wait that another thread could run now."""
        with self.lock:
            return any(not self.is_sharing or not jobs[0][-1] for jobs in self.jobs.values())

    def poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the event loop, while jobs are unfinished: deliver results, or start a thread if there are none."""
        self.next_poll = None
        if self.results:
            guard(self.deliver)
        elif self.run_together_count == self.last_run_together_count:
            self.idle_polls += 1
        self.last_run_together_count = self.run_together_count
        then, cpu_then = self.last_poll
        self.last_poll = now, cpu_now = loop.time(), time.process_time()
        idle = cpu_now - cpu_then < BUSY_CPU_SHARE * (now - then)
        if (idle or self.idle_polls >= MAX_IDLE_POLLS) and self.has_work_for_another():
            self.idle_polls = 0
            self.start_thread(limit=self.threads)
        if self.undelivered > 0:
            self.next_poll = loop.call_later(POLL_INTERVAL, self.poll, loop)
