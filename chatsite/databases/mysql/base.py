"""Django's backend for MariaDB and MySQL with the limits of chatsite/databases."""

import socket
import time
from typing import Any

from django.db import OperationalError
from django.db.backends.mysql import base

from chatsite.databases import LimitedDatabase

SERVER_SIDE = ("max_statement_time", "innodb_lock_wait_timeout", "lock_wait_timeout")
"""Options that the server gets with SET SESSION, in seconds. MySQL does not know the first."""

KEEPALIVE = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}
"""The kernel asks a silent peer after 5 seconds, and then every 2: the third time without an answer is an error."""


class DatabaseWrapper(LimitedDatabase, base.DatabaseWrapper):
    """Django's backend, with PyMySQL's time limit set to what is left for the request."""

    def get_connection_params(self) -> dict[str, Any]:
        """The arguments of PyMySQL."""
        parameters: dict[str, Any] = super().get_connection_params()
        for name in SERVER_SIDE:
            parameters.pop(name)
        if self.seconds_left() is None:
            return {**parameters, "read_timeout": None, "write_timeout": None}
        # The handshake belongs to connecting, for which PyMySQL would wait as for a statement.
        longest = self.connect_timeout()
        return {**parameters, "connect_timeout": longest, "read_timeout": longest}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. The kernel then notices a dead line, for commands too."""
        connection: Any = super().get_new_connection(conn_params)
        if connection._sock.family != socket.AF_UNIX:
            for option, value in KEEPALIVE.items():
                connection._sock.setsockopt(socket.IPPROTO_TCP, option, value)
        return connection

    def init_connection_state(self) -> None:
        """Tell the server how long a statement may take, and wait for a lock."""
        super().init_connection_state()
        if self.seconds_left() is not None:
            names = SERVER_SIDE if self.mysql_is_mariadb else SERVER_SIDE[1:]
            with self.cursor() as cursor:
                cursor.execute("SET SESSION " + ", ".join(f"{name} = {self.option(name):g}" for name in names))

    def answer(self, execute: Any, *arguments: Any) -> Any:
        """Execute a statement within the time that is left for the request."""
        if not self.limit_reading():
            raise OperationalError(*self.timed_out().args)
        started = time.monotonic()
        try:
            result = super().answer(execute, *arguments)
            self.answered_at = time.monotonic()
            return result
        finally:
            self.waited += time.monotonic() - started

    def is_usable(self) -> bool:
        """Whether the database answers a ping."""
        self.is_checking = True
        self.limit_reading()
        return super().is_usable()

    def limit_reading(self) -> bool:
        """Set the time limit of the next answer; False if no time is left."""
        left = self.seconds_left()
        if left is not None and left > 0 and self.connection is not None:
            self.connection._read_timeout = left
        return left is None or left > 0
