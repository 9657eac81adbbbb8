"""Channel layers: groups of sockets in the memory of this process, and a link to other processes through Redis.

The layers of channels_redis subscribe for each socket and each of its groups, one round trip after the other: when
2,000 sockets reconnected at once, only 411 were open after two minutes. Here each process has one subscription, and
joining or leaving a group needs no round trip. Every process receives every event, which has about 100 bytes.

Of the interface of Channels' layers these have `group_send`. Sockets have no queues in them: a queue, a task that waits
for it and the dispatch of Channels take several times as long as writing the ring to the socket.
"""

import asyncio
import json
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conversations.presence.looking import looking
from conversations.redis_client import time_limit

Event = dict[str, Any]
"""What the members of a group are told: a ring, a recheck, or who is typing or looking. All get the same object, which
nobody may change."""

SLICE = 50
"""Members that are told before the event loop does something else, so that a large group delays nobody for long."""

MAX_WAITING = 1000
"""Events that may wait until a large group has been told an earlier one. The oldest are dropped: a heartbeat makes up
for them."""

MAX_RECENT = 100
"""Events of one group that are kept for sockets that join it meanwhile. The oldest are dropped, as above."""

PAUSE = 0.01
"""Seconds between two messages in Redis: events of this time go together. Each message wakes every process."""

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
"""Sent to sockets that may have missed an event: see Doorbell.tell."""

SAID: dict[Any, tuple[dict[str, type], ...]] = {
    "typing": ({"name": str, "on": bool}, {"conversation": int, "who": str}),
    "looking": ({"conversation": int, "agent": int, "who": str, "page": str, "on": bool},),
}
"""What events about people have, in each of their forms: presence/typing.py, presence/looking.py."""

logger = logging.getLogger(__name__)


class Member(Protocol):
    """A socket in groups."""

    def tell(self, event: Event) -> None:
        """Pass on an event to the client, without waiting."""


class ProcessChannelLayer:
    """A channel layer for one process."""

    def __init__(self) -> None:
        """No groups."""
        self.groups: dict[str, dict[Member, None]] = {}
        self.waiting: dict[tuple[Any, ...], tuple[str, Event]] = {}
        self.is_telling = False
        self.recent: dict[str, dict[tuple[Any, ...], Event]] | None = None

    def join(self, group: str, member: Member) -> None:
        """Add a member to a group."""
        self.groups.setdefault(group, {})[member] = None

    def leave(self, group: str, member: Member) -> None:
        """Remove a member from a group, if it is in it."""
        members = self.groups.get(group, {})
        members.pop(member, None)
        if not members:
            self.groups.pop(group, None)

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event to all members of a group, as Channels calls it."""
        self.send_soon([group], event)

    def send_soon(self, groups: Iterable[str], event: Event) -> None:
        """Send an event to all members of these groups, without waiting for other processes."""
        for group in groups:
            self.deliver(group, event)

    def deliver(self, group: str, event: Event) -> None:
        """Tell all members of a group in this process: at once if they are few, otherwise in slices.

        All events pass here, also those of other processes, in the event loop.
        """
        if event.get("type") == "looking":  # for all pages of this process, also if none is in the group yet
            looking.take(event["conversation"], event["page"], event["agent"], event["who"], on=event["on"])
        who = event.get("name") or event.get("page") or event.get("who")
        mentions = tuple(event.get("mentions") or ())
        subject = (event.get("type"), event.get("conversation"), event.get("beside"), mentions, who)
        if self.recent is not None:
            recent = self.recent.setdefault(group, {})
            recent[subject] = event
            if len(recent) > MAX_RECENT:
                del recent[next(iter(recent))]
        members = self.groups.get(group)
        if members is None:
            return
        if len(members) <= SLICE:
            tell(list(members), event)
            return
        # A newer ring of the same conversation replaces one that still waits.
        self.waiting[group, *subject] = (group, event)
        if len(self.waiting) > MAX_WAITING:
            del self.waiting[next(iter(self.waiting))]
        if not self.is_telling:
            self.is_telling = True
            self.tell_next()

    def tell_next(self) -> None:
        """Begin with the event that has waited for longest."""
        if self.waiting:
            group, event = self.waiting.pop(next(iter(self.waiting)))
            self.tell_slice(group, event, iter(list(self.groups.get(group, {}))))
        else:
            self.is_telling = False

    def tell_slice(self, group: str, event: Event, members: Iterable[Member]) -> None:
        """Tell the next SLICE members, and the others after whatever else the event loop has to do."""
        some = list(islice(members, SLICE))
        left = self.groups.get(group, {})
        tell([member for member in some if member in left], event)
        loop = asyncio.get_running_loop()
        if some:
            loop.call_soon(self.tell_slice, group, event, members)
        else:
            self.tell_next()

    async def flush(self) -> None:
        """Nothing waits for other processes."""

    async def close(self) -> None:
        """Nothing is open."""


def tell(members: Iterable[Member], event: Event) -> None:
    """Tell members an event. An error of one is logged and does not concern the others."""
    for member in members:
        try:
            member.tell(event)
        except Exception:
            logger.exception("A socket could not be told an event.")


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

    def join(self, group: str, member: Member) -> None:
        """Add a member to a group, and begin to listen to the other processes."""
        self.open_link()
        super().join(group, member)

    async def group_send(self, group: str, event: Event) -> None:
        """Send an event to all members of a group in all processes. Returns when it is published or given up."""
        self.deliver(group, event)
        await self.open_link().send(group, event)

    def send_soon(self, groups: Iterable[str], event: Event) -> None:
        """Send an event to all members of these groups, without waiting until it is published."""
        link = self.open_link()
        for group in groups:
            self.deliver(group, event)
            link.put(group, event)

    def open_link(self) -> "Link":
        """The link of the running event loop. A management command may run several loops, one after the other."""
        if self.link is None or self.link.loop is not asyncio.get_running_loop():
            self.link = Link(self.url, self.receive_from_others)
        return self.link

    async def flush(self) -> None:
        """Return when all events are published, or given up."""
        if self.link is not None and self.link.loop is asyncio.get_running_loop():
            await self.link.flush()

    async def close(self) -> None:
        """End the link to Redis."""
        if self.link is not None:
            link, self.link = self.link, None
            await end(link.task)

    def receive_from_others(self, group: str | None, event: Event) -> None:
        """Deliver an event to a group, or, within SPREAD seconds, to all members of this process."""
        if group is not None:
            self.deliver(group, event)
        elif not self.is_catching_up:
            self.is_catching_up = True
            loop = asyncio.get_running_loop()
            for member in {member for members in self.groups.values() for member in members}:
                loop.call_later(random.uniform(0, SPREAD), tell, [member], event)  # noqa: S311
            loop.call_later(SPREAD, self.has_caught_up)

    def has_caught_up(self) -> None:
        """All members have been told."""
        self.is_catching_up = False


class Link:
    """Publishes events on one Redis channel and receives those of the other processes. It reconnects by itself."""

    def __init__(self, url: str, receive: Callable[[str | None, Event], None]) -> None:
        """Connect soon. `receive` is called with a group, or None for all sockets, and an event."""
        self.url, self.receive = url, receive
        self.loop = asyncio.get_running_loop()
        self.id = secrets.token_hex(8)
        self.timeout: float = TIMEOUT
        self.is_lost = self.is_connected = self.is_publishing = False
        self.unsent: list[tuple[str | None, Event]] = []
        self.has_unsent = asyncio.Event()
        self.sent: asyncio.Future[None] = self.loop.create_future()
        self.failures = 0
        self.task = asyncio.create_task(self.run())

    async def send(self, group: str | None, event: Event) -> None:
        """Publish an event, and return when it is published or given up."""
        if self.put(group, event):
            await asyncio.shield(self.sent)

    def put(self, group: str | None, event: Event) -> bool:
        """Let an event be published soon, together with others. False if it is dropped: Redis does not answer."""
        if self.is_lost or len(self.unsent) >= MAX_UNSENT:
            return False
        self.unsent.append((group, event))
        self.has_unsent.set()
        return True

    async def flush(self) -> None:
        """Return when all events are published, or given up: Redis does not answer."""
        deadline = self.loop.time() + self.timeout
        while (self.unsent or self.is_publishing) and not self.is_lost and self.loop.time() < deadline:
            await asyncio.sleep(PAUSE / 10)

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
            async with time_limit(self.timeout):
                await subscription.subscribe(name)
                self.read(await subscription.get_message(timeout=None))
            self.find()
            await first_of(self.listen(subscription), self.publish(redis, name))

    async def listen(self, subscription: PubSub) -> None:
        """Receive events until an error, also until Redis is silent."""
        while True:
            message = await subscription.get_message(timeout=SILENCE)
            if message is None:
                async with time_limit(self.timeout):
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
        """Publish what waits, all in one message, at most one in PAUSE seconds, until an error."""
        while True:
            await self.has_unsent.wait()
            self.has_unsent.clear()
            unsent, self.unsent = self.unsent, []
            sent, self.sent = self.sent, self.loop.create_future()
            self.is_publishing = True
            try:
                async with time_limit(self.timeout):
                    await redis.publish(name, json.dumps([self.id, unsent]))
            finally:
                self.is_publishing = False
                sent.set_result(None)
            await asyncio.sleep(PAUSE)

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
    """Whether an event from Redis is one that this version sends. Others may be of a later version, or of strangers."""
    kind = event.get("type")
    if kind == "ring":
        return group is not None and type(event.get("last")) is int  # and no bool
    if kind in SAID:
        return group is not None and any(_has(event, fields) for fields in SAID[kind])
    return bool(kind == "recheck")


def _has(event: Event, fields: dict[str, type]) -> bool:
    return all(type(event.get(field)) is kind for field, kind in fields.items())


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
