"""Databases that stop, hang or refuse connections and writes."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import psycopg

from tests.soak.installation import Installation, wait_for
from tests.soak.trial import Fault, Trial

END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chat' AND pid <> pg_backend_pid()"


def restart(how: signal.Signals, seconds: float, installation: Installation) -> None:
    """End the database, and start it again after some seconds."""
    time.sleep(3)
    installation.database.end(how)
    time.sleep(seconds)
    installation.database.start()
    wait_for(lambda: installation.execute("SELECT 1"))


def freeze(installation: Installation) -> None:
    """SIGSTOP for 20 s."""
    time.sleep(3)
    installation.database.freeze()
    time.sleep(20)
    installation.database.thaw()


def cut(installation: Installation) -> None:
    """Open connections go silent, as after a failover or behind NAT."""
    time.sleep(3)
    installation.database_line.cut()
    time.sleep(10)


def repeatedly(statement: Callable[[Installation], None], seconds: float, installation: Installation) -> None:
    """Do something each second."""
    for _ in range(int(seconds)):
        time.sleep(1)
        statement(installation)


def end_connections(installation: Installation) -> None:
    """End all connections of the servers."""
    if installation.engine == "postgresql":
        installation.execute(END)
        return
    ids = "SELECT id FROM information_schema.processlist WHERE db = 'chat' AND id <> connection_id()"
    for [pk] in installation.execute(ids):
        installation.execute(f"KILL {pk}")


def take_connections(installation: Installation) -> None:
    """Other clients use all connections that max_connections allows, for 15 s."""
    time.sleep(3)
    until = time.monotonic() + 15
    with ExitStack() as others:
        first = others.enter_context(psycopg.connect(installation.database.url, autocommit=True))
        while time.monotonic() < until:
            first.execute(END)
            while time.monotonic() < until:
                try:
                    others.enter_context(psycopg.connect(installation.database.url.replace("/chat", "/postgres")))
                except psycopg.OperationalError:
                    break
            time.sleep(0.5)


def crash_backend(installation: Installation) -> None:
    """Kill the process of a connection: PostgreSQL ends all others and recovers, as from a crash."""
    for _ in range(3):
        time.sleep(4)
        [[pid]] = installation.execute("SELECT pid FROM pg_stat_activity WHERE datname = 'chat' LIMIT 1")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: installation.execute("SELECT 1"))


def read_only(on: str, installation: Installation) -> None:
    """Writes are refused for 15 s. Connections opened in that time stay read-only."""
    time.sleep(3)
    installation.database.sql(on.format("on"))
    end_connections(installation)
    time.sleep(15)
    installation.database.sql(on.format("off"))


POSTGRESQL: dict[str, Fault] = {
    "postgresql-restarted": partial(restart, signal.SIGINT, 0),
    "postgresql-crashed": partial(restart, signal.SIGQUIT, 0),
    "postgresql-stopped": partial(restart, signal.SIGINT, 20),
    "postgresql-frozen": freeze,
    "postgresql-cut": cut,
    "postgresql-connections-ended": partial(repeatedly, end_connections, 20),
    "postgresql-connections-taken": take_connections,
    "postgresql-backend-killed": crash_backend,
    "postgresql-read-only": partial(read_only, "ALTER DATABASE chat SET default_transaction_read_only = {}"),
}
MARIADB: dict[str, Fault] = {
    "mariadb-stopped": partial(restart, signal.SIGTERM, 20),
    "mariadb-killed": partial(restart, signal.SIGKILL, 0),
    "mariadb-frozen": freeze,
    "mariadb-cut": cut,
    "mariadb-read-only": partial(read_only, "SET GLOBAL tx_read_only = {}"),
}
TRIALS = {name: Trial(fault) for name, fault in POSTGRESQL.items()} | {
    name: Trial(fault, engine="mariadb") for name, fault in MARIADB.items()
}
