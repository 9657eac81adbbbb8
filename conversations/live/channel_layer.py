"""Channel layers: groups of sockets in the memory of this process, and a link to other processes through Redis.

The layers of channels_redis subscribe for each socket and each of its groups, one round trip after the other: when
2,000 sockets reconnected at once, only 411 were open after two minutes. Here each process has one subscription, and
joining or leaving a group needs no round trip. Every process receives every event, which has about 100 bytes.
"""

import asyncio
import json
import logging
import random
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

Event = dict[str, Any]
"""A message to the consumers of a group. Channels calls the method of each consumer that its `type` names."""

MAX_WAITING = 100
"""Events that may wait for one socket. The oldest are dropped: a heartbeat makes up for them."""

MAX_UNSENT = 10_000
"""Events that may wait to be published, about 1 MB. Further ones are dropped."""

TIMEOUT = 1
"""Seconds that Redis may take to connect, or to answer a command."""

SILENCE = 5
"""Seconds without any event after which Redis is sent a PING, so that a lost connection is noticed."""

MAX_DELAY = 5
"""Seconds between two attempts to connect, at most. The first follow sooner."""

SPREAD = 10
"""Seconds over which sockets check whether they have missed an event, once Redis answers again."""

RECHECK: Event = {"type": "recheck"}
"""Sent to sockets that may have missed an event: see Doorbell.recheck."""

logger = logging.getLogger(__name__)


@dataclass
class Channel:
    """The events that wait for one consumer, and the groups that it is in."""

    events: "asyncio.Queue[Event]" = field(default_factory=lambda: asyncio.Queue(MAX_WAITING))
    groups: set[str] = field(default_factory=set)

    def put(self, event: Event) -> None:
        """Add an event. If too many wait, drop the oldest."""
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(event)


class ProcessChannelLayer:
    """A channel layer for one process. All consumers of a group get the same event object, which nobody may change."""

    def __init__(self) -> None:
        """No channels and no groups."""
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, dict[str, Channel]] = {}
        self.numbers = count(1)

    async def new_channel(self, prefix: str = "socket") -> str:
        """Create a channel and return its name. It exists until `remove_channel`."""
        name = f"{prefix}{next(self.numbers)}"
        self.channels[name] = Channel()
        return name

    def remove_channel(self, name: str) -> None:
        """Remove a channel from its groups and forget it. Does nothing if there is none."""
        channel = self.channels.pop(name, None)
        for group in channel.groups if channel else ():
            self._leave(group, name)

    async def receive(self, name: str) -> Event:
        """The next event of a channel."""
        return await self.channels[name].events.get()

    async def send(self, name: str, event: Event) -> None:
        """Send an event to one channel of this process. Dropped if there is none."""
        if channel := self.channels.get(name):
            channel.put(event)

    async def group_add(self, group: str, name: str) -> None:
        """Add a channel to a group. Raises KeyError if the channel does not exist."""
        channel = self.channels[name]
        channel.groups.add(group)
        self.groups.setdefault(group, {})[name] = channel

    async def group_discard(self, group: str, name: str) -> None:
        """Remove a channel from a group, if it is in it."""
        if (channel := self.channels.get(name)) and group in channel.groups:
            channel.groups.remove(group)
            self._leave(group, name)

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event to all channels of a group."""
        self.deliver(group, event)

    def deliver(self, group: str, event: Event) -> None:
        """Put an event into the queues of all channels of a group in this process."""
        for channel in self.groups.get(group, {}).values():
            channel.put(event)

    async def close(self) -> None:
        """Nothing is open."""

    def _leave(self, group: str, name: str) -> None:
        del self.groups[group][name]
        if not self.groups[group]:
            del self.groups[group]


class RedisChannelLayer(ProcessChannelLayer):
    """A channel layer for several processes: events reach this process at once, and the others through Redis.

    While Redis does not answer, events reach only the sockets of this process; the sockets of other processes get the
    news with their next heartbeat. When Redis answers again, all sockets check whether they have missed an event.
    """

    def __init__(self, url: str) -> None:
        """`url` is that of Redis. Its query may have redis-py's options, such as socket_timeout in seconds."""
        super().__init__()
        self.url = url
        self.link: Link | None = None
        self.is_catching_up = False

    async def new_channel(self, prefix: str = "socket") -> str:
        """Create a channel, and begin to listen to the other processes."""
        self.open_link()
        return await super().new_channel(prefix)

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event to all channels of a group in all processes. Returns when it is published or given up."""
        self.deliver(group, event)
        await self.open_link().send(group, event)

    def open_link(self) -> "Link":
        """The link of the running event loop. A management command may run several loops, one after the other."""
        if self.link is None or self.link.loop is not asyncio.get_running_loop():
            self.link = Link(self.url, self.receive_from_others)
        return self.link

    async def close(self) -> None:
        """End the link to Redis."""
        if self.link is not None:
            link, self.link = self.link, None
            await end(link.task)

    def receive_from_others(self, group: str | None, event: Event) -> None:
        """Deliver an event to a group, or, within SPREAD seconds, to all channels of this process."""
        if group is not None:
            self.deliver(group, event)
        elif not self.is_catching_up:
            self.is_catching_up = True
            loop = asyncio.get_running_loop()
            for name, channel in self.channels.items():
                loop.call_later(random.uniform(0, SPREAD), self.put, name, channel, event)  # noqa: S311
            loop.call_later(SPREAD, self.has_caught_up)

    def put(self, name: str, channel: Channel, event: Event) -> None:
        """Put an event into the queue of a channel, if it still exists."""
        if self.channels.get(name) is channel:
            channel.put(event)

    def has_caught_up(self) -> None:
        """All channels have got the event."""
        self.is_catching_up = False


class Link:
    """Publishes events on one Redis channel and receives those of the other processes. It reconnects by itself."""

    def __init__(self, url: str, receive: Callable[[str | None, Event], None]) -> None:
        """Connect soon. `receive` is called with a group, or None for all sockets, and an event."""
        self.url, self.receive = url, receive
        self.loop = asyncio.get_running_loop()
        self.id = secrets.token_hex(8)
        self.timeout: float = TIMEOUT
        self.is_lost = self.is_connected = False
        self.unsent: list[tuple[str | None, Event]] = []
        self.has_unsent = asyncio.Event()
        self.sent: asyncio.Future[None] = self.loop.create_future()
        self.failures = 0
        self.task = asyncio.create_task(self.run())

    async def send(self, group: str | None, event: Event) -> None:
        """Publish an event, together with others that wait. It is dropped while Redis does not answer."""
        if self.is_lost or len(self.unsent) >= MAX_UNSENT:
            return
        self.unsent.append((group, event))
        self.has_unsent.set()
        await asyncio.shield(self.sent)

    async def run(self) -> None:
        """Connect, and connect again whenever the connection has failed, until cancelled."""
        while True:
            try:
                await first_of(self.connect())
            except Exception as error:  # any error of the library: nothing may end this loop
                self.lose(error)
            delay = min(MAX_DELAY, 0.25 * 2 ** min(self.failures, 10))
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            self.failures += 1

    async def connect(self) -> None:
        """Subscribe, publish and receive until an error."""
        redis = Redis.from_url(self.url, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0))
        options = redis.connection_pool.connection_kwargs
        self.timeout, options["socket_timeout"] = options.get("socket_timeout") or TIMEOUT, None
        # Redis channels are shared by all databases of a server. The database's number in the name keeps installations
        # with different databases apart.
        name = f"chatsite-{options.get('db') or 0}"
        async with redis, redis.pubsub() as subscription:
            async with asyncio.timeout(self.timeout):
                await subscription.subscribe(name)
                self.read(await subscription.get_message(timeout=None))
            self.find()
            await first_of(self.listen(subscription), self.publish(redis, name))

    async def listen(self, subscription: PubSub) -> None:
        """Receive events until an error, also until Redis is silent."""
        while True:
            message = await subscription.get_message(timeout=SILENCE)
            if message is None:
                async with asyncio.timeout(self.timeout):
                    await subscription.ping()
                    message = await subscription.get_message(timeout=None)
            self.read(message)

    def read(self, message: dict[str, Any] | None) -> None:
        """Pass on the events of a message that another process has published, and ignore answers of Redis."""
        if message is None or message["type"] != "message":
            return
        try:
            sender, events = json.loads(message["data"])
            if sender != self.id:
                for group, event in events:
                    if is_known({**event}, group):
                        self.receive(group, event)
        except (ValueError, TypeError, KeyError, RecursionError):  # of another version, for example
            logger.warning("A message in Redis was not understood, and is ignored.")

    async def publish(self, redis: "Redis", name: str) -> None:
        """Publish what waits, all in one message, until an error."""
        while True:
            await self.has_unsent.wait()
            self.has_unsent.clear()
            unsent, self.unsent = self.unsent, []
            sent, self.sent = self.sent, self.loop.create_future()
            try:
                async with asyncio.timeout(self.timeout):
                    await redis.publish(name, json.dumps([self.id, unsent]))
            finally:
                sent.set_result(None)

    def lose(self, error: Exception) -> None:
        """Record that Redis does not answer; drop what waits to be published. Logged once."""
        if not self.is_lost:
            reason = f"{type(error).__name__}: {error}"
            logger.error("Redis is unavailable: events reach the sockets of other processes late. %s", reason)
        self.is_lost, self.is_connected = True, False
        self.unsent.clear()
        self.has_unsent.clear()
        self.sent.set_result(None)
        self.sent = self.loop.create_future()

    def find(self) -> None:
        """Record that Redis answers. If it did not before, let the sockets of all processes check for missed events."""
        self.failures, self.is_connected = 0, True
        if self.is_lost:
            self.is_lost = False
            logger.info("Redis is available again.")
            self.receive(None, RECHECK)
            self.unsent.append((None, RECHECK))
            self.has_unsent.set()


def is_known(event: Event, group: str | None) -> bool:
    """Whether an event from Redis is one that this version sends. Others may be of a later version, or of strangers.

    Channels would call whatever method of a socket the event names, also those for what its client sends.
    """
    if event.get("type") == "ring":
        return group is not None and type(event.get("last")) is int  # and no bool
    return bool(event.get("type") == "recheck")


async def first_of(*functions: Coroutine[Any, Any, None]) -> None:
    """Run coroutines as tasks until one of them has returned or failed, and end the others. Raises its exception."""
    tasks = [asyncio.create_task(function) for function in functions]
    for task in tasks:  # otherwise asyncio logs exceptions that are never retrieved
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()  # all of them, also if this is cancelled again while it waits for their ends
        for task in tasks:
            await end(task)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in filter(None, errors):
        raise error


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a task until it has ended: redis-py may swallow a cancellation, for example in `asyncio.wait_for`."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
