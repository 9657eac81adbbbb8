"""How far the message log is ahead of SQL, for whoever watches a server. It needs Redis alone."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conversations.message_log import DEAD, ENTRIES

GROUP = "settle"
"""The consumer group of the replicators."""

MOST_COUNTED = 1000
"""Entries that are counted at most, where Redis does not know how many there are."""


@dataclass(frozen=True)
class LogState:
    """How far the log is ahead of SQL."""

    waiting: int  # entries that SQL does not have yet
    seconds: float  # since the oldest of them was written; 0 without any
    dead: int  # messages that SQL has refused


def log_state(client: Any) -> LogState:
    """How far the log is ahead of SQL now. Raises redis.RedisError."""
    count = waiting(client)
    written = _oldest_waiting(client) if count else None
    seconds = (datetime.now(UTC) - written).total_seconds() if written else 0
    return LogState(count, max(0, seconds), client.xlen(DEAD))


def waiting(client: Any) -> int:
    """How many entries SQL does not have yet. Raises redis.RedisError."""
    group = _group(client)
    if group is None:
        return int(client.xlen(ENTRIES))
    return behind(client, group)


def behind(client: Any, group: Mapping[str, Any]) -> int:
    """How many entries a consumer group, as Redis describes it, has not acknowledged. Raises redis.RedisError."""
    lag = group["lag"]
    if lag is None:  # Redis does not know, because entries were deleted: then it is at most MOST_COUNTED
        lag = len(client.xrange(ENTRIES, f"({group['last-delivered-id']}", "+", count=MOST_COUNTED))
    return int(group["pending"] + lag)


def _oldest_waiting(client: Any) -> datetime | None:
    """When the oldest entry that SQL does not have was written."""
    group = _group(client)
    start = f"({group['last-delivered-id']}" if group else "-"
    if group and group["pending"]:
        start = client.xpending(ENTRIES, GROUP)["min"] or start
    for _, fields in client.xrange(ENTRIES, start, "+", count=1):
        with suppress(ValueError, KeyError, TypeError):
            return datetime.fromisoformat(json.loads(fields["entry"])["at"])
    return None


def _group(client: Any) -> dict[str, Any] | None:
    """What Redis says of the replicators' consumer group, if there is one."""
    groups = client.xinfo_groups(ENTRIES) if client.exists(ENTRIES) else []
    return next((group for group in groups if group["name"] == GROUP), None)
