"""`make flood`: many widgets listen and poll while others write. Every widget must see every acknowledged message.

Starts a server on this machine. Exits with 1 if a request failed, or if a widget lost, doubled or reordered a message.
A ring that does not arrive is no error: it is counted, and polling must make up for it.

With `--reload`, the server's processes are replaced several times meanwhile (SIGHUP), on a PostgreSQL and a Redis of
their own. Then the writers go on until all sockets are open again.

With `--typing` it measures what it costs that 50 agents and 500 customers type.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import quantiles
from uuid import uuid4

from tests.bench.client import CONNECTIONS, Unexpected, get, post_json
from tests.bench.server import Server, collect_static_files, run
from tests.bench.services import postgresql, redis_server
from tests.flood.client import Client, Connection
from tests.flood.typing import run_typing
from tests.flood.widgets import COME_BACK, Sockets, Talk, Widget

RETRIED = 0.1
"""The share of messages that are sent a second time, as if the response had been lost."""

POLLS = 3, 15
"""Seconds between two polls of a page without a socket, and of a hidden one: static/js/door-bell.js."""

GOING_AWAY = 1012
"""The code with which a server may close sockets, and only when its processes are replaced."""

REPLACED = 120
"""Seconds within which all processes must be replaced, or all sockets be open again."""


@dataclass(frozen=True)
class Plan:
    """How much there is to do."""

    listeners: int = 500
    pollers: int = 0  # each with a connection of its own
    conversations: int = 50
    writers: int = 8
    messages: int = 1000  # at least
    pause: float = 0.0  # seconds between two messages of a writer
    reloads: int = 0
    spread: float = COME_BACK


async def post(client: Client, talk: Talk, content: str) -> None:
    """Post a message, and sometimes post it again as if the response had been lost."""
    message = {"content": content, "conversation": talk.uuid, "client_id": str(uuid4())}
    for _ in range(2 if random.random() < RETRIED else 1):
        answer = await client.ask(post_json("/api/messages/", message))
        talk.acknowledged |= {item["id"]: content for item in answer.json()["items"] if item["content"] == content}


async def write(client: Client, talks: list[Talk], writer: str, plan: Plan, others: "asyncio.Task[None]") -> int:
    """Post messages to random conversations until there are enough and `others` is done. Returns how many."""
    number = 0
    while number < plan.messages // plan.writers or not others.done():
        number += 1
        await post(client, random.choice(talks), f"{writer} {number}")
        await asyncio.sleep(plan.pause)
    return number


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


async def replace(server: Server) -> int:
    """Replace all processes of the server. Returns how many. Raises Unexpected if it takes too long."""
    before = server.children()
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + REPLACED
    while len(now := server.children()) != len(before) or now & before:
        if time.monotonic() > deadline:
            raise Unexpected(f"The processes were not replaced within {REPLACED} s.")
        await asyncio.sleep(0.1)
    return len(before)


async def reload(server: Server, plan: Plan, sockets: Sockets) -> None:
    """Replace all processes of the server, as often as planned, and wait for the sockets after each time."""
    for _ in range(plan.reloads):
        sockets.returns.clear()
        began, closed = time.perf_counter(), sockets.closed.total()
        processes = await replace(server)
        replaced = time.perf_counter() - began
        await until(lambda: sockets.open == plan.listeners, [], REPLACED)
        print(
            f"{processes} processes were replaced in {replaced:.1f} s, which closed {sockets.closed.total() - closed} "
            f"sockets; all were open again after {time.perf_counter() - began:.1f} s: {sockets.spread_of_returns()}",
            flush=True,
        )


async def flood(server: Server, plan: Plan) -> bool:
    """Run it, print the results, and return whether every widget has seen every message."""
    await Connection(server.port).ask(get("/readyz"))  # until then its processes start
    writing, reading = Client(server.port, CONNECTIONS), Client(server.port, CONNECTIONS)
    sockets = Sockets(server.url, plan.spread)
    talks = [await begin(writing, number) for number in range(plan.conversations)]
    widgets = [Widget(talks[number % plan.conversations], reading) for number in range(plan.listeners)]
    pages = [Widget(talks[number % plan.conversations], Client(server.port, 1)) for number in range(plan.pollers)]
    everybody = [*widgets, *pages]
    began = time.perf_counter()
    listening = [asyncio.create_task(widget.listen(sockets)) for widget in widgets]
    fetching = [asyncio.create_task(widget.keep_fetching()) for widget in widgets]
    fetching += [asyncio.create_task(page.keep_polling(POLLS[number % 2])) for number, page in enumerate(pages)]
    tasks = listening + fetching
    await until(lambda: all(widget.is_complete for widget in everybody), tasks, 60)
    size = "" if server.children() else f": {server.size()}"
    print(f"{plan.listeners} sockets are open after {time.perf_counter() - began:.1f} s{size}", flush=True)

    began, cpu, rung = time.perf_counter(), server.cpu(), sum(widget.rings for widget in widgets)
    reloading = asyncio.create_task(reload(server, plan, sockets))
    numbers = [write(writing, talks, f"writer-{number}", plan, reloading) for number in range(plan.writers)]
    writers = asyncio.gather(*numbers)
    await until(writers.done, [*tasks, *([reloading] if plan.reloads else [])], 3600)
    written, messages = time.perf_counter() - began, sum(writers.result())
    await until(lambda: all(widget.is_complete for widget in widgets), tasks, 30)
    shown = time.perf_counter() - began
    cpu, size, rung = server.cpu() - cpu, str(server.size()), sum(widget.rings for widget in widgets) - rung
    late = sum(not widget.is_complete for widget in widgets)

    for widget in everybody:
        widget.stopped = True
        widget.news.set()
    await asyncio.gather(*fetching)
    for task in listening:
        task.cancel()
    await asyncio.wait(listening)
    clients = [writing, reading, *(page.client for page in pages)]
    for client in clients:
        client.close()

    due = sum(len(widget.talk.acknowledged) - 1 for widget in widgets)
    faults = sum((widget.faults() for widget in everybody), Counter[str]())
    faults["closed"] = sockets.closed.total() - (sockets.closed[GOING_AWAY] if plan.reloads else 0)
    print(f"{messages} messages were written in {written:.1f} s and on all screens after {shown:.1f} s")
    print(
        f"{rung} rings arrived, where {due} messages had a screen to reach; {late} screens needed a poll to be complete"
    )
    print(describe_requests(clients))
    if not server.children():
        print(f"the server used {cpu:.1f} s of processor time, and then had {size}")
    print(", ".join(f"{fault} {faults[fault]}" for fault in ("lost", "doubled", "misordered", "invented", "closed")))
    return not faults.total()


def describe_requests(clients: list[Client]) -> str:
    """How many requests there were, how long they took, and how often the server has closed a connection."""
    seconds = [one for client in clients for one in client.seconds]
    connections = [connection for client in clients for connection in client.connections]
    reopened = sum(max(0, connection.opened - 1) for connection in connections)
    p99 = quantiles(seconds, n=100)[98]
    return (
        f"{len(seconds)} requests were answered with 200, 99 % of them within {1000 * p99:.0f} ms, the slowest after "
        f"{1000 * max(seconds):.0f} ms; {reopened} connections had to be opened again, and "
        f"{sum(connection.sent_again for connection in connections)} requests to be sent again"
    )


def run_flood(plan: Plan, processes: int = 1, debug: bool = False) -> bool:
    """Start a server and flood it. Several processes, or such as are replaced, have a PostgreSQL and a Redis.

    `debug` saves the time of collectstatic.
    """
    with ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory(prefix="chatsite-flood-"))
        url, redis = f"sqlite:///{where}/flood.sqlite3", ""
        if processes > 1:
            url, redis = stack.enter_context(postgresql()).url, stack.enter_context(redis_server()).url
        run("manage.py", "migrate", "--verbosity", "0", url=url)
        if not debug:
            collect_static_files(url)
        debugging = "on" if debug else "off"
        server = stack.enter_context(Server(url, redis, PROCESSES=str(processes), FILES=where, DEBUG=debugging))
        return asyncio.run(flood(server, plan))


def main() -> None:
    """Flood a server; exit with 1 if a message was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="make flood", description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--reload", action="store_true", help="replace the processes; at least two are needed")
    parser.add_argument("--reloads", type=int, default=3, help="how often")
    parser.add_argument("--listeners", type=int, default=500)
    parser.add_argument("--pollers", type=int, help="pages without a socket; 50 with --reload, otherwise none")
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--typing", action="store_true", help="measure what typing costs, and nothing else")
    parser.add_argument("--pause", type=float, default=0, help="seconds between two messages of a writer")
    options = parser.parse_args()
    if options.typing:
        sys.exit(0 if run_typing() else 1)
    if options.reload and options.processes < 2:
        parser.error("--reload needs --processes 2 or more")
    plan = Plan(
        options.listeners,
        options.pollers if options.pollers is not None else 50 if options.reload else 0,
        options.conversations,
        options.writers,
        options.messages,
        options.pause,
        options.reloads if options.reload else 0,
    )
    sys.exit(0 if run_flood(plan, options.processes) else 1)


if __name__ == "__main__":
    main()
