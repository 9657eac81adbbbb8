"""A conversation gets a new secret."""

import uuid

from django.db import transaction

from conversations.announce import announce_renewed_secret
from conversations.models import Conversation


@transaction.atomic
def renew_secret(*, conversation: Conversation) -> Conversation:
    """Replace the secret: whoever has the old one is not the customer any more.

    A verified customer gets the new one when their website identifies them again.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    conversation.uuid = uuid.uuid4()
    conversation.save(update_fields=["uuid"])
    conversation.messages.update(client_id=None)  # a retry would prove who began it
    announce_renewed_secret(conversation)
    return conversation
