"""Sliding windows that rate limits count in: in this process's memory, or in Redis for all processes together.

A counter remembers the times of its latest uses, at most as many as are allowed. Another use is allowed when the oldest
of these has left the window, so there is no period of the window's length with more uses. Both stores compare and count
in one step, so uses at the same moment do not exceed a limit together.
"""

import threading
from typing import Any

import redis

MAX_USES = 300_000
"""Uses that memory holds at most, about 80 MB; then the counters that were used longest ago are forgotten."""

TIMEOUT = 1
"""Seconds to wait for Redis: a request waits at least as long while it hangs."""


class MemoryStore:
    """Counters in this process's memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.lock = threading.Lock()
        self.counters: dict[str, list[float]] = {}
        self.size = 0

    def use(self, counter: str, most: int, seconds: float, now: float) -> float:
        """Count a use at the time `now` and return 0, or return in how many seconds another is allowed."""
        with self.lock:
            uses = self.counters.pop(counter, [])
            self.counters[counter] = uses  # now the last to be forgotten
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
        """Forget the use that was counted at the time `now`."""
        with self.lock:
            uses = self.counters.get(counter, [])
            if now in uses:
                uses.remove(now)
                self.size -= 1


class RedisStore:
    """Counters in Redis. Its methods are those of MemoryStore, and raise what Redis raises where it does not answer."""

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
        self.client = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
        self.script: Any = self.client.register_script(self.USE)

    def use(self, counter: str, most: int, seconds: float, now: float) -> float:
        """Count a use at the time `now` and return 0, or return in how many seconds another is allowed."""
        return float(self.script(keys=[f"limits:{counter}"], args=[most, seconds, repr(now)]))

    def give_back(self, counter: str, now: float) -> None:
        """Forget the use that was counted at the time `now`."""
        self.client.lrem(f"limits:{counter}", -1, repr(now))
