"""An agent reopens a closed conversation."""

from django.db import transaction

from conversations.announce import announce
from conversations.models import Conversation


@transaction.atomic
def reopen(*, conversation: Conversation) -> Conversation:
    """Reopen a conversation. Reopening an open one only announces it again."""
    conversation = Conversation.objects.lock(conversation.pk)
    if not conversation.is_open:
        conversation.status = Conversation.Status.OPEN
        conversation.save_changes("status")
    announce(conversation)  # also again: the first time it may have been reopened without that
    return conversation
