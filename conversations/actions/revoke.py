"""A browser stops being the customer."""

import uuid

from django.db import transaction

from conversations.announce import announce_renewed_secret
from conversations.models import Conversation


@transaction.atomic
def revoke(*, conversation: Conversation) -> Conversation:
    """Give the conversation a new secret, which nobody holds: whoever has the old one is its customer no longer.

    A verified customer gets the new one wherever their website vouches for them again.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    conversation.uuid = uuid.uuid4()
    conversation.save(update_fields=["uuid"])
    conversation.messages.update(client_id=None)  # to know one proves no longer that one was the customer
    announce_renewed_secret(conversation)
    return conversation
