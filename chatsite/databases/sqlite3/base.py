"""Django's backend for SQLite, where the transactions of this process write in the order in which they began.

SQLite has one lock for all who write. Who finds it taken sleeps for up to 100 ms and tries again, so that others who
come later may take it first, again and again: of requests that post at the same moment, some waited for ten times as
long as most (docs/performance.md). So the threads of this process queue up for it here. Other processes still find the
lock as SQLite offers it.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.db.backends.sqlite3 import base

from chatsite.databases.sqlite3.fair_lock import FairLock
from chatsite.databases.sqlite3.shared_commit import SharedCommit
from conversations.metrics import commit_seconds, lock_seconds, statement_seconds, timed

locks: defaultdict[str, FairLock] = defaultdict(FairLock)
"""By the name of the database."""


@lru_cache(300)
def with_question_marks(query: str) -> str:
    """A query with the placeholders of SQLite, ?, in place of Django's, %s."""
    converted: str = base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")
    return converted


class Cursor(base.SQLiteCursorWrapper):
    """Django's cursor, but it converts each query once: the same ones come again and again. It measures their time."""

    def execute(self, query: str, params: Any = None) -> Any:
        """Execute a statement."""
        with timed(statement_seconds):
            return super().execute(query, params)

    def executemany(self, query: str, param_list: Any) -> Any:
        """Execute a statement several times."""
        with timed(statement_seconds):
            return super().executemany(query, param_list)

    def convert_query(self, query: str, *, param_names: Any = None) -> str:
        """The query as SQLite takes it. Long ones, with very many values, are not kept."""
        if param_names is None and len(query) < 10_000:
            return with_question_marks(query)
        converted: str = super().convert_query(query, param_names=param_names)
        return converted


class DatabaseWrapper(SharedCommit):
    """Django's backend. A transaction holds the lock of its database from its beginning to its end."""

    @property
    def write_lock(self) -> FairLock:
        """The lock that the threads of this process queue up for."""
        return locks[str(self.settings_dict["NAME"])]

    def create_cursor(self, name: Any = None) -> Any:  # noqa: ARG002 (as in other backends)
        """A cursor."""
        return self.connection.cursor(factory=Cursor)

    def _start_transaction_under_autocommit(self) -> None:
        """Begin a transaction. Raises OperationalError if others write for longer than SQLite's time limit.

        The time in the queue counts for the limit.
        """
        with timed(lock_seconds):
            self._begin_in_turn()

    def _begin_in_turn(self) -> None:
        if self.write_lock.acquire(self, 0):
            self._begin()
            return
        limit = self._busy_timeout()
        began = time.monotonic()
        if not self.write_lock.acquire(self, limit / 1000):
            with self.wrap_database_errors:
                raise self.Database.OperationalError("database is locked")
        with self._limited(limit, limit - int(1000 * (time.monotonic() - began))):
            self._begin()

    def _begin(self) -> None:
        try:
            super()._start_transaction_under_autocommit()
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        if not self.is_shared:
            self.write_lock.release(self)

    def _busy_timeout(self) -> int:
        milliseconds: int = self.connection.execute("PRAGMA busy_timeout").fetchone()[0]
        return milliseconds

    @contextmanager
    def _limited(self, limit: int, left: int) -> Iterator[None]:
        self.connection.execute(f"PRAGMA busy_timeout = {max(left, 1)}")
        try:
            yield
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {limit}")

    def _commit(self) -> Any:
        # If it fails, Django rolls back, and closes the connection if that fails too.
        began = time.monotonic()
        result = super()._commit()
        if not self.is_shared:
            commit_seconds.observe(time.monotonic() - began)
        self._release()
        return result

    def _rollback(self) -> Any:
        result = super()._rollback()
        self._release()
        return result

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]  # the stubs lack it
        finally:
            self.write_lock.release(self)
