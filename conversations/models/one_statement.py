"""Writes a message by one statement, where the database can do that: PostgreSQL.

With a transaction it takes five: BEGIN, SELECT FOR UPDATE, INSERT, UPDATE and COMMIT. The request waits for each, and
waking up five times costs more than the statements (docs/performance.md).
"""

from functools import cache
from typing import Any

from conversations.models.conversation import Conversation
from conversations.models.message import Message
from conversations.models.prepared import current_connection, prepared_cursor, values_of
from conversations.models.searchable import WINDOW_BITS, Searchable, different_words


def is_possible() -> bool:
    """Whether the database can write a message by one statement, and no transaction has begun.

    Nor if the request would give up earlier than PostgreSQL does (statement_timeout), because it has waited for other
    statements: then the message might be stored after its client was told that it is not.
    """
    database = current_connection()
    if database.vendor != "postgresql" or database.in_atomic_block:
        return False
    left = database.seconds_left()
    return left is None or 0 < database.option("statement_timeout") < 1000 * left


def write(message: Message, conversation: Conversation, known: Conversation, names: tuple[str, ...]) -> bool:
    """INSERT a message with its words and UPDATE these fields of its conversation, if this still is as it was read.

    conversation: with its new values; `last_message_id` and the message's primary key are set here.
    known: the conversation as it was read. If anything of it has changed, nothing is written.
    names: the fields to update, without `last_message_id`.

    Return whether it is written, and committed. Raises IntegrityError if another message has the same client_id.

    The row of the conversation is locked before the message gets its id, as by `ConversationQuerySet.lock`.
    """
    database = current_connection()
    sql, compared, inserted, updated = _statement(names)
    values = [
        known.pk,
        *values_of(known, compared, database),
        *values_of(message, inserted, database),
        known.pk,
        found := " ".join(different_words(message.content)),
        found,
        *values_of(conversation, updated, database),
        known.pk,
    ]
    with prepared_cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    if not rows:
        return False
    [(conversation.last_message_id,)] = rows
    message.pk = conversation.last_message_id
    message._state.adding, message._state.db = False, database.alias
    return True


@cache
def _statement(names: tuple[str, ...]) -> tuple[str, list[Any], list[Any], list[Any]]:
    """The statement, and the fields whose values it takes: those to compare, to insert and to update.

    The words are inserted as models/searchable.py does it.

    PostgreSQL runs the parts in this order, because each needs the rows of the one before. A conversation that has
    changed since the statement began is compared as it is under the lock.
    """
    database = current_connection()
    quote = database.ops.quote_name

    def columns(model: Any) -> list[Any]:
        return [field for field in model._meta.local_concrete_fields if not field.primary_key]

    compared, inserted = columns(Conversation), columns(Message)
    updated: list[Any] = [Conversation._meta.get_field(name) for name in names]
    table = quote(Conversation._meta.db_table)
    is_unchanged = " AND ".join(f"{quote(field.column)} IS NOT DISTINCT FROM %s" for field in compared)
    # Without its type, a parameter in a SELECT is a text.
    typed = ", ".join(f"%s::{field.db_type(database)}" for field in inserted)
    assignments = "".join(f", {quote(field.column)} = %s" for field in updated)
    sql = f"""
        WITH locked AS (SELECT id FROM {table} WHERE id = %s AND {is_unchanged} FOR UPDATE),
        written AS (
            INSERT INTO {quote(Message._meta.db_table)} ({", ".join(quote(field.column) for field in inserted)})
            SELECT {typed} FROM locked RETURNING id
        ),
        windows AS (SELECT id, to_hex(id >> {WINDOW_BITS}) || '_' AS prefix FROM written),
        searchable AS (
            INSERT INTO {quote(Searchable._meta.db_table)} (id, conversation_id, words)
            SELECT id, %s::bigint, prefix || replace(%s::text, ' ', ' ' || prefix) FROM windows WHERE %s::text <> ''
        )
        UPDATE {table} SET last_message_id = written.id{assignments} FROM written
        WHERE {table}.id = %s RETURNING written.id
    """
    return sql, compared, inserted, updated
