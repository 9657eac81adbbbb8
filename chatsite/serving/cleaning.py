"""Once a day, in a thread of `serve`: delete old conversations and everything else that would grow for ever.

The steps are short, and the thread pauses after each, so that requests hardly notice. Of several processes one cleans
at a time: it holds a lease in the cache. This only saves work. What is done twice does no harm, so while Redis does not
answer each process cleans by itself. A run that ends early, because the process is killed for example, has left nothing
half done, and the next run goes on. Nothing is deleted while the clock may be wrong: see Clock.
"""

import logging
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import redis
from django.core.cache import cache
from django.db import close_old_connections, connection

from conversations.actions import CLEANING

FIRST = (5 * 60.0, 15 * 60.0)
"""Between which seconds after the start the first run begins: not all processes at once, nor in busy first minutes."""

AGAIN = 30 * 60.0
"""Seconds until the thread looks again whether a run is due."""

INTERVAL = 23 * 3600
"""Seconds from the end of a complete run, in any process, to the next one."""

LEASE = 120
"""Seconds after which another process may clean if the one that does has not renewed its lease."""

LEAST_PAUSE = 0.05
"""Seconds after each step."""

SHARE = 5
"""After a step the thread pauses as many times as long as the step has taken."""

CLOCK_STEP = 3600
"""Seconds by which a clock must have been set to count as one that may be wrong. What is old is old by this clock."""

DISTRUST = 24 * 3600
"""Seconds for which nothing is deleted then, so that there is time to set the clock right."""

LEASE_KEY, DONE_KEY = "cleaning-lease", "cleaning-done"

logger = logging.getLogger(__name__)


class Clock:
    """Notices when the clock of this machine is set, by comparing it with one that cannot be set."""

    def __init__(self) -> None:
        """It is right as it is."""
        self.offset = self.read_offset()
        self.distrusted_until = float("-inf")

    def read_offset(self) -> float:
        """The difference of the two clocks. It does not change while this machine sleeps, at least on Linux."""
        return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def is_trusted(self) -> bool:
        """Whether the clock was not set lately. A warning is logged when it is not trusted any more."""
        step = self.read_offset() - self.offset
        if abs(step) > CLOCK_STEP:
            self.offset += step
            self.distrusted_until = time.monotonic() + DISTRUST
            logger.warning(
                "The clock of this machine was set by %+.1f hours. Nothing that is old by it is deleted for a day. "
                "If the clock is wrong, set it right.",
                step / 3600,
            )
        return time.monotonic() >= self.distrusted_until


class Lease:
    """The right to clean, which one process has at a time. It expires unless it is renewed."""

    def __init__(self) -> None:
        """It is not held yet."""
        self.holder = secrets.token_hex(8)
        self.renewed = 0.0

    def take(self) -> bool:
        """Take it if it is free and no process has cleaned lately; return whether it was taken."""
        self.renewed = time.monotonic()
        try:
            return cache.get(DONE_KEY) is None and bool(cache.add(LEASE_KEY, self.holder, LEASE))
        except redis.RedisError:
            return True

    def keep(self) -> bool:
        """Renew it if it is time to; return whether it is still ours, or free."""
        if time.monotonic() < self.renewed + LEASE / 4:
            return True
        with suppress(redis.RedisError):
            if cache.get(LEASE_KEY, self.holder) != self.holder:
                return False
            cache.set(LEASE_KEY, self.holder, LEASE)
        self.renewed = time.monotonic()
        return True

    def release(self, is_done: bool) -> None:
        """Let others have it. `is_done`: nobody needs to clean for a while."""
        with suppress(redis.RedisError):
            if is_done:
                cache.set(DONE_KEY, True, INTERVAL)
            if cache.get(LEASE_KEY) == self.holder:
                cache.delete(LEASE_KEY)


class Cleaner:
    """The thread."""

    def __init__(self) -> None:
        """It does not run yet."""
        self.stopping = threading.Event()
        self.clock = Clock()
        self.done_at = float("-inf")  # time.monotonic() of the last complete run of this process
        self.thread = threading.Thread(target=self.run, name="cleaning", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end after its current step, and wait a moment for it."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(1)

    def run(self) -> None:
        """Clean when it is due, until `stop`."""
        wait = random.uniform(*FIRST)  # noqa: S311 (not for security)
        connection.is_patient = True  # type: ignore[attr-defined]  # nobody waits for its statements: see databases/
        while not self.stopping.wait(wait):
            try:
                self.clean_if_due()
            except Exception:
                logger.exception("Old conversations were not deleted. It is tried again in %.0f minutes.", AGAIN / 60)
            finally:
                connection.close()
            wait = random.uniform(0.8, 1.2) * AGAIN  # noqa: S311 (not for security)

    def clean_if_due(self) -> None:
        """Clean, unless it was done lately, another process does it now, or the clock may be wrong."""
        if not self.clock.is_trusted():
            return
        lease = Lease()
        if time.monotonic() - self.done_at < INTERVAL or not lease.take():
            return
        is_done = False
        try:
            results = [self.finish(delete, lease) for delete in CLEANING]
            is_done = all(results)
            if is_done:
                self.done_at = time.monotonic()
        finally:
            lease.release(is_done)

    def finish(self, delete: Callable[[], Iterator[Counter[str]]], lease: Lease) -> bool:
        """Do all steps of one of CLEANING; return whether none is left. An exception is logged, and ends only this."""
        deleted: Counter[str] = Counter()
        try:
            steps = delete()
            while not self.stopping.is_set() and self.clock.is_trusted() and lease.keep():
                close_old_connections()  # as before a request: the time limits of the database count anew
                began = time.monotonic()
                more = next(steps, None)
                if more is None:
                    return True
                deleted += more
                self.stopping.wait(max(LEAST_PAUSE, SHARE * (time.monotonic() - began)))
        except Exception:
            logger.exception("Cleaning was interrupted (%s). It is tried again later.", delete.__name__)
        finally:
            for what, number in deleted.items():
                logger.info("%s: %s deleted.", what, number)
        return False
