"""A customer or an agent writes a message."""

import uuid
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from conversations import metrics
from conversations.actions.identify import assign_to_contact
from conversations.announce import announce
from conversations.models import Attachment, Author, Contact, Conversation, Message, Website, one_statement
from conversations.models.conversation import LAST_LINE_LENGTH, identified_uuid
from conversations.models.prepared import insert, update

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from conversations.models.contact import Claim


UPDATED = (
    "status",
    "customer_name",
    "customer_email",
    "last_message_at",
    "last_line",
    "last_author",
    "customer_messages",
    "answered_messages",
    "first_answer_after",
    "updated_at",
)
"""The columns of the conversation that a message changes, besides `last_message_id`."""

COUNTED = {Author.CUSTOMER: metrics.messages.labels("customer"), Author.AGENT: metrics.messages.labels("agent")}
"""The counters of messages."""

PLACEHOLDERS = {uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")}
"""Values that clients send as client_id without making one: nil, max, and the example of Swagger UI. They are ignored.

Otherwise two customers with the same first message would get the same conversation.
"""


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

    conversation: None starts a new one.
    agent: the author; None if the customer writes, which reopens a closed conversation.
    customer: the signed-in user to whom a new conversation belongs.
    name, email: of the customer, stored on the conversation.
    client_id: the client's own id for the message. Sent again with the same content and files, it is not
        written again: the first one is returned, and announced again.
    website: where a new conversation starts; None for the default website.
    claim: what the website's server says about the customer. It makes an anonymous conversation the verified
        customer's, and renews its secret.
    attachments: unsaved ones. They are written to the disk before the conversation is locked, and erased if the message
        is not written.

    Raises AlreadySent if another message has the client_id, and Conversation.DoesNotExist if a customer's conversation
    was deleted, or its secret was renewed, since the request has read it.
    """
    client_id = None if client_id in PLACEHOLDERS else client_id
    try:
        for attachment in attachments:
            attachment.store()
        if conversation and not claim and not attachments and one_statement.is_possible():
            changed = copy(conversation)
            message = _compose(changed, content, agent, name, email, client_id, attachments)
            if one_statement.write(message, changed, conversation, UPDATED):
                _announce(changed, message)
                return message
        with transaction.atomic():
            locked = _lock(conversation, agent, claim) if conversation else None
            if locked is None or (claim and not Contact.objects.may_continue(claim, locked)):
                website = website or Website.objects.default()
                locked = Conversation(website=website, customer=customer, customer_name=name, customer_email=email)
            return _write(locked, content, agent, name, email, client_id, claim, attachments)
    except Exception as error:
        for attachment in attachments:
            attachment.erase()
        # It may have been sent before, or by another request at this moment.
        earlier = Message.objects.by_client_id(client_id) if isinstance(error, IntegrityError) else None
        if earlier is None:
            raise
    if conversation is None:
        same_conversation = _may_find_by_retry(earlier, website, claim)
    else:
        same_conversation = earlier.conversation == conversation and _may_write(
            conversation, earlier.conversation, agent, claim
        )
    same_agent = earlier.agent_id == (agent.pk if agent else None)
    same_files = [file.name for file in earlier.attached] == [file.name for file in attachments]
    if earlier.content != content or not same_files or not same_agent or not same_conversation:
        raise AlreadySent
    announce(earlier.conversation)  # the first time it may have been stored without that
    return earlier


def _lock(conversation: Conversation, agent: "User | None", claim: "Claim | None") -> Conversation:
    """Lock a conversation. Raises DoesNotExist if the customer's secret by which it was found is not valid."""
    locked = Conversation.objects.lock(conversation.pk)
    if not _may_write(conversation, locked, agent, claim):
        raise Conversation.DoesNotExist
    return locked


def _may_write(found: Conversation, now: Conversation, agent: "User | None", claim: "Claim | None") -> bool:
    """Whether a request that has read the conversation as `found` may write to it as it is `now`, under the lock.

    A customer's secret must be the same, or have been renewed because the customer of this claim was identified.
    """
    if agent or now.uuid == found.uuid:
        return True
    return bool(claim and now.uuid == identified_uuid(found.uuid) and Contact.objects.owns(claim, now))


def _may_find_by_retry(earlier: Message, website: Website | None, claim: "Claim | None") -> bool:
    """Whether a retry without a valid secret may return the conversation of the `earlier` message.

    In a verified customer's conversation it needs the claim. In an anonymous one, the client_id and the text of the
    first message are enough, because the response with the secret may have been lost.
    """
    conversation = earlier.conversation
    if conversation.website_id != (website or Website.objects.default()).pk:
        return False
    if conversation.contact_id is not None:
        return bool(claim and Contact.objects.owns(claim, conversation))
    return not conversation.messages.before(earlier.pk).exists()


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
    if conversation.pk is None:
        if claim:
            conversation.contact = Contact.objects.save_claim(conversation.website_id, claim)
        insert(conversation)
    elif claim:
        assign_to_contact(conversation, claim)
    message = _compose(conversation, content, agent, name, email, client_id, attachments)
    insert(message)
    for attachment in attachments:
        attachment.message = message
        attachment.save()
    conversation.last_message_id = message.pk
    update(conversation, "last_message_id", *UPDATED)
    _announce(conversation, message)
    return message


def _announce(conversation: Conversation, message: Message) -> None:
    """After commit, tell everybody who may know of the message, and count it."""
    announce(conversation)
    transaction.on_commit(COUNTED[Author(message.author)].inc, robust=True)


def _compose(
    conversation: Conversation,
    content: str,
    agent: "User | None",
    name: str,
    email: str,
    client_id: uuid.UUID | None,
    attachments: Sequence[Attachment],
) -> Message:
    """Make an unsaved message, and set the fields UPDATED of its conversation."""
    author = Author.AGENT if agent else Author.CUSTOMER
    message = Message(
        conversation=conversation,
        author=author,
        agent=agent,
        content=content,
        client_id=client_id,
        files=len(attachments),
    )
    message.follows = conversation.last_message_id
    conversation.last_message_at = conversation.updated_at = message.created_at
    line = content or "📎 " + ", ".join(attachment.name for attachment in attachments)
    conversation.last_line = " ".join(line[: 4 * LAST_LINE_LENGTH].split())[:LAST_LINE_LENGTH]
    conversation.last_author = author
    if agent:
        if conversation.customer_messages and not conversation.answered_messages:
            hours = Website.objects.by_id(conversation.website_id).hours
            conversation.first_answer_after = hours.waiting_time(conversation.created_at, message.created_at)
        conversation.answered_messages = conversation.customer_messages
    else:
        if contact := conversation.contact:  # what is proven is not replaced by what the customer says
            name, email = contact.name or name, contact.email or email
        conversation.customer_messages += 1
        conversation.status = Conversation.Status.OPEN
        conversation.customer_name = name or conversation.customer_name
        conversation.customer_email = email or conversation.customer_email
    return message
