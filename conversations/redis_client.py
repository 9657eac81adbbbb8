"""The Redis client of the cache, the rate limits and the changes of conversations.

It has short timeouts: Chatsite also works without Redis.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from conversations.breaker import Breaker
from conversations.metrics import redis_seconds, timed

TIMEOUT = 0.25
"""Seconds to wait for a connection or an answer. The query part of REDIS_URL may say otherwise: ?socket_timeout=1."""

PAUSE = 1
"""Seconds until Redis is asked again after it has failed."""

OPTIONS: dict[str, Any] = {
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    # The server may have closed a connection since its last use: one retry. After a timeout there is none.
    "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
}

PARTS = 5
"""Into how many parts `time_limit` divides its time."""

FULL = re.compile("^(OOM|MISCONF) ")
"""How the answers of a Redis begin whose memory or disk is full. It goes on answering what only reads."""

logger = logging.getLogger(__name__)
breaker = Breaker(pause=PAUSE, trial=10)


class RedisClient(redis.Redis):
    """A client that raises redis.ConnectionError at once for a second after a failure, and then lets one caller try."""

    failure: Exception | None = None
    failed_at = 0.0  # time.monotonic()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return the answer. Raises redis.ConnectionError and redis.TimeoutError."""
        return self.ask(partial(super().execute_command, *args, **options))

    def ask(self, execute: Callable[[], Any]) -> Any:
        """What this returns, which asks Redis. Pipelines need it. Raises as `execute_command`."""
        if not breaker.allows():
            raise redis.ConnectionError(f"Redis is not asked again yet after this error: {RedisClient.failure}")
        started = time.monotonic()
        try:
            with timed(redis_seconds):
                answer = execute()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            RedisClient.failed(error, started)
            raise
        except redis.ResponseError as error:
            self.answered()
            if isinstance(error, redis.ReadOnlyError):  # the server is now a replica: reconnect to reach the master
                self.connection_pool.disconnect()
            raise
        self.answered()
        return answer

    @staticmethod
    def failed(error: Exception, started: float) -> None:
        """Record that Redis has not answered who has waited since then (time.monotonic())."""
        RedisClient.failure, RedisClient.failed_at = error, time.monotonic()
        breaker.failed(started)

    def answered(self) -> None:
        """Record that Redis has answered."""
        if breaker.is_open:
            breaker.succeeded()
            logger.warning("Redis answers again.")


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError in what waits for Redis in the event loop, as asyncio.timeout does, but only if Redis is slow.

    If the event loop itself was busy, an answer may be there that nobody could read yet. So the time is counted in
    parts, and the event loop reads what has arrived between two of them: while it is held up, only one part passes.
    """
    loop, left = asyncio.get_running_loop(), PARTS
    timer: asyncio.TimerHandle | None = None
    async with asyncio.timeout(None) as limit:

        def pass_part() -> None:
            nonlocal left, timer
            left -= 1
            if left:
                timer = loop.call_later(seconds / PARTS, pass_part)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(seconds / PARTS, pass_part)
        try:
            yield
        finally:
            timer.cancel()


def is_full(error: BaseException | None) -> bool:
    """Whether Redis has refused to write because it has no room."""
    return isinstance(error, redis.OutOfMemoryError) or bool(FULL.match(str(error)))
