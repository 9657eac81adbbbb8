"""The message log: messages in Redis Streams, acknowledged before they are in SQL. Only with MESSAGE_LOG=redis.

Whoever writes appends a message here, by one script, and has its id. Whoever settles (models/settling.py) copies
messages into SQL, in the order of their ids, so SQL always has a prefix of what each conversation's stream has had.
docs/log.md says why nothing is lost, and what happens while one of both databases is away.

Keys, all with the same hash tag, so that a cluster keeps them together:

    {log}:entries            all messages, for the replicator and for analysis; an entry has the message's id
    {log}:c:NUMBER           the newest messages of one conversation: those that SQL lacks, and up to KEPT others
    {log}:h:NUMBER           last, at: the id and the date of its last message; uuid, website, contact: of the
                             conversation
    {log}:u:UUID             the number of a conversation in which somebody has written
    {log}:removed:NUMBER     the id of the last removal in a conversation
    {log}:sent:TOKEN         the id, the conversation and the writer of a message: a retry is found by it
    {log}:messages, {log}:conversations, {log}:run    the last ids, and which Redis they are from
    {log}:found, {log}:lost  the last id that this Redis had when it was started or took over, and the last one that
                             another had given before that
    {log}:unchecked          this Redis was started or took over: nobody has asked SQL yet for the last ids that it has
    {log}:dead               entries that SQL has refused, with the reason
    {log}:running:NAME       a replicator runs
    {log}:drained            the log was emptied and switched off: nobody may write to it
"""

import json
import logging
import secrets
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

from conversations.log_scripts import (
    APPEND,
    FENCE,
    FIRSTS,
    FORGET_SENT,
    LASTS,
    NEXT_ID,
    PREPARE,
    RENEW,
    RENEW_LATE,
    SETTLED,
    TAIL,
    TAILS,
)
from conversations.redis_client import OPTIONS, RedisClient
from conversations.shared_changes import SECONDS

ENTRIES = "{log}:entries"
DEAD = "{log}:dead"
MESSAGES = "{log}:messages"
CONVERSATIONS = "{log}:conversations"
RUN = "{log}:run"
DRAINED = "{log}:drained"
UNCHECKED = "{log}:unchecked"

KEPT = 50
"""Messages of a conversation that stay in its stream after SQL has them, for polls while SQL is away."""

KEPT_SECONDS = 3600
"""How long they stay there."""

RETRY_SECONDS = 7 * 24 * 3600
"""How long a retry of a message is found here. After that SQL finds it."""

REMOVED_SECONDS = 1800
"""How long it is known that a message was taken back: what is older is not remembered (models/remembered.py)."""

OWN_RETRY_SECONDS = 60
"""The same for a message without a client_id: only the client of Redis tries it again, at once."""

MARGIN, CONVERSATIONS_MARGIN = 10_000, 10
"""Ids of messages and of conversations that are skipped when Redis was started anew: it may have lost the last ones."""

MOST_BYTES = 1024 * 1024
"""Bytes of entries that are copied in one transaction."""

DELETED = "deleted"
"""What the log has instead of the uuid of a conversation that was deleted."""

REFUSED = "refused"
"""The same for one that SQL has refused: its messages are dead letters."""

PAGE = 1000
"""Entries that are read at once where one of them is looked for."""

REPLICAS_MS = 200
"""Milliseconds that the replicas of Redis may take."""

logger = logging.getLogger(__name__)


MAX = 2**31
"""More entries than a stream has."""


_not_renewed: deque[list[Any]] = deque(maxlen=10_000)
"""What Redis must be told of renewed secrets: arguments of RENEW."""


class Run:
    """Which Redis this process has connected to last: one that was started anew may not know of renewed secrets.

    Nor of messages with ids up to `seen`, if it is a copy that has taken over.
    """

    id = ""
    seen = 0
    lock = threading.Lock()

    @classmethod
    def see(cls, pk: int) -> None:
        """The log has given this id."""
        with cls.lock:
            cls.seen = max(cls.seen, pk)


UNKNOWN_LAST = -1
"""What stands for the last message's id of a conversation that was not read (models/recipients.py)."""


class NotReady(Exception):
    """Nobody has compared Redis' counters with SQL: it is new, was started anew, took over, or has lost its data."""


class SecretRenewed(Exception):
    """The conversation's secret was or is being renewed: only SQL knows whether this one is valid."""


class Drained(redis.RedisError):
    """The log was emptied and switched off, since this process has begun to write to it."""


class Opening:
    """Whether this process may open the log after it was switched off: one that is started later may, once."""

    is_due = False


@dataclass(frozen=True)
class Appended:
    """A message in the log."""

    id: int
    conversation: int  # its number
    follows: int  # the id of the message before it, 0 for none
    at: str  # its date: the dates in a conversation are in the order of the ids
    is_retry: bool  # it was there before, by another request with the same client_id


@dataclass(frozen=True)
class Entry:
    """An entry of a conversation's stream."""

    id: int
    follows: int
    text: str

    @cached_property
    def values(self) -> dict[str, Any]:
        """What it says of the message: see models/settling.py. Raises ValueError if it is no JSON."""
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass(frozen=True)
class Tail:
    """What a conversation's stream has above an id."""

    last: int  # the id of the last message in the stream or, without any, that it has had; 0 if the log knows none
    floor: int  # all messages with ids above this one are in the stream
    entries: list[Entry]


def append(
    *,
    client_id: UUID | None,
    conversation: int | None,
    last: int,
    values: dict[str, Any],
    uuid: UUID,
    website: int = 0,
    contact: int | None = None,
    is_locked: bool = False,
    removed: int | None = None,
    erased: Entry | None = None,
    run: str = "",
) -> Appended:
    """Append a message to the log, once for each client_id, and return its id. After that it is acknowledged.

    client_id: the client's own id for the message; None if it has none.
    conversation: its number; None starts a new one.
    last: the id of its last message, as SQL has it: the log may not know the conversation yet. UNKNOWN_LAST if it was
        not read: then SecretRenewed is raised if the log does not know the conversation, or is in another Redis than
        before.
    uuid, website, contact: of the conversation, by which it is known while SQL is away.
    values: of the message, and of a new conversation. They are stored as JSON. `at` is its date, or the date of the
        message before it if that is later: clocks differ, and threads overtake each other.
    is_locked: whether the conversation is locked in SQL, so that its uuid is certainly valid.
    removed: the id of an earlier message that this entry takes back. Of the stream of all entries it is deleted, and in
        that of its conversation `erased` takes its place.
    run: in which Redis the conversation was read before, if it was not read now.

    Raises NotReady, SecretRenewed, and redis.RedisError if Redis does not answer or refuses it.
    """
    # The client of Redis runs the script again if the connection breaks, which says nothing about the first time.
    # `writer` tells whether it was this call that has appended the message.
    writer = secrets.token_hex(8)
    token, seconds = (client_id.hex, RETRY_SECONDS) if client_id else (writer, OWN_RETRY_SECONDS)
    number = "" if conversation is None else conversation
    entry = encode({name: value for name, value in values.items() if name != "at"})
    arguments = [token, writer, number, last, values.get("at", "-"), entry, uuid.hex, website, contact or ""]
    arguments += ["locked" if is_locked else "", seconds, SECONDS, run or Run.id]
    arguments += [removed or "", erased.text if erased else "", REMOVED_SECONDS]
    kind, *found = _run_on_replicas(APPEND, arguments)
    if kind == 3:
        raise SecretRenewed
    if kind == 2:
        raise NotReady
    return appended(found[0], writer)


def appended(sent: str, writer: str) -> Appended:
    """What the log says of a message that was appended: by `writer`, or else before."""
    pk, of, follows, at, by = sent.split()
    Run.see(int(pk))
    return Appended(int(pk), int(of), int(follows), at, is_retry=by != writer)


def next_id() -> int:
    """An id for something else than a message. Raises NotReady and redis.RedisError."""
    found = _run(NEXT_ID, [])
    if not found:
        raise NotReady
    return int(found)


def renew(conversation: int, before: UUID, uuid: UUID, contact: int | None) -> None:
    """A conversation's secret is being renewed, under its lock in SQL. Raises redis.RedisError.

    From now on, messages with the old one are refused with SecretRenewed. If Redis is away, from its return on. If too
    few replicas have been told, one that takes over is told when this process connects to it.
    """
    arguments = [conversation, before.hex, uuid.hex, contact or "", KEPT_SECONDS]
    try:
        _run_on_replicas(RENEW, arguments)
    except redis.RedisError:
        _not_renewed.append(arguments)
        raise


def fence(conversation: int) -> None:
    """A conversation is being deleted, under its lock in SQL. Raises redis.RedisError: then it must not be deleted.

    From now on, messages to it are refused with SecretRenewed, and nothing begins it again in SQL.
    """
    _run_on_replicas(FENCE, [conversation, DELETED])


def refuse(conversation: int) -> None:
    """SQL refuses a conversation that was begun in the log: whoever writes to it gets SecretRenewed. Its messages stay.

    It need not wait for replicas: a copy that takes over without this has the messages in the log, and SQL refuses them
    again. Raises redis.RedisError.
    """
    _run(FENCE, [conversation, REFUSED])


def forget_sent(client_id: UUID, retry: Appended) -> None:
    """A message may be sent again with this client_id, unless that was done after `retry` was found by it."""
    _run(FORGET_SENT, [client_id.hex, retry.id])


def tail(conversation: int, since: int, most: int = MAX) -> Tail:
    """At most `most` of what the stream of a conversation has above the id `since`. Raises redis.RedisError."""
    last, floor, rows = _run(TAIL, [conversation, since, most])
    return Tail(int(last), int(floor), [_entry(row) for row in rows])


def newest(conversation: int, most: int) -> list[Entry]:
    """The newest `most` entries of a conversation's stream, oldest first. Raises redis.RedisError."""
    rows: Any = client().xrevrange(f"{{log}}:c:{conversation}", count=most)
    return [_entry(row) for row in reversed(rows)]


def unbroken(entries: list[Entry]) -> list[Entry]:
    """The newest of these entries of a conversation, from the last gap on.

    A copy of Redis that has taken over may lack messages that SQL has. A message that was deleted leaves a gap, too.
    """
    pairs = enumerate(pairwise(entries), start=1)
    return entries[max((index for index, (one, next_) in pairs if next_.follows != one.id), default=0) :]


def tails(last: Mapping[int, int]) -> tuple[dict[int, list[Entry]], bool]:
    """What the streams of these conversations have above these ids, and whether that is all of it.

    Redis and the database have a time for one answer, so it is not much more than MOST_BYTES: then ask again for the
    rest. Of each conversation, it is the first entries. Raises redis.RedisError.
    """
    if not last:
        return {}, True
    is_all, rows = _run(TAILS, [MOST_BYTES, *[number for pair in last.items() for number in pair]])
    return {number: [_parsed(row) for row in found] for number, found in zip(last, rows, strict=True)}, bool(is_all)


def firsts(numbers: Sequence[int]) -> dict[int, Entry]:
    """The first entries in the streams of these conversations, of those that have any and were not deleted in SQL.

    Raises redis.RedisError.
    """
    rows = _run(FIRSTS, [DELETED, *numbers]) if numbers else []
    return {number: _parsed(row) for number, row in zip(numbers, rows, strict=True) if row}


def lasts(numbers: Sequence[int]) -> list[int]:
    """The ids of the last messages in the streams of these conversations, 0 for none. Raises redis.RedisError."""
    found: list[int] = _run(LASTS, numbers) if numbers else []
    return found


def has_more(conversation: int, than: int) -> bool:
    """Whether the log has messages of a conversation with higher ids than this one. Raises redis.RedisError."""
    return bool(client().xrange(f"{{log}}:c:{conversation}", f"({than}-0", "+", count=1))


def known(conversation: int) -> dict[str, str]:
    """What the log knows of a conversation: last, uuid, website and contact; {} for none. Raises redis.RedisError."""
    found: dict[str, str] = client().hgetall(f"{{log}}:h:{conversation}")
    return found


def removals(conversations: Sequence[int]) -> list[int]:
    """The ids of the last removals in these conversations, 0 for none lately. Raises redis.RedisError."""
    if not conversations:
        return []
    found: Any = client().mget([f"{{log}}:removed:{number}" for number in conversations])
    return [int(pk or 0) for pk in found]


def numbers_of(uuids: Sequence[UUID]) -> list[int]:
    """The numbers of those conversations among these that the log knows. Raises redis.RedisError."""
    if not uuids:
        return []
    found: Any = client().mget([f"{{log}}:u:{uuid.hex}" for uuid in uuids])
    return [int(number) for number in found if number]


def set_settled(last: Iterable[tuple[int, int]]) -> None:
    """SQL has the messages of these conversations up to these ids: what is below may leave the streams, not at once."""
    numbers = [number for pair in last for number in pair]
    if numbers:
        _run(SETTLED, [KEPT, KEPT_SECONDS, *numbers])


def share(name: str, value: bytes, seconds: int, *, only_replaces: bool) -> None:
    """Keep a value for all processes (models/remembered.py), or only instead of another. Raises redis.RedisError."""
    client().set(f"{{log}}:read:{name}", value.hex(), ex=seconds, xx=only_replaces)


def shared(name: str) -> bytes | None:
    """A value of `share`. Raises redis.RedisError."""
    found = client().get(f"{{log}}:read:{name}")
    return bytes.fromhex(found) if found else None


def bury(conversation: int, entry: Entry, reason: str) -> None:
    """Move an entry that SQL refuses from the conversation's stream to the dead letters."""
    client().xadd(DEAD, {"conversation": conversation, "id": entry.id, "entry": entry.text, "reason": reason})
    remove(conversation, entry.id)


def remove(conversation: int, pk: int) -> None:
    """Remove a message from its conversation's stream."""
    client().xdel(f"{{log}}:c:{conversation}", f"{pk}-0")


def forget(conversation: int, last: int) -> None:
    """Delete what the log has of a conversation, because the conversation is deleted. Raises redis.RedisError.

    Whoever has read it before and writes now gets SecretRenewed, and finds in SQL that it is gone.

    last: the id of its last message, as SQL had it.
    """
    head = f"{{log}}:h:{conversation}"
    uuid, newest = client().hmget(head, "uuid", "last")
    pipeline = client().pipeline()
    pipeline.delete(head, f"{{log}}:c:{conversation}", *([f"{{log}}:u:{uuid}"] if uuid else []))
    pipeline.hset(head, "uuid", DELETED)
    pipeline.expire(head, KEPT_SECONDS)
    pipeline.execute()
    for stream, end in ((ENTRIES, max(last, int(newest or 0))), (DEAD, "+")):
        start = "-"
        while rows := client().xrange(stream, start, end, count=PAGE):
            start = f"({rows[-1][0]}"
            if found := [number for number, fields in rows if fields.get("conversation") == str(conversation)]:
                client().xdel(stream, *found)


def forget_message(conversation: int, pk: int) -> None:
    """Delete a message in the log, because it is deleted in SQL. Raises redis.RedisError."""
    remove(conversation, pk)
    client().xdel(ENTRIES, f"{pk}-0")


def prepare(last_message: int, last_conversation: int) -> None:
    """Make the counters ready: above the last ids that SQL has. Raises Drained and redis.RedisError."""
    run = client().info("server")["run_id"]
    opens = "yes" if Opening.is_due else ""
    values = [run, last_message, last_conversation, MARGIN, CONVERSATIONS_MARGIN, opens, Run.seen, KEPT_SECONDS]
    if client().eval(PREPARE, 1, MESSAGES, *values) == "drained":
        raise Drained("The message log was emptied and switched off. Restart this process.")
    Opening.is_due = False


def prepare_without_sql() -> bool:
    """Go on with the counters that Redis has, although SQL cannot be asked, and return whether it has any.

    It has skipped some ids: it has given those of SQL only if it lacks more than MARGIN. Raises redis.RedisError.
    """
    client().delete(UNCHECKED)
    return int(client().exists(MESSAGES, CONVERSATIONS)) == 2


def _connected(connection: Any) -> None:
    """A connection was opened: see `_first_commands`."""
    connection.on_connect()
    commands = _first_commands()
    command = next(commands)
    with suppress(StopIteration):
        while True:
            try:
                connection.send_command(*command)
                answer = connection.read_response()
            except redis.RedisError as error:
                command = commands.throw(error)
            else:
                command = commands.send(answer)


async def connected_in_loop(connection: Any) -> None:
    """As `_connected`, in the event loop."""
    await connection.on_connect()
    commands = _first_commands()
    command = next(commands)
    with suppress(StopIteration):
        while True:
            try:
                await connection.send_command(*command)
                answer = await connection.read_response()
            except redis.RedisError as error:
                command = commands.throw(error)
            else:
                command = commands.send(answer)


def _first_commands() -> Generator[list[Any], Any, None]:
    """The commands to send on a new connection, each after the answer to the one before.

    If Redis was started anew, it may have lost the last ids that it gave: skip some. And if it was away, it has not
    been told of secrets that this process has renewed meanwhile.
    """
    info = yield ["INFO", "server"]
    run = next(line for line in info.splitlines() if line.startswith("run_id:"))[7:]
    yield ["EVAL", PREPARE, 1, MESSAGES, run, "", "", MARGIN, CONVERSATIONS_MARGIN, "", Run.seen, KEPT_SECONDS]
    Run.id = run
    with suppress(IndexError):  # no more of them
        while True:
            arguments = _not_renewed.popleft()
            try:
                yield ["EVAL", RENEW_LATE, 1, MESSAGES, *arguments]
            except redis.RedisError as error:
                _not_renewed.appendleft(arguments)
                if isinstance(error, redis.ResponseError):  # it is full: the next connection tries again
                    break
                raise


def _run_on_replicas(script: str, arguments: Sequence[Any]) -> Any:
    """Run a script, and wait until enough replicas have what it has written. Raises redis.RedisError if they do not.

    WAIT is about what the same connection has written. A retry writes too, so it waits for the first time.
    """
    wanted = settings.MESSAGE_LOG_REPLICAS
    if not wanted:
        return _run(script, arguments)
    pipeline = client().pipeline(transaction=False)
    pipeline.eval(script, 1, MESSAGES, *arguments)
    pipeline.execute_command("WAIT", wanted, REPLICAS_MS)
    found, copies = client().ask(pipeline.execute)
    if copies < wanted:
        raise redis.TimeoutError(f"{copies} replicas of Redis have it, and not {wanted}.")
    return found


encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _parsed(row: str) -> Entry:
    pk, follows, text = row.split(" ", 2)
    return Entry(int(pk[:-2]), int(follows), text)  # without -0


def _entry(row: Any) -> Entry:
    pk, fields = row
    found = dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
    return Entry(int(pk.partition("-")[0]), int(found["follows"]), found["entry"])


def _run(script: str, arguments: Sequence[Any]) -> Any:
    return _registered(script)(keys=[MESSAGES], args=arguments)


@cache
def _registered(script: str) -> Any:
    return client().register_script(script)


@cache
def client() -> Any:
    """The client of the log. It fails at once while Redis is away (redis_client.py)."""
    return RedisClient.from_url(settings.REDIS_URL, **OPTIONS, decode_responses=True, redis_connect_func=_connected)
