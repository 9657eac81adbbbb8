"""An agent closes a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce
from conversations.models import Author, Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class UnseenMessage(Exception):
    """The customer has written a message that the agent has not seen."""


@transaction.atomic
def close(*, conversation: Conversation, last_seen: int | None = None, by: "User | None" = None) -> Conversation:
    """Close a conversation. The customer sees that, and reopens it by writing. Closing it again only announces it.

    It ends a snooze. `by` is the agent who does it.

    `last_seen` is the id of the last message that the agent has seen, or None if that is not known. Raises
    UnseenMessage, and leaves the conversation open, if the customer has written a newer one: nobody would look for it
    among the closed ones.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    if not conversation.is_open:
        announce(conversation)  # the first time it may have been closed without that
        return conversation
    if last_seen is not None:
        check_seen(conversation, last_seen)
    conversation.status, conversation.snoozed_until = Conversation.Status.CLOSED, None
    record(conversation, Kind.CLOSED, by)
    conversation.save_changes("status", "snoozed_until", "last_entry_id")
    announce(conversation)
    return conversation


def check_seen(conversation: Conversation, last_seen: int) -> None:
    """Raise UnseenMessage if the customer has written after the message `last_seen`. The conversation is locked."""
    if conversation.messages.after(last_seen).filter(author=Author.CUSTOMER).exists():
        raise UnseenMessage
