"""A customer who has their conversation open writes a message, in the event loop: see log_batches.py."""

from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.db.models import Model
from django.db.models.base import ModelState
from django.utils import timezone

from conversations.actions.post_message import COUNTED, PLACEHOLDERS
from conversations.announce import announce_appended
from conversations.log_batches import Batches, Plain
from conversations.message_log import Appended
from conversations.models import Author, Conversation, Message
from conversations.models.recipients import Recipient
from conversations.models.settling import values_of

Instance = TypeVar("Instance", bound=Model)

BLANK_CONVERSATION, BLANK_MESSAGE = Conversation(), Message(author=Author.CUSTOMER)
"""What new objects are copied from: to set all of their fields takes a fifth of the time of a post."""


async def post_plain(
    batches: Batches,
    *,
    content: str,
    client_id: UUID,
    uuid: UUID,
    to: Recipient,
    since: int | None,
    counters: tuple[str, str],
) -> Message | None:
    """Write a message of a customer as `post_message` does, if nothing about it is unusual; else return None.

    Then `post_message` must write it: nobody was told of it, but the log may have it already, by its client_id.

    content: checked (models/validation.py).
    uuid: of the conversation that it is written `to`.
    since: the id of the last message that the customer has: None is returned if there is a newer one. Without it,
        that does not matter.
    counters: of the rate limits: see log_batches.py.

    Raises SecretRenewed if the conversation must be read anew.
    """
    if client_id in PLACEHOLDERS:
        return None
    conversation, message = _copy(BLANK_CONVERSATION), _copy(BLANK_MESSAGE)
    conversation.pk, conversation.uuid, conversation.website_id = to.pk, uuid, to.website_id
    message.conversation, message.content, message.client_id = conversation, content, client_id
    message.created_at = timezone.now()
    values = values_of(message, "", "", ())
    taken = partial(_taken, conversation)
    found = await batches.append(Plain(client_id, to.pk, uuid, values, to.began.run, since, counters, taken))
    if found is None:
        return None
    message.pk, message.follows = found.id, found.follows
    message.created_at = datetime.fromisoformat(found.at)
    return message


def _copy(blank: Instance) -> Instance:
    copy: Instance = object.__new__(type(blank))
    copy.__dict__ = {**blank.__dict__, "_state": ModelState()}
    return copy


def _taken(conversation: Conversation, appended: Appended) -> None:
    conversation.last_message_id = appended.id
    announce_appended(conversation)
    COUNTED[Author.CUSTOMER].inc()
