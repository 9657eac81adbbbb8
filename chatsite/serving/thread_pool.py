"""Threads that work for an event loop without fighting it for the interpreter.

Python runs one thread at a time. When the event loop wakes for every answer while a thread works on the next, the two
take the interpreter from each other several times for each request, and each time another core must be woken: that
cost more than Django's own work (docs/performance.md). So one thread works on all that has arrived while the event
loop sleeps, and another joins in only when that one waits for something else than the interpreter.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

MOST = 16
"""Results that lie ready before the event loop is woken for them while there is more to do."""

LOOK = 0.005
"""Seconds after which the event loop looks for results by itself: none waits for a slow job that came after it."""

PATIENCE = 2
"""Looks in a row that find nothing done before another thread is put to work."""

BUSY = 0.5
"""Seconds of processor time in a second from which on the interpreter counts as busy, and more threads as no help."""

Work = Callable[[], Any]
Unwanted = Callable[[Any], None]
Callback = Callable[[], None]
Job = tuple[Work, "asyncio.Future[Any]", Unwanted]


def nothing() -> None:
    """Nothing is to be done."""


class ThreadPool:
    """A fixed number of threads, of which as few work at once as get something done."""

    def __init__(self, threads: int, begins: Callback = nothing, delivered: Callback = nothing) -> None:
        """`threads` is how many jobs may be worked on at once, when each of them waits for something.

        `begins` is done in each thread before its first job, `delivered` in the event loop after some job's end: what
        jobs leave for the event loop need not wake it a second time.
        """
        self.threads = threads
        self.delivered = delivered
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="request", initializer=begins)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.jobs: deque[Job] = deque()
        self.done: deque[tuple[Job, Any, BaseException | None]] = deque()
        self.lock = threading.Lock()  # for `at_work`
        self.at_work = 0
        self.woken = False  # the event loop has been called to deliver, and has not come yet
        self.awaited = 0  # results that have not been delivered
        self.in_vain = 0  # looks in a row that found nothing done
        self.next_look: asyncio.TimerHandle | None = None
        self.seen = (0.0, 0.0)  # the time at the last look, and the processor time that the process had used

    async def run(self, work: Work, unwanted: Unwanted) -> Any:
        """Let a thread do the work; return its result or raise what it raised.

        Work is done to its end even if whoever waits is cancelled: then `unwanted` is given the result, in a thread.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.loop, self.woken, self.awaited, self.next_look = loop, False, 0, None
        result = loop.create_future()
        self.jobs.append((work, result, unwanted))
        self.awaited += 1
        self.put_one_to_work(most=1)
        if self.next_look is None:
            self.seen = (loop.time(), time.process_time())
            self.next_look = loop.call_later(LOOK, self.look, loop)
        return await result

    def put_one_to_work(self, most: int) -> None:
        """One more thread works, unless `most` already do."""
        with self.lock:
            if self.at_work >= most:
                return
            self.at_work += 1
        self.pool.submit(self.work)

    def next_job(self) -> Job | None:
        """A job, or None, and one thread less at work, if there is none."""
        while True:
            with suppress(IndexError):
                return self.jobs.popleft()
            with self.lock:  # whoever adds a job asks under it, afterwards, whether a thread is at work
                if not self.jobs:
                    self.at_work -= 1
                    return None

    def work(self) -> None:
        """In a thread: do jobs until there are none."""
        while job := self.next_job():
            work, result, unwanted = job
            value, error = None, None
            try:
                value = work()
                if result.cancelled():
                    unwanted(value)
                    raise asyncio.CancelledError
            except BaseException as raised:
                error = raised
            self.done.append((job, value, error))
            if not self.woken and (not self.jobs or len(self.done) >= MOST):
                self.woken = True
                with suppress(RuntimeError):  # the event loop is closed, and nobody waits
                    result.get_loop().call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """In the event loop: hand out what is done."""
        self.woken = False  # first: what is done from now on wakes us again
        self.in_vain = 0
        while self.done:
            (_, result, unwanted), value, error = self.done.popleft()
            self.awaited -= 1
            if result.cancelled():
                if error is None:
                    self.pool.submit(unwanted, value)
            elif error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)
        self.delivered()
        if self.awaited <= 0 and self.next_look is not None:
            self.next_look.cancel()
            self.next_look = None

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the event loop, while something is awaited: deliver, or call for help where nothing gets done."""
        self.next_look = None
        if self.done:
            self.deliver()
        else:
            self.in_vain += 1
        then, used = self.seen
        self.seen = now, used_now = loop.time(), time.process_time()
        idle = used_now - used < BUSY * (now - then)
        if self.jobs and (idle or self.in_vain >= PATIENCE):
            self.in_vain = 0
            self.put_one_to_work(most=self.threads)
        if self.awaited > 0:
            self.next_look = loop.call_later(LOOK, self.look, loop)
