"""An agent takes a message back: its text and files are erased, and every open page is told so."""

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from conversations import message_log
from conversations.actions.post_message import append_when_ready
from conversations.announce import announce
from conversations.models import Author, Conversation, Message
from conversations.models.conversation import CHANGED_BY_MESSAGE
from conversations.models.prepared import insert, update
from conversations.models.removal import remove
from conversations.models.settling import settle_locked, values_of, without_content

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def take_back(*, conversation: Conversation, pk: int, by: "User") -> Message:
    """Erase the message `pk` of a conversation, which agent `by` has written, and return it. Again only announces it.

    Raises Message.DoesNotExist if it is somebody else's, or there is none, Conversation.DoesNotExist if the
    conversation was deleted, and redis.RedisError if the message log does not answer.
    """
    locked = Conversation.objects.lock(conversation.pk)
    message = Message.objects.own(locked.pk, pk, by.pk)
    if not message.is_removed:
        removal = Message(conversation=locked, author=Author.AGENT, agent=by, removed_id=pk)
        if settings.MESSAGE_LOG:
            removal.removed_at = message.created_at
            _append(removal)
            settle_locked(locked)
        else:
            insert(removal)
            locked.last_message_id = removal.pk
            remove(removal)
            update(locked, "last_message_id", *CHANGED_BY_MESSAGE)
            locked.update_label_rows()
        message.erase()
    announce(locked)
    return message


def _append(removal: Message) -> None:
    """Append a removal to the message log, which erases the message there. Settling erases it in SQL."""
    conversation, pk = removal.conversation, removal.removed_id or 0
    entry = next((entry for entry in message_log.tail(conversation.pk, pk - 1, 1).entries if entry.id == pk), None)
    append_when_ready(
        client_id=None,
        conversation=conversation.pk,
        last=conversation.last_message_id,
        values=values_of(removal, "", "", []),
        uuid=conversation.uuid,
        website=conversation.website_id,
        contact=conversation.contact_id,
        is_locked=True,
        removed=pk,
        erased=without_content(entry) if entry else None,
    )
