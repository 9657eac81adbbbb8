"""Runs scenarios in turns, round after round, and prints their medians."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from statistics import mean, median

from tests.bench.client import ask_all
from tests.bench.scenarios import LOOP, Scenario
from tests.bench.server import Server, cpu_times
from tests.bench.services import Service


@dataclass(frozen=True)
class Figure:
    """The result of one scenario in one round."""

    cost: float  # ms of CPU time per request, of the server and of a database server
    database: float  # ms of these that the database server used
    loop: float  # ms that the fixed loop took before and afterwards
    rate: float  # requests a second
    p50: float  # ms from a request to its response, and so on
    p99: float
    worst: float


Figures = dict[str, list[Figure]]
"""The results of all rounds, by the names of scenarios."""


def fixed_loop() -> float:
    """The CPU time in milliseconds of a fixed loop in Python: the fastest of three runs."""
    return min(
        timed(lambda: sum(number * number % 7 for number in range(300_000)), time.process_time) for _ in range(3)
    )


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The milliseconds that a function takes by this clock."""
    began = clock()
    work()
    return 1000 * (clock() - began)


def measure(
    asked: list[Scenario], servers: dict[str, Server], rounds: int, requests: int, service: Service | None = None
) -> Figures:
    """Run every scenario in every round, so that a slow minute of the machine affects all of them.

    `requests` is their number in each round, for a scenario with a share of 1. `service` is the database server.
    """
    figures: Figures = {scenario.name: [] for scenario in asked}
    loop = fixed_loop()
    for _ in range(rounds):
        for scenario in asked:
            before, number = loop, max(int(requests * scenario.share), 1)
            server = servers[scenario.server]
            ask_all([server.port], scenario.before, lambda answer: answer.status == 200)
            ask_all([server.port], islice(scenario.requests, scenario.repeated), scenario.expected)
            own, other = server.cpu(), cpu_times(service.processes()) if service else {}
            load = ask_all([server.port], islice(scenario.requests, number), scenario.expected, scenario.connections)
            own = server.cpu() - own
            database = sum(
                used - other.get(pid, 0) for pid, used in cpu_times(service.processes() if service else ()).items()
            )
            loop = fixed_loop()
            figure = Figure(
                cost=1000 * (own + database) / number,
                database=1000 * database / number,
                loop=mean([before, loop]),
                rate=number / load.seconds,
                p50=load.percentile(50),
                p99=load.percentile(99),
                worst=load.percentile(100),
            )
            figures[scenario.name].append(figure)
    return figures


def table(asked: list[Scenario], figures: Figures, with_service: bool = False) -> str:
    """The results: medians of the rounds, but the worst response of all of them."""
    cost = {name: median(figure.cost for figure in rounds) for name, rounds in figures.items()}
    width = max(len(scenario.name) for scenario in asked)
    database = "  database" if with_service else ""
    head = f"{'':{width}}  ms CPU{database}  % loop   goal  plain/this  a second    p50    p99  worst"
    lines = [head, "-" * len(head)]
    for scenario in asked:
        rounds = figures[scenario.name]
        goal = scenario.goal and (scenario.goal.with_server if with_service else scenario.goal.cost)
        lines.append(
            f"{scenario.name:{width}}{cost[scenario.name]:8.2f}"
            + (f"{median(figure.database for figure in rounds):10.2f}" if with_service else "")
            + f"{100 * median(figure.cost / figure.loop for figure in rounds):8.1f}"
            + (f"{100 * goal / LOOP:7.1f}" if goal else " " * 7)
            + (f"{cost[scenario.plain] / cost[scenario.name]:12.1f}" if scenario.plain in cost else " " * 12)
            + f"{median(figure.rate for figure in rounds):10,.0f}"
            + f"{median(figure.p50 for figure in rounds):7.1f}{median(figure.p99 for figure in rounds):7.1f}"
            + f"{max(figure.worst for figure in rounds):7.0f}"
            + (f"  {scenario.goal.more}" if scenario.goal else "")
        )
    return "\n".join(line.rstrip() for line in lines)
