"""A server with many open pages stops, and all of them reconnect to another one: `python -m tests.soak.storm`.

Two processes on one database and one Redis. Pages wait before they reconnect, as static/js/door-bell.js does. Meanwhile
a separate process measures how long requests of other clients take.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from chatsite.serving.server import allow_open_files
from tests.conftest import Server
from tests.services import redis_server

RESTART, POLL, MAX_DELAY = 10.0, 3.0, 30.0
"""Seconds, as in static/js/door-bell.js."""

PROBES = 20
"""Requests per second of other clients."""


@dataclass
class Storm:
    """Counters of all pages."""

    url: str
    spread: float
    open: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[int | None] = field(default_factory=Counter)


@dataclass
class Page:
    """Simulates a customer's page: its socket and its polls."""

    storm: Storm
    number: int
    uuid: str
    last: int  # its cursor
    tries: int = 0
    polls_at: float = 0

    def headers(self) -> dict[str, str]:
        """The headers of a request. Each page has its own IP address, as behind a proxy."""
        address = f"10.1.{self.number // 250}.{self.number % 250}"
        return {"Cookie": f"chat={self.uuid.replace('-', '')}", "X-Forwarded-For": address}

    async def live(self) -> None:
        """Keep a socket open, and fetch new messages whenever it rings, until cancelled."""
        while True:
            code = await self.listen()
            wait = random.uniform(0, min(MAX_DELAY, 2**self.tries))
            looks = 0.0
            if code in {1012, 1006} and self.storm.spread:
                wait = random.uniform(0, self.storm.spread)
                looks = wait + POLL
            self.tries += 1
            polling = asyncio.create_task(self.poll(looks))
            await asyncio.sleep(wait)
            polling.cancel()

    async def listen(self) -> int | None:
        """Open the socket, and fetch after each ring. Returns the close code, or None if it was refused."""
        storm = self.storm
        try:
            async with connect(
                storm.url.replace("http", "ws") + "/ws/chat/",
                origin=storm.url,  # type: ignore[arg-type]
                additional_headers=self.headers(),
                compression=None,
                ping_interval=None,
                open_timeout=60,
                close_timeout=1,
            ) as socket:
                is_open = False
                try:
                    while True:
                        await socket.recv()
                        if not is_open:
                            self.tries, is_open = 0, True
                            storm.open += 1
                        await self.look()
                except ConnectionClosed:
                    storm.open -= is_open
            storm.codes[socket.close_code] += 1
            return socket.close_code
        except (OSError, InvalidHandshake, EOFError) as error:
            storm.refused[str(error) or type(error).__name__] += 1
            return None

    async def poll(self, wait: float) -> None:
        """Poll while there is no socket."""
        while True:
            await asyncio.sleep(wait)
            await self.look()
            wait = POLL * random.uniform(0.9, 1.1)

    async def look(self) -> None:
        """Fetch new messages, on a new connection."""
        host, _, port = self.storm.url.rpartition("/")[2].partition(":")
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /chat/messages/?since={self.last} HTTP/1.0\r\nHost: {host}\r\n{head}\r\n".encode())
            answer = await reader.read()
            writer.close()
            self.storm.statuses[int(answer.split()[1])] += 1
        except (OSError, IndexError):
            self.storm.statuses[0] += 1


def probe(port: int, uuid: str, last: int, where: str) -> list[float]:
    """Poll and post as other clients do until `where` has the file "stop"; returns the seconds of each request."""
    seconds, number = [], 0
    Path(f"{where}/started").touch()
    while not Path(f"{where}/stop").exists():
        began, number = time.perf_counter(), number + 1
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        head = {"X-Forwarded-For": f"10.2.0.{number % 250}", "Content-Type": "application/json"}
        with suppress(OSError):  # counts as 60 s
            if number % 5:
                client.request("GET", f"/api/messages/{uuid}/?since={last}", headers=head)
            else:
                client.request("POST", "/api/messages/", json.dumps({"content": "x", "conversation": uuid}), head)
            client.getresponse().read()
        seconds.append(time.perf_counter() - began)
        client.close()
        time.sleep(max(0, 1 / PROBES - (time.perf_counter() - began)))
    return seconds


@dataclass
class Outcome:
    """The results of a storm."""

    pages: int
    back: int
    seconds: float
    refused: Counter[str]
    statuses: Counter[int]
    codes: Counter[int | None]
    probes: list[float]
    stopped: float
    cpu: float
    log: int

    @property
    def p99(self) -> float:
        """The 99th percentile of the seconds that requests of other clients took."""
        return quantiles(self.probes, n=100)[98]

    def __str__(self) -> str:
        return (
            f"{self.back} of {self.pages} pages are back after {self.seconds:.1f} s; refused {dict(self.refused)}; "
            f"closed {dict(self.codes)}; looks {dict(self.statuses)}; the first server took {self.stopped:.1f} s to "
            f"end, the other {self.cpu:.1f} s of processor time; {len(self.probes)} requests of others: median "
            f"{median(self.probes) * 1000:.0f} ms, p99 {self.p99 * 1000:.0f} ms, "
            f"most {max(self.probes) * 1000:.0f} ms; log {self.log:,} bytes; load {os.getloadavg()[0]:.1f}"
        )


Talk = tuple[str, int]
"""A conversation: its uuid, and the id of its message."""


def conversations(server: Server, number: int) -> list[Talk]:
    """Begin conversations."""
    code = (
        "import json\nfrom conversations.actions import post_message\n"
        f"messages = [post_message(content='Hi') for _ in range({number})]\n"
        "print(json.dumps([(str(message.conversation.uuid), message.pk) for message in messages]))"
    )
    return [(uuid, last) for uuid, last in json.loads(server.manage("shell", "--no-imports", "-v", "0", "-c", code))]


async def rage(first: Server, second: Server, talks: list[Talk], spread: float, fault: str, most: float) -> Outcome:
    """Open pages on the first server, stop it, and wait up to `most` seconds until they reconnect to the second."""
    storm = Storm(first.url, spread)
    pages = [Page(storm, number, *talk) for number, talk in enumerate(talks)]
    tasks = []
    for start in range(0, len(pages), 20):
        tasks += [asyncio.create_task(page.live()) for page in pages[start : start + 20]]
        await asyncio.sleep(0.1)
    deadline = time.monotonic() + 120
    while storm.open < len(pages) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert storm.open == len(pages), f"Only {storm.open} sockets could be opened: {storm.refused}"
    await asyncio.sleep(2)
    assert first.process
    assert second.process
    cpu = psutil.Process(second.process.pid).cpu_times()
    storm.statuses.clear()
    with tempfile.TemporaryDirectory() as where, ProcessPoolExecutor(1, get_context("spawn")) as executor:
        probing: Future[list[float]] = executor.submit(probe, second.port, *talks[0], where)
        while not Path(f"{where}/started").exists():
            await asyncio.sleep(0.05)
        storm.url = second.url
        began = time.monotonic()
        ended = asyncio.create_task(asyncio.to_thread(stop, first, fault))
        await asyncio.sleep(0.2)
        while (storm.open < len(pages) or not ended.done()) and time.monotonic() < began + most:
            await asyncio.sleep(0.05)
        seconds, back = time.monotonic() - began, storm.open
        Path(f"{where}/stop").touch()
        probes = await asyncio.to_thread(probing.result)
        stopped = await ended
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    times: Any = psutil.Process(second.process.pid).cpu_times()
    used = times.user + times.system - cpu.user - cpu.system
    return Outcome(len(pages), back, seconds, storm.refused, storm.statuses, storm.codes, probes, stopped, used, 0)


def stop(server: Server, fault: str) -> float:
    """End a server; returns the seconds that it took."""
    began = time.monotonic()
    assert server.process
    getattr(server.process, fault)()
    server.process.wait(120)
    return time.monotonic() - began


def run(
    pages: int,
    *,
    fault: str = "terminate",
    spread: float = RESTART,
    most: float = 120,
    database: str = "",
    debug: bool = False,
) -> Outcome:
    """Start two servers and Redis, and run a storm. `fault` is terminate (SIGTERM) or kill.

    `debug` saves the time of collectstatic, but then each query costs twice as much.
    """
    allow_open_files()
    with tempfile.TemporaryDirectory(prefix="chatsite-storm-") as where, redis_server() as redis:
        log = Path(where) / "log"
        environment = {
            "DEBUG": "on" if debug else "off",
            "SECRET_KEY": "for-measuring-only-" + "x" * 40,
            "ALLOWED_HOSTS": "127.0.0.1",
            "INSECURE_HTTP": "on",
            "TRUSTED_PROXIES": "1",
            "RATE_LIMITS": "off",
            "DATABASE_URL": database or f"sqlite:///{where}/storm.sqlite3",
            "REDIS_URL": redis.url,
            "FILES": where,
            "STATIC_ROOT": f"{where}/static",
        }
        servers = [Server(environment), Server(environment)]
        servers[0].manage("migrate", "--verbosity", "0")
        if not debug:
            servers[0].manage("collectstatic", "--no-input", "--verbosity", "0")
        talks = conversations(servers[0], pages)
        saved = os.dup(2)
        try:
            for server in servers:
                with log.open("ab") as errors:
                    os.dup2(errors.fileno(), 2)  # the server inherits it
                    try:
                        server.start()
                    finally:
                        os.dup2(saved, 2)
            outcome = asyncio.run(rage(servers[0], servers[1], talks, spread, fault, most))
            outcome.log = log.stat().st_size
            return outcome
        finally:
            for server in servers:
                if server.process and server.process.poll() is None:
                    server.kill()
            os.close(saved)


def main() -> None:
    """Run storms; exit with 1 if a page did not reconnect within 30 s, or requests of other clients were slow."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.storm", description=__doc__)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--fault", choices=["terminate", "kill"], action="append")
    parser.add_argument("--spread", type=float, default=RESTART, help="seconds; 0 for exponential backoff")
    parser.add_argument("--most", type=float, default=120, help="seconds to wait")
    parser.add_argument("--database", default="", help="a DATABASE_URL, by default of an SQLite file")
    options = parser.parse_args()
    failed = False
    for fault in options.fault or ["terminate", "kill"]:
        outcome = run(options.pages, fault=fault, spread=options.spread, most=options.most, database=options.database)
        print(f"{fault}: {outcome}", flush=True)
        failed |= outcome.back < outcome.pages or outcome.seconds > 30 or bool(outcome.refused) or outcome.p99 > 0.3
    sys.exit(failed)


if __name__ == "__main__":
    main()
