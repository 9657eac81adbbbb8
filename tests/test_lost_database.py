"""SQLite's file is deleted, moved or replaced under the server: it saves what it had, and stops."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from chatsite.serving.database_file import DatabaseFile
from tests.conftest import Server


class Watched(Server):
    """A server that may stop by itself."""

    def ends(self) -> int:
        """Wait until it has stopped by itself; returns the exit code."""
        assert self.process is not None
        return self.process.wait(timeout=30)


@pytest.fixture
def watched(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A server on a SQLite file of its own."""
    url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    server = Watched({"DEBUG": "on", "RATE_LIMITS": "off", "DATABASE_URL": url, "FILES": str(tmp_path / "files")})
    shutil.copy(migrated, tmp_path / "db.sqlite3")
    popen: Any = subprocess.Popen
    with (tmp_path / "stderr").open("wb") as errors:
        monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: popen(*args, **more, stderr=errors))
        server.start()
        monkeypatch.setattr(subprocess, "Popen", popen)
    yield server
    if server.process and server.process.poll() is None:
        server.kill()


def says(server: Server, text: str) -> None:
    """Write a message over the API."""
    body = json.dumps({"content": text}).encode()
    request = Request(f"{server.url}/api/messages/", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def messages(database: Path) -> list[str]:
    """The texts in a database."""
    connection = sqlite3.connect(database)
    try:
        return [text for (text,) in connection.execute("SELECT content FROM conversations_message ORDER BY id")]
    finally:
        connection.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_the_server_saves_what_it_had_and_stops(watched: Watched, tmp_path: Path, how: str) -> None:
    database, backup = tmp_path / "db.sqlite3", tmp_path / "backup.sqlite3"
    says(watched, "One")
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", [str(backup)])
    connection.close()
    if how == "deleted":
        database.unlink()
    elif how == "moved":
        database.rename(tmp_path / "elsewhere.sqlite3")
    else:
        os.replace(backup, database)
    says(watched, "Two")
    assert watched.ends() == 1
    words = (tmp_path / "stderr").read_text()
    assert "was deleted, moved or replaced while Chatsite served" in words
    [saved] = tmp_path.glob("db.sqlite3.saved-*")
    assert str(saved) in words
    assert messages(saved) == ["One", "Two"]
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_put_back_at_once_is_not_lost(tmp_path: Path) -> None:
    database, elsewhere = tmp_path / "db.sqlite3", tmp_path / "elsewhere"
    sqlite3.connect(database).execute("CREATE TABLE t (id)")
    file = DatabaseFile(database)
    for _ in range(3):
        database.rename(elsewhere)
        assert not file.is_lost()
        elsewhere.rename(database)
        assert not file.is_lost()
    database.unlink()
    assert not file.is_lost()
    assert file.is_lost()
    file.connection.close()


def test_the_server_goes_on_when_the_file_stays(watched: Watched, tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    file = DatabaseFile(database)
    says(watched, "One")
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM")
    connection.close()
    shutil.copy(database, tmp_path / "copy.sqlite3")
    os.utime(database)
    assert not file.is_lost()
    file.connection.close()
    says(watched, "Two")
    assert watched.process is not None
    assert watched.process.poll() is None
    assert watched.stop() == 0
    assert list(tmp_path.glob("*.saved-*")) == []
