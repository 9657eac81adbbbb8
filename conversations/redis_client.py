"""The Redis client of the cache, the rate limits and the changes of conversations.

It has short timeouts: Chatsite also works without Redis.
"""

import logging
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

logger = logging.getLogger(__name__)
breaker = Breaker(pause=PAUSE, trial=10)


class RedisClient(redis.Redis):
    """A client that raises redis.ConnectionError at once for a second after a failure, and then lets one caller try."""

    failure: Exception | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return the answer. Raises redis.ConnectionError and redis.TimeoutError."""
        if not breaker.allows():
            raise redis.ConnectionError(f"Redis is not asked again yet after this error: {RedisClient.failure}")
        try:
            with timed(redis_seconds):
                answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError) as error:
            RedisClient.failure = error
            breaker.failed()
            raise
        except redis.ResponseError as error:
            self.answered()
            if isinstance(error, redis.ReadOnlyError):  # the server is now a replica: reconnect to reach the master
                self.connection_pool.disconnect()
            raise
        self.answered()
        return answer

    def answered(self) -> None:
        """Record that Redis has answered."""
        if breaker.is_open:
            breaker.succeeded()
            logger.warning("Redis answers again.")
