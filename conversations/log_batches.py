"""Messages of requests at the same time, appended to the message log together: one round trip, and one sync of Redis.

Only plain ones (log_scripts.py `APPEND_PLAIN`): of customers who have their conversation open, have read all of it,
and send a client_id. Whatever is unusual is not appended, and goes the usual way (message_log.py `append`). So does
what Redis does not answer to: it may be in the log, and is found there by its client_id.

This runs in the event loop.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

import redis
from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conversations import redis_client
from conversations.log_scripts import APPEND_PLAIN
from conversations.message_log import (
    MESSAGES,
    REPLICAS_MS,
    RETRY_SECONDS,
    Appended,
    SecretRenewed,
    appended,
    connected_in_loop,
    encode,
)
from conversations.metrics import redis_seconds, timed
from conversations.redis_client import OPTIONS, RedisClient, time_limit
from conversations.shared_changes import SECONDS

MOST = 64
"""Messages that are appended together: meanwhile Redis does nothing else, for some milliseconds."""

logger = logging.getLogger(__name__)


class Plain(NamedTuple):
    """A message to append."""

    client_id: UUID
    conversation: int
    uuid: UUID  # of the conversation
    values: dict[str, Any]  # as for `message_log.append`
    run: str  # in which Redis the conversation was read
    since: int | None  # the id of the last message that the customer has; None if it does not matter
    counters: tuple[str, str]  # of the rate limits: of the address, and of the conversation; empty without limits
    take: Callable[[Appended], None]  # called when it is appended, also if nobody waits for it any more


class Batches:
    """Appends messages, those that wait at the same moment together."""

    def __init__(self, limits: Callable[[], list[float]]) -> None:
        """Connect on the first use. `limits` returns the most messages of one address, and in how many seconds.

        And the same two numbers of one conversation.
        """
        self.limits = limits
        self.loop: asyncio.AbstractEventLoop | None = None
        self.client: Any = None
        self.script: Any = None
        self.timeout = 0.0
        self.waiting: list[tuple[Plain, asyncio.Future[Appended | None]]] = []
        self.task: asyncio.Task[None] | None = None

    async def append(self, message: Plain) -> Appended | None:
        """Append a message. None if it must go the usual way.

        Raises SecretRenewed as `message_log.append`: then the conversation must be read anew.
        """
        if redis_client.breaker.is_open:
            return None
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self.connect(loop)
        future: asyncio.Future[Appended | None] = loop.create_future()
        self.waiting.append((message, future))
        if self.task is None:
            self.task = loop.create_task(self.append_all())
        return await future

    def connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use a new client for this event loop."""
        self.loop, self.waiting, self.task = loop, [], None
        options: Any = {**OPTIONS, "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))}
        self.client = Redis.from_url(
            settings.REDIS_URL, **options, decode_responses=True, redis_connect_func=connected_in_loop
        )
        found = self.client.connection_pool.connection_kwargs
        self.timeout = found["socket_timeout"]  # the URL may change it
        # The client's own limits count the time in which the event loop is busy.
        found.update(socket_timeout=None, socket_connect_timeout=None)
        self.script = self.client.register_script(APPEND_PLAIN)

    async def append_all(self) -> None:
        """Append for all who wait, until nobody does."""
        is_answered = True
        while self.waiting:
            batch, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
            # If the batch before has waited in vain, this one has, too, behind it.
            found = await self.answers([message for message, _ in batch]) if is_answered else None
            is_answered = found is not None
            for (message, future), result in zip(batch, found or [None] * len(batch), strict=True):
                taken = self.take(message, result) if isinstance(result, Appended) else None
                if future.done():
                    continue
                if isinstance(result, SecretRenewed):
                    future.set_exception(result)
                else:
                    future.set_result(taken)
        self.task = None

    async def answers(self, messages: list[Plain]) -> list[Appended | SecretRenewed | None] | None:
        """What Redis says of each message; None if it did not answer. Nothing raises: all who wait have to go on."""
        try:
            try:
                return await self.ask(messages)
            except redis.ReadOnlyError:  # as in RedisClient: reconnect to reach the master
                await self.client.connection_pool.disconnect()
                raise
        except redis.ResponseError:
            logger.info("The message log does not take a batch of messages.", exc_info=True)
            return [None] * len(messages)
        except Exception as error:  # any error of the library: nothing is acknowledged by this
            logger.error("The message log does not answer. %r", error)
            return None

    def take(self, message: Plain, result: Appended) -> Appended | None:
        """Let it be announced. If that fails, Django finds the message in the log, and announces it again."""
        try:
            message.take(result)
        except Exception:
            logger.exception("A message was appended to the log, and not announced.")
            return None
        return result

    async def ask(self, messages: list[Plain]) -> list[Appended | SecretRenewed | None]:
        """Append these messages. Raises redis.RedisError, TimeoutError and other errors of the library."""
        now = repr(time.time())
        arguments: list[Any] = [RETRY_SECONDS, SECONDS, now, *self.limits()]
        # If the connection breaks, the client runs the script again. By its writer a message knows the first time.
        batch = secrets.token_hex(8)
        for index, message in enumerate(messages):
            arguments.append(_line_by_line(message, f"{batch}{index}"))
        asked = time.monotonic()
        try:
            with timed(redis_seconds):
                async with time_limit(self.timeout):
                    found = await self.run(arguments)
        except redis.ResponseError:
            raise
        except Exception as error:
            RedisClient.failed(error, asked)
            raise
        writers = [f"{batch}{index}" for index in range(len(messages))]
        return [_taken(sent, writer) for sent, writer in zip(found, writers, strict=True)]

    async def run(self, arguments: list[Any]) -> list[str]:
        """Run the script, and wait until enough replicas have what it has written."""
        found: list[str]
        if not (wanted := settings.MESSAGE_LOG_REPLICAS):
            found = await self.script(keys=[MESSAGES], args=arguments)
            return found
        pipeline = self.client.pipeline(transaction=False)
        pipeline.eval(APPEND_PLAIN, 1, MESSAGES, *arguments)
        pipeline.execute_command("WAIT", wanted, REPLICAS_MS)
        found, copies = await pipeline.execute()
        return found if copies >= wanted else [""] * len(found)

    async def close(self) -> None:
        """Close the connection of this event loop."""
        if self.client is not None:
            await self.client.aclose()
        self.loop = self.client = None


def _line_by_line(message: Plain, writer: str) -> str:
    """A message as APPEND_PLAIN takes it. JSON has no line breaks here."""
    values = message.values
    entry = encode({name: value for name, value in values.items() if name != "at"})
    since = "" if message.since is None else message.since
    address, conversation = message.counters
    return (
        f"{message.client_id.hex}\n{writer}\n{message.conversation}\n{values['at']}\n{message.uuid.hex}\n"
        f"{message.run}\n{since}\n{address}\n{conversation}\n{entry}"
    )


def _taken(sent: str, writer: str) -> Appended | SecretRenewed | None:
    """What was appended; None if it was not, or before by another request."""
    if sent == "-":
        return SecretRenewed()
    found = appended(sent, writer) if sent else None
    return None if found is None or found.is_retry else found
