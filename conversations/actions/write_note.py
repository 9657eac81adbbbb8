"""An agent writes a note for colleagues, which no customer ever sees."""

import uuid
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from conversations.actions.post_message import PLACEHOLDERS, AlreadySent
from conversations.announce import announce_note
from conversations.models import Conversation, DeskEntry, Mention, Website
from conversations.models.desk_entry import Kind
from conversations.models.mention import find_mentions, read_names, write_names
from conversations.models.prepared import update

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def write_note(
    *,
    conversation: Conversation,
    agent: "User",
    content: str,
    is_formatted: bool = False,
    client_id: uuid.UUID | None = None,
) -> DeskEntry:
    """Write a note once, however often it is sent, and return it.

    is_formatted: whether the text is Markdown, which is shown formatted (models/formatted.py).
    client_id: the client's own id for the note. Sent again with the same text, the first one is returned.
    Agents whom it names as @username, and who may see the conversation, are mentioned: models/mention.py.

    Raises AlreadySent if another note has the client_id, Conversation.DoesNotExist if the conversation was deleted, and
    redis.RedisError if the message log, which gives the ids, does not answer.
    """
    client_id = None if client_id in PLACEHOLDERS else client_id
    names = find_mentions(content, Website.objects.by_id(conversation.website_id), is_formatted=is_formatted)
    try:
        with transaction.atomic():
            locked = Conversation.objects.lock(conversation.pk)
            note = DeskEntry.objects.add(
                locked,
                Kind.NOTE,
                agent,
                content=content,
                is_formatted=is_formatted or None,
                client_id=client_id,
                mentions=write_names(names),
            )
            update(locked, "last_entry_id")
            told = _told(note)
            if told:
                Mention.objects.add(locked, note.pk, told)
            announce_note(locked, told)
            return note
    except IntegrityError:
        earlier = DeskEntry.objects.by_client_id(client_id)
        if earlier is None:
            raise
    is_same = earlier.conversation_id == conversation.pk and earlier.agent_id == agent.pk
    if not is_same or earlier.content != content:
        raise AlreadySent
    announce_note(earlier.conversation, _told(earlier))  # the first time it may have been stored without that
    return earlier


def _told(note: DeskEntry) -> list[int]:
    """The ids of the agents who are told of a note: those whom it mentions, but not its writer."""
    return [pk for pk in read_names(note.mentions).values() if pk != note.agent_id]
