"""When conversations have changed, in Redis: what several processes must know of each other to use poll_cache.py.

A process writes the time of a change before it answers the request that made it, and every poll reads it, so nobody who
was told about a change gets an answer from before it, whichever process answers. The times are those of Redis' clock.
Polls that come while one is being looked up are looked up together afterwards: one round trip for all.

All changes are in one key, as a sorted set, so Redis loses either none of them or all: it may be flushed, or drop keys
to free memory. Who finds no key first writes the member “everything”: everything may have changed until then.
"""

import asyncio
import logging
import time
from typing import Any

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conversations import redis_client
from conversations.breaker import Breaker
from conversations.metrics import redis_seconds, timed
from conversations.redis_client import OPTIONS, PAUSE, RedisClient, time_limit

KEY = "changes"
"""The key in Redis. It has no time limit, because Redis may drop first what expires soon."""

SLOWEST = 0.99
"""How fast Redis' clock runs at least, compared with the one here. NTP slows a clock down by 0.05 %."""

JITTER = 10_000
"""Microseconds that it may be behind for other reasons."""

logger = logging.getLogger(__name__)


SECONDS = 20
"""How long a change is kept. Answers to polls are used for half of that (poll_cache.py)."""

ADD_CHANGE = """
    local function add_change(conversation, seconds)
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local newest = redis.call('ZREVRANGE', 'changes', 0, 0, 'WITHSCORES')[2]
        if not newest or tonumber(newest) > now then  -- the key is lost, or the clock was set back
            redis.call('DEL', 'changes')
            redis.call('ZADD', 'changes', now, 'everything')
        end
        redis.call('ZADD', 'changes', now, conversation)
        redis.call('ZREMRANGEBYSCORE', 'changes', '-inf', now - seconds * 1000000)
    end
"""
"""The beginning of scripts that change a conversation."""


class SharedChanges:
    """The times of the latest changes, in microseconds of Redis' clock."""

    ADD = ADD_CHANGE + "add_change(ARGV[1], ARGV[2])"
    READ = """
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZADD', KEYS[1], now - 1, 'everything') end
        local everything = tonumber(redis.call('ZSCORE', KEYS[1], 'everything') or 0)
        local found = {now}
        for index, member in ipairs(ARGV) do
            found[index + 1] = math.max(everything, tonumber(redis.call('ZSCORE', KEYS[1], member) or 0))
        end
        return found
    """

    def __init__(self, url: str, seconds: int) -> None:
        """Connect on the first use. Changes are kept for as many seconds."""
        self.url, self.seconds = url, seconds
        writing: Any = RedisClient.from_url(url, **OPTIONS)
        self.add_script: Any = writing.register_script(self.ADD)
        self.timeout: float = writing.connection_pool.connection_kwargs["socket_timeout"]  # the URL may change it
        self.breaker = Breaker(pause=PAUSE, trial=10)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.client: Any = None
        self.read_script: Any = None
        self.waiting: list[tuple[int, asyncio.Future[tuple[int, int, int] | None]]] = []
        self.task: asyncio.Task[None] | None = None
        self.era = 0
        self.latest, self.answered = 0, 0.0  # Redis' clock when it was asked last, and time.monotonic() after that

    def add(self, conversation: int) -> None:
        """Write that a conversation has changed now. Other processes learn of it later if Redis does not answer."""
        try:
            try:
                self.add_script(keys=[KEY], args=[conversation, self.seconds])
            except redis.ResponseError as error:  # it has no memory left for this
                logger.error("Redis refuses to write changes: the database answers every poll. %r", error)
                self.add_script.registered_client.delete(KEY)  # and no process can write it again
        except redis.RedisError:  # whoever counts for the rate limits logs the error itself
            logger.error("Redis does not answer: other processes may repeat answers to polls for some seconds.")

    async def read(self, conversation: int) -> tuple[int, int, int] | None:
        """The era, the time, and when this conversation may have changed last, or 0. None if Redis does not answer.

        Nothing is known of changes in an earlier era: Redis was started again, another server has taken over, or the
        clock was set back.
        """
        if redis_client.breaker.is_pausing or not self.breaker.allows():
            return None
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.loop, self.waiting, self.task = loop, [], None
            options: Any = {**OPTIONS, "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))}
            self.client = Redis.from_url(self.url, **options, redis_connect_func=self.connected)
            # Its own limits count the time in which the event loop is busy.
            self.client.connection_pool.connection_kwargs.update(socket_timeout=None, socket_connect_timeout=None)
            self.read_script = self.client.register_script(self.READ)
        future: asyncio.Future[tuple[int, int, int] | None] = loop.create_future()
        self.waiting.append((conversation, future))
        if self.task is None:
            self.task = loop.create_task(self.read_all())
        return await future

    async def read_all(self) -> None:
        """Read for all who wait, until nobody does."""
        found: list[int] | None = []
        while self.waiting:
            batch, self.waiting = self.waiting, []
            if found is not None:  # else the batch before has waited in vain, and this one behind it
                found = await self.ask([conversation for conversation, _ in batch])
            for index, (_, future) in enumerate(batch):
                if not future.done():
                    future.set_result((self.era, found[0], found[index + 1]) if found else None)
        self.task = None

    async def ask(self, conversations: list[int]) -> list[int] | None:
        """The time, and when these conversations have changed; None if Redis does not answer in time."""
        asked = time.monotonic()
        try:
            with timed(redis_seconds):
                async with time_limit(self.timeout):
                    found: list[int] = await self.read_script(keys=[KEY], args=conversations)
        except Exception as error:  # any error of the library: polls are then answered by the database
            if not self.breaker.is_open:
                logger.error("Redis does not answer: the database answers every poll. %r", error)
            self.breaker.failed(asked)
            redis_client.breaker.failed(asked)  # this request waits no second time, in its thread
            return None
        self.breaker.succeeded()
        # Redis' clock was set back if less time has passed on it than here, even if it is ahead of `latest` again.
        self.era += found[0] < self.latest + (asked - self.answered) * 1_000_000 * SLOWEST - JITTER
        self.latest, self.answered = found[0], time.monotonic()
        return found

    async def connected(self, connection: Any) -> None:
        """Redis' client has opened a connection: a new era begins."""
        self.era += 1
        await connection.on_connect()

    async def close(self) -> None:
        """Close the connection of this event loop."""
        if self.client is not None:
            await self.client.aclose()
        self.loop = self.client = None
