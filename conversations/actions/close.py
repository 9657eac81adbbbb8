"""An agent closes a conversation."""

from django.db import transaction

from conversations.announce import announce
from conversations.models import Conversation


@transaction.atomic
def close(*, conversation: Conversation) -> Conversation:
    """Close a conversation. The customer sees that, and reopens it by writing. Closing it again changes nothing."""
    conversation = Conversation.objects.lock(conversation.pk)
    if conversation.is_open:
        conversation.status = Conversation.Status.CLOSED
        conversation.save(update_fields=["status"])
        announce(conversation)
    return conversation
