"""`make bench`: the CPU time of each kind of request, compared with a fixed loop and a plain Django design."""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench import log, screens, sockets
from tests.bench.databases import MAIN, SIZES, Database, in_files, on_service
from tests.bench.processes import COMPARED, compare
from tests.bench.rounds import fixed_loop, measure, table, timed
from tests.bench.scenarios import PLAIN, Scenario, scenarios
from tests.bench.server import Server, Size, collect_static_files
from tests.bench.services import mariadb, postgresql, redis_server


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, without a browser")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="only the rows with one of these words in their names"
    )
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--no-browser", action="store_true", help="leave out the delay from screen to screen")
    parser.add_argument("--pin", action="store_true", help="all servers on one core, the client on the others")
    parser.add_argument("--sockets", type=int, default=5000, help="how many sockets are idle")
    parser.add_argument("--pg", action="store_true", help="on an own PostgreSQL, with Redis")
    parser.add_argument("--mysql", action="store_true", help="on an own MariaDB, with Redis")
    parser.add_argument("--log", action="store_true", help="the message log beside SQL alone, on SQLite and PostgreSQL")
    options = parser.parse_args()
    began = time.monotonic()
    cores = pin() if options.pin else None
    rounds, requests = options.rounds or (2 if options.quick else 5), 300 if options.quick else 1000

    def is_chosen(name: str) -> bool:
        return not options.only or any(word.lower() in name.lower() for word in options.only)

    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatsite-bench-")))
        if options.log:
            collect_static_files("")
            print_all(log.run(rounds, requests, where))
            return
        start = postgresql if options.pg else mariadb if options.mysql else None
        service = stack.enter_context(start(durable=True)) if start else None
        redis = stack.enter_context(redis_server()).url if start else ""

        unused = {name: Database(*size) for name, size in SIZES.items()}
        needed = {scenario.server for scenario in scenarios(unused) if is_chosen(scenario.name)} | {MAIN}
        print("Making databases ...", flush=True)
        names = [name for name in SIZES if name in needed]
        databases = on_service(names, service) if service else in_files(names, where)
        collect_static_files(databases[MAIN].url)
        servers = {name: stack.enter_context(Server(databases[name].url, redis, cores=cores)) for name in names}
        if PLAIN in needed:
            servers[PLAIN] = stack.enter_context(Server(databases[MAIN].url, redis, plain=True, cores=cores))
        print(machine(where), flush=True)

        databases = unused | databases
        asked = [scenario for scenario in scenarios(databases) if is_chosen(scenario.name)]
        if asked:
            measure(asked, servers, 1, requests // 5)
            figures = measure(asked, servers, rounds, requests, service)
            print(f"\nMedians of {rounds} rounds of up to {requests:,} requests over 16 connections:\n")
            print(table(asked, figures, service is not None), flush=True)
        if not options.quick:
            print_all(process_results(databases, redis, requests, is_chosen))
            print_all(socket_results(databases[MAIN], redis, options.sockets, is_chosen))
        if is_chosen("memory"):
            print(f"\n{memory(asked, servers, 1_000 if options.quick else 5_000)}", flush=True)
        if is_chosen("screens") and not (options.no_browser or options.quick):
            print(f"\n{from_screen_to_screen(servers[MAIN], databases[MAIN].session, 60)}", flush=True)
        print(
            f"\nThe fixed loop takes {fixed_loop():.1f} ms in the end, load {os.getloadavg()[0]:.1f}; "
            f"all took {time.monotonic() - began:.0f} s"
        )


def process_results(
    databases: dict[str, Database], redis: str, requests: int, is_chosen: Callable[[str], bool]
) -> Iterator[str]:
    """The results of two processes against one. They need Redis: one is started if `redis` is no URL."""
    asked = [each for each in scenarios(databases) if each.name in COMPARED and is_chosen("processes")]
    if asked and not redis and not shutil.which("redis-server"):
        yield "There is no redis-server: two processes are not measured."
    elif asked:
        with ExitStack() as stack:
            redis = redis or stack.enter_context(redis_server()).url
            pair = [stack.enter_context(Server(databases[MAIN].url, redis)) for _ in range(2)]
            yield from compare(asked, pair, 3, requests)


def socket_results(
    database: Database, redis: str, idle: int, is_chosen: Callable[[str], bool]
) -> Iterator[sockets.Result]:
    """The results of the measurements with sockets, on servers of their own."""
    sockets.allow_open_files()
    talks, busy = database.talks, database.talks[::4]  # as in scenarios.py: the others must get no messages
    with Server(database.url, redis) as server, Server(database.url, redis, plain=True) as plain:
        if is_chosen("sockets, idle"):
            yield from sockets.idle(server, plain, talks[:idle])
        if is_chosen("sockets, ring"):
            yield from sockets.rings(server, plain, busy, 1000, 15)
        if is_chosen("sockets, many conversations"):
            yield from sockets.posts(server, busy[:1000], 3)


def pin() -> set[int]:
    """Keep this process off the first core, and return that core for the servers."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [first])
    return {first}


def print_all(lines: Iterable[object]) -> None:
    """Print each as soon as it is there."""
    for line in lines:
        print(line, flush=True)


def machine(where: Path) -> str:
    """The speed of this machine, to compare results of different machines."""
    commits = [timed(lambda: commit(where / "commit")) for _ in range(20)]
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, a fixed loop of Python takes {fixed_loop():.1f} "
        f"ms, a commit to this disk {median(commits):.1f} ms, load {os.getloadavg()[0]:.1f}"
    )


def commit(path: Path) -> None:
    """Append 4 kB to a file, and wait until they are on the disk."""
    with path.open("ab") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def memory(asked: list[Scenario], servers: dict[str, Server], more: int) -> str:
    """The size of the server of 10,000 conversations: it must not grow with the number of requests and clients."""
    server = servers[MAIN]
    after = settled(server)
    own = [scenario for scenario in asked if scenario.server == MAIN]
    share = sum(scenario.share for scenario in own)
    if own:
        measure(own, servers, 5, int(more / 5 / share))
    return (
        f"Memory of the server of 10,000, fresh {server.fresh}\n"
        f"after these rounds (goal: 130 MB)     {after}\n"
        f"after {more:>6,} more                    {settled(server)}"
    )


def settled(server: Server) -> Size:
    """The size of a server once it has noticed that its clients have disconnected."""
    time.sleep(1.5)
    return server.size()


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
