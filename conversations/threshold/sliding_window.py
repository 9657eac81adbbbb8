"""Sliding windows that rate limits count in: in this process's memory, or in Redis for all processes together.

A counter remembers the times of its latest uses, at most as many as are allowed. Another use is allowed when the oldest
of these has left the window, so no period of the window's length has more uses. Both stores compare and count
in one step, so uses at the same moment do not exceed a limit together.

The package `limits` (5.8) was tried instead. In Redis it counts in the same way, and as fast. But in memory it has no
bound, may raise RuntimeError in threads (its pull request 352, in no release yet), and sweeps all counters after uses,
which takes 18 ms of processor time with 300,000 of them. Each use waits for a Redis that hangs. It cannot give a use
back, nor say in the same step how long to wait.
"""

import logging
import threading
from typing import Any

import redis

from conversations.redis_client import OPTIONS, RedisClient

MAX_USES = 300_000
"""The most uses in memory, about 80 MB. Beyond it, the counters that were used longest ago are deleted."""

logger = logging.getLogger(__name__)


class MemoryStore:
    """Counters in this process's memory."""

    def __init__(self) -> None:
        """Start without counters."""
        self.lock = threading.Lock()
        self.counters: dict[str, list[float]] = {}
        self.size = 0

    def use(self, counter: str, most: int, seconds: float, now: float) -> float:
        """Count a use at the time `now` and return 0, or return in how many seconds another is allowed."""
        with self.lock:
            uses = self.counters.pop(counter, [])
            self.counters[counter] = uses  # now the last to be deleted
            if len(uses) >= most and uses[-most] + seconds > now:
                return uses[-most] + seconds - now
            uses.append(now)
            self.size += 1
            if len(uses) > most:
                self.size -= len(uses) - most
                del uses[:-most]
            while self.size > MAX_USES:
                self.size -= len(self.counters.pop(next(iter(self.counters))))
        return 0

    def give_back(self, counter: str, now: float) -> None:
        """Delete the use that was counted at the time `now`."""
        with self.lock:
            uses = self.counters.get(counter, [])
            if now in uses:
                uses.remove(now)
                self.size -= 1
            if not uses:
                self.counters.pop(counter, None)


class RedisStore:
    """Counters in Redis, with the methods of MemoryStore.

    While Redis does not answer, each process counts by itself: a limit is then as many times as high as there are
    processes.
    """

    USE = """
        local first = redis.call('LINDEX', KEYS[1], -ARGV[1])
        if first and first + ARGV[2] > tonumber(ARGV[3]) then return tostring(first + ARGV[2] - ARGV[3]) end
        redis.call('RPUSH', KEYS[1], ARGV[3])
        redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
        redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
        return '0'
    """

    def __init__(self, url: str) -> None:
        """Connect on the first use."""
        self.client: Any = RedisClient.from_url(url, **OPTIONS)
        self.script: Any = self.client.register_script(self.USE)
        self.memory = MemoryStore()

    def use(self, counter: str, most: int, seconds: float, now: float) -> float:
        """Count a use at the time `now` and return 0, or return in how many seconds another is allowed."""
        try:
            return float(self.script(keys=[key_of(counter)], args=[most, seconds, repr(now)]))
        except redis.RedisError:
            logger.exception("Redis does not count for the rate limits, so each process does.")
            return self.memory.use(counter, most, seconds, now)

    def give_back(self, counter: str, now: float) -> None:
        """Delete the use that was counted at the time `now`."""
        self.memory.give_back(counter, now)
        try:
            self.client.lrem(key_of(counter), -1, repr(now))
        except redis.RedisError:
            logger.exception("Redis does not count for the rate limits, so each process does.")


def key_of(counter: str) -> str:
    """The key of a counter in Redis."""
    return f"limits:{counter}"
