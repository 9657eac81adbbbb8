"""Widgets that listen with a socket or poll without one, and what is wrong with what they show."""

import asyncio
import random
import time
from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.bench.client import get
from tests.flood.client import Client

COME_BACK = 10
"""Seconds within which a page opens a new socket after the server has closed the one before: static/js/door-bell.js."""


@dataclass
class Talk:
    """A conversation, and its acknowledged messages by id."""

    uuid: str
    acknowledged: dict[int, str] = field(default_factory=dict)


@dataclass
class Sockets:
    """How widgets open their sockets, and what has happened to these."""

    url: str
    spread: float = COME_BACK
    connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(32))
    open: int = 0
    closed: Counter[int] = field(default_factory=Counter)  # by the server, with this code
    returns: list[tuple[float, float]] = field(default_factory=list)  # when one was back, and how long it was away

    async def connect(self, talk: Talk) -> ClientConnection:
        """Open a socket. Raises OSError or InvalidHandshake if the server refuses it."""
        address = f"{self.url.replace('http', 'ws', 1)}/ws/messages/{talk.uuid}/"
        origin = self.url
        return await connect(address, origin=origin, compression=None, ping_interval=None, open_timeout=60)  # type: ignore[arg-type]

    def spread_of_returns(self) -> str:
        """Over how many seconds sockets came back, and how many in the busiest second."""
        times = sorted(at for at, _away in self.returns)
        busiest = max((bisect_right(times, at + 1) - number for number, at in enumerate(times)), default=0)
        longest = max((away for _at, away in self.returns), default=0)
        return (
            f"they came back over {times[-1] - times[0]:.1f} s, at most {busiest} in a second, and none was away for "
            f"longer than {longest:.1f} s"
        )


@dataclass
class Widget:
    """A client that fetches new messages when its doorbell rings, or now and then."""

    talk: Talk
    client: Client
    seen: list[tuple[int, str]] = field(default_factory=list)
    rings: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    async def listen(self, sockets: Sockets) -> None:
        """Listen for rings until cancelled. When the server closes the socket, open another one at a random moment."""
        async with sockets.connecting:  # all at once only after a server has ended
            socket = await sockets.connect(self.talk)
        away_since = 0.0
        while True:
            async with socket:
                await self.hear(socket, sockets, away_since)
            away_since = time.perf_counter()
            await asyncio.sleep(random.uniform(0, sockets.spread))
            socket = await sockets.connect(self.talk)

    async def hear(self, socket: ClientConnection, sockets: Sockets, away_since: float) -> None:
        """Note each ring, until the server closes the socket."""
        is_open = False
        try:
            while True:
                await socket.recv()
                self.rings += 1
                self.news.set()
                if not is_open:
                    is_open, sockets.open = True, sockets.open + 1
                    if away_since:
                        sockets.returns.append((now := time.perf_counter(), now - away_since))
        except ConnectionClosed as closed:
            sockets.closed[closed.rcvd.code if closed.rcvd else 1006] += 1
        finally:
            sockets.open -= is_open

    async def keep_fetching(self) -> None:
        """Fetch after every ring, and once more at the end."""
        while not self.stopped:
            await self.news.wait()
            self.news.clear()
            await self.fetch()

    async def keep_polling(self, seconds: float) -> None:
        """Fetch about every so many seconds, and once more at the end."""
        while not self.stopped:
            await self.fetch()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), seconds * random.uniform(0.9, 1.1))
        await self.fetch()

    @property
    def is_complete(self) -> bool:
        """Whether it has as many messages as were acknowledged."""
        return len(self.seen) >= len(self.talk.acknowledged)

    async def fetch(self) -> None:
        """Fetch new messages until there are none."""
        while True:
            last = self.seen[-1][0] if self.seen else 0
            items = (await self.client.ask(get(f"/api/messages/{self.talk.uuid}/?since={last}"))).json()["items"]
            self.seen += [(item["id"], item["content"]) for item in items]
            if not items:
                return

    def faults(self) -> Counter[str]:
        """How many messages were lost, doubled, out of order or invented."""
        ids = [pk for pk, _ in self.seen]
        truth, shown = set(self.talk.acknowledged.items()), set(self.seen)
        contents = Counter(content for _, content in shown)
        return Counter(
            lost=len(truth - shown),
            doubled=len(ids) - len(set(ids)) + sum(number - 1 for number in contents.values()),
            misordered=sum(one > other for one, other in pairwise(ids)) + self.out_of_order(),
            invented=len(shown - truth),
        )

    def out_of_order(self) -> int:
        """How often a message comes after a later one of the same writer."""
        latest: dict[str, int] = {}
        wrong = 0
        for _, content in self.seen:
            writer, _, number = content.partition(" ")
            wrong += int(number) < latest.get(writer, 0)
            latest[writer] = int(number)
        return wrong
