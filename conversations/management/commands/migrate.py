"""`manage.py migrate`: Django's, with longer lock timeouts and retries, because servers may be writing."""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import OperationalError, connections

LOCK_TIMEOUT = 2
"""Seconds for which a change of the schema waits for locks. Meanwhile every query of its table waits, too."""

SQLITE_TIMEOUT = 60
"""Seconds to wait for the lock of a SQLite file, which servers that write all the time may take first."""

ATTEMPTS = 30
LOCKED = {1205, 1213}
"""MariaDB's numbers of the errors “lock wait timeout” and “deadlock”: the statement has changed nothing."""


def retry_locked(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Repeat a change of the schema that got no lock: an execute_wrapper for MariaDB and MySQL.

    Such a change holds one kind of lock (metadata) while it waits for the other (InnoDB). A server that waits the other
    way round is in a deadlock with it that the database does not see, and which lasts for 50 seconds by default.
    """
    connection = context["connection"]
    if connection.vendor != "mysql" or connection.in_atomic_block or not sql.startswith(("ALTER", "CREATE", "DROP")):
        return execute(sql, params, many, context)
    limits = f"SET STATEMENT lock_wait_timeout={LOCK_TIMEOUT}, innodb_lock_wait_timeout={LOCK_TIMEOUT} FOR "
    for attempt in range(ATTEMPTS):
        try:
            return execute(limits + sql if connection.mysql_is_mariadb else sql, params, many, context)
        except OperationalError as error:
            if error.args[0] not in LOCKED or attempt == ATTEMPTS - 1:
                raise
        time.sleep(0.2)  # let the queries that have waited for this statement run first
    raise AssertionError


class Command(DjangoCommand):
    """Django's migrate, whose changes of the schema are repeated while they get no lock."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate."""
        connection = connections[options["database"]]
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {1000 * SQLITE_TIMEOUT}")
        with connection.execute_wrapper(retry_locked):
            super().handle(*args, **options)
