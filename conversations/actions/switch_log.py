"""Switching the message log on and off: ids go on above the last ones, and nothing is lost (docs/log.md)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from django.conf import settings
from django.db import connection

from conversations import message_log
from conversations.actions.replicate import RUNNING, RUNNING_SECONDS
from conversations.counted import counted
from conversations.log_state import GROUP
from conversations.message_log import CONVERSATIONS, DEAD, DRAINED, ENTRIES, MESSAGES, RUN
from conversations.models import Conversation, Message
from conversations.models.desk_entry import given_ids, last_ids
from conversations.models.settling import settle

BATCH = 100
"""Conversations that are copied in one transaction, and keys that are deleted by one command."""

CLOSE = f"""
    if (redis.call('GET', '{MESSAGES}') or '') ~= ARGV[1] then return 0 end
    redis.call('DEL', '{MESSAGES}', '{CONVERSATIONS}', '{RUN}')
    redis.call('SET', '{DRAINED}', 1)
    return 1
"""

POSTGRESQL = """
    SELECT setval(pg_get_serial_sequence('{table}', 'id'), least) FROM (
        SELECT GREATEST(COALESCE(MAX(id), 0), %s) AS least FROM {table}
    ) AS found, {table}_id_seq AS sequence
    WHERE CASE WHEN is_called THEN last_value + 1 ELSE last_value END <= least
"""
"""`pg_sequence_last_value` says nothing of a sequence that was only set, as by `manage.py restore`."""

SQLITE = """
    REPLACE INTO sqlite_sequence (rowid, name, seq)
    SELECT found.rowid, '{table}', max(%s, COALESCE(found.seq, 0))
    FROM (SELECT '{table}' AS wanted) LEFT JOIN sqlite_sequence AS found ON found.name = wanted
"""


class CannotDrain(Exception):
    """Why the log cannot be switched off now, in a sentence."""


def prepare_ids() -> None:
    """Before a process serves: let new ids be above all those that SQL has, whether the log gives them or SQL.

    While Redis does not answer, the first message does it.
    """
    if settings.MESSAGE_LOG:
        message_log.Opening.is_due = True
        with suppress(redis.RedisError):
            message_log.prepare(*given_ids())
    elif connection.vendor == "postgresql":  # the others do it by themselves
        raise_sequences(*last_ids())


def drain(say: Callable[[str], Any]) -> None:
    """Copy everything from the log into SQL, let SQL give the next ids, and empty and switch off the log.

    `say` tells people of it. Raises CannotDrain, redis.RedisError, and the database's errors. Then the log is still on
    and has lost nothing.
    """
    client = message_log.client()
    _refuse_others(client)
    last_message, last_conversation = client.get(MESSAGES) or "", client.get(CONVERSATIONS) or ""
    settle_all()
    say("The database has all messages of the log.")
    if dead := client.xlen(DEAD):
        raise CannotDrain(
            f"The database has refused {counted(dead, 'message')}. See them with `manage.py replicate --dead`, "
            "then run it with `--retry-dead`, or with `--forget-dead` and their ids."
        )
    raise_sequences(max(int(last_message or 0), last_ids()[0]), int(last_conversation or 0))
    if not client.eval(CLOSE, 0, last_message):
        raise CannotDrain("Another process has just written to the log. Stop all processes of Chatsite, and try again.")
    _delete(client, say)


def _refuse_others(client: Any) -> None:
    """Raise CannotDrain if another process copies from the log."""
    if next(client.scan_iter(f"{RUNNING}*", count=1000), None):
        raise CannotDrain(
            "`manage.py serve` or `manage.py replicate` is running, or was a few seconds ago. Stop all processes of "
            f"Chatsite, and try again after {RUNNING_SECONDS} seconds."
        )


def settle_all() -> None:
    """Copy what the log has of any conversation. Raises redis.RedisError, and the database's errors."""
    client = message_log.client()
    numbers = [int(key.rpartition(":")[2]) for key in client.scan_iter("{log}:c:*", count=1000)]
    for start in range(0, len(numbers), BATCH):
        settle(numbers[start : start + BATCH])


def raise_sequences(last_message: int, last_conversation: int) -> None:
    """Let SQL give the next messages and conversations ids above these, and above all that it has."""
    for model, last in ((Message, last_message), (Conversation, last_conversation)):
        table = model._meta.db_table  # noqa: SLF001 (Django documents it)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(POSTGRESQL.format(table=table), [last])
            elif connection.vendor == "sqlite":
                cursor.execute(SQLITE.format(table=table), [last])
            else:  # a lower number than the table has changes nothing
                cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {last + 1}")


def _delete(client: Any, say: Callable[[str], Any]) -> None:
    """Delete the keys of the log, but not what another reader than the replicator has not read."""
    kept = {DRAINED}
    if others := [name for name in _unread(client) if name != GROUP]:
        kept.add(ENTRIES)
        say(
            f"The log's entries are kept, because the reader {', '.join(others)} has not read all of them. It can go "
            "on, and `--drain` then deletes them."
        )
    found = [key for key in client.scan_iter("{log}:*", count=1000) if key not in kept]
    for start in range(0, len(found), BATCH):
        client.unlink(*found[start : start + BATCH])


def _unread(client: Any) -> list[str]:
    """The consumer groups that have not read, or not acknowledged, all entries of the log."""
    if not client.exists(ENTRIES):
        return []
    last = client.xinfo_stream(ENTRIES)["last-generated-id"]
    return [
        group["name"]
        for group in client.xinfo_groups(ENTRIES)
        if group["pending"] or client.xrange(ENTRIES, f"({group['last-delivered-id']}", last, count=1)
    ]
