"""SQLite's file may be deleted, moved or replaced while the server runs. Messages stored after that would be lost.

So the server stops. The deleted file can be read until the process closes it, so its content is saved in a new file.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

Identity = tuple[int, int]
"""Device and number of a file. VACUUM and writing keep them."""


class DatabaseLost(Exception):
    """The server has stopped because its database's file is not there any more; says what was saved."""


class DatabaseFile:
    """The file of a SQLite database, as it was when the server started."""

    def __init__(self, path: Path) -> None:
        """`path` is an existing database. Raises sqlite3.Error if it is none."""
        self.path = path
        # Without a transaction, it holds no lock.
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self.identity = self.current_identity()
        self.was_missing = False

    def current_identity(self) -> Identity | None:
        """The identity of the file that has this path now, or None if there is none. Raises OSError."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def is_lost(self) -> bool:
        """Whether the file was deleted, moved or replaced, now and when this was called before.

        Once is not enough: somebody may put it back at once. A disk that does not answer is no reason to think so.
        """
        try:
            is_missing = self.current_identity() != self.identity
        except OSError:
            is_missing = False
        was_missing, self.was_missing = self.was_missing, is_missing
        return was_missing and is_missing

    def save(self) -> DatabaseLost:
        """Write what was stored to a new file beside the lost one, and close the connection; say so."""
        target = self.path.with_name(f"{self.path.name}.saved-{time.strftime('%Y%m%d-%H%M%S')}")
        sentence = (
            f"The database {self.path} was deleted, moved or replaced while Chatsite served, and so it has stopped: "
            "new messages would have been lost."
        )
        with closing(self.connection):
            try:
                self.connection.execute("VACUUM INTO ?", [str(target)])
                target.chmod(0o600)
            except (sqlite3.Error, OSError) as error:
                return DatabaseLost(f"{sentence} What it had stored could not be saved: {error}.")
        return DatabaseLost(
            f"{sentence} What it had stored until now is saved in {target}. Put the right database in place, then "
            "start Chatsite again."
        )


def watched_file(database: dict[str, Any]) -> DatabaseFile | None:
    """The file to watch, of settings in DATABASES; None if there is none."""
    path = Path(database["NAME"])
    if not database["ENGINE"].endswith("sqlite3") or not path.is_file():
        return None
    return DatabaseFile(path.absolute())
