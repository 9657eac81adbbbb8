"""What is new in a conversation: the query behind every poll, ring, reconnect and first look."""

import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Field

from conversations.models.conversation import Conversation
from conversations.models.message import Message

# Written by hand: the ORM takes about ten times as long to build and run such a query (docs/performance.md).
# One row and no message: the conversation exists and has no news. No row: there is no such conversation.
QUERY = """
    SELECT c.id, c.status, c.last_message_id,
           m.id, m.created_at, m.author, m.content, m.client_id, m.agent_id, u.first_name, u.last_name, u.username
    FROM conversations_conversation c
    LEFT JOIN conversations_message m ON m.conversation_id = c.id AND m.id >= %s
    LEFT JOIN auth_user u ON u.id = m.agent_id
    WHERE {key} = %s ORDER BY m.id LIMIT %s OFFSET %s
"""
BY_UUID = QUERY.format(key="c.uuid")
BY_ID = QUERY.format(key="c.id")


@dataclass(frozen=True)
class News:
    """The messages of one conversation after a certain one."""

    conversation_id: int
    status: str
    last_message_id: int
    messages: list[Message]
    # The message that the reader has last, if it was asked for: the first new one may continue its group.
    previous: Message | None = None

    @classmethod
    def by_uuid(cls, uuid: uuids.UUID | None, since: int, most: int, skip: int = 0) -> "News | None":
        """At most `most` messages with ids above `since`, oldest first, or None if there is no such conversation."""
        if uuid is None:
            return None
        key = Conversation._meta.get_field("uuid").get_db_prep_value(uuid, connection)
        return cls._ask(BY_UUID, [since + 1, key, most, skip])

    @classmethod
    def by_id(cls, pk: int, since: int, most: int) -> "News | None":
        """The same by the conversation's number, which agents use."""
        return cls._ask(BY_ID, [since + 1, pk, most, 0])

    @classmethod
    def continuing(cls, key: uuids.UUID | int | None, since: int, most: int) -> "News | None":
        """The same by either name, and the message `since` itself as `previous`."""
        find: Any = cls.by_id if isinstance(key, int) else cls.by_uuid
        news: News | None = find(key, since - 1, most + 1)
        if news is None or not news.messages:
            return news
        first, *others = news.messages
        if first.pk == since:
            return cls(news.conversation_id, news.status, news.last_message_id, others, previous=first)
        return cls(news.conversation_id, news.status, news.last_message_id, news.messages[:most])

    @classmethod
    def _ask(cls, query: str, parameters: Sequence[Any]) -> "News | None":
        with connection.cursor() as cursor:
            cursor.execute(query, parameters)
            rows = cursor.fetchall()
        if not rows:
            return None
        pk, status, last = rows[0][:3]
        messages = [] if rows[0][3] is None else [_message(row) for row in rows]
        return cls(pk, status, last, messages)


def _message(row: Sequence[Any]) -> Message:
    pk, created_at, author, content, client_id, agent_id, first_name, last_name, username = row[3:]
    message = Message(
        id=pk,
        conversation_id=row[0],
        created_at=_converted(Message, "created_at", created_at),
        author=author,
        content=content,
        client_id=_converted(Message, "client_id", client_id),
        agent_id=agent_id,
    )
    if agent_id is not None:
        message.agent = User(id=agent_id, first_name=first_name, last_name=last_name, username=username)
    return message


def _converted(model: Any, name: str, value: Any) -> Any:
    """A column's value as the model's field has it: SQLite and MariaDB keep dates and uuids as something else."""
    field: Field[Any, Any] = model._meta.get_field(name)
    column = field.get_col(model._meta.db_table)
    converters: list[Callable[..., Any]] = connection.ops.get_db_converters(column)
    for convert in converters + field.get_db_converters(connection):
        value = convert(value, column, connection)
    return value
