"""An agent reopens a closed conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce
from conversations.models import Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def reopen(*, conversation: Conversation, by: "User | None" = None) -> Conversation:
    """Reopen a conversation. `by` is the agent who does it. Reopening an open one only announces it again."""
    conversation = Conversation.objects.lock(conversation.pk)
    if not conversation.is_open:
        conversation.status = Conversation.Status.OPEN
        record(conversation, Kind.REOPENED, by)
        conversation.save_changes("status", "last_entry_id")
    announce(conversation)  # also again: the first time it may have been reopened without that
    return conversation
