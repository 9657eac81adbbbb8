"""A replica of PostgreSQL takes the backups, and its lag does no harm. Requests never read from one: docs/scale.md."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.services import Chat, Service, postgresql, replica


@pytest.fixture
def primary() -> Iterator[Service]:
    with postgresql() as service:
        yield service


def written(service: Service) -> str:
    """The position up to which the primary has written its log."""
    with psycopg.connect(service.url, autocommit=True) as connection:
        [position] = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or [""]
        return str(position)


def wait_for(follower: Service, position: str) -> None:
    """Wait until the replica has all up to this position."""
    deadline = time.monotonic() + 60
    with psycopg.connect(follower.url, autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", [position]).fetchone() != (False,):
            assert time.monotonic() < deadline, "The replica does not follow."
            time.sleep(0.05)


def test_a_backup_of_a_replica_has_all_that_the_replica_has(primary: Service, tmp_path: Path) -> None:
    chat = Chat(tmp_path, {"DATABASE_URL": primary.url, "RATE_LIMITS": "off", "DEBUG": "on"})
    chat.manage("migrate", "--verbosity", "0")
    with replica(primary) as follower:
        of_replica = Chat(tmp_path, {"DATABASE_URL": follower.url, "DEBUG": "on"})

        def back_up(name: str) -> str:
            said = of_replica.manage("backup", str(tmp_path / name))
            of_replica.manage("restore", "--check", str(tmp_path / name))
            return said

        chat.start()
        try:
            alices = chat.begin()
            assert chat.post(alices)[0] == 200
            wait_for(follower, written(primary))
            follower.sql("SELECT pg_wal_replay_pause()", "chat")
            chat.begin()
            assert chat.post(alices)[0] == 200  # the primary serves on, however late the replica is
            assert "1 conversations, 2 messages" in back_up("late.tar")
            follower.sql("SELECT pg_wal_replay_resume()", "chat")
            wait_for(follower, written(primary))
            assert "2 conversations, 4 messages" in back_up("all.tar")
        finally:
            chat.kill()
