"""What this process counts for Prometheus. `/metrics` shows it: chatsite/metrics.py.

Labels have few values, which are all known from the code: never a path, a uuid or anything else of a client.
"""

from collections.abc import Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

registry = CollectorRegistry()

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""The buckets of durations."""


class EventLoopNumbers(Collector):
    """What is counted so often that even the lock of a Counter would be felt.

    Plain numbers, which only the event loop's thread changes. They are read when somebody asks.
    """

    __slots__ = ("polls_from_database", "polls_from_memory", "rings")

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.polls_from_memory = 0
        self.polls_from_database = 0
        self.rings = 0

    def collect(self) -> Iterator[Metric]:
        """The numbers as Prometheus names them."""
        polls = CounterMetricFamily("chatsite_polls", "Requests for messages newer than one.", labels=["answered_from"])
        polls.add_metric(["memory"], self.polls_from_memory)
        polls.add_metric(["database"], self.polls_from_database)
        yield polls
        rings = "Rings written to WebSockets, with those of openings and heartbeats."
        yield CounterMetricFamily("chatsite_rings", rings, self.rings)


numbers = EventLoopNumbers()
registry.register(numbers)

requests = Counter(
    "chatsite_http_requests",
    "HTTP requests by what they were for, without polls that are answered from memory.",
    ["handler", "code"],
    registry=registry,
)
request_seconds = Histogram(
    "chatsite_http_request_duration_seconds",
    "Time from a complete request to the beginning of its response, without polls that are answered from memory.",
    ["handler"],
    buckets=SECONDS,
    registry=registry,
)
messages = Counter("chatsite_messages", "Messages stored.", ["author"], registry=registry)
replica_reads = Counter(
    "chatsite_replica_reads",
    "Reads that a replica may answer, by who has answered. Always 0 without DATABASE_REPLICA_URL.",
    ["answered_from"],
    registry=registry,
)
rate_limited = Counter(
    "chatsite_rate_limited", "What was refused by a limit, by the limit's name.", ["limit"], registry=registry
)
database_seconds = Histogram(
    "chatsite_database_duration_seconds",
    "Time that the database takes: for statements, for commits, and on SQLite until a transaction has the write lock.",
    ["operation"],
    buckets=SECONDS,
    registry=registry,
)
redis_seconds = Histogram(
    "chatsite_redis_duration_seconds",
    "Time that Redis takes to answer or to fail. Polls that wait together are one call.",
    buckets=SECONDS,
    registry=registry,
)

statement_seconds = database_seconds.labels("statement")
commit_seconds = database_seconds.labels("commit")
lock_seconds = database_seconds.labels("lock")


class timed:  # noqa: N801 (as contextlib's)
    """Observe how long a block takes, also if it raises. Costs less than a generator with `contextmanager`."""

    __slots__ = ("began", "histogram")

    def __init__(self, histogram: Histogram) -> None:
        """`histogram` counts seconds."""
        self.histogram = histogram

    def __enter__(self) -> None:
        """The block begins."""
        self.began = perf_counter()

    def __exit__(self, *_error: object) -> None:
        """The block has ended."""
        self.histogram.observe(perf_counter() - self.began)
