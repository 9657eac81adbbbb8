"""Reads pages of messages from a replica of the database, if it has all that the reader may know.

The primary says who asks, and what the conversation's row is now. Whatever changes the messages of a conversation locks
this row and changes its version, `last_message_id` and `updated_at`, in the same transaction. A replica repeats whole
transactions in their order. So a replica whose row has the same version has the same messages, however late it is
otherwise, and even if it does not follow this primary any more. Version and messages are read by one statement, because
behind a pooler the next statement may reach another replica.

What may change without the row is read from the primary: the names of agents, and the files. A migration that changes
messages must `touch` their conversations.

If the replica has another version, or nothing to say, the primary is asked. If it fails, it is not asked again until a
thread has reached it, which tries once a second.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections

from conversations import metrics
from conversations.models.conversation import Conversation
from conversations.models.message import MAX_ID, Message, prefetch_files
from conversations.models.prepared import prepared
from conversations.models.remembered import memory

ALIAS = "replica"

PAUSE = 1
"""Seconds between two tries to reach a replica that has failed."""

MESSAGES = """
    FROM conversations_message m JOIN conversations_conversation c ON c.id = m.conversation_id
    WHERE c.id = %s AND c.last_message_id = %s AND COALESCE(c.updated_at, c.last_message_at) = %s
    AND m.id > %s AND m.id < %s
"""
NEWEST = f"SELECT m.* {MESSAGES} ORDER BY m.id DESC LIMIT %s"
WRITTEN = f"{MESSAGES} AND (m.removed_id IS NULL OR m.removed_id = m.id)"  # without removals
OLDEST, OLDEST_WRITTEN = (f"SELECT m.* {rows} ORDER BY m.id LIMIT %s OFFSET %s" for rows in (MESSAGES, WRITTEN))
COUNT, COUNT_WRITTEN = (f"SELECT COUNT(*) {rows}" for rows in (MESSAGES, WRITTEN))

Row = TypeVar("Row")

answers = {name: metrics.replica_reads.labels(name) for name in ("replica", "primary")}
logger = logging.getLogger(__name__)


class Health:
    """What the threads of this process know of the replica."""

    has_failed = False
    lock = threading.Lock()


def newest(conversation: Conversation, most: int, before: int | None) -> list[Message]:
    """As `Message.objects.newest`, for a conversation that this request has read."""
    found = _messages(conversation, NEWEST, 0, MAX_ID if before is None else before, most)
    return found[::-1] or Message.objects.newest(conversation.pk, most, before=before)


def oldest(conversation: Conversation, since: int, most: int, skip: int = 0, *, has_removals: bool) -> list[Message]:
    """The first `most` messages with ids above `since`, without the first `skip` of them; [] if they are fewer.

    has_removals: whether removals are among them. Fewer may be followed by others, which only the message log has.
    """
    found = _messages(conversation, OLDEST if has_removals else OLDEST_WRITTEN, since, MAX_ID, most, skip)
    return found if len(found) == most else []


def count(conversation: Conversation, since: int, *, has_removals: bool) -> int:
    """How many messages have ids above `since`, with or without removals."""
    sql = COUNT if has_removals else COUNT_WRITTEN
    [found] = _read(lambda: _rows(conversation, sql, since, MAX_ID)) or [(0,)]
    return found[0] or Message.objects.of(conversation.pk).after(since).count_of(has_removals=has_removals)


def _messages(conversation: Conversation, sql: str, *limits: int) -> list[Message]:
    values = _values(conversation, limits)
    found = _read(lambda: list(Message.objects.raw(sql, values, using=ALIAS)))
    agents = {pk: _agent(pk) for pk in {message.agent_id for message in found}}
    for message in found:
        message._state.db = DEFAULT_DB_ALIAS  # what belongs to it is read there
        message.agent = agents[message.agent_id]
    return prefetch_files(found)


def _agent(pk: int | None) -> User | None:
    # One query for all of them is planned each time, which costs the primary more than these.
    found = prepared(User.objects.all(), "user", lambda: User.objects.filter(pk=-1), {-1: pk}) if pk else []
    return next(iter(found), None)


def _rows(conversation: Conversation, sql: str, *limits: int) -> list[Any]:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql, _values(conversation, limits))
        found: list[Any] = cursor.fetchall()
        return found


def _values(conversation: Conversation, limits: Sequence[int]) -> list[Any]:
    """The conversation with its version, and what to read of it."""
    moment = conversation.updated_at or conversation.last_message_at
    adapted = connection.ops.adapt_datetimefield_value(moment)
    return [conversation.pk, conversation.last_message_id, adapted, *limits]


def _read(query: Callable[[], list[Row]]) -> list[Row]:
    """What a query finds on the replica; [] if the primary must be asked.

    While the primary is away, conversations may be remembered ones (models/remembered.py), which prove nothing.
    """
    if not settings.REPLICA:
        return []
    found: list[Row] = []
    if not Health.has_failed and memory.away_since is None:
        try:
            found = query()
        except Error as error:
            _failed(error)
    answers["replica" if found else "primary"].inc()
    return found


def _failed(error: Error) -> None:
    connections[ALIAS].close()
    with Health.lock:
        if not Health.has_failed:
            Health.has_failed = True
            logger.warning("The replica fails, so the primary is asked: %s", str(error).partition("\n")[0])
            threading.Thread(target=_try, name="replica", daemon=True).start()


def _try() -> None:
    """In a thread: connect to the replica again and again, until it answers."""
    while True:
        time.sleep(PAUSE)
        with suppress(Exception):  # it fails on
            connections[ALIAS].connect()
            connections[ALIAS].close()
            logger.warning("The replica answers again.")
            Health.has_failed = False
            return
