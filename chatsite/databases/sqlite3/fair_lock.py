"""A lock that is taken in the order in which it was asked for, and that is free again when its holder is gone."""

import threading
import time
import weakref
from collections import deque

CHECK_INTERVAL = 0.1
"""Seconds between two checks of a waiter whether the holder still exists."""


class Waiter:
    """An owner that waits for the lock."""

    def __init__(self, owner: object) -> None:
        """`owner` is who waits."""
        self.owner = weakref.ref(owner)
        self.turn = threading.Event()


class FairLock:
    """A lock for the threads of this process. First come, first served.

    Owners are objects, not threads. If the holder is deleted, as with its thread, the lock is free: nothing need be
    called for that.
    """

    def __init__(self) -> None:
        """It is free."""
        self.guard = threading.Lock()  # held for a few instructions only
        self.holder: weakref.ref[object] | None = None
        self.waiters: deque[Waiter] = deque()

    def acquire(self, owner: object, seconds: float) -> bool:
        """Take the lock, or wait for it at most so many seconds; return whether it was taken.

        An owner that holds it already keeps it.
        """
        if self._take(owner):
            return True
        if seconds <= 0:
            return False
        waiter = Waiter(owner)
        deadline = time.monotonic() + seconds
        with self.guard:
            self.waiters.append(waiter)
            if self._is_free():
                self._pass_on()
        return self._wait(waiter, deadline)

    def release(self, owner: object) -> None:
        """Give the lock to who has waited longest. Does nothing if the owner does not hold it."""
        with self.guard:
            if self.holder is not None and self.holder() is owner:
                self.holder = None
                self._pass_on()

    def _take(self, owner: object) -> bool:
        with self.guard:
            holder = self.holder() if self.holder else None
            if holder is owner or (holder is None and not self.waiters):
                self.holder = weakref.ref(owner)
                return True
            return False

    def _wait(self, waiter: Waiter, deadline: float) -> bool:
        is_done = False
        try:
            while not waiter.turn.wait(max(0, min(CHECK_INTERVAL, deadline - time.monotonic()))):
                with self.guard:
                    if self._is_free():  # the holder was deleted
                        self._pass_on()
                    elif time.monotonic() >= deadline:
                        break
            is_done = True
        finally:
            with self.guard:
                has_turn = waiter.turn.is_set()
                if not has_turn:
                    self.waiters.remove(waiter)
                elif not is_done:  # an exception such as KeyboardInterrupt
                    self.holder = None
                    self._pass_on()
        return has_turn

    def _is_free(self) -> bool:
        return self.holder is None or self.holder() is None

    def _pass_on(self) -> None:
        self.holder = None
        if self.waiters:
            waiter = self.waiters.popleft()
            self.holder = waiter.owner
            waiter.turn.set()
