"""`make flood`: many widgets listen and poll while others write. Every widget must see every acknowledged message.

Starts a server on this machine, for a fixed number of messages. Exits with 1 if a widget lost, doubled or
reordered a message. A ring that does not arrive is no error: it is counted, and polling must make up for it.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

from websockets.asyncio.client import connect

from tests.bench.client import CONNECTIONS, LENGTH, Answer, Unexpected, get, post_json
from tests.bench.server import Server, run

RETRIED = 0.1
"""The share of messages that are sent a second time, as if the response had been lost."""


class Client:
    """A pool of connections to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self) -> "Client":
        for _ in range(CONNECTIONS):
            self.idle.put_nowait(await asyncio.open_connection("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        while not self.idle.empty():
            _, writer = self.idle.get_nowait()
            writer.close()
            await writer.wait_closed()

    async def ask(self, request: bytes) -> Answer:
        """Send a request on an idle connection, and return its response."""
        reader, writer = connection = await self.idle.get()
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.idle.put_nowait(connection)
        now = time.perf_counter()
        return Answer(int(head[9:12]), body, now, now - began)


@dataclass
class Talk:
    """A conversation, and its acknowledged messages by id."""

    uuid: str
    acknowledged: dict[int, str] = field(default_factory=dict)


@dataclass
class Widget:
    """A client with a WebSocket, which fetches new messages when the doorbell rings."""

    talk: Talk
    client: Client
    seen: list[tuple[int, str]] = field(default_factory=list)
    rings: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    async def listen(self, url: str, connected: asyncio.Semaphore) -> None:
        """Listen for rings until cancelled."""
        address = f"{url.replace('http', 'ws', 1)}/ws/messages/{self.talk.uuid}/"
        async with connected:
            socket = await connect(address, origin=url, compression=None, ping_interval=None, open_timeout=60)  # type: ignore[arg-type]
        async with socket:
            async for _ in socket:
                self.rings += 1
                self.news.set()

    async def keep_fetching(self) -> None:
        """Fetch after every ring, and once more at the end."""
        while not self.stopped:
            await self.news.wait()
            self.news.clear()
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


async def post(client: Client, talk: Talk, content: str) -> None:
    """Post a message, and sometimes post it again as if the response had been lost."""
    message = {"content": content, "conversation": talk.uuid, "client_id": str(uuid4())}
    for _ in range(2 if random.random() < RETRIED else 1):
        answer = await client.ask(post_json("/api/messages/", message))
        if answer.status != 200:
            raise Unexpected(f"{answer.status}: {answer.body[:300]!r}")
        talk.acknowledged |= {item["id"]: content for item in answer.json()["items"] if item["content"] == content}


async def write(client: Client, talks: list[Talk], writer: str, messages: int) -> None:
    """Post messages to random conversations."""
    for number in range(1, messages + 1):
        await post(client, random.choice(talks), f"{writer} {number}")


async def begin(client: Client, number: int) -> Talk:
    """Start a conversation."""
    answer = await client.ask(post_json("/api/messages/", {"content": f"first-{number} 0"}))
    item = answer.json()["items"][0]
    return Talk(item["conversation"], {item["id"]: item["content"]})


async def until(condition: Callable[[], bool], tasks: list[asyncio.Task[None]], seconds: float) -> None:
    """Wait for a condition, for so many seconds at most. Raises what a task raised."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.02)


async def flood(server: Server, listeners: int, conversations: int, writers: int, messages: int) -> bool:
    """Run it, print the results, and return whether every widget has seen every message."""
    async with Client(server.port) as writing, Client(server.port) as reading:
        talks = [await begin(writing, number) for number in range(conversations)]
        widgets = [Widget(talks[number % conversations], reading) for number in range(listeners)]
        connecting = asyncio.Semaphore(32)
        began = time.perf_counter()
        listening = [asyncio.create_task(widget.listen(server.url, connecting)) for widget in widgets]
        fetching = [asyncio.create_task(widget.keep_fetching()) for widget in widgets]
        await until(lambda: all(widget.is_complete for widget in widgets), listening + fetching, 60)
        print(f"{listeners} sockets are open after {time.perf_counter() - began:.1f} s: {server.size()}", flush=True)

        began, cpu, rung = time.perf_counter(), server.cpu(), sum(widget.rings for widget in widgets)
        each = messages // writers
        await asyncio.gather(*[write(writing, talks, f"writer-{number}", each) for number in range(writers)])
        written = time.perf_counter() - began
        await until(lambda: all(widget.is_complete for widget in widgets), listening + fetching, 30)
        shown = time.perf_counter() - began
        cpu, size, rung = server.cpu() - cpu, server.size(), sum(widget.rings for widget in widgets) - rung
        late = sum(not widget.is_complete for widget in widgets)

        for widget in widgets:
            widget.stopped = True
            widget.news.set()
        await asyncio.gather(*fetching)
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)

    due = sum(len(widget.talk.acknowledged) - 1 for widget in widgets)
    faults = sum((widget.faults() for widget in widgets), Counter[str]())
    print(f"{each * writers} messages were written in {written:.1f} s and on all screens after {shown:.1f} s")
    print(
        f"{rung} rings arrived, where {due} messages had a screen to reach; {late} screens needed a poll to be complete"
    )
    print(f"the server used {cpu:.1f} s of processor time, and then had {size}")
    print(", ".join(f"{fault} {faults[fault]}" for fault in ("lost", "doubled", "misordered", "invented")))
    return not faults.total()


def main() -> None:
    """Flood a server; exit with 1 if a message was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="make flood", description=__doc__)
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--messages", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatsite-flood-") as where:
        url = f"sqlite:///{where}/flood.sqlite3"
        run("manage.py", "migrate", "--verbosity", "0", url=url)
        with Server(url) as server:
            correct = asyncio.run(
                flood(server, options.listeners, options.conversations, options.writers, options.messages)
            )
    sys.exit(0 if correct else 1)


if __name__ == "__main__":
    main()
