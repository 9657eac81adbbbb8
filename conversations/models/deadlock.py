"""Transactions that the database ends because each of two waits for a row of the other."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import OperationalError, connection

Result = TypeVar("Result")

TRIES = 5
"""How often a transaction is tried. InnoDB ends one of two also where both lock their rows in the same order."""


def is_deadlock(error: OperationalError) -> bool:
    """Whether the database has ended the transaction, and nothing of it is stored: another one goes on instead."""
    cause: Any = error.__cause__
    number = cause.args[0] if cause and cause.args else None
    return getattr(cause, "sqlstate", None) == "40P01" or number == 1213  # of PostgreSQL, of MariaDB


def repeat_if_deadlocked(work: Callable[[], Result]) -> Result:
    """Call `work`, which is one transaction, and call it again if it was ended in a deadlock, TRIES times at most.

    In another transaction it is called once: that one is ended, too.
    """
    for _try in range(TRIES - 1):
        try:
            return work()
        except OperationalError as error:
            if connection.in_atomic_block or not is_deadlock(error):
                raise
    return work()
