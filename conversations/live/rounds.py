"""Checks what open sockets may hear: together for all that are due, and not each by itself.

Each socket by itself would need a timer, a task, a change of threads and a query for every heartbeat.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from itertools import islice
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from conversations.live.channel_layer import SLICE

HEARTBEAT = 25
"""Seconds between heartbeats. Each sends `last`, which makes up for a lost ring, and checks access again."""

TIMEOUT = 25
"""Seconds that the database may take to look up the sockets of one batch."""

SLOTS = 25
"""The parts of a heartbeat: the sockets of one slot are due together, which is once in a second."""

BATCH = 200
"""Sockets that are looked up in one query."""

Subscription = tuple[tuple[str, ...], int]
"""The groups that a socket is in, and the id of the last message in their conversations."""

Found = Subscription | None | Exception
"""What is looked up for a socket: None if it has access to nothing."""

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """An open socket."""

    slot: int | None

    def hear(self, found: Found) -> None:
        """Take what was looked up."""


class Rounds:
    """The open sockets of one event loop, in slots. Every second those of the next slot are looked up."""

    def __init__(self, look_up: Callable[[Sequence[Any]], list[Found]]) -> None:
        """`look_up` returns, in a thread, what there is for each of some sockets."""
        self.look_up_in_thread = database_sync_to_async(look_up)
        self.slots: list[set[Listener]] = [set() for _ in range(SLOTS)]
        self.now = 0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: dict[Listener, None] = {}
        self.task: asyncio.Task[None] | None = None

    def enter(self, listener: Listener) -> None:
        """Look up a socket that was just looked up again, in HEARTBEAT seconds and then as often."""
        listener.slot = self.now
        self.slots[self.now].add(listener)
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(HEARTBEAT / SLOTS, self.tick)

    def leave(self, listener: Listener) -> None:
        """Forget a socket."""
        self.waiting.pop(listener, None)
        if listener.slot is not None:
            self.slots[listener.slot].discard(listener)
            listener.slot = None

    def tick(self) -> None:
        """Look up the sockets of the next slot."""
        loop = asyncio.get_running_loop()
        due = self.timer.when() if self.timer else loop.time()
        self.timer = None
        if any(self.slots):
            self.timer = loop.call_at(max(due + HEARTBEAT / SLOTS, loop.time()), self.tick)
        self.now = (self.now + 1) % SLOTS
        self.look_up(self.slots[self.now])

    def look_up(self, listeners: Iterable[Listener]) -> None:
        """Look up these sockets as soon as possible. Those that come meanwhile are the next batch."""
        self.waiting.update(dict.fromkeys(listeners))
        if self.waiting and self.task is None:
            # Not in the context of whoever rings: asgiref refuses to start a thread in that of another thread's call.
            self.task = asyncio.get_running_loop().create_task(self.work(), context=Context())
            self.task.add_done_callback(self.rest)

    def rest(self, task: "asyncio.Task[None]") -> None:
        """Nobody waits any more, except those that have come since the task has looked for the last time."""
        self.task = None
        if not task.cancelled():
            self.look_up(())

    async def work(self) -> None:
        """Look up all that wait, a batch at a time."""
        while self.waiting:
            batch = list(islice(self.waiting, BATCH))
            for listener in batch:
                del self.waiting[listener]
            layer: Any = get_channel_layer()
            # Rings of messages that are written after the query, and before a socket has joined its groups.
            layer.recent = {}
            try:
                await self.tell(batch, await self.find(batch))
            finally:
                layer.recent = None

    async def find(self, batch: list[Listener]) -> list[Found]:
        """Look up a batch. An error is logged once and is the result of each of its sockets."""
        found: list[Found]
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self.look_up_in_thread(batch)
        except Exception as error:
            found = [error] * len(batch)
        failed = [result for result in found if isinstance(result, Exception)]
        if failed:
            sentence = "%s of %s sockets could not be checked; they are checked again in %s seconds."
            logger.error(sentence, len(failed), len(batch), HEARTBEAT, exc_info=failed[0])
        return found

    async def tell(self, batch: list[Listener], found: list[Found]) -> None:
        """Tell the sockets what was found, a slice at a time so that nothing else waits for long."""
        for number, (listener, result) in enumerate(zip(batch, found, strict=True), 1):
            try:
                listener.hear(result)
            except Exception:
                logger.exception("A socket could not be told what it may hear.")
            if number % SLICE == 0:
                await asyncio.sleep(0)


_rounds: "WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds]" = WeakKeyDictionary()


def rounds_of_loop(look_up: Callable[[Sequence[Any]], list[Found]]) -> Rounds:
    """The rounds of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _rounds:
        _rounds[loop] = Rounds(look_up)
    return _rounds[loop]
