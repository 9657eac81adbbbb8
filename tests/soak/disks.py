"""SQLite's file, locked by another process, and on a full disk."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.soak.installation import Installation
from tests.soak.trial import Trial


def hold(installation: Installation) -> None:
    """Another process holds the lock of the file for 15 s."""
    time.sleep(3)
    file = installation.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(15)
        connection.execute("ROLLBACK")


def fill(installation: Installation) -> None:
    """The disk of the database is full for 15 s."""
    time.sleep(3)
    filler = Path(installation.where, "data", "filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
        time.sleep(15)
    filler.unlink()


TRIALS = {
    "sqlite-held": Trial(hold, engine="sqlite"),
    # With a full disk, responses have Retry-After: 10.
    "disk-full": Trial(fill, heals=20, engine="small-disk"),
}
