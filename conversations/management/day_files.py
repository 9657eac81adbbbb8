"""Day files: what `manage.py replicate --to FOLDER` writes for analysis. docs/analysis.md describes them.

Each message is in them once, however often the writer is killed:

- Redis keeps a message for the consumer group until it is acknowledged, which happens when its file has got its name.
- Messages are written in the order of their ids, and a file is named after its last one. So the names say which
  messages of a day are already in its files, if they come again because they were not acknowledged.

So after a failure of Redis, the writer forgets what it has read, and reads again everything that is not acknowledged.
"""

import fcntl
import gzip
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import redis

from conversations.management.archive import sync_directory
from conversations.message_log import ENTRIES
from conversations.redis_client import is_full

GROUP = "analysis"
CONSUMER = "day files"

MOST = 50_000
"""Messages after which a file is complete."""

MOST_CHARACTERS = 32 * 1024 * 1024
"""Characters of messages after which a file is complete, because they are in memory until then."""

SECONDS = 60
"""Seconds after which a file is complete."""

BATCH = 500
"""Messages that are read, or acknowledged, by one command."""

IDLE = 1
"""Seconds between two looks for new messages. Redis is not asked to wait: its client has a short time limit."""

LONGEST_PAUSE = 30
"""Seconds between two tries while Redis or the disk fails. The first pause is a second."""

AUTHORS = {"CUS": "customer", "AGE": "agent"}
REMOVAL = "removal"

NAME = re.compile(r"part-(\d+)\.(?:parquet|jsonl\.gz)")

logger = logging.getLogger(__name__)


WRITING, WRITING_SECONDS = "{log}:writing", 120
"""The key with the folder that is written to, and how long it stays if the writer is killed. All writers are one reader
of the log: with two folders, each would get a part of the messages."""

CLAIM = """
    local folder = redis.call('GET', KEYS[1])
    if folder and folder ~= ARGV[1] then return folder end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
"""


class FolderInUse(Exception):
    """Another process writes to the folder, or to another one. The message is a sentence for the operator."""


class Row(NamedTuple):
    """A message: these are the columns of the files. None has a secret, a name or an address of mail."""

    id: int
    conversation: int  # its number
    website: int
    at: datetime  # UTC
    author: str  # "customer", "agent", or "removal": an agent has taken the message `removes` back
    agent: int | None
    content: str
    files: int  # how many
    is_first: bool  # of the conversation
    removes: int | None  # the id of an earlier message, whose text must not be used any more


class DeletedEntry(Exception):
    """The entry was deleted after it was read, because its conversation was deleted."""


def write_day_files(
    client: "redis.Redis",
    folder: Path,
    *,
    stopped: Callable[[], bool],
    most: int = MOST,
    seconds: float = SECONDS,
) -> None:
    """Write the messages of the log to `folder`, until `stopped` returns True; then what was read is written, too.

    client: must decode responses, and have a time limit for them.
    stopped: is asked at least once a second, unless Redis or the disk is slow.
    most, seconds: a file is complete when it has so many messages, or its first one was read so long ago.

    While Redis is away or the disk full, it says so in the log and tries again. Raises FolderInUse, also if messages go
    to another one, and OSError if it cannot write to the folder at the start.
    """
    with _only_writer(folder):
        writer = _Writer(client, folder, most, seconds)
        failures = 0
        while not stopped():
            try:
                has_more = writer.step()
            except (redis.RedisError, OSError) as error:
                pause = min(2**failures, LONGEST_PAUSE)
                failures += 1
                writer.failed(error, f"Tries again in {pause} s.")
                _wait(pause, stopped)
                continue
            if failures:
                logger.warning("Day files are written to %s again.", folder)
                failures = 0
            if not has_more:
                _wait(IDLE, stopped)
        try:
            writer.flush()
            writer.leave()
        except (redis.RedisError, OSError) as error:
            writer.failed(error, "They are written at the next start.")


class _Writer:
    """Reads messages, and writes them when they are enough for files."""

    def __init__(self, client: "redis.Redis", folder: Path, most: int, seconds: float) -> None:
        self.client: Any = client
        self.folder = folder
        self.most = most
        self.seconds = seconds
        self.place = f"{socket.gethostname()}:{folder.resolve()}"
        self.claimed_until = 0.0
        self.suffix, self.encode = _format()
        self.since: float | None = None  # when the first message was read that is not written yet
        self.start_over()

    def start_over(self) -> None:
        """Forget what was read, but not since when. It is read again, because it is not acknowledged."""
        self.position = ""  # first the entries that were read before, up to this one; then ">", the new ones
        self.empty()

    def empty(self) -> None:
        """Make room for other messages."""
        self.ids: list[str] = []  # of the entries that were read
        self.rows: list[Row] = []  # the messages in them
        self.characters = 0

    def step(self) -> bool:
        """Read a batch, and write files if it is time. Return whether there may be more to read at once.

        Raises redis.RedisError and OSError.
        """
        self.claim()
        has_more = not self.is_due() and self.read()
        if self.is_due():
            self.flush()
            return True
        return has_more

    def claim(self) -> None:
        """Say to which folder messages go; a lock keeps other processes from the same one.

        Raises FolderInUse if they go to another one.
        """
        if time.monotonic() < self.claimed_until:
            return
        try:
            other = self.client.eval(CLAIM, 1, WRITING, self.place, WRITING_SECONDS)
        except redis.ResponseError as error:
            if not is_full(error):  # then what is acknowledged makes room
                raise
            return
        if other:
            host, _, folder = other.partition(":")
            raise FolderInUse(
                f"Another process writes day files to {folder} on {host}, or was killed less than {WRITING_SECONDS} "
                "seconds ago. All messages go to one folder: stop the other process first."
            )
        self.claimed_until = time.monotonic() + WRITING_SECONDS / 4

    def leave(self) -> None:
        """Let the next writer use another folder."""
        if self.client.get(WRITING) == self.place:
            self.client.delete(WRITING)

    def is_due(self) -> bool:
        """Whether what was read is enough for files, or old enough. If writing has failed, it stays so."""
        if not self.ids:
            return False
        is_old = self.since is not None and time.monotonic() - self.since >= self.seconds
        # Those that were read before are written together, not batch by batch.
        return (is_old and self.position == ">") or len(self.ids) >= self.most or self.characters >= MOST_CHARACTERS

    def read(self) -> bool:
        """Read a batch. Return whether there may be more."""
        if not self.position:
            self.create_group()
            self.position = "0"
        count = min(BATCH, self.most - len(self.ids))
        answer = self.client.xreadgroup(GROUP, CONSUMER, {ENTRIES: self.position}, count=count)
        entries = answer[0][1] if answer else []
        has_more = len(entries) == count or self.position != ">"
        if self.position != ">":
            self.position = entries[-1][0] if len(entries) == count else ">"
        if entries and self.since is None:
            self.since = time.monotonic()
        for entry_id, fields in entries:
            self.take(entry_id, fields)
        return has_more

    def take(self, entry_id: str, fields: dict[str, str]) -> None:
        """Remember an entry. One that is malformed, or was deleted meanwhile, will only be acknowledged."""
        self.ids.append(entry_id)
        try:
            row = _row(entry_id, fields)
        except DeletedEntry:
            return
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            # Not what the error says: that may be what somebody has written.
            logger.error(
                "The log's entry %s is malformed (%s), and is left out of day files.", entry_id, type(error).__name__
            )
            return
        self.rows.append(row)
        self.characters += len(row.content)

    def create_group(self) -> None:
        """Create the consumer group, from the beginning of the log, if there is none."""
        try:
            self.client.xgroup_create(ENTRIES, GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def flush(self) -> None:
        """Write what was read, and acknowledge it. If that fails it may be called again."""
        days: dict[date, list[Row]] = {}
        for row in self.rows:
            days.setdefault(row.at.date(), []).append(row)
        for day, rows in days.items():
            self.write(day, rows)
        for start in range(0, len(self.ids), BATCH):
            self.client.xack(ENTRIES, GROUP, *self.ids[start : start + BATCH])
        self.empty()
        self.since = None

    def write(self, day: date, rows: list[Row]) -> None:
        """Write those messages of a day that its files do not have yet."""
        directory = self.folder / "messages" / f"day={day}"
        directory.mkdir(parents=True, exist_ok=True)
        # A writer that was killed may have renamed a file, but not have made sure that this survives a power cut.
        for each in (directory, directory.parent, self.folder):
            sync_directory(each)
        matches = [NAME.fullmatch(path.name) for path in directory.iterdir()]
        last = max((int(match[1]) for match in matches if match), default=0)
        new = [row for row in rows if row.id > last]
        if len(new) < len(rows):
            logger.warning("Of %s messages of %s, the files have %s already.", len(rows), day, len(rows) - len(new))
        if new:
            path = directory / f"part-{new[-1].id:012}.{self.suffix}"
            _write_whole(path, self.encode(new))
            logger.info("%s has %s messages.", path, len(new))

    def failed(self, error: Exception, then: str) -> None:
        """Log a failure, and what follows. If Redis has failed, start over: its answers may have been lost."""
        waiting = len(self.ids)
        if isinstance(error, redis.RedisError):
            self.start_over()
        logger.error(
            "Day files cannot be written to %s: %s. At least %s messages wait in the log. %s",
            self.folder,
            error,
            waiting,
            then,
        )


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Create the folder, and lock it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"Another process writes day files to {folder}. Only one may at a time.") from None
        yield


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait, but hardly longer than until `stopped`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopped():
        time.sleep(0.1)


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that has its name only when it is complete and on the disk. Its group may read it, if umask allows.

    Until then its name begins with a dot, so DuckDB, Spark and Trino pass it over. A killed writer leaves it behind;
    then its messages are not acknowledged, and the next writer replaces it.
    """
    unfinished = path.with_name(".unfinished")
    try:
        with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, 0o640)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)  # it may have filled the disk
        raise
    sync_directory(path.parent)


def _row(entry_id: str, fields: dict[str, str]) -> Row:
    """The message of an entry. Raises DeletedEntry, and many errors if it is malformed."""
    if not fields:
        raise DeletedEntry
    number, _, rest = entry_id.partition("-")
    if rest != "0":
        raise ValueError("not the id of a message")
    entry = json.loads(fields["entry"])
    at = datetime.fromisoformat(entry["at"])
    if at.tzinfo is None or not isinstance(entry["files"], list):
        raise ValueError("no time zone, or no files")
    removes = entry.get("removed")
    entry["content"].encode()  # raises an error if the text is not valid Unicode, which no file could have
    return Row(
        id=_id(int(number)),
        conversation=_id(int(fields["conversation"])),
        website=_id(entry["website"]),
        at=at.astimezone(UTC),
        author=REMOVAL if removes else AUTHORS[entry["author"]],
        agent=None if entry["agent"] is None else _id(entry["agent"]),
        content=entry["content"],
        files=len(entry["files"]),
        is_first=bool(entry.get("new")),
        removes=_id(removes) if removes else None,
    )


def _id(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**63:
        raise ValueError("not an id")
    return value


Encode = Callable[[list[Row]], bytes]


def _format() -> tuple[str, Encode]:
    """The suffix of the files, and what makes the content of one: Parquet if pyarrow is installed."""
    try:
        return "parquet", _parquet()
    except ImportError:
        return "jsonl.gz", _json_lines


def _parquet() -> Encode:
    import pyarrow as pa  # only here, because it takes 50 MB of memory
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("conversation", pa.int64()),
            ("website", pa.int64()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("author", pa.string()),
            ("agent", pa.int64()),
            ("content", pa.string()),
            ("files", pa.int32()),
            ("is_first", pa.bool_()),
            ("removes", pa.int64()),
        ]
    )

    def encode(rows: list[Row]) -> bytes:
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
        return bytes(sink.getvalue())

    return encode


def _json_lines(rows: list[Row]) -> bytes:
    lines = [json.dumps({**row._asdict(), "at": row.at.isoformat()}, ensure_ascii=False) for row in rows]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())
