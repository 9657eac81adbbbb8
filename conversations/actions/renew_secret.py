"""A conversation gets a new secret."""

import uuid

from django.db import transaction

from conversations.announce import announce_renewed_secret
from conversations.models import Conversation


@transaction.atomic
def renew_secret(*, conversation: Conversation) -> Conversation:
    """Replace the secret: whoever has the old one is not the customer any more.

    A verified customer gets the new one when their website identifies them again. Raises Conversation.DoesNotExist if
    the conversation has another secret already.
    """
    conversation = Conversation.objects.lock(conversation.pk, conversation.uuid)
    replace_secret(conversation, uuid.uuid4())
    conversation.messages.update(client_id=None)  # whoever knows the first message's could get the new secret
    return conversation


def replace_secret(conversation: Conversation, secret: uuid.UUID) -> None:
    """Give a locked conversation this secret, and close the sockets that were opened with the old one."""
    conversation.uuid = secret
    conversation.save(update_fields=["uuid"])
    announce_renewed_secret(conversation)
