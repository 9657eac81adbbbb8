"""The databases of the benchmark: files of SQLite, or an own PostgreSQL or MariaDB."""

import hashlib
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tests.bench.data import Talk
from tests.bench.server import ROOT, run
from tests.bench.services import Service

SMALL, MAIN, LARGE, LONG = "1,000", "10,000", "100,000", "20 long ones"
SIZES = {LARGE: (100_000, 1), MAIN: (10_000, 20), SMALL: (1_000, 50), LONG: (20, 5_000)}
"""Numbers of conversations, and of messages in each. The inbox reads no messages, so LARGE has only one in each."""

KEPT = ROOT / "build" / "bench"
"""Where files of filled databases are kept until the next day: filling takes half a minute."""


@dataclass(frozen=True)
class Database:
    """A filled database."""

    total: int  # conversations
    each: int  # messages in each of them
    url: str = ""
    session: str = ""  # the key of an agent's session

    @property
    def talks(self) -> list[Talk]:
        """Its conversations."""
        return [Talk(number, self.total, self.each) for number in range(1, self.total + 1)]


def in_files(names: list[str], where: Path) -> dict[str, Database]:
    """Databases of SQLite in the directory `where`."""

    def make(name: str) -> Database:
        total, each = SIZES[name]
        filled, copy = KEPT / f"{key()}-{total}.sqlite3", where / f"{total}.sqlite3"
        session = filled.with_suffix(".session")
        if not session.exists():
            text = fill(SIZES[name], f"sqlite:///{filled}")
            with closing(sqlite3.connect(filled)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            session.write_text(text)
        shutil.copy(filled, copy)
        return Database(total, each, f"sqlite:///{copy}", session.read_text())

    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.iterdir():
        if not old.name.startswith(key()):
            old.unlink(missing_ok=True)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(make, names), strict=True))


def key() -> str:
    """What a kept database depends on: the schema, the data and the date."""
    files = [Path(__file__).parent / "data.py", *sorted((ROOT / "conversations" / "migrations").glob("*.py"))]
    text = b"".join(file.read_bytes() for file in files)
    return f"{date.today()}-{hashlib.sha256(text).hexdigest()[:12]}"


def on_service(names: list[str], service: Service) -> dict[str, Database]:
    """Databases on a database server."""

    def make(name: str) -> Database:
        total, each = SIZES[name]
        service.sql(f"CREATE DATABASE bench{total}")
        url = service.url.replace("/chat", f"/bench{total}")
        return Database(total, each, url, fill(SIZES[name], url))

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(make, names), strict=True))
    if service.url.startswith("postgres"):
        service.sql("CHECKPOINT")  # otherwise it happens while something is measured
    return found


def fill(size: tuple[int, int], url: str) -> str:
    """Fill a new database; return the key of an agent's session."""
    return run("-m", "tests.bench.data", *map(str, size), url=url)
