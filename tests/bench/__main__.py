"""`make bench`: the CPU time of each kind of request, compared with a plain Django design in the same run."""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from tests.bench import screens
from tests.bench.client import Client
from tests.bench.data import Talk
from tests.bench.scenarios import LARGE, MAIN, PLAIN, SMALL, Scenario, scenarios
from tests.bench.server import ROOT, Server, Size, run

DATABASES = {LARGE: (100_000, 1), MAIN: (10_000, 20), SMALL: (1_000, 20)}
"""Numbers of conversations, and of messages in each. The inbox reads no messages, so LARGE has only one in each."""


Servers = dict[str, Server]


@dataclass(frozen=True)
class Figure:
    """The result of one scenario in one round."""

    cost: float  # ms of the server's CPU time per request
    rate: float  # requests a second


Figures = dict[str, list[Figure]]


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds: under a minute")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--no-browser", action="store_true", help="leave out the delay from screen to screen")
    parser.add_argument("--pin", action="store_true", help="all servers on one core, the client on the others")
    options = parser.parse_args()
    cores = pin() if options.pin else None
    rounds, requests = options.rounds or (2 if options.quick else 5), 500 if options.quick else 1000

    with tempfile.TemporaryDirectory(prefix="chatsite-bench-") as temporary, ExitStack() as servers:
        where = Path(temporary)
        print("Making databases of 1,000, 10,000 and 100,000 conversations ...", flush=True)
        if not static_files_are_fresh():
            run("manage.py", "collectstatic", "--noinput", database=where / MAIN)
        with ThreadPoolExecutor(2) as pool:
            sessions = dict(zip(DATABASES, pool.map(lambda name: fill(where, name), DATABASES), strict=True))
        running = {name: servers.enter_context(Server(database(where, name), cores=cores)) for name in DATABASES}
        running[PLAIN] = servers.enter_context(Server(database(where, MAIN), plain=True, cores=cores))
        total, each = DATABASES[MAIN]
        talks = [Talk(number, total, each) for number in range(1, total + 1)]
        print(machine(where), flush=True)

        asked = scenarios(talks, sessions)
        asyncio.run(measure(asked, running, 1, requests // 5))
        before = settled(running[MAIN])
        figures = asyncio.run(measure(asked, running, rounds, requests))
        print(f"\nMedians of {rounds} rounds of up to {requests:,} requests over 16 connections:\n")
        print(table(asked, figures), flush=True)

        after = settled(running[MAIN])
        extra = 2_000 if options.quick else 10_000
        asyncio.run(run_more(asked, running, extra))
        print(f"\nThe server of 10,000, warmed   {before}")
        print(f"after the rounds               {after}")
        print(f"after {extra:>6,} more              {settled(running[MAIN])}")
        print(f"\nThe fixed loop took {loop():.1f} ms in the end, load {os.getloadavg()[0]:.1f}", flush=True)
        if not options.no_browser:
            print(f"\n{from_screen_to_screen(running[MAIN], sessions[MAIN], 20 if options.quick else 60)}")


def pin() -> set[int]:
    """Keep this process off the first core, and return that core for the servers."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [first])
    return {first}


def settled(server: Server) -> Size:
    """The size of a server once it has noticed that its clients have disconnected."""
    time.sleep(1.5)
    return server.size()


def database(where: Path, name: str) -> Path:
    """The file of the database of this name."""
    return where / f"{DATABASES[name][0]}.sqlite3"


def fill(where: Path, name: str) -> str:
    """Create the database of this name; return the key of an agent's session."""
    total, each = DATABASES[name]
    return run("-m", "tests.bench.data", str(total), str(each), database=database(where, name))


def static_files_are_fresh() -> bool:
    """Whether collectstatic has run since the last change of a static file: it takes half a minute."""
    manifest = ROOT / "build" / "static" / "staticfiles.json"
    sources = [path.stat().st_mtime for path in (ROOT / "static").rglob("*")]
    return manifest.exists() and manifest.stat().st_mtime > max(sources)


def machine(where: Path) -> str:
    """The speed of this machine, to compare results of different machines."""
    commits = [timed(lambda: commit(where / "commit")) for _ in range(20)]
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, a fixed loop of Python takes {loop():.1f} ms, "
        f"a commit to this disk {median(commits):.1f} ms, load {os.getloadavg()[0]:.1f}"
    )


def loop() -> float:
    """The CPU time in milliseconds of a fixed loop in Python: the fastest of five runs."""
    return min(
        timed(lambda: sum(number * number % 7 for number in range(300_000)), time.process_time) for _ in range(5)
    )


def commit(path: Path) -> None:
    """Append 4 kB to a file, and wait until they are on the disk."""
    with path.open("ab") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The milliseconds that a function takes by this clock."""
    began = clock()
    work()
    return 1000 * (clock() - began)


async def measure(asked: list[Scenario], servers: Servers, rounds: int, requests: int) -> Figures:
    """Run every scenario in every round, so that a slow minute of the machine affects all of them."""
    figures: Figures = {scenario.name: [] for scenario in asked}
    for _ in range(rounds):
        for scenario in asked:
            figures[scenario.name].append(await run_scenario(scenario, servers[scenario.server], requests))
    return figures


async def run_scenario(scenario: Scenario, server: Server, requests: int) -> Figure:
    """Run one scenario of a round."""
    number = int(requests * scenario.share)
    async with Client(server.port) as client:
        before = server.cpu()
        seconds = await client.ask_all(islice(scenario.requests, number), scenario.expected)
        return Figure(1000 * (server.cpu() - before) / number, number / seconds)


async def run_more(asked: list[Scenario], servers: Servers, extra: int) -> None:
    """Run all scenarios of the server of 10,000 conversations again, over new connections: its size must not grow."""
    own = [scenario for scenario in asked if scenario.server == MAIN]
    share = sum(scenario.share for scenario in own)
    await measure(own, servers, 10, int(extra / 10 / share))


def table(asked: list[Scenario], figures: Figures) -> str:
    """The results as a table."""
    cost = {name: median(figure.cost for figure in rounds) for name, rounds in figures.items()}
    plain = next(cost[scenario.name] for scenario in asked if scenario.server == PLAIN)
    lines = [f"{'':36}{'ms CPU':>8}{'at most':>9}{'per second':>12}{'plain / this':>14}", "-" * 79]
    for scenario in asked:
        goal = f"{scenario.goal:.1f}" if scenario.goal else ""
        rate = median(figure.rate for figure in figures[scenario.name])
        ratio = f"{plain / cost[scenario.name]:.1f}" if scenario.is_poll else ""
        lines.append(f"{scenario.name:36}{cost[scenario.name]:8.2f}{goal:>9}{rate:12,.0f}{ratio:>14}")
    return "\n".join(lines)


def from_screen_to_screen(server: Server, session: str, messages: int) -> str:
    """How long messages take from one screen to the other."""
    if not screens.CHROMIUM.exists():
        return f"There is no {screens.CHROMIUM}: the delay from screen to screen is not measured."
    delays = sorted(screens.delays(server.url, session, messages))
    p95 = delays[int(0.95 * len(delays))]
    return (
        f"From Enter to drawn on the other screen, {messages} messages, sockets open (goal: p50 60 ms): "
        f"p50 {median(delays):.0f} ms, p95 {p95:.0f} ms, worst {delays[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
