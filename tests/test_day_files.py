"""Day files: every message of the log is in them once, whatever fails, and nothing in them lets anybody in."""

import errno
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from conversations.management import day_files
from conversations.management.day_files import GROUP, WRITING, FolderInUse, Row, write_day_files
from conversations.message_log import ENTRIES
from conversations.models import Conversation, Message
from conversations.models.settling import values_of
from tests.conftest import ROOT
from tests.services import SOON, Service, redis_server

MORNING = datetime(2026, 11, 26, 9, 0, 0, 123456, UTC)
SECRET = "ab" * 16
CLIENT_ID = "c1" * 16
DOC = (ROOT / "docs/analysis.md").read_text()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_files, "IDLE", 0.1)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with redis_server() as service:
        yield service


def connected(service: Service) -> Any:
    """A client as the message log has it."""
    return redis.Redis.from_url(service.url, decode_responses=True, socket_timeout=0.25, socket_connect_timeout=0.25)


@pytest.fixture
def log(service: Service) -> Any:
    """The Redis of an empty message log."""
    client = connected(service)
    client.flushall()
    return client


@pytest.fixture(params=["parquet", "jsonl.gz"])
def suffix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of files that are written: with pyarrow, and without it."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow.")
    else:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    return str(request.param)


@pytest.fixture
def _json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def says(
    log: Any, pk: int, content: str = "Hello", *, conversation: int = 7, starts: bool = False, **more: Any
) -> None:
    """Append a message to the log, by the customer unless `more` says otherwise. `starts`: the conversation."""
    of = Conversation(
        pk=None if starts else conversation, uuid=UUID(SECRET), website_id=1, created_at=MORNING, customer_id="c-9"
    )
    message = Message(conversation=of, created_at=MORNING, author="CUS", content=content, client_id=UUID(CLIENT_ID))
    entry = {**values_of(message, "Alice Liddell", "alice@shop.example", []), **more}
    log.xadd(ENTRIES, {"conversation": conversation, "entry": json.dumps(entry)}, id=f"{pk}-0")


def pending(log: Any) -> int:
    """How many entries were read and not acknowledged, when there are no others."""
    groups = log.xinfo_groups(ENTRIES) if log.exists(ENTRIES) else []
    read = groups and groups[0]["last-delivered-id"] == log.xinfo_stream(ENTRIES)["last-generated-id"]
    return int(groups[0]["pending"]) if read else -1


def is_written(log: Any) -> bool:
    """Whether everything in the log was read and acknowledged."""
    return pending(log) == 0


def write(log: Any, folder: Path, **options: Any) -> None:
    """Write day files until everything is acknowledged."""
    deadline = time.monotonic() + 60

    def stopped() -> bool:
        assert time.monotonic() < deadline, "Not everything is acknowledged after a minute."
        return is_written(log)

    write_day_files(log, folder, stopped=stopped, **{"seconds": 0, **options})


@contextmanager
def writer(client: Any, folder: Path, **options: Any) -> Iterator[None]:
    """A writer in a thread of its own; it is stopped at the end."""
    stop = threading.Event()
    options = {"seconds": 0, **options, "stopped": stop.is_set}
    thread = threading.Thread(target=write_day_files, args=(client, folder), kwargs=options)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def soon(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + 4 * SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def content_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return list(parquet.ParquetFile(path).read().to_pylist())
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [{**row, "at": datetime.fromisoformat(row["at"])} for row in rows]


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of all files by their paths."""
    paths = sorted(folder.glob("messages/*/part-*"))
    return {path.relative_to(folder / "messages").as_posix(): content_of(path) for path in paths}


def ids_of(folder: Path) -> list[int]:
    """The ids of all messages in the files."""
    return sorted(row["id"] for rows in rows_of(folder).values() for row in rows)


def test_a_message_is_in_a_file_of_its_day_with_the_documented_columns(log: Any, tmp_path: Path, suffix: str) -> None:
    says(log, 41, "Hello 👋\n“you”\0", starts=True)
    says(log, 43, "", author="AGE", agent=5, names=["Bob", "B.", "bob"], files=[{"name": "a.png"}, {"name": "b.png"}])
    says(log, 44, "still yesterday in New York", conversation=8, at="2026-11-26T23:30:00-05:00")
    write(log, tmp_path)
    says(log, 45, "late", at="2026-11-26T23:59:59.999999+00:00")
    says(log, 46, "", author="AGE", agent=5, removed=43)
    write(log, tmp_path)
    common = {"conversation": 7, "website": 1, "author": "customer", "agent": None, "files": 0, "is_first": False}
    common["removes"] = None
    assert rows_of(tmp_path) == {
        f"day=2026-11-26/part-000000000043.{suffix}": [
            {**common, "id": 41, "at": MORNING, "content": "Hello 👋\n“you”\0", "is_first": True},
            {**common, "id": 43, "at": MORNING, "content": "", "author": "agent", "agent": 5, "files": 2},
        ],
        f"day=2026-11-26/part-000000000046.{suffix}": [
            {**common, "id": 45, "at": datetime(2026, 11, 26, 23, 59, 59, 999999, UTC), "content": "late"},
            {**common, "id": 46, "at": MORNING, "content": "", "author": "removal", "agent": 5, "removes": 43},
        ],
        f"day=2026-11-27/part-000000000044.{suffix}": [
            {
                **common,
                "id": 44,
                "conversation": 8,
                "at": datetime(2026, 11, 27, 4, 30, tzinfo=UTC),
                "content": "still yesterday in New York",
            }
        ],
    }


def test_no_secret_and_no_name_is_in_the_files(log: Any, tmp_path: Path, suffix: str) -> None:
    says(log, 41, "Hello", starts=True, files=[{"name": "contract.pdf"}])
    [(_, entry)] = log.xrange(ENTRIES)
    write(log, tmp_path)
    [[row]] = rows_of(tmp_path).values()
    assert row["content"] == "Hello"
    assert [name for name in row if name not in Row._fields] == []
    for secret in (SECRET, CLIENT_ID, "Alice", "alice@", "c-9", "contract"):
        assert secret in entry["entry"]
        assert secret not in str(row)


def test_others_than_the_group_cannot_read_the_files(log: Any, tmp_path: Path, suffix: str) -> None:
    says(log, 41)
    before = os.umask(0)
    try:
        write(log, tmp_path)
    finally:
        os.umask(before)
    [path] = tmp_path.glob("messages/*/part-*")
    assert path.stat().st_mode & 0o777 == 0o640


KILLED = """
import os, signal, sys
from pathlib import Path
import redis
from conversations.management import day_files

url, folder, moment, countdown = *sys.argv[1:4], int(sys.argv[4])
steps = {"rename": (Path, "replace"), "sync": (day_files, "sync_directory"), "xack": (redis.Redis, "xack")}
owner, name = steps[moment]
done = getattr(owner, name)

def killed(*args):
    global countdown
    countdown -= 1
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done(*args)

setattr(owner, name, killed)
day_files.BATCH = 4
client = redis.Redis.from_url(url, decode_responses=True)
day_files.write_day_files(client, Path(folder), stopped=lambda: False, most=6, seconds=0.5)
"""


@pytest.mark.parametrize(
    ("moment", "countdown", "finished"),
    [
        ("rename", 1, 0),  # nothing has its name yet
        ("rename", 2, 1),  # the file of one day has, that of the other has not
        ("sync", 4, 1),  # renamed, but perhaps not yet on the disk
        ("xack", 1, 2),  # nothing is acknowledged
        ("xack", 2, 2),  # a part is
        ("rename", 3, 2),  # the next ones
        ("xack", 3, 4),
    ],
)
def test_a_writer_that_is_killed_writes_no_message_twice_and_leaves_none_out(
    log: Any, service: Service, tmp_path: Path, moment: str, countdown: int, finished: int
) -> None:
    for pk in range(41, 51):  # two days, which alternate
        says(log, pk, at=f"2026-11-{26 + pk % 2}T10:00:00+00:00")
    arguments = [sys.executable, "-c", KILLED, service.url, str(tmp_path), moment, str(countdown)]
    died = subprocess.run(arguments, cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(rows_of(tmp_path)) == finished
    assert not is_written(log)
    says(log, 51)
    write(log, tmp_path)
    assert ids_of(tmp_path) == list(range(41, 52))
    assert list(tmp_path.glob("messages/*/.unfinished")) == []


def test_a_file_is_complete_when_it_has_enough_messages(log: Any, tmp_path: Path, suffix: str) -> None:
    for pk in range(41, 48):
        says(log, pk)
    with writer(log, tmp_path, most=3, seconds=3600):
        soon(lambda: pending(log) == 1)
        assert [len(rows) for rows in rows_of(tmp_path).values()] == [3, 3]
    assert [len(rows) for rows in rows_of(tmp_path).values()] == [3, 3, 1]  # it was stopped
    assert is_written(log)


@pytest.mark.usefixtures("_json_lines")
def test_a_file_is_complete_when_it_has_long_messages(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_files, "MOST_CHARACTERS", 1000)
    monkeypatch.setattr(day_files, "BATCH", 1)
    for pk in range(41, 46):
        says(log, pk, "x" * 500)
    with writer(log, tmp_path, seconds=3600):
        soon(lambda: pending(log) == 1 and len(rows_of(tmp_path)) == 2)
    assert [len(rows) for rows in rows_of(tmp_path).values()] == [2, 2, 1]


@pytest.mark.usefixtures("_json_lines")
def test_a_file_is_complete_when_its_first_message_is_old_enough(log: Any, tmp_path: Path) -> None:
    says(log, 41)
    with writer(log, tmp_path, seconds=1):
        soon(lambda: ids_of(tmp_path) == [41])
        says(log, 42)
        soon(lambda: ids_of(tmp_path) == [41, 42])


@pytest.mark.usefixtures("_json_lines")
def test_the_group_is_created_before_the_first_message(log: Any, tmp_path: Path) -> None:
    with writer(log, tmp_path):
        soon(lambda: log.exists(ENTRIES))
        [group] = log.xinfo_groups(ENTRIES)
        assert group["name"] == GROUP
        says(log, 41)
        soon(lambda: ids_of(tmp_path) == [41])


@pytest.mark.usefixtures("_json_lines")
def test_if_the_group_is_lost_no_message_is_written_twice(log: Any, tmp_path: Path) -> None:
    says(log, 41)
    with writer(log, tmp_path):
        soon(lambda: ids_of(tmp_path) == [41])
        log.xgroup_destroy(ENTRIES, GROUP)
        says(log, 42)
        soon(lambda: is_written(log))
    assert ids_of(tmp_path) == [41, 42]


@pytest.mark.usefixtures("_json_lines")
def test_a_second_writer_is_told_that_the_folder_is_in_use(log: Any, tmp_path: Path) -> None:
    says(log, 41)
    with writer(log, tmp_path):
        soon(lambda: is_written(log))
        with pytest.raises(FolderInUse, match=re.escape(f"Another process writes day files to {tmp_path}.")):
            write_day_files(log, tmp_path, stopped=lambda: False)
    write_day_files(log, tmp_path, stopped=lambda: True)  # nobody else writes any more


def test_a_second_writer_with_another_folder_is_told_where_the_messages_go(log: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def step(folder: Path) -> None:
        write_day_files(log, folder, stopped=iter([False, True]).__next__)

    step(first)
    step(second)  # the first one was stopped
    log.set(WRITING, f"{socket.gethostname()}:{first}", ex=60)  # it runs, or was killed
    with pytest.raises(FolderInUse, match=f"{first} on "):
        step(second)
    step(first)
    assert not log.exists(WRITING)


@pytest.mark.usefixtures("_json_lines")
def test_on_a_full_disk_nothing_is_acknowledged_and_it_is_tried_again(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    says(log, 41)
    pauses: list[float] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if len(pauses) < 7 and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    def wait(seconds: float, stopped: Callable[[], bool]) -> None:
        assert rows_of(tmp_path) == {}
        assert list(tmp_path.glob("messages/*/.*")) == []  # it would take room
        assert log.xinfo_groups(ENTRIES)[0]["pending"] == 1
        pauses.append(seconds)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(day_files, "_wait", wait)
    write(log, tmp_path)
    assert ids_of(tmp_path) == [41]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert f"Day files cannot be written to {tmp_path}: [Errno 28] No space left on device" in caplog.text
    assert "are written to" in caplog.records[-1].getMessage()


@pytest.mark.usefixtures("_json_lines")
def test_on_a_disk_that_stays_full_it_can_be_stopped(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    says(log, 41)
    with monkeypatch.context() as full:

        def open_none(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with writer(log, tmp_path):
            full.setattr(day_files, "_write_whole", open_none)
            soon(lambda: "No space left" in caplog.text)
    assert "They are written at the next start." in caplog.text
    write(log, tmp_path)
    assert ids_of(tmp_path) == [41]


@pytest.mark.usefixtures("_json_lines")
def test_it_goes_on_when_redis_was_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as service:
        log = connected(service)
        says(log, 41)
        with writer(connected(service), tmp_path, seconds=1):
            soon(lambda: ids_of(tmp_path) == [41])
            says(log, 42)
            service.freeze()
            try:
                soon(lambda: "Day files cannot be written" in caplog.text)
            finally:
                service.thaw()
            says(log, 43)
            soon(lambda: is_written(log))
        assert ids_of(tmp_path) == [41, 42, 43]


class Forgetful(redis.Redis):
    """A client whose connection breaks after Redis has executed a command, before the answer."""

    lost: set[str]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if args[0] in self.lost:
            self.lost.remove(args[0])
            raise redis.TimeoutError("no answer")
        return answer


@pytest.mark.usefixtures("_json_lines")
@pytest.mark.parametrize("command", ["XGROUP CREATE", "XREADGROUP", "XACK"])
def test_an_answer_of_redis_that_gets_lost_loses_and_doubles_no_message(
    log: Any, service: Service, tmp_path: Path, command: str
) -> None:
    for pk in range(41, 45):
        says(log, pk)
    client: Any = Forgetful.from_url(service.url, decode_responses=True)
    client.lost = {command}
    with writer(client, tmp_path):
        soon(lambda: not client.lost and is_written(log))
    assert ids_of(tmp_path) == [41, 42, 43, 44]


@pytest.mark.usefixtures("_json_lines")
@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": 7},
        {"conversation": 7, "entry": "not JSON: my password"},
        {"conversation": 7, "entry": "[" * 100_000},
        {"conversation": 7, "entry": "[]"},
        {"conversation": "seven"},
        {"content": None},
        {"content": "my password \ud800"},
        {"author": "NOT"},
        {"website": None},
        {"website": True},
        {"agent": "my password"},
        {"agent": 2**63},
        {"files": None},
        {"at": "yesterday"},
        {"at": "2026-11-26T10:00:00"},
        {"at": "0001-01-01T00:00:00+01:00"},
    ],
    ids=lambda fields: ", ".join(f"{name}={str(value)[:20]!a}" for name, value in fields.items()),
)
def test_a_malformed_entry_is_logged_and_passed_over(
    log: Any, tmp_path: Path, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    says(log, 41)
    if "entry" in fields or fields == {"conversation": 7}:
        log.xadd(ENTRIES, fields, id="42-0")
    else:
        says(log, 42, **fields)
    says(log, 43)
    write(log, tmp_path)
    assert ids_of(tmp_path) == [41, 43]
    [error] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "42-0" in error
    assert "password" not in caplog.text


@pytest.mark.usefixtures("_json_lines")
def test_an_entry_that_was_deleted_before_it_was_written_is_passed_over(
    log: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for pk in (41, 42, 43):
        says(log, pk)
    log.xgroup_create(ENTRIES, GROUP, "0")
    log.xreadgroup(GROUP, day_files.CONSUMER, {ENTRIES: ">"})
    log.xdel(ENTRIES, "42-0")
    write(log, tmp_path)
    assert ids_of(tmp_path) == [41, 43]
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def documented(beginning: str, folder: Path, suffix: str) -> str:
    """The statement of docs/analysis.md that begins so, for this folder and kind of files."""
    [found] = [sql for sql in re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL) if sql.lstrip().startswith(beginning)]
    found = found.replace("'messages/", f"'{folder}/messages/").replace(".parquet'", f".{suffix}'")
    return str(found if suffix == "parquet" else found.replace("read_parquet", "read_json"))


def test_the_documented_query_finds_the_times_of_first_answers(log: Any, tmp_path: Path, suffix: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="The queries of docs/analysis.md need duckdb.")
    agent: dict[str, Any] = {"author": "AGE", "agent": 5}
    says(log, 40, conversation=6, at="2026-11-26T08:00:00+00:00")  # began before the files
    says(log, 41, conversation=6, at="2026-11-26T08:00:01+00:00", **agent)
    says(log, 42, conversation=7, at="2026-11-26T09:00:00+00:00", starts=True)
    says(log, 43, conversation=8, at="2026-11-26T09:00:10+00:00", starts=True)
    says(log, 44, conversation=7, at="2026-11-26T09:00:20+00:00")
    says(log, 45, conversation=7, at="2026-11-26T09:01:00+00:00", **agent)
    says(log, 46, conversation=7, at="2026-11-26T09:09:00+00:00", **agent)
    says(log, 47, conversation=8, at="2026-11-26T09:03:10+00:00", **agent)
    says(log, 48, conversation=9, at="2026-11-26T23:59:30+00:00", website=2, starts=True)
    says(log, 49, conversation=9, at="2026-11-27T00:00:00.4+00:00", website=2, **agent)
    says(log, 50, conversation=10, at="2026-11-27T10:00:00+00:00", starts=True)  # nobody answers
    says(log, 51, "", conversation=10, at="2026-11-27T10:01:00+00:00", removed=49, **agent)
    write(log, tmp_path)
    days = duckdb.sql(documented("WITH", tmp_path, suffix)).fetchall()
    assert [(str(day), *values) for day, *values in days] == [
        ("2026-11-26", 1, 2, 2, 120, 168),
        ("2026-11-26", 2, 1, 1, 30, 30),
        ("2026-11-27", 1, 1, 0, None, None),
    ]


def test_the_documented_statements_erase_a_conversation(log: Any, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="The queries of docs/analysis.md need duckdb.")
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow.")
    says(log, 48210, "mine", conversation=7)
    says(log, 48211, "another's", conversation=8)
    write(log, tmp_path)
    path = tmp_path / "messages/day=2026-11-26/part-000000048211.parquet"
    before = [row for row in content_of(path) if row["conversation"] == 8]
    find = documented("SELECT filename", tmp_path, "parquet")
    assert duckdb.sql(find).fetchall() == [(str(path), 1)]
    duckdb.sql(documented("COPY", tmp_path, "parquet"))
    path.with_name(".rewritten").rename(path)
    assert duckdb.sql(find).fetchall() == []
    assert content_of(path) == before


def test_the_docs_describe_the_columns_as_duckdb_shows_them(log: Any, tmp_path: Path) -> None:
    documented_columns = re.findall(r"^\| `(\w+)` \| ([A-Z ]+) \|", DOC, re.MULTILINE)
    assert [name for name, _ in documented_columns] == list(Row._fields)
    assert f"{day_files.MOST:,} messages" in DOC
    assert day_files.SECONDS == 60  # "a minute"
    duckdb = pytest.importorskip("duckdb", reason="The queries of docs/analysis.md need duckdb.")
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow.")
    says(log, 41)
    write(log, tmp_path)
    files = duckdb.read_parquet(f"{tmp_path}/messages/*/*.parquet", hive_partitioning=True)
    shown = [(name, str(kind)) for name, kind in zip(files.columns, files.types, strict=True)]
    assert shown == [*documented_columns, ("day", "DATE")]
