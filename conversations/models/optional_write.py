"""Writes during requests that otherwise only read, such as read marks. The page is sent even if they fail."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.db import Error, connection, transaction

logger = logging.getLogger(__name__)

# SQL to read and to set the lock timeout of the connection, and the timeout to set.
LOCK_TIMEOUT = {
    "sqlite": ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}", 200),  # milliseconds
    "mysql": ("SELECT @@innodb_lock_wait_timeout", "SET innodb_lock_wait_timeout = {}", 1),  # seconds, the least
}
"""Short, because the page is not sent meanwhile and a request thread is blocked."""


def optional_write(what: str, write: Callable[[], object]) -> bool:
    """Call `write` with short waits for locks. If the database refuses it, log in one line that `what` was not stored.

    The database may be locked by another process, full, read-only or away. Returns whether it was stored.
    """
    try:
        with short_lock_timeout():
            write()
    except Error as error:
        logger.warning("The database has not stored %s: %s", what, error)
        return False
    return True


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """Wait for locks no longer than LOCK_TIMEOUT says, outside of transactions. Raises the database's errors."""
    if connection.vendor == "postgresql":
        # Only in this transaction: behind a pooler such as PgBouncer the connection's next statement may reach another
        # process of the server, so this one would keep the short timeout, for the requests of others.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '200ms'")
            yield
        return
    ask, change, value = LOCK_TIMEOUT[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(ask)
        before = cursor.fetchone()[0]
        cursor.execute(change.format(value))
    try:
        yield
    finally:
        # If the connection is broken, the exception of the block says so, and the next one has the usual timeout.
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(change.format(before))
