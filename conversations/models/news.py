"""The new messages of a conversation: the query behind every poll, ring and reconnect."""

import logging
import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from conversations import message_log
from conversations.models.agent_profile import with_picture
from conversations.models.conversation import AWAY, Conversation
from conversations.models.message import Author, Message, erase_removed, prefetch_files
from conversations.models.prepared import prepared_cursor
from conversations.models.recipients import Began, recipients
from conversations.models.settling import message_of, settle_number, settle_unknown

# Raw SQL: the ORM takes about ten times as long (docs/performance.md). A conversation without new messages
# gives one row with NULL for the message; no row means that there is no such conversation. The subquery names the
# conversation by itself: from a join with its row, databases would read and sort all messages above the lowest.
QUERY = """
    SELECT c.id, c.status, c.last_message_id, c.last_entry_id,
           CASE WHEN c.last_author = '{side}' AND c.seen_id = c.last_message_id{shown} THEN c.seen_id END, c.seen_at,
           c.website_id, c.contact_id,
           m.id, m.created_at, m.author, m.content, m.is_formatted, m.client_id, m.files, m.removed_id, m.agent_id,
           u.first_name, u.last_name, u.username, p.picture
    FROM conversations_conversation c
    LEFT JOIN (
        SELECT * FROM conversations_message
        WHERE conversation_id = {number} AND id >= %s{only} ORDER BY id LIMIT %s OFFSET %s
    ) m ON m.conversation_id = c.id
    LEFT JOIN auth_user u ON u.id = m.agent_id
    LEFT JOIN conversations_agentprofile p ON p.agent_id = m.agent_id
    WHERE {key} = %s ORDER BY m.id
"""
NUMBER = "(SELECT id FROM conversations_conversation WHERE uuid = %s)"
WRITTEN = " AND (removed_id IS NULL OR removed_id = id)"  # without removals
SHOWN = " AND (SELECT w.receipts FROM conversations_website w WHERE w.id = c.website_id)"  # pages ask that themselves
OF_CUSTOMER = {"number": NUMBER, "key": "c.uuid", "side": Author.CUSTOMER.value, "shown": SHOWN}
OF_AGENT = {"number": "%s", "key": "c.id", "side": Author.AGENT.value, "shown": SHOWN}
BY_UUID = QUERY.format(**OF_CUSTOMER, only="")
BY_ID = QUERY.format(**OF_AGENT, only="")
WRITTEN_BY_UUID = QUERY.format(**OF_CUSTOMER, only=WRITTEN)
WRITTEN_BY_ID = QUERY.format(**OF_AGENT, only=WRITTEN)
ON_WEBSITE = QUERY.format(
    number=NUMBER,
    key="c.website_id = (SELECT w.id FROM conversations_website w WHERE w.key = %s) AND c.uuid",
    side=Author.CUSTOMER.value,
    shown="",
    only="",
)
UUID = Conversation._meta.get_field("uuid")

Found = tuple[int, str, int, int | None, int | None, Any, int, int | None, list[Any]]
"""A conversation's primary key, status, last ids of messages and of what agents see, the last id again if the last
message is the reader's and the other side has seen it, when that was, the website's and the contact's id, and the rows
of its messages."""

FIRST = 8
"""The number of a message's first column."""

NO_TAIL = message_log.Tail(0, 0, [])

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """The new messages of one conversation."""

    conversation_id: int
    status: str  # "" if it is not known, because SQL is away
    last_message_id: int
    messages: list[Message]
    # The last message that the reader has, if it was asked for: the first new one may continue its group.
    previous: Message | None = None
    # Whether that message was asked for and does not exist any more, because the database was restored.
    is_restored: bool = False
    # The id of the newest note or activity: models/desk_news.py adds them for agents.
    last_entry_id: int = 0
    # The last message's id if the other side has seen it, otherwise 0; None if that is not known. What is asked for by
    # its uuid is read for the customer, and by its primary key for an agent.
    receipt: int | None = None
    seen_at: datetime | None = None  # when it was seen

    @classmethod
    def after(
        cls, key: uuids.UUID | int | None, since: int, most: int, skip: int = 0, *, has_removals: bool = True
    ) -> "News | None":
        """At most `most` messages with ids above `since`, oldest first, without the first `skip` of them.

        `key` is the conversation's uuid or primary key. None if there is no such conversation.
        has_removals: whether removals are among them.
        """
        return cls._query(key, lowest=since + 1, limit=most, offset=skip, has_removals=has_removals)

    @classmethod
    def with_previous(
        cls, key: uuids.UUID | int | None, since: int, most: int, website: str | None = None, *, reads_log: bool = True
    ) -> "News | None":
        """Like `after`, with the message `since` itself as `previous`.

        website: the key of the website to which a conversation that is found by its uuid must belong.
        reads_log: whether to read what SQL does not have yet from the message log, while SQL answers.
        """
        return cls._query(key, lowest=since, limit=most + 1, previous_id=since, website=website, reads_log=reads_log)

    @classmethod
    def _query(
        cls,
        key: uuids.UUID | int | None,
        *,
        lowest: int,
        limit: int,
        offset: int = 0,
        previous_id: int | None = None,
        website: str | None = None,
        reads_log: bool = True,
        has_removals: bool = True,
    ) -> "News | None":
        if key is None:
            return None
        began = Began.now()
        try:
            found = cls._read_settled(key, website, lowest, limit, offset, has_removals)
        except AWAY:
            if settings.MESSAGE_LOG and (
                news := cls._without_sql(key, website, lowest, limit, previous_id, has_removals)
            ):
                return news
            raise
        if found is None:
            return None
        tail = _tail(found, lowest, limit) if settings.MESSAGE_LOG and not offset and reads_log else NO_TAIL
        if tail and tail.floor > found[2]:  # what has left the stream since SQL was read is in SQL by now
            found = cls._read(key, website, lowest, limit, offset, has_removals) or found
        pk, status, last, last_entry, seen, seen_at, website_id, contact_id, rows = found
        if isinstance(key, uuids.UUID):
            recipients.put_read(key, pk, website_id, contact_id, began)
        last_entry = last_entry or 0
        more = _from_log(tail or NO_TAIL, pk, max(last + 1, lowest), limit - len(rows))
        removals = [message for message in more if message.is_removal]
        more = more if has_removals else [message for message in more if not message.is_removal]
        last = max(last, tail.last) if tail and tail.entries else last
        receipt = last if seen == last else 0
        seen_at = _converted("created_at", seen_at) if receipt else None
        first_id, last_id = (rows[0][FIRST], rows[-1][FIRST]) if rows else (more[0].pk if more else None, None)
        is_restored = bool(previous_id) and first_id != previous_id and tail is not None
        if last_id in (None, previous_id) and not more:
            return cls(pk, status, last, [], None, is_restored, last_entry, receipt, seen_at)
        messages = [_message(row) for row in rows]
        erase_removed([*messages, *more, *removals])
        messages = prefetch_files(messages) + more
        if more and any(message.author == Author.CUSTOMER for message in more):
            status = Conversation.Status.OPEN
        if previous_id is None:
            return cls(pk, status, last, messages, None, is_restored, last_entry, receipt, seen_at)
        previous = messages.pop(0) if first_id == previous_id else None
        return cls(pk, status, last, messages[: limit - 1], previous, is_restored, last_entry, receipt, seen_at)

    @classmethod
    def _without_sql(
        cls,
        key: uuids.UUID | int,
        website: str | None,
        lowest: int,
        limit: int,
        previous_id: int | None,
        has_removals: bool,
    ) -> "News | None":
        """What the log alone has, while SQL is away; None if it does not have all that is asked for."""
        conversations = Conversation.objects.all()
        conversation = conversations.by_id(key) if isinstance(key, int) else conversations.by_uuid(key)
        if conversation is None:
            return None
        if website is not None:
            from conversations.models.website import Website

            site = Website.objects.by_key(website)
            if site is None or site.pk != conversation.website_id:
                return None
        try:
            tail = message_log.tail(conversation.pk, max(lowest - 1, 0), limit + message_log.KEPT)
        except redis.RedisError:
            return None
        since = lowest - 1 if previous_id is None else previous_id
        last = max(tail.last, conversation.last_message_id)
        if since < (tail.floor if tail.last else last):
            return None  # older ones are only in SQL
        has_gap = len(message_log.unbroken(tail.entries)) < len(tail.entries)
        if tail.entries and (has_gap or tail.entries[0].follows > since):
            return None  # what is missing may be in SQL, and nobody would ask for it again
        found = [message_of(entry, conversation) for entry in tail.entries]
        found = [message for message in found if has_removals or not message.is_removal]
        previous = found.pop(0) if found and found[0].pk == previous_id else None
        status = conversation.status
        if any(message.author == Author.CUSTOMER for message in found):
            status = Conversation.Status.OPEN
        return cls(conversation.pk, status, last, found[: limit if previous_id is None else limit - 1], previous)

    @classmethod
    def _read_settled(
        cls, key: uuids.UUID | int, website: str | None, lowest: int, limit: int, offset: int, has_removals: bool
    ) -> Found | None:
        """As `_read`, after settling a conversation that SQL does not have, or of which some messages are skipped."""
        found = cls._read(key, website, lowest, limit, offset, has_removals)
        if found is None:
            is_settled = settle_unknown([key]) if isinstance(key, uuids.UUID) else settle_number(key)
        else:
            is_settled = bool(offset) and settle_number(found[0])
        return cls._read(key, website, lowest, limit, offset, has_removals) if is_settled else found

    @staticmethod
    def _read(
        key: uuids.UUID | int, website: str | None, lowest: int, limit: int, offset: int, has_removals: bool
    ) -> Found | None:
        """The conversation as `Found`; None if SQL has it not."""
        value = key if isinstance(key, int) else UUID.get_db_prep_value(key, connection)
        if isinstance(key, int):
            query = BY_ID if has_removals else WRITTEN_BY_ID
        elif website is None:
            query = BY_UUID if has_removals else WRITTEN_BY_UUID
        else:
            query = ON_WEBSITE
        with prepared_cursor() as cursor:
            cursor.execute(query, [value, lowest, limit, offset, *([] if website is None else [website]), value])
            rows = cursor.fetchall()
        if not rows:
            return None
        return (*rows[0][:FIRST], rows if rows[0][FIRST] is not None else [])


def _tail(found: Found, lowest: int, most: int) -> message_log.Tail | None:
    """What the log has from the id `lowest` on, and SQL, where the conversation was found, has not.

    None if Redis does not answer.
    """
    try:
        return message_log.tail(found[0], max(found[2], lowest - 1), most)
    except redis.RedisError as error:
        logger.warning("The message log does not answer: messages are read as SQL has them. %r", error)
        return None


def _from_log(tail: message_log.Tail, pk: int, lowest: int, most: int) -> list[Message]:
    """At most `most` messages of the log with ids from `lowest` on. They follow those of SQL without a gap."""
    conversation = Conversation(pk=pk)
    return [message_of(entry, conversation) for entry in tail.entries if entry.id >= lowest][:most]


def _message(row: Sequence[Any]) -> Message:
    pk, created_at, author, content, is_formatted, client_id, files, removed_id, agent_id, *names = row[FIRST:]
    message = Message(
        id=pk,
        conversation_id=row[0],
        created_at=_converted("created_at", created_at),
        author=author,
        content=content,
        is_formatted=is_formatted,
        client_id=_converted("client_id", client_id),
        files=files,
        removed_id=removed_id,
        agent_id=agent_id,
    )
    if agent_id is not None:
        first_name, last_name, username, picture = names
        user = User(id=agent_id, first_name=first_name, last_name=last_name, username=username)
        message.agent = with_picture(user, picture or "")
    return message


def _converted(name: str, value: Any) -> Any:
    """A column's value as a Python object: SQLite and MariaDB store dates and uuids as other types."""
    column, converters = _converters(name, connection.vendor)
    for convert in converters:
        value = convert(value, column, connection)
    return value


@cache
def _converters(name: str, _vendor: str) -> tuple[Any, list[Callable[..., Any]]]:
    field: Any = Message._meta.get_field(name)
    column = field.get_col(Message._meta.db_table)
    converters: list[Callable[..., Any]] = connection.ops.get_db_converters(column)
    return column, converters + field.get_db_converters(connection)
