"""Django's backend for PostgreSQL with the limits of chatsite/databases."""

import time
from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from chatsite.databases import LimitedDatabase

SERVER_SIDE = ("statement_timeout", "lock_timeout")
"""Options that the server gets with SET, in milliseconds. PgBouncer refuses them in the connection's parameters."""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed when it has waited for as long as it may.

    libpq has no such limit: tcp_user_timeout notices a dead line, but not a server that hangs, because its kernel
    acknowledges what it receives.
    """

    database: "DatabaseWrapper | None" = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server. psycopg calls this for every statement, commit and rollback."""
        left = self.database.seconds_left() if self.database else None
        if self.database is None or left is None:
            return super().wait(gen, interval, timeout)
        if left <= 0:
            self.pgconn.finish()
            raise self.database.timed_out()
        started = time.monotonic()
        try:
            result = super().wait(gen, interval, left if timeout is None else min(left, timeout))
            self.database.answered_at = time.monotonic()
            return result
        except psycopg.OperationalError:
            if time.monotonic() - started < left:
                raise
            self.pgconn.finish()
            raise self.database.timed_out() from None
        finally:
            self.database.waited += time.monotonic() - started


class DatabaseWrapper(LimitedDatabase, base.DatabaseWrapper):
    """Django's backend, with Connection."""

    Database: Any = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})

    def get_connection_params(self) -> dict[str, Any]:
        """The parameters of libpq."""
        parameters: dict[str, Any] = super().get_connection_params()
        return {name: value for name, value in parameters.items() if name not in {"read_timeout", *SERVER_SIDE}}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect."""
        connection: Any = super().get_new_connection(conn_params)
        connection.database = self
        return connection

    def init_connection_state(self) -> None:
        """Tell the server how long a statement may take, and wait for a lock."""
        super().init_connection_state()
        if self.seconds_left() is not None and self.connection is not None:
            values = "; ".join(f"SET {name} = {self.option(name):.0f}" for name in SERVER_SIDE)
            with self.connection.cursor() as cursor:
                cursor.execute(values)
            if not self.get_autocommit():
                self.connection.commit()
