"""What is new in a conversation for an agent: messages, notes and activities, in the order of their ids."""

from dataclasses import dataclass

from conversations.models.conversation import Conversation
from conversations.models.desk_entry import DeskEntry
from conversations.models.message import Message
from conversations.models.news import News
from conversations.models.settling import catch_up

ThreadRow = Message | DeskEntry
"""A row of the thread on an agent's screen."""


@dataclass(frozen=True)
class DeskNews:
    """The new rows of one conversation."""

    rows: list[ThreadRow]
    last: int  # the highest id of all
    previous: ThreadRow | None  # the last row that the reader has: the first new one may continue its group
    is_restored: bool  # see News

    @classmethod
    def after(cls, conversation: Conversation, since: int, most: int) -> "DeskNews | None":
        """At most `most` rows with ids above `since`, oldest first. None if there is no such conversation.

        Messages and the id of the last entry are read by one statement, and entries above that id are left for the
        next time: else a message that was written meanwhile could be passed over.

        With the message log, messages are settled first and read from SQL alone: an entry with a lower id than a
        message of the log may be about to be committed, and settling waits for it.
        """
        is_whole = catch_up(conversation)
        news = News.with_previous(conversation.pk, since, most, reads_log=not is_whole)
        if news is None:
            return None
        entries = []
        if news.last_entry_id >= max(since, 1):
            entries = DeskEntry.objects.between(conversation.pk, since, news.last_entry_id, most + 1)
        previous: ThreadRow | None = news.previous
        if entries and entries[0].pk == since:
            previous = entries.pop(0)
        rows = in_order(news.messages, entries)[:most]
        is_restored = news.is_restored and previous is None
        return cls(rows, max(news.last_message_id, news.last_entry_id), previous, is_restored)


def newest_entries(conversation: Conversation, most: int, before: int | None) -> list[DeskEntry]:
    """The newest `most` notes and activities that a conversation had when it was read, oldest first."""
    last = conversation.last_entry_id or 0
    if not last:
        return []
    return DeskEntry.objects.newest(conversation.pk, most, min(before or last + 1, last + 1))


def in_order(messages: list[Message], entries: list[DeskEntry]) -> list[ThreadRow]:
    """Both in the order of their ids."""
    if not entries:
        return list(messages)
    return sorted([*messages, *entries], key=lambda row: row.pk)
