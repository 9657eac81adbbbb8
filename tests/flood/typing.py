"""`python -m tests.flood --typing`: what it costs the server that everybody types, beside what is sent."""

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from tempfile import TemporaryDirectory

from websockets.asyncio.client import ClientConnection, connect

from tests.bench.client import CONNECTIONS, get, post_json
from tests.bench.server import Server, collect_static_files, run
from tests.bench.sockets import HEARTBEAT
from tests.flood.client import Client, Connection
from tests.flood.widgets import Sockets, Talk

AGENTS = """
from django.contrib.auth.models import User
from conversations.models import Agent, Conversation, Token
agents = [Agent.objects.promote(User.objects.create(username=f"agent{n}", first_name=f"Agent {n}")) for n in range(%d)]
print(",".join(Token.objects.issue(agent, "typing", "WRITE") for agent in agents))
print(",".join(str(pk) for pk in Conversation.objects.order_by("pk").values_list("pk", flat=True)))
"""
"""Makes agents. Prints their tokens, and the numbers of all conversations."""

TYPES = LOOKS = 7
"""Seconds after which a page says again that somebody types, or looks: static/js/typing-line.js, who-is-here.js."""

ADDED = 0.2
"""The share of CPU time that typing may add."""

BUSY = 0.5
"""The share of one core that all of it may take."""


@dataclass
class House:
    """Everybody who is there, and what they have heard."""

    customers: list[tuple[Talk, ClientConnection]] = field(default_factory=list)
    agents: list[tuple[int, ClientConnection]] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


async def listen(house: House, socket: ClientConnection, client: Client | None, path: str = "") -> None:
    """Count what is heard on a socket; with a client, fetch what a ring announces."""
    async for text in socket:
        heard = json.loads(text)
        house.heard[heard["type"]] += 1
        if client and heard["type"] == "messages":
            await client.ask(get(f"{path}?since={heard['last'] - 1}"))


async def repeat(socket: ClientConnection, seconds: float, **said: object) -> None:
    """Say something again and again, first at a random moment."""
    await asyncio.sleep(random.uniform(0, seconds))
    while True:
        await socket.send(json.dumps(said))
        await asyncio.sleep(seconds)


async def write(client: Client, talks: list[Talk], each_second: int) -> None:
    """Post messages at a fixed rate."""
    number, began = 0, time.perf_counter()
    while True:
        number += 1
        talk = random.choice(talks)
        await client.ask(post_json("/api/messages/", {"content": f"message {number}", "conversation": talk.uuid}))
        await asyncio.sleep(max(0, began + number / each_second - time.perf_counter()))


async def measure(server: Server, seconds: float) -> float:
    """The share of one core that the server uses."""
    before, began = server.cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (server.cpu() - before) / (time.perf_counter() - began)


async def fill(server: Server, url: str, customers: int, agents: int) -> tuple[House, Client]:
    """Open the sockets of customers, each in a conversation of their own, and of agents, who look at one each."""
    await Connection(server.port).ask(get("/readyz"))
    client, house, sockets = Client(server.port, CONNECTIONS), House(), Sockets(server.url)
    for customer in range(customers):
        answer = await client.ask(post_json("/api/messages/", {"content": f"first {customer}"}))
        talk = Talk(answer.json()["items"][0]["conversation"])
        house.customers.append((talk, await sockets.connect(talk)))
    tokens, numbers = (await asyncio.to_thread(run, "manage.py", "shell", "-c", AGENTS % agents, url=url)).split()[-2:]
    for token, number in zip(tokens.split(","), numbers.split(","), strict=False):
        header = {"Authorization": f"Bearer {token}"}
        address = f"{server.url.replace('http', 'ws', 1)}/ws/inbox/"
        socket = await connect(address, additional_headers=header, compression=None, ping_interval=None)
        house.agents.append((int(number), socket))
    for talk, socket in house.customers:
        house.tasks.append(asyncio.create_task(listen(house, socket, client, f"/api/messages/{talk.uuid}/")))
    house.tasks += [asyncio.create_task(listen(house, socket, None)) for _, socket in house.agents]
    return house, client


async def compare(server: Server, url: str, customers: int, agents: int, each_second: int, seconds: float) -> bool:
    """Measure by turns without typing and with it, three times each; print it, and return whether it is little."""
    house, client = await fill(server, url, customers, agents)
    talks = [talk for talk, _ in house.customers]
    house.tasks.append(asyncio.create_task(write(client, talks, each_second)))
    quiet, busy = list[float](), list[float]()
    for _ in range(3):
        quiet.append(await measure(server, seconds))
        typing = [asyncio.create_task(repeat(socket, TYPES, type="typing", on=True)) for _, socket in house.customers]
        for number, socket in house.agents:
            typing.append(asyncio.create_task(repeat(socket, LOOKS, type="looking", conversation=number)))
            typing.append(asyncio.create_task(repeat(socket, TYPES, type="typing", on=True)))
        await asyncio.sleep(min(LOOKS, 2 * seconds))
        busy.append(await measure(server, seconds))
        for task in typing:
            task.cancel()
        await asyncio.sleep(min(2, seconds))
    for task in house.tasks:
        if task.done():
            task.result()  # raises what it has raised
        task.cancel()
    await asyncio.gather(*(socket.close() for _, socket in [*house.customers, *house.agents]))
    client.close()
    without, with_typing = median(quiet), median(busy)
    added = with_typing / without - 1
    print(
        f"{customers} customers, {agents} agents, {each_second} messages a second: {100 * without:.1f} % of a core; "
        f"while everybody types {100 * with_typing:.1f} %, {100 * added:+.0f} % ({dict(house.heard)} heard)"
    )
    return with_typing <= BUSY and added <= ADDED


def run_typing(
    customers: int = 500, agents: int = 50, each_second: int = 20, seconds: float = HEARTBEAT, debug: bool = False
) -> bool:
    """Start a server on SQLite and compare. `debug` saves the time of collectstatic.

    In `seconds`, each socket has one heartbeat: most come at the same moment, and would be in some measurements only.
    """
    with ExitStack() as stack:
        where = stack.enter_context(TemporaryDirectory(prefix="chatsite-typing-"))
        url = f"sqlite:///{where}/typing.sqlite3"
        run("manage.py", "migrate", "--verbosity", "0", url=url)
        if not debug:
            collect_static_files(url)
        server = stack.enter_context(Server(url, FILES=where, DEBUG="on" if debug else "off"))
        return asyncio.run(compare(server, url, customers, agents, each_second, seconds))
