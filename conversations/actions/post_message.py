"""Somebody writes a message."""

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from conversations.announce import announce
from conversations.models import Attachment, Author, Contact, Conversation, Message, Website
from conversations.models.conversation import LAST_LINE_LENGTH
from conversations.models.prepared import insert, update

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from conversations.models.contact import Claim


UPDATED = (
    "status",
    "customer_name",
    "customer_email",
    "contact",
    "last_message_id",
    "last_message_at",
    "last_line",
    "last_author",
    "customer_messages",
    "answered_messages",
    "first_answer_after",
)
"""The columns of the conversation that a message changes."""


class AlreadySent(Exception):
    """This client_id was used for another message."""


def post_message(
    *,
    content: str,
    conversation: Conversation | None = None,
    agent: "User | None" = None,
    customer: "User | None" = None,
    name: str = "",
    email: str = "",
    client_id: uuid.UUID | None = None,
    website: Website | None = None,
    claim: "Claim | None" = None,
    attachments: Sequence[Attachment] = (),
) -> Message:
    """Write a message once, however often it is sent, and return it with its conversation.

    Without a conversation a new one is started. `agent` is who answers; without one the customer writes, whose `name`
    and `email` are stored on the conversation, and a closed conversation is reopened. `customer` is the signed-in user
    to whom a new conversation belongs, `website` the one that it begins on (None: the default one). `claim` is what the
    website's own server says of the customer. `attachments` are unsaved: they are written to the disk before the
    conversation is locked, and erased if the message is not written. `client_id` is the client's own id for the
    message: the same one with the same content and files returns the first message. Raises AlreadySent if another
    message has it.
    """
    try:
        for attachment in attachments:
            attachment.store()
        with transaction.atomic():
            locked = Conversation.objects.lock(conversation.pk) if conversation else None
            if locked is None or (claim and not Contact.objects.may_continue(claim, locked)):
                website = website or Website.objects.default()
                locked = Conversation(website=website, customer=customer, customer_name=name, customer_email=email)
            return _write(locked, content, agent, name, email, client_id, claim, attachments)
    except Exception as error:
        for attachment in attachments:
            attachment.erase()
        # It may have been sent before, or by another request at this moment.
        twin = Message.objects.by_client_id(client_id) if isinstance(error, IntegrityError) else None
        if twin is None:
            raise
    if conversation is None and not _is_retry_of_first_message(twin, website, claim):
        raise AlreadySent
    same_agent = twin.agent_id == (agent.pk if agent else None)
    same_place = conversation is None or twin.conversation_id == conversation.pk
    same_files = [file.name for file in twin.attached] == [file.name for file in attachments]
    if twin.content != content or not same_files or not same_agent or not same_place:
        raise AlreadySent
    return twin


def _is_retry_of_first_message(twin: Message, website: Website | None, claim: "Claim | None") -> bool:
    """Whether `twin` is the first message of a conversation that its sender may continue.

    Knowing its client_id and its text is enough, unless the conversation is a verified customer's: that takes a claim.
    """
    conversation = twin.conversation
    website = website or Website.objects.default()
    theirs = Contact.objects.may_continue(claim, conversation) if claim else conversation.contact_id is None
    return theirs and conversation.website_id == website.pk and not conversation.messages.before(twin.pk).exists()


def _write(
    conversation: Conversation,
    content: str,
    agent: "User | None",
    name: str,
    email: str,
    client_id: uuid.UUID | None,
    claim: "Claim | None",
    attachments: Sequence[Attachment],
) -> Message:
    author = Author.AGENT if agent else Author.CUSTOMER
    if conversation.pk is None:
        insert(conversation)
    if claim:
        name, email = claim.name or name, claim.email or email
        conversation.contact = Contact.objects.save_claim(conversation.website_id, claim)
    message = Message(
        conversation=conversation,
        author=author,
        agent=agent,
        content=content,
        client_id=client_id,
        files=len(attachments),
    )
    insert(message)
    for attachment in attachments:
        attachment.message = message
        attachment.save()
    conversation.last_message_id = message.pk
    conversation.last_message_at = message.created_at
    line = content or "📎 " + ", ".join(attachment.name for attachment in attachments)
    conversation.last_line = " ".join(line[: 4 * LAST_LINE_LENGTH].split())[:LAST_LINE_LENGTH]
    conversation.last_author = author
    if agent:
        if conversation.customer_messages and not conversation.answered_messages:
            hours = Website.objects.by_id(conversation.website_id).hours
            conversation.first_answer_after = hours.waiting_time(conversation.created_at, message.created_at)
        conversation.answered_messages = conversation.customer_messages
    else:
        conversation.customer_messages += 1
        conversation.status = Conversation.Status.OPEN
        conversation.customer_name = name or conversation.customer_name
        conversation.customer_email = email or conversation.customer_email
    update(conversation, *UPDATED)
    announce(conversation)
    return message
