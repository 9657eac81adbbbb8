"""`/healthz` (the process answers) and `/readyz` (so does the database, which is migrated), for monitoring.

They answer for any host name, also over http: monitoring often knows only the address of a process.

With the message log, a process is ready when the log answers, also while the database does not: conversations go on.
"""

import asyncio
import threading
import time
from contextlib import suppress
from functools import cache
from math import inf

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from chatsite.log_checks import short_client
from chatsite.startup import Migration, is_missing_file, known_migrations
from conversations.counted import counted
from conversations.log_state import LogState, log_state

TIMEOUT = 2
"""Seconds in which the database must answer."""

INTERVAL = 1
"""The least seconds between two queries. Requests in between get the last result."""

NO_ANSWER = "The database does not answer."
NO_LOG = "Redis, which has the message log, does not answer."
NOT_MIGRATED = "The database is not migrated."


class Readiness:
    """Whether the database can serve requests, as found out a second ago at most."""

    silence = NO_ANSWER

    def __init__(self) -> None:
        """Nothing is known at first."""
        self.problem = self.silence
        self.started = -inf
        self.running: asyncio.Future[str] | None = None

    async def find_problem(self) -> str:
        """What is wrong, "" if nothing is. Takes TIMEOUT seconds at most."""
        loop = asyncio.get_running_loop()
        if self.running is None and time.monotonic() - self.started >= INTERVAL:
            self.started, self.running = time.monotonic(), loop.create_future()
            # In a thread of its own, which does not keep the process from ending while the database hangs.
            threading.Thread(target=self.ask, args=(loop, self.running), name="ready", daemon=True).start()
        if self.running is not None:
            await asyncio.wait([self.running], timeout=max(0, self.started + TIMEOUT - time.monotonic()))
            if self.running is not None:
                return self.silence
        return self.problem

    def ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[str]") -> None:
        """In a thread: ask."""
        problem = self.find()
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(self.note, answer, problem)

    def note(self, answer: "asyncio.Future[str]", problem: str) -> None:
        """Note the answer."""
        self.problem, self.running = problem, None
        answer.set_result(problem)

    def find(self) -> str:
        """Ask the database."""
        return database_problem()


class LogReadiness(Readiness):
    """Whether the message log can serve requests, and how far it is ahead of the database."""

    silence = NO_LOG
    state: LogState | None = None  # None while it does not answer

    def find(self) -> str:
        """Ask Redis."""
        try:
            with short_client() as client:
                self.state = log_state(client)
        except (redis.RedisError, OSError):
            self.state = None
            return NO_LOG
        return ""

    def sentences(self) -> str:
        """What an operator should know, a line each."""
        state, lines = self.state, ""
        if state and state.waiting:
            lines += f"The message log has {counted(state.waiting, 'message')} that the database lacks, "
            lines += f"the oldest for {counted(round(state.seconds), 'second')}.\n"
        if state and state.dead:
            lines += f"The database has refused {counted(state.dead, 'message')}: manage.py replicate --dead\n"
        return lines


readiness, log_readiness = Readiness(), LogReadiness()


async def describe() -> tuple[int, str]:
    """Status and content of the answer to `/readyz`. Takes TIMEOUT seconds at most."""
    if not settings.MESSAGE_LOG:
        problem = await readiness.find_problem()
        return (503, f"{problem}\n") if problem else (200, "ready\n")
    problem, log_problem = await asyncio.gather(readiness.find_problem(), log_readiness.find_problem())
    if problem == NO_ANSWER and not log_problem:
        return 200, f"ready\n{problem} Conversations go on in the message log.\n{log_readiness.sentences()}"
    if problem or log_problem:
        return 503, f"{log_problem or problem}\n"
    return 200, f"ready\n{log_readiness.sentences()}"


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
