"""Django's backend for PostgreSQL with the limits of chatsite/databases."""

import time
from types import SimpleNamespace
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg._enums import Ready
from psycopg.types.numeric import Int8Dumper

from chatsite.databases import LimitedDatabase, distrust

SERVER_SIDE = ("statement_timeout", "lock_timeout")
"""Options that the server gets with SET, in milliseconds. PgBouncer refuses them in the connection's parameters."""

OWN = {"read_timeout", "prepared_statements", *SERVER_SIDE}
"""Options that libpq does not know."""

PLAN_ONCE = "SET plan_cache_mode = force_generic_plan"
"""The frequent statements find rows by an index, whatever the values are. By its own estimate of the costs, PostgreSQL
would plan most of them anew for every execution, which takes four times as long as executing them."""

PREPARED = object()
"""The name of the cursor for prepared statements."""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed when it has waited for as long as it may.

    libpq has no such limit: tcp_user_timeout notices a dead line, but not a server that hangs, because its kernel
    acknowledges what it receives.
    """

    database: Any = None  # the DatabaseWrapper, or that of a replica
    prepared: "PreparedCursor | None" = None  # of a connection to PostgreSQL itself

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
            gen = self.watched(gen) if settings.MESSAGE_LOG else gen
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

    def watched(self, gen: Any) -> Any:
        """The same generator, which ends with an error if the database hangs. psycopg asks it every `interval`."""
        started, ready = time.monotonic(), None
        try:
            while True:
                state = gen.send(ready)
                ready = yield state
                if ready == Ready.NONE and self.database and self.database.gives_up(started):
                    self.pgconn.finish()
                    raise psycopg.OperationalError("The database hangs.")
        except StopIteration as end:
            return end.value


class PreparedCursor(psycopg.Cursor[Any]):
    """A cursor for statements that run all the time: the server parses and plans each once for each connection.

    There is one for each connection, used for one statement after the other: a new one would cost more than the
    statement (docs/performance.md). So its rows must be fetched before the next statement.
    """

    def __init__(self, connection: Connection) -> None:
        """All integers have one type. psycopg would choose it by their size, and each makes another statement."""
        super().__init__(connection)
        self.adapters.register_dumper(int, Int8Dumper)

    def execute(self, query: Any, params: Any = None, **_options: Any) -> Any:
        """Execute a statement, and prepare it the first time.

        If what the server has prepared does not fit any more, as after a migration, connections are replaced. Outside
        of a transaction the statement is executed nevertheless.
        """
        try:
            return super().execute(query, params, prepare=True)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName):
            distrust("The database refuses a prepared statement")
            if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                raise
            return super().execute(query, params, prepare=False)

    def close(self) -> None:
        """The connection closes it."""


PostgreSQL: Any = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})
"""The driver, with Connection."""


class DatabaseWrapper(LimitedDatabase, base.DatabaseWrapper):
    """Django's backend, with Connection."""

    Database = PostgreSQL

    def get_connection_params(self) -> dict[str, Any]:
        """The parameters of libpq."""
        parameters: dict[str, Any] = super().get_connection_params()
        known = {name: value for name, value in parameters.items() if name not in OWN}
        return {**known, "connect_timeout": round(self.connect_timeout())}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect."""
        connection: Any = super().get_new_connection(conn_params)
        connection.database = self
        return connection

    def init_connection_state(self) -> None:
        """Tell the server how long a statement may take and wait for a lock, and ask whether it can keep statements."""
        super().init_connection_state()
        connection: Any = self.connection
        if connection is None:
            return
        names = SERVER_SIDE if self.seconds_left() is not None else ()
        values = [f"SET {name} = {self.option(name):.0f}" for name in names]
        with connection.cursor() as cursor:
            cursor.execute("; ".join([*values, PLAN_ONCE, "SELECT pg_backend_pid()"]))
            while cursor.nextset():
                pass
            [process] = cursor.fetchone()
        if not self.get_autocommit():
            connection.commit()
        # Behind a pooler such as PgBouncer each transaction may have another server process: then the number that we
        # got when we connected is the pooler's own. If it knows prepared statements, DATABASE_URL may say so.
        is_direct = process == connection.info.backend_pid
        if self.settings_dict["OPTIONS"].get("prepared_statements", is_direct):
            connection.prepare_threshold = 0
            connection.prepared = PreparedCursor(connection)

    def create_cursor(self, name: Any = None) -> Any:
        """Make a cursor; for the name PREPARED, that of prepared statements if the connection has one."""
        if name is PREPARED:
            return (self.connection and self.connection.prepared) or super().create_cursor()
        return super().create_cursor(name)

    def prepared_cursor(self) -> Any:
        """A cursor for a statement that runs all the time."""
        return self._cursor(PREPARED)  # type: ignore[attr-defined]  # the stubs lack it
