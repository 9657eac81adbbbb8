"""An agent opens a closed conversation again."""

from django.db import transaction

from conversations.announce import announce
from conversations.models import Conversation


@transaction.atomic
def reopen(*, conversation: Conversation) -> Conversation:
    """Open it. Opening what is open changes nothing."""
    conversation = Conversation.objects.lock(conversation.pk)
    if not conversation.is_open:
        conversation.status = Conversation.Status.OPEN
        conversation.save(update_fields=["status"])
        announce(conversation)
    return conversation
