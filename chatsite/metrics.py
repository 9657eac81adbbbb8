"""`/metrics`, for Prometheus: what was counted since the start, CPU time and memory.

Several processes on one port answer with the sums of all: their supervisor asks each of them, and keeps the counters of
those that have ended (chatsite/serving/supervisor.py). Servers on several ports answer for themselves.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from prometheus_client import (
    Gauge,
    GCCollector,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from chatsite import __version__
from chatsite.health import log_readiness
from conversations.metrics import numbers, rate_limited, registry, request_seconds, requests
from conversations.threshold.proxies import exact_address

Scope = Mapping[str, Any]

HANDLERS = {
    "/chat/": "chat",
    "/inbox/": "inbox",
    "/api/messages": "widget_api",
    "/api/website": "widget_api",
    "/api/conversation": "agent_api",
    "/api/agents": "agent_api",
    "/api/me": "agent_api",
}
"""What requests are for, by the beginning of their path, the first one that fits. Everything else is "other"."""

refused_connections = rate_limited.labels("connections of one address")

LOG = {
    "chatsite_log_waiting": "Messages in the message log that the database lacks.",
    "chatsite_log_lag_seconds": "Seconds since the oldest of them was written, 0 without any.",
    "chatsite_log_dead": "Messages that the database has refused (manage.py replicate --dead).",
}
"""Metrics of the message log, of all processes. They are missing while it does not answer."""

NOT_SUMMED = {"chatsite", "python_info", *LOG}
"""Metrics that say what a process is, as the one that answers, or what all have in common.

The other processes may run a newer version for some seconds.
"""

START = "process_start_time_seconds"
"""Left out where several processes answer: it is the time of one of them."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second number for each, which hardly anybody reads
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)
GCCollector(registry=registry)
Info("chatsite", "The version of Chatsite.", registry=registry).info({"version": __version__})
Gauge("chatsite_processes", "Processes whose sum this is.", registry=registry).set(1)


class LogNumbers(Collector):
    """How far the message log is ahead of the database, as `LogReadiness` has noted it."""

    def collect(self) -> Iterator[Metric]:
        """The metrics; none without a message log."""
        state = log_readiness.state
        if settings.MESSAGE_LOG and state:
            for (name, what), number in zip(LOG.items(), (state.waiting, state.seconds, state.dead), strict=True):
                yield GaugeMetricFamily(name, what, number)


registry.register(LogNumbers())


async def one_process() -> None:
    """A single process needs no sum."""


ask_total: Callable[[], Awaitable[dict[str, float] | None]] = one_process
"""Returns the sum of the numbers of all processes, by `key`, or raises TimeoutError. Several processes replace it."""


def may_read(scope: Scope) -> bool:
    """Whether the client is in METRICS_FROM. Everybody else gets the page for unknown addresses."""
    address = exact_address(scope)
    return address is not None and any(address in network for network in settings.METRICS_FROM)


def exposition(scope: Scope, total: dict[str, float] | None = None) -> tuple[str, str]:
    """The content type that the client accepts, and all metrics in it. Takes 1 to 2 ms of the event loop.

    The metrics are those of this process, or `total`, the sum of several.
    """
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    try:
        encode, content_type = choose_encoder(accept.decode("latin1"))
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    shown: Any = registry if total is None else Total(total)
    return content_type, encode(shown).decode()


def own_numbers() -> dict[str, dict[str, float]]:
    """What this process has counted (`counters`), and what it has now (`gauges`), by `key`."""
    found: dict[str, dict[str, float]] = {"counters": {}, "gauges": {}}
    for family in registry.collect():
        if family.name not in NOT_SUMMED:
            kind = found["gauges" if family.type == "gauge" else "counters"]
            kind |= {key(family, sample.name, sample.labels): sample.value for sample in family.samples}
    return found


def key(family: Metric, name: str, labels: Mapping[str, str]) -> str:
    """The name of a number between processes."""
    return json.dumps([family.name, name, labels])


class Total(Collector):
    """Shows sums of the numbers of several processes as the registry shows those of one."""

    def __init__(self, numbers: dict[str, float]) -> None:
        """`numbers` by `key`."""
        self.samples: dict[str, list[tuple[str, dict[str, str], float]]] = {}
        for each, number in numbers.items():
            family, name, labels = json.loads(each)
            self.samples.setdefault(family, []).append((name, labels, number))

    def collect(self) -> Iterator[Metric]:
        """The metrics that this process knows, too."""
        for family in registry.collect():
            if family.name == START:
                continue
            if family.name not in NOT_SUMMED:
                family.samples = []
                for name, labels, number in self.samples.get(family.name, []):
                    family.add_sample(name, labels, number)
            yield family


def observe_request(scope: Scope, status: int, seconds: float) -> None:
    """Count a request that Django has answered. Called in the event loop."""
    count, observe = of_handler(handler_of(scope["path"]), status)
    count()
    observe(seconds)
    if scope["method"] == "GET" and b"since=" in scope["query_string"]:
        numbers.polls_from_database += 1


@lru_cache
def of_handler(name: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    """What counts requests of a handler with this status, and their seconds. Labels take as long to look up."""
    return requests.labels(name, status).inc, request_seconds.labels(name).observe


def handler_of(path: str) -> str:
    """What a request is for: one of HANDLERS, or "other" for static files, the admin and everything else."""
    if path.endswith((".js", ".css")) and path.count("/") == 2:  # /chat/script-….js
        return "other"
    return next((name for beginning, name in HANDLERS.items() if path.startswith(beginning)), "other")
