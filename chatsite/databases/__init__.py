"""Databases on servers, which may hang, stop or become read-only: time limits, and automatic reconnecting.

Django's backends wait for ever. With those of this package a request waits for its database for `read_timeout` seconds
altogether, whatever the database does. A server that works ends a slow statement, or the wait for a lock, earlier and
by itself (statement_timeout, lock_timeout): if a request waits longer, the server or the line to it hangs. Then all
connections of the process that are as old are replaced before their next use, and while new connections hang, one
request at a time waits for them and the others fail at once. The numbers are in chatsite/environment.py.

Statements of commands such as `migrate` may take any time: only connecting, and a line that is dead, have limits there.
"""

import logging
import threading
import time
from contextlib import suppress
from sqlite3 import SQLITE_ERROR
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from conversations.breaker import Breaker
from conversations.metrics import commit_seconds, statement_seconds, timed

HANGS = 0.3
"""A connection that fails after as many seconds was not refused: the server, or the line to it, hangs."""

FRESH = 1
"""Seconds after an answer in which a connection is not asked `SELECT 1` at the beginning of the next request."""

PATIENCE = 1.0
"""Seconds until the first answer in a request, with the message log: else it goes on with what is known. The first
statement of a request reads a session, a website or a conversation, which takes milliseconds."""

PAUSE = 1
"""Seconds between two tries to connect to a database that hangs."""

READ_ONLY = {1290, 1792, 1836}
"""MariaDB's and MySQL's error numbers for writing to a read-only server or in a read-only transaction."""

STALE = {"0A000", "26000"}
"""PostgreSQL's error codes for prepared statements that do not fit a changed table any more, or are unknown."""

logger = logging.getLogger(__name__)
breaker = Breaker(pause=PAUSE, trial=10)


class Trust:
    """What the threads of this process know of the database."""

    is_serving = False
    lost_at = float("-inf")  # time.monotonic(): connections that were opened before it are replaced
    failure = ""
    hung_at = float("-inf")  # time.monotonic() of that failure
    is_probed = False  # whether a thread tries to connect
    suspected_at = float("-inf")  # time.monotonic() of the last look whether a database hangs that is slow to answer
    lock = threading.Lock()  # for starting and ending it


def limit_requests() -> None:
    """From now on this process serves: limit how long statements may take, not only connecting."""
    Trust.is_serving = True


def distrust(what: str) -> None:
    """Have all open connections of this process replaced before their next use."""
    Trust.lost_at = time.monotonic()
    logger.warning("%s. All of them are replaced before their next use.", what)


def hangs(why: str, since: float) -> None:
    """The database has not answered since then (time.monotonic()).

    Until it answers a thread, requests that have to connect fail at once; commands try it now and then.
    """
    Trust.failure, Trust.hung_at = why, time.monotonic()
    breaker.failed(since)
    if breaker.is_open and Trust.is_serving:
        start_probe(PAUSE)


def suspect() -> None:
    """The database has not answered a statement for a while. A thread finds out whether it hangs."""
    if time.monotonic() >= Trust.suspected_at + PAUSE:
        Trust.suspected_at = time.monotonic()
        start_probe(0)


def start_probe(pause: float) -> None:
    """Start the thread that connects to the database, unless it runs."""
    with Trust.lock:
        if not Trust.is_probed:
            Trust.is_probed = True
            threading.Thread(target=probe, args=[pause], name="probing", daemon=True).start()


def probe(pause: float) -> None:
    """In a thread: connect after a pause, and again and again while the database hangs."""
    database: Any = connection
    database.is_probe = True
    while True:
        time.sleep(pause)
        pause = PAUSE
        with suppress(Exception):  # it hangs on, or refuses
            database.close_if_unusable_or_obsolete()
            database.connect()
            database.close()
        with Trust.lock:
            if not breaker.is_open:
                Trust.is_probed = False
                return


def is_read_only(error: BaseException | None) -> bool:
    """Whether the database has refused a write because it is, or was when we connected, read-only."""
    cause: Any = error.__cause__ if error else None
    number = cause.args[0] if cause and cause.args else None
    return getattr(cause, "sqlstate", None) == "25006" or number in READ_ONLY


def is_outage(error: BaseException | None) -> bool:
    """Whether an exception means that the database does not work at the moment, and not that our code is wrong."""
    if getattr(error.__cause__ if error else None, "sqlite_errorcode", None) == SQLITE_ERROR:
        return False  # wrong SQL
    is_stale = getattr(error.__cause__ if error else None, "sqlstate", None) in STALE
    return isinstance(error, OperationalError | InterfaceError) or is_read_only(error) or is_stale


class LimitedDatabase(BaseDatabaseWrapper):
    """Mixed into Django's backends. Each thread has one object of it for all of its requests, one after the other."""

    Database: Any  # the driver
    opened_at = 0.0
    waited = 0.0  # seconds that the current request has waited for the database
    is_checking = False
    is_probe = False  # whether it may try a database that hangs
    is_patient = False  # whether its first statement may take as long as others
    begun_at = float("-inf")  # time.monotonic() of the beginning of the current request
    answered_at = float("-inf")  # time.monotonic() of the last answer
    health_check_done: bool  # by Django: whether the connection is known to be alive in this request

    def __init__(self, *args: Any, **options: Any) -> None:
        """Django's protocol for backends."""
        super().__init__(*args, **options)
        self.begun_at = time.monotonic()  # it is made by the first request of a thread
        self.execute_wrappers.append(self.watch)

    def option(self, name: str) -> float:
        """An option of DATABASES as a number."""
        return float(self.settings_dict["OPTIONS"][name])

    def seconds_left(self) -> float | None:
        """How long the current request may still wait for the database; None for commands."""
        if not Trust.is_serving:
            return None
        return self.longest() - self.waited

    def longest(self) -> float:
        """How long the current request may wait for the next answer, all that it has waited before included."""
        # A connection is checked in half of the time: the other half is for a new one.
        longest = self.option("read_timeout") * (0.5 if self.is_checking else 1)
        return min(longest, PATIENCE) if self.is_impatient() else longest

    def is_impatient(self) -> bool:
        """Whether the current request waits for its first answer, and may go on without it."""
        return settings.MESSAGE_LOG and not self.is_patient and self.answered_at < self.begun_at

    def gives_up(self, since: float) -> bool:
        """Whether a statement that has waited since then (time.monotonic()) need not wait longer: the database hangs.

        Asked only with the message log, with which requests go on without the database.
        """
        if self.is_patient or time.monotonic() < since + PATIENCE:
            return False
        suspect()
        return breaker.is_open

    def connect_timeout(self) -> float:
        """Seconds that connecting may take, whole ones for libpq, and 2 at least."""
        longest = self.option("connect_timeout")
        return min(longest, 2 * PATIENCE) if Trust.is_serving and self.is_impatient() else longest

    def timed_out(self) -> DatabaseError:
        """The driver's exception for a request that has waited too long."""
        sentence = f"The database did not answer within {self.longest():g} seconds."
        error: DatabaseError = self.Database.OperationalError(sentence)
        return error

    def watch(self, execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        """Execute a statement.

        If it is the first one of a request, on a connection that was not asked whether it is alive, and the connection
        is dead: execute it on a new one, if it only reads. Before anything else the connection is asked now.

        If the statement is refused because the connection is read-only, see to a new connection.
        """
        with timed(statement_seconds):
            return self.execute_watched(execute, sql, parameters, many, context)

    def execute_watched(self, execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        """What `watch` does, without measuring how long it takes."""
        started = time.monotonic()
        is_check = not self.health_check_done and sql.lstrip()[:6].upper() == "SELECT"
        if not self.health_check_done and not is_check:
            self.check_health()
            if self.connection is None:
                self.replace(context)
        try:
            result = self.answer(execute, sql, parameters, many, context)
        except DatabaseError as error:
            if is_read_only(error):
                distrust("The database refuses writes on an open connection")
            if not is_check or not is_outage(error) or self.is_usable():
                raise
            self.close()
            self.replace(context)
            result = self.answer(execute, sql, parameters, many, context)
        self.health_check_done = True
        if breaker.is_open and self.alias == DEFAULT_DB_ALIAS and started > Trust.hung_at:
            self.answers_again()
        return result

    def answer(self, execute: Any, *arguments: Any) -> Any:
        """Execute a statement within the time that is left for the request."""
        return execute(*arguments)

    def replace(self, context: Any) -> None:
        """Open a connection, and let the cursor of a statement use it. `context` is that of Django's wrappers."""
        self.ensure_connection()
        context["cursor"].cursor = self.create_cursor()

    def connect(self) -> None:
        """Open a connection, or raise the driver's OperationalError at once while others hang."""
        left = self.seconds_left()
        if left is not None and left <= 0:
            if self.is_impatient():
                hangs(str(self.timed_out()), self.begun_at)
            raise self.timed_out()
        may_try = self.is_probe or (not breaker.is_open if Trust.is_serving else breaker.allows())
        if not may_try:
            raise self.Database.OperationalError(f"The database is not asked again yet after: {Trust.failure}")
        started = time.monotonic()
        try:
            super().connect()
        except Exception as error:
            if breaker.is_open or time.monotonic() - started >= HANGS:
                hangs(str(error), started)
            raise
        finally:
            self.waited += time.monotonic() - started
        if breaker.is_open:
            self.answers_again()
        self.opened_at = started

    def answers_again(self) -> None:
        """The database has answered, by a new connection or by one that outlived the outage: all may connect."""
        breaker.succeeded()
        logger.warning("The database answers again.")

    def is_usable(self) -> bool:
        """Whether the database answers on this connection. If not, older connections are not trusted either."""
        self.is_checking = True
        try:
            usable: bool = super().is_usable()
        finally:
            self.is_checking = False
        if not usable:
            distrust("The database does not answer on an open connection")
        return usable

    def close_if_health_check_failed(self) -> None:
        """Django calls this before each statement. The first one of a request then has to ask whether we are connected.

        A connection that has just answered is not asked: `watch` notices when it is dead.
        """
        if time.monotonic() - self.answered_at >= FRESH:
            self.check_health()

    def check_health(self) -> None:
        """Ask the database on this connection (SELECT 1), once in each request; close the connection if it is dead."""
        super().close_if_health_check_failed()

    def set_autocommit(self, *arguments: Any, **options: Any) -> None:
        """Begin or end a transaction. It begins on a connection that is alive: it cannot be moved to another one."""
        self.check_health()
        super().set_autocommit(*arguments, **options)

    def _commit(self) -> Any:
        with timed(commit_seconds):
            return super()._commit()  # type: ignore[misc]  # the stubs lack it

    def close_if_unusable_or_obsolete(self) -> None:
        """Django calls this before and after each request, and before and after each access of a socket."""
        self.waited, self.begun_at = 0.0, time.monotonic()
        if self.connection is not None and not self.in_atomic_block and self.opened_at < Trust.lost_at:
            self.close()
        super().close_if_unusable_or_obsolete()
