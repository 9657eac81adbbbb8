"""Replication: a loop that copies the message log into SQL. Only with MESSAGE_LOG=redis.

Any number of them may run, in any processes: a consumer group of the stream gives each entry to one of them, and
settling (models/settling.py) is right in any order and as often as anybody does it. What one leaves behind when it
dies, another takes over after CLAIM seconds. While SQL or Redis is away it waits and tries again.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import close_old_connections

from conversations.announce import announce_settled
from conversations.log_state import GROUP
from conversations.message_log import ENTRIES
from conversations.models.settling import AWAY, settle
from conversations.models.website import Website
from conversations.redis_client import is_full

BATCH = 500
"""Entries that are copied in one transaction."""

GATHER = ((10, 0.025), (200, 0.1))
"""After a batch of fewer entries than the first number, the next one begins at least so many seconds after it. A
transaction costs more than the messages in it, so under load this leaves more of the machine to those who write."""

BLOCK = 1.0
"""Seconds to wait for entries, and so at most until a stop is noticed."""

CLAIM = 10.0
"""Seconds after which entries of another replicator are taken over: it has died, or waits for a database."""

RUNNING, RUNNING_SECONDS = "{log}:running:", 15
"""The beginning of a key that each running replicator has, and how long that stays if it is killed."""

FORGOTTEN = 3600
"""Seconds after which a replicator that was killed is forgotten."""

UPKEEP = 2.0
"""Seconds between two looks at what others have left, and at what may be deleted from the stream."""

MAX_PAUSE = 2.0
"""Seconds at most until a database that is away is tried again."""

logger = logging.getLogger(__name__)


class Replicator:
    """One reader of the log."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        """`stopped` says whether to end."""
        self.stopped = stopped
        self.name = secrets.token_hex(4)
        # Not the client of requests: it waits for entries, and the breaker is not for it.
        self.client: Any = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, decode_responses=True)
        # Set here, as a socket_timeout in the URL may be shorter than it waits for entries.
        self.client.connection_pool.connection_kwargs["socket_timeout"] = BLOCK + 2
        self.copied = 0
        self.upkeep_at = 0.0
        self.has_failed = False  # and so has read entries that it has not acknowledged

    def run(self) -> None:
        """Copy until `stopped`. Every error is logged, and is not the end."""
        failures = 0
        while not self.stopped():
            try:
                self.step()
                failures, self.has_failed = 0, False
            except Exception as error:
                if failures in {0, 30}:
                    what = "Redis or the database is away" if isinstance(error, AWAY) else "An error"
                    logger.exception("%s: messages stay in the log, and are copied later.", what)
                if isinstance(error, redis.ReadOnlyError):  # it is a copy now: reconnect to reach the one that is not
                    self.client.connection_pool.disconnect()
                failures, self.has_failed = failures + 1, True
                self.pause(random.uniform(0.5, 1) * min(MAX_PAUSE, 0.1 * 2 ** min(failures, 10)))  # noqa: S311
        self.leave()

    def pause(self, seconds: float) -> None:
        """Wait, but not after a stop."""
        until = time.monotonic() + seconds
        while not self.stopped() and time.monotonic() < until:
            time.sleep(0.05)

    def step(self) -> int:
        """Copy one batch, or wait for one; return how many entries it had."""
        close_old_connections()
        if time.monotonic() >= self.upkeep_at:
            self.upkeep_at = time.monotonic() + UPKEEP
            try:
                self.client.set(f"{RUNNING}{self.name}", 1, ex=RUNNING_SECONDS)
                self.begin()
            except redis.ResponseError as error:
                if not is_full(error):  # then the rest makes room
                    raise
            self.trim()
            self.forget_the_dead()
            Website.objects.everyone()  # for requests while SQL is away, in all processes: models/remembered.py
            _, taken, _ = self.client.xautoclaim(ENTRIES, GROUP, self.name, int(CLAIM * 1000), count=BATCH)
            if taken:
                return self.copy(taken)
        rows = (self.has_failed and self.read("0")) or self.read(">")
        began = time.monotonic()
        copied = self.copy(rows) if rows else 0
        seconds = next((each for few, each in GATHER if copied < few), 0.0) if copied else 0.0
        if seconds:
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        return copied

    def read(self, since: str) -> list[Any]:
        """Entries: those that nobody has read (">"), or those that this one has read and not acknowledged ("0")."""
        block = int(BLOCK * 1000) if since == ">" else None
        found = self.client.xreadgroup(GROUP, self.name, {ENTRIES: since}, count=BATCH, block=block)
        return found[0][1] if found else []

    def begin(self) -> None:
        """Make the consumer group, if Redis is new."""
        try:
            self.client.xgroup_create(ENTRIES, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def copy(self, rows: list[Any]) -> int:
        """Settle the conversations of these entries, tell the agents, and acknowledge them."""
        numbers = {int(fields["conversation"]) for _, fields in rows if fields}
        announce_settled(settle(numbers))
        self.client.xack(ENTRIES, GROUP, *[number for number, _ in rows])
        self.copied += len(rows)
        return len(rows)

    def trim(self) -> None:
        """Delete from the stream what all of its readers have acknowledged."""
        if lowest := lowest_unread(self.client):
            self.client.xtrim(ENTRIES, minid=lowest, approximate=False)

    def forget_the_dead(self) -> None:
        """Take those out of the group that have asked for nothing for an hour, and have left nothing undone."""
        for consumer in self.client.xinfo_consumers(ENTRIES, GROUP):
            if not consumer["pending"] and consumer["idle"] > FORGOTTEN * 1000:
                self.client.xgroup_delconsumer(ENTRIES, GROUP, consumer["name"])

    def leave(self) -> None:
        """Leave the group. What was not copied is taken over by another."""
        try:
            if not self.client.xpending_range(ENTRIES, GROUP, "-", "+", 1, self.name):
                self.client.xgroup_delconsumer(ENTRIES, GROUP, self.name)
            self.client.delete(f"{RUNNING}{self.name}")
        except redis.RedisError as error:
            logger.warning("Redis is away while the replicator ends: %r", error)
        self.client.close()


def lowest_unread(client: Any) -> str:
    """The id of the first entry that a consumer group has not acknowledged; "" without any group."""
    lowest = []
    for group in client.xinfo_groups(ENTRIES):
        pending = client.xpending(ENTRIES, group["name"])
        number = pending["min"] or f"{int(group['last-delivered-id'].partition('-')[0]) + 1}-0"
        lowest.append((int(number.partition("-")[0]), number))
    return min(lowest)[1] if lowest else ""
