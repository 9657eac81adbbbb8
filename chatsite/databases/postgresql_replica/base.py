"""Django's backend for PostgreSQL, read-only and with short limits. What fails here says nothing of the primary."""

from typing import Any

from django.db.backends.postgresql import base

from chatsite.databases.postgresql.base import OWN, SERVER_SIDE, PostgreSQL


class DatabaseWrapper(base.DatabaseWrapper):
    """Each statement has `read_timeout` seconds, also if the server hangs: then its connection is closed."""

    Database: Any = PostgreSQL
    waited = answered_at = 0.0  # noted by Connection

    def seconds_left(self) -> float:
        """How long the next statement may take."""
        return float(self.settings_dict["OPTIONS"]["read_timeout"])

    def timed_out(self) -> Exception:
        """The driver's exception for a statement that has taken too long."""
        error: Exception = self.Database.OperationalError(f"no answer within {self.seconds_left():g} seconds")
        return error

    def get_connection_params(self) -> dict[str, Any]:
        """The parameters of libpq."""
        parameters: dict[str, Any] = super().get_connection_params()
        return {name: value for name, value in parameters.items() if name not in OWN}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect."""
        connection: Any = super().get_new_connection(conn_params)
        connection.database = self
        return connection

    def init_connection_state(self) -> None:
        """Let the server refuse writes, and end slow statements. By SET, because PgBouncer refuses parameters."""
        super().init_connection_state()
        if self.connection is None:
            return
        limits = [f"SET {name} = {float(self.settings_dict['OPTIONS'][name]):.0f}" for name in SERVER_SIDE]
        with self.connection.cursor() as cursor:
            cursor.execute("; ".join(["SET default_transaction_read_only = on", *limits]))
        if not self.get_autocommit():
            self.connection.commit()
