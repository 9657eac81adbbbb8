"""`/healthz` (the process answers) and `/readyz` (so does the database, which is migrated), for monitoring.

They answer for any host name, also over http: monitoring often knows only the address of a process.
"""

import asyncio
import threading
import time
from contextlib import suppress
from functools import cache
from math import inf

from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from chatsite.startup import Migration, is_missing_file, known_migrations

TIMEOUT = 2
"""Seconds in which the database must answer."""

INTERVAL = 1
"""The least seconds between two queries. Requests in between get the last result."""

NO_ANSWER = "The database does not answer."
NOT_MIGRATED = "The database is not migrated."


class Readiness:
    """Whether requests can be served, as found out a second ago at most."""

    def __init__(self) -> None:
        """Nothing is known at first."""
        self.problem = NO_ANSWER
        self.started = -inf
        self.running: asyncio.Future[str] | None = None

    async def find_problem(self) -> str:
        """Why requests cannot be served, "" if they can. Takes TIMEOUT seconds at most."""
        loop = asyncio.get_running_loop()
        if self.running is None and time.monotonic() - self.started >= INTERVAL:
            self.started, self.running = time.monotonic(), loop.create_future()
            # In a thread of its own, which does not keep the process from ending while the database hangs.
            threading.Thread(target=self.ask, args=(loop, self.running), name="ready", daemon=True).start()
        if self.running is not None:
            await asyncio.wait([self.running], timeout=max(0, self.started + TIMEOUT - time.monotonic()))
            if self.running is not None:
                return NO_ANSWER
        return self.problem

    def ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[str]") -> None:
        """In a thread: ask the database."""
        problem = database_problem()
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(self.note, answer, problem)

    def note(self, answer: "asyncio.Future[str]", problem: str) -> None:
        """Note what the database has answered."""
        self.problem, self.running = problem, None
        answer.set_result(problem)


def database_problem() -> str:
    """Why the database cannot serve requests, "" if it can. Uses a new connection, as requests may have to."""
    try:
        if is_missing_file(connection):
            return NO_ANSWER
        applied = MigrationRecorder(connection).applied_migrations()
    except Exception:
        return NO_ANSWER
    finally:
        connection.close()
    return NOT_MIGRATED if needed_migrations() - set(applied) else ""


@cache
def needed_migrations() -> set[Migration]:
    """The migrations of this code, which do not change while it runs."""
    return known_migrations()
