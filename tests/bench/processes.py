"""How many times as many requests two processes answer as one."""

import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

from tests.bench.client import ask_all
from tests.bench.scenarios import Scenario
from tests.bench.server import Server

COMPARED = ["empty poll, API", "post, API", "inbox of 50 among 10,000"]
"""The names of scenarios."""

CONNECTIONS = 32

GOAL = 1.9


def compare(asked: list[Scenario], servers: list[Server], rounds: int, requests: int) -> Iterator[str]:
    """Run scenarios on the first server and on all servers in turns; a line of results for each.

    The client shares the cores with the servers. So on two cores, two processes cannot reach twice the rate of one:
    each line says what is possible if they need no more CPU time per request than one does.
    """
    for scenario in asked:
        number = int(requests * scenario.share)
        ratios, one, possible = [], [], []
        for turn in range(rounds + 1):
            rates, costs = [], []
            for some in servers[:1], servers:
                ports = [server.port for server in some]
                for port in ports:
                    ask_all([port], islice(scenario.requests, scenario.repeated), scenario.expected)
                own, client = sum(server.cpu() for server in some), time.process_time()
                some_requests = islice(scenario.requests, number)
                load = ask_all(ports, some_requests, scenario.expected, CONNECTIONS)
                costs.append((sum(server.cpu() for server in some) - own, time.process_time() - client))
                rates.append(number / load.seconds)
            if turn:  # the first one warms the servers
                ratios.append(rates[1] / rates[0])
                one.append(rates[0])
                possible.append(len(servers) * costs[0][0] / sum(costs[0]))
        yield (
            f"{len(servers)} processes: {scenario.name:30} {median(ratios):.2f} times as many a second as one with "
            f"{median(one):,.0f} (goal {GOAL}; with this client {median(possible):.2f} are possible on two cores)"
        )
