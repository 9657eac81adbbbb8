"""Renew a conversation's secret."""

import logging
import uuid

import redis
from django.conf import settings
from django.db import transaction

from conversations import message_log
from conversations.announce import announce_renewed_secret
from conversations.models import Conversation

logger = logging.getLogger(__name__)


@transaction.atomic
def renew_secret(*, conversation: Conversation) -> Conversation:
    """Replace the secret by a random one: the old one gives no access any more.

    A verified customer gets the new one when their website identifies them again. Raises Conversation.DoesNotExist if
    the secret was renewed already, since the request has read it.
    """
    conversation = Conversation.objects.lock(conversation.pk, conversation.uuid)
    replace_secret(conversation, uuid.uuid4())
    conversation.messages.update(client_id=None)  # a retry of the first message would return the new secret
    return conversation


def replace_secret(conversation: Conversation, secret: uuid.UUID) -> None:
    """Give a locked conversation this secret, and close the sockets that were opened with the old one."""
    before, conversation.uuid = conversation.uuid, secret
    conversation.save_changes("uuid")
    if settings.MESSAGE_LOG:
        try:  # now, not after commit: whoever has read the old one asks SQL again, and waits there for the lock
            message_log.renew(conversation.pk, before, secret, conversation.contact_id)
        except redis.RedisError as error:
            logger.warning("The message log does not answer: a request in flight may still write. %r", error)
    announce_renewed_secret(conversation)
