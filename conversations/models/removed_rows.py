"""The rows that a removal changes on the screens that show them: messages that were taken back."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F

from conversations.message_log import KEPT
from conversations.models.conversation import AWAY, Conversation
from conversations.models.desk_entry import DeskEntry
from conversations.models.desk_news import ThreadRow
from conversations.models.message import Author, Message
from conversations.models.settling import newest_in_log


def row_before(conversation_id: int, pk: int, *, has_entries: bool) -> ThreadRow | None:
    """The last row below this id that is shown: neither a removal nor, without `has_entries`, a note or an activity."""
    found: list[ThreadRow] = []
    try:
        messages = Message.objects.of(conversation_id).written().before(pk).select_related("agent")
        found += messages.order_by("-pk")[:1]
        if has_entries:
            found += DeskEntry.objects.newest(conversation_id, 1, pk)
    except AWAY:
        pass  # the log has all that can be known
    for message in reversed(newest_in_log(Conversation(pk=conversation_id), KEPT)):
        if message.pk < pk and not message.is_removal:
            found.append(message)  # after that of SQL: of the same message, the first one is taken
            break
    return max(found, key=lambda row: row.pk, default=None)


def removals_after(conversation_id: int, since: int, most: int) -> list[Message]:
    """The first `most` removals in a conversation with ids above `since`."""
    found = Message.objects.of(conversation_id).after(since).exclude(removed_id=None)
    return list(found.exclude(removed_id=F("pk")).select_related("agent")[:most])


def removed_messages(removals: Sequence[Message]) -> list[Message]:
    """The messages that these removals of a conversation are about, without their texts and files.

    One that was deleted is left out.
    """
    if not removals:
        return []
    number, removed_by = removals[0].conversation_id, {removal.removed_id or 0: removal.pk for removal in removals}
    try:
        found = list(Message.objects.of(number).filter(pk__in=removed_by).select_related("agent").order_by("pk"))
    except AWAY:
        found = [_known_by_removal(removal, removal.removed_at) for removal in removals if removal.removed_at]
    for message in found:
        message.erase()
        message.removed_by = removed_by[message.pk]
    return found


def _known_by_removal(removal: Message, created_at: datetime) -> Message:
    """The message of a removal, while SQL is away."""
    return Message(
        pk=removal.removed_id,
        conversation_id=removal.conversation_id,
        created_at=created_at,
        author=Author.AGENT,
        agent=removal.agent,
    )
