"""`python -m tests.bench --log`: the message log beside SQL alone, on SQLite and on PostgreSQL, in one run."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import psutil

from tests.bench.client import ask_all
from tests.bench.data import Talk
from tests.bench.databases import MAIN, SIZES, Database, fill, in_files
from tests.bench.replication import PART
from tests.bench.rounds import fixed_loop, measure, table
from tests.bench.scenarios import Scenario, Widgets, api_poll, empty, status
from tests.bench.server import ROOT, Server, environment
from tests.bench.services import Service, postgresql, redis_server

WRITING = 130
"""Conversations in which somebody writes: in each round three messages in each, as people write."""

WRITERS = 2
"""Processes that post below HTTP."""

KINDS = ("SQLite", "PostgreSQL", "message log")


@dataclass
class Services:
    """PostgreSQL, Redis and the replicator: what they use is counted together."""

    each: list[Service]
    replicator: psutil.Popen

    def processes(self) -> list[psutil.Process]:
        """All of their processes."""
        return [process for service in self.each for process in service.processes()] + [self.replicator]


def run(rounds: int, requests: int, where: Path, entries: int = 20_000, seconds: int = 10) -> Iterator[str]:
    """Measure, and yield what to print.

    entries: messages that are copied, and those of a burst, at most.
    seconds: that the lag is watched, and of the burst.
    """
    with ExitStack() as stack:
        sql = stack.enter_context(postgresql(durable=True))
        (where / "redis").mkdir()
        redis = stack.enter_context(redis_server(where / "redis"))
        databases = {KINDS[0]: in_files([MAIN], where)[MAIN]}
        first = databases[KINDS[1]] = on(sql, "bench")
        sql.sql("CREATE DATABASE log TEMPLATE bench")
        databases[KINDS[2]] = replace(first, url=sql.url.replace("/chat", "/log"))
        log = databases[KINDS[2]].url
        servers = {
            "SQLite": stack.enter_context(Server(databases["SQLite"].url)),
            "PostgreSQL": stack.enter_context(Server(first.url, redis.url)),
            "message log": stack.enter_context(in_log_mode(log, redis.url)),
        }
        yield copied(log, redis.url, entries)
        with replicator(log, redis.url) as process:
            services = Services([sql, redis], process)
            asked = [scenario for kind in KINDS for scenario in scenarios(kind, databases[kind].talks)]
            asked.sort(key=lambda scenario: scenario.name.partition(", ")[0])
            measure(asked, servers, 1, requests // 5)
            figures = measure(asked, servers, rounds, requests, services)  # type: ignore[arg-type]
            yield f"\nMedians of {rounds} rounds; “database” is PostgreSQL, Redis and the replicator:\n"
            yield table(asked, figures, with_service=True)
            yield lagging(log, redis.url, 200, seconds)
            with in_log_mode(log, redis.url) as second:
                talks = databases["message log"].talks[3:-1000:4][:2000]  # nobody has written to them
                yield burst([servers["message log"], second], talks, entries, seconds, log, redis.url)
            yield burst_below_http(log, redis.url, entries, seconds)
        yield f"The fixed loop takes {fixed_loop():.1f} ms."


def on(service: Service, name: str) -> Database:
    """A filled database of PostgreSQL."""
    service.sql(f"CREATE DATABASE {name}")
    url = service.url.replace("/chat", f"/{name}")
    return Database(*SIZES[MAIN], url, fill(SIZES[MAIN], url))


def burst_below_http(url: str, redis: str, number: int, seconds: int) -> str:
    """Posts without requests, at an even pace, by WRITERS processes: what the log itself takes."""
    command = [sys.executable, "-m", "tests.bench.replication", "post", str(number // WRITERS), str(seconds)]
    variables, pipe = {**environment(url, redis), "MESSAGE_LOG": "redis"}, subprocess.PIPE
    writers = [
        subprocess.Popen(command, cwd=ROOT, env=variables, stdin=pipe, stdout=pipe, text=True) for _ in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    at = time.time() + 0.5
    found = [json.loads(writer.communicate(f"{at}\n")[0]) for writer in writers]
    took, left = time.time() - at, ask(url, redis, "waiting")
    times = sorted(each for one in found for each in one["times"])
    cpu = 1000 * sum(one["cpu"] for one in found) / len(times)
    return (
        f"The same below HTTP, {number / seconds:,.0f} a second due for {seconds} s, {WRITERS} processes: "
        f"{len(times):,} acknowledged in {took:.1f} s, {sum(one['failures'] for one in found)} tries failed, "
        f"p50 {times[len(times) // 2]:.0f} ms, p99 {times[int(0.99 * (len(times) - 1))]:.0f} ms from when each was due "
        f"(goal 300), {cpu:.2f} ms of CPU time each with start-up; SQL had all {left['seconds']:.1f} s later (goal 15)"
    )


def in_log_mode(url: str, redis: str, debug: str = "off") -> Server:
    """A server with the message log, which copies nothing itself."""
    return Server(url, redis, MESSAGE_LOG="redis", REPLICATING="off", DEBUG=debug)


def scenarios(kind: str, talks: list[Talk]) -> list[Scenario]:
    """Posts and polls on one kind of database."""
    talks = talks[: -(len(talks) // PART)]  # the others have got messages
    writing = talks[: WRITING * 4 : 4]
    widgets, quiet, fresh = Widgets(writing), talks[1::4][:200], talks[2::4]  # both scenarios know the newest messages
    polls = [api_poll(talk) for talk in writing]  # whoever writes has the chat open
    return [
        Scenario(f"post, {kind}", widgets.posts(), widgets.wrote, 0.4, kind, before=polls),
        Scenario(
            f"post with 64 connections, {kind}", widgets.posts(), widgets.wrote, 0.4, kind, connections=64, before=polls
        ),
        Scenario(f"empty poll, {kind}", map(api_poll, cycle(quiet)), empty, 1, kind, repeated=len(quiet)),
        Scenario(f"first poll, {kind}", map(api_poll, cycle(fresh)), empty, 0.5, kind),
    ]


@contextmanager
def replicator(url: str, redis: str) -> Iterator[psutil.Popen]:
    """A `manage.py replicate`."""
    variables = {**environment(url, redis), "MESSAGE_LOG": "redis"}
    process = psutil.Popen(
        [sys.executable, "manage.py", "replicate"], cwd=ROOT, env=variables, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def ask(url: str, redis: str, *arguments: object) -> dict[str, float]:
    """What tests/bench/replication.py prints."""
    command = [sys.executable, "-m", "tests.bench.replication", *map(str, arguments)]
    variables = {**environment(url, redis), "MESSAGE_LOG": "redis"}
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def copied(url: str, redis: str, entries: int) -> str:
    """How fast a replicator copies what has waited."""
    found = ask(url, redis, "copy", entries)
    return (
        f"\nCopied into PostgreSQL: {found['rate']:,.0f} messages a second, {found['per core']:,.0f} in a second of "
        f"the replicator's CPU time (goal 3,000); {entries:,} entries in a {PART}th of the conversations"
    )


def lagging(url: str, redis: str, rate: int, seconds: int) -> str:
    """How late SQL has messages."""
    found = ask(url, redis, "lag", rate, seconds)
    return (
        f"\nFrom the acknowledgement until SQL has it, {found['rate']:.0f} messages a second (goal 30 / 100 ms): "
        f"p50 {found['p50']:.0f} ms, p95 {found['p95']:.0f} ms, worst {found['worst']:.0f} ms"
    )


def burst(servers: list[Server], talks: list[Talk], most: int, seconds: float, url: str, redis: str) -> str:
    """As many posts as two servers take, over 64 connections: `most` of them, or for so many seconds.

    Whoever writes has the chat open: each has polled, and either server may get the next message.
    """
    widgets, ports = Widgets(talks), [server.port for server in servers]
    for port in ports:
        ask_all([port], map(api_poll, talks), status(200))
    began = time.perf_counter()

    def until(requests: Iterator[bytes]) -> Iterator[bytes]:
        for request in islice(requests, most):
            if time.perf_counter() - began > seconds:
                return
            yield request

    load = ask_all(ports, until(widgets.posts()), widgets.wrote, 64)
    left = ask(url, redis, "waiting")
    number = len(load.each)
    return (
        f"A burst at two servers, 64 connections: {number:,} messages in {load.seconds:.1f} s, "
        f"{number / load.seconds:,.0f} a second, p50 {load.percentile(50):.0f} ms, p99 {load.percentile(99):.0f} ms; "
        f"SQL had the last {left['entries']:,.0f} {left['seconds']:.1f} s later"
    )
