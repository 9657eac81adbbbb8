"""Somebody writes a message."""

import uuid
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from conversations.announce import announce
from conversations.models import Author, Conversation, Message
from conversations.models.conversation import LAST_LINE
from conversations.models.prepared import insert, update

if TYPE_CHECKING:
    from django.contrib.auth.models import User


NOTED = (
    "status",
    "customer_name",
    "customer_email",
    "last_message_id",
    "last_message_at",
    "last_line",
    "last_author",
    "customer_messages",
    "answered_messages",
)
"""What a message may change of its conversation."""


class AlreadySent(Exception):
    """This client_id has been used for another message."""


def post_message(
    *,
    content: str,
    conversation: Conversation | None = None,
    agent: "User | None" = None,
    customer: "User | None" = None,
    name: str = "",
    email: str = "",
    client_id: uuid.UUID | None = None,
) -> Message:
    """Write a message once, however often it is sent, and return it with its conversation.

    Without a conversation a new one is started. `agent` is who answers; without one it is the customer who writes,
    whose `name` and `email` are kept on the conversation, and a closed conversation opens again. `customer` is the
    signed-in user whom a new conversation belongs to. `client_id` is the client's own name for the message: the same
    one with the same content returns the first message. Raises AlreadySent if it named another message before.
    """
    try:
        with transaction.atomic():
            if conversation is not None:
                conversation = Conversation.objects.lock(conversation.pk)
            return _write(conversation, content, agent, customer, name, email, client_id)
    except IntegrityError:  # it has been sent before, perhaps at this very moment
        twin = Message.objects.named(client_id)
        if twin is None:
            raise
    same_agent = twin.agent_id == (agent.pk if agent else None)
    same_place = conversation is None or twin.conversation_id == conversation.pk
    if twin.content != content or not same_agent or not same_place:
        raise AlreadySent
    return twin


def _write(
    conversation: Conversation | None,
    content: str,
    agent: "User | None",
    customer: "User | None",
    name: str,
    email: str,
    client_id: uuid.UUID | None,
) -> Message:
    author = Author.AGENT if agent else Author.CUSTOMER
    if conversation is None:
        conversation = Conversation(customer=customer, customer_name=name, customer_email=email)
        insert(conversation)
    message = Message(conversation=conversation, author=author, agent=agent, content=content, client_id=client_id)
    insert(message)
    conversation.last_message_id = message.pk
    conversation.last_message_at = message.created_at
    conversation.last_line = " ".join(content[: 4 * LAST_LINE].split())[:LAST_LINE]
    conversation.last_author = author
    if agent:
        conversation.answered_messages = conversation.customer_messages
    else:
        conversation.customer_messages += 1
        conversation.status = Conversation.Status.OPEN
        conversation.customer_name = name or conversation.customer_name
        conversation.customer_email = email or conversation.customer_email
    update(conversation, *NOTED)
    announce(conversation.pk, message.pk)
    return message
