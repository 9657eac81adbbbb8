"""Rows that were read lately, for the time in which the database is away. Only with the message log.

With it, conversations go on without the database: messages come from the log. But each request also reads who sends it:
the session, the agent, the website. What was read lately before the database went away still holds then, for at most
LONGEST: nobody can be revoked meanwhile, because that is written to the database too. For what gives access, lately is
as long as a socket of somebody who was revoked may stay open (live/rounds.py).
"""

import logging
import pickle
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple

import redis
from django.db import InterfaceError, OperationalError

from conversations import message_log

LONGEST = 15 * 60
"""Seconds without the database after which nothing that was read before holds any more."""

MOST = 5_000
"""Results that are kept in memory: about 10 MB."""

SHARE_EVERY = 10
"""Seconds after which a result is written to Redis again, for other processes."""

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """How a query is remembered."""

    seconds: int  # before the database went away: what was read earlier does not hold
    is_shared: bool  # whether other processes may need it too


ACCESS = Kind(30, is_shared=True)
"""Who somebody is, and what they may see."""

SECRET = Kind(30, is_shared=False)
"""Conversations by their secret. The log knows those in which somebody has written."""

CONTENT = Kind(600, is_shared=True)
"""What a page needs besides."""


class Read(NamedTuple):
    """The result of a query."""

    at: float  # time.time(), which other processes understand too
    rows: list[Any]


class Memory:
    """What this process has read."""

    def __init__(self) -> None:
        """Empty."""
        self.results: OrderedDict[Hashable, Read] = OrderedDict()
        self.shared: OrderedDict[Hashable, float] = OrderedDict()
        self.away_since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether the database was away when it was asked last."""
        return self.away_since is not None

    def read(self, key: tuple[str, tuple[Any, ...]], query: Callable[[], list[Any]], kind: Kind) -> list[Any]:
        """The rows of a query or, while the database is away, those that it had before.

        key: the statement and its parameters.
        Raises the database's error if there are none.
        """
        try:
            rows = query()
        except (OperationalError, InterfaceError):
            now = time.time()
            if self.away_since is None:
                self.away_since = now
                logger.warning("The database is away: requests go on with what was read before.")
            oldest = self.away_since - kind.seconds
            found = self.results.get(key)
            if kind.is_shared and (found is None or found.at < oldest):  # another process may have read it later
                found = self.read_shared(key)
            if found is None or found.at < oldest or now > self.away_since + LONGEST:
                raise
            return found.rows
        self.away_since = None
        self.results[key] = found = Read(time.time(), rows)
        if len(self.results) > MOST:
            with suppress(KeyError):  # another thread has emptied it
                self.results.popitem(last=False)
        if kind.is_shared and found.at > self.shared.get(key, 0) + SHARE_EVERY:
            self.share(key, found)
        return rows

    def share(self, key: tuple[str, tuple[Any, ...]], found: Read) -> None:
        """Let other processes have a result. That there is nothing only replaces that there was something.

        Otherwise strangers could fill Redis by asking for what does not exist.
        """
        self.shared[key] = found.at
        if len(self.shared) > MOST:
            self.shared.clear()
        try:
            message_log.share(_name(key), pickle.dumps(found), LONGEST, only_replaces=not found.rows)
        except redis.RedisError as error:
            logger.warning("Other processes cannot be told what was read: %r", error)

    def read_shared(self, key: tuple[str, tuple[Any, ...]]) -> Read | None:
        """What any process has read."""
        try:
            found = message_log.shared(_name(key))
            return pickle.loads(found) if found else None  # noqa: S301 (written by ourselves, as in Django's cache)
        except redis.RedisError:
            return None


memory = Memory()


def _name(key: tuple[str, tuple[Any, ...]]) -> str:
    return blake2b(repr(key).encode(), digest_size=16).hexdigest()
