"""How many times as many requests two processes answer as one."""

from collections.abc import Iterator
from itertools import islice
from statistics import median

import psutil

from tests.bench.client import ask_all
from tests.bench.scenarios import Scenario
from tests.bench.server import Server

COMPARED = ["empty poll, API", "post, API", "inbox of 50 among 10,000"]
"""The names of scenarios."""

CONNECTIONS = 32

GOAL = 1.9


def compare(asked: list[Scenario], servers: list[Server], rounds: int, requests: int) -> Iterator[str]:
    """Run scenarios on the first server and on all servers in turns; a line of results for each.

    The client, the database and Redis share the cores with the servers. So on two cores, two processes cannot reach
    twice the rate of one: each line says what is possible on this machine, by how busy its cores are with one process.
    """
    for scenario in asked:
        number = int(requests * scenario.share)
        ratios, one, possible = [], [], []
        for turn in range(rounds + 1):
            rates, busy = [], []
            for some in servers[:1], servers:
                ports = [server.port for server in some]
                for port in ports:
                    ask_all([port], islice(scenario.requests, scenario.repeated), scenario.expected)
                psutil.cpu_percent()  # measures from here
                load = ask_all(ports, islice(scenario.requests, number), scenario.expected, CONNECTIONS)
                busy.append(psutil.cpu_percent() / 100)
                rates.append(number / load.seconds)
            if turn:  # the first one warms the servers
                ratios.append(rates[1] / rates[0])
                one.append(rates[0])
                possible.append(min(len(servers), 1 / max(busy[0], 0.01)))  # 0 where a round is too short to tell
        yield (
            f"{len(servers)} processes: {scenario.name:30} {median(ratios):.2f} times as many a second as one with "
            f"{median(one):,.0f} (goal {GOAL}; {median(possible):.2f} are possible on the cores of this machine)"
        )
