"""A customer or an agent writes a message."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import Error, IntegrityError, transaction
from redis import RedisError

from conversations import message_log, metrics
from conversations.actions.identify import assign_to_contact
from conversations.announce import announce, announce_appended
from conversations.models import Attachment, Author, Contact, Conversation, Message, Website, one_statement
from conversations.models.conversation import CHANGED_BY_MESSAGE, identified_uuid
from conversations.models.desk_entry import prepare_log
from conversations.models.formatted import plain
from conversations.models.prepared import insert, update
from conversations.models.searchable import Searchable
from conversations.models.settling import (
    AWAY,
    catch_up,
    known_by_log,
    message_of,
    newest_in_log,
    settle,
    values_of,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from conversations.models.contact import Claim


COUNTED = {Author.CUSTOMER: metrics.messages.labels("customer"), Author.AGENT: metrics.messages.labels("agent")}
"""The counters of messages."""

PLACEHOLDERS = {uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")}
"""Values that clients send as client_id without making one: nil, max, and the example of Swagger UI. They are ignored.

Otherwise two customers with the same first message would get the same conversation.
"""


class AlreadySent(Exception):
    """This client_id was used for another message."""


class UnseenAnswer(Exception):
    """A colleague has answered since the agent last looked. `answer` is their newest message."""

    def __init__(self, answer: Message) -> None:
        super().__init__(answer)
        self.answer = answer


class Sent(Exception):
    """The message log has another message with this client_id. It is settled."""


@dataclass(frozen=True)
class Draft:
    """A message to write: the arguments of `post_message`."""

    content: str
    is_formatted: bool
    conversation: Conversation | None
    agent: "User | None"
    customer: "User | None"
    name: str
    email: str
    client_id: uuid.UUID | None
    website: Website | None
    claim: "Claim | None"
    attachments: Sequence[Attachment]
    seen: int | None

    @property
    def needs_check(self) -> bool:
        """Whether a colleague may have answered since the agent last looked, as the conversation was read."""
        return self.seen is not None and (self.conversation is None or self.conversation.last_message_id > self.seen)


def post_message(
    *,
    content: str,
    is_formatted: bool = False,
    conversation: Conversation | None = None,
    agent: "User | None" = None,
    customer: "User | None" = None,
    name: str = "",
    email: str = "",
    client_id: uuid.UUID | None = None,
    website: Website | None = None,
    claim: "Claim | None" = None,
    attachments: Sequence[Attachment] = (),
    seen: int | None = None,
) -> Message:
    """Write a message once, however often it is sent, and return it with its conversation.

    is_formatted: whether the content is Markdown, which is shown formatted (models/formatted.py).
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
    seen: the id of the newest message that the agent has seen. None: it does not matter who else has answered.

    Raises AlreadySent if another message has the client_id, UnseenAnswer if another agent has answered after `seen`
    and this message was not written before, Conversation.DoesNotExist if a customer's conversation
    was deleted, or its secret was renewed, since it was read, and redis.RedisError if the message log does
    not answer.
    """
    client_id = None if client_id in PLACEHOLDERS else client_id
    draft = Draft(
        content, is_formatted, conversation, agent, customer, name, email, client_id, website, claim, attachments, seen
    )
    if is_formatted:
        plain(content)  # before anything is locked: it is kept until `take_in` needs it
    try:
        for attachment in attachments:
            attachment.store()
        return _append(draft) if settings.MESSAGE_LOG else _write(draft)
    except Exception as error:
        if not isinstance(error, RedisError):  # else the message may be in the log
            for attachment in attachments:
                attachment.erase()
        # It may have been sent before, or by another request at this moment.
        is_retry = isinstance(error, IntegrityError | Sent)
        earlier = Message.objects.by_client_id(client_id) if is_retry else None
        if earlier is None:
            raise
    _check_retry(earlier, draft)
    announce(earlier.conversation)  # the first time it may have been stored without that
    return earlier


def _write(draft: Draft) -> Message:
    """Write a message to SQL. Raises IntegrityError if another one has its client_id."""
    conversation, claim = draft.conversation, draft.claim
    is_simple = conversation and not (claim or draft.attachments or draft.needs_check or conversation.label_ids)
    if conversation and is_simple and one_statement.is_possible():
        changed = copy(conversation)
        message = _take_in(changed, draft)
        has_same_names = changed.names == conversation.names
        if has_same_names and one_statement.write(message, changed, conversation, CHANGED_BY_MESSAGE):
            _announce(changed, message)
            return message
    with transaction.atomic():
        locked = _lock(conversation, draft.agent, claim) if conversation else None
        if locked is None or (claim and not Contact.objects.may_continue(claim, locked)):
            locked = _new_conversation(draft)
            insert(locked)
        elif claim:
            assign_to_contact(locked, claim)
        else:
            _check_unanswered(locked, draft)
        names = locked.names if locked.last_message_id else ("", "")
        message = _take_in(locked, draft)
        insert(message)
        for attachment in draft.attachments:
            attachment.message = message
            attachment.save()
        Searchable.objects.add_message(message, draft.attachments)
        if locked.names != names:
            Searchable.objects.put_names(locked)
        locked.last_message_id = message.pk
        update(locked, "last_message_id", *CHANGED_BY_MESSAGE)
        locked.update_label_rows()
        _announce(locked, message)
        return message


def _append(draft: Draft) -> Message:
    """Write a message to the message log, which acknowledges it. It is copied into SQL later: models/settling.py.

    Raises Sent if another one has its client_id.
    """
    conversation = copy(draft.conversation)
    if conversation and draft.claim:
        conversation = _continued(conversation, draft, draft.claim)
    if (
        conversation
        and draft.seen is not None
        and (draft.needs_check or message_log.has_more(conversation.pk, draft.seen))
    ):
        # The log has no lock: if two agents answer within the same millisecond, it may be that neither is asked.
        _check_unanswered(conversation, draft)
    conversation = conversation or _new_conversation(draft)
    message = _compose(conversation, draft)
    appended = _append_to(conversation, message, draft)
    if appended.is_retry:
        try:
            settle([appended.conversation])
        except AWAY:
            if earlier := _sent_before(appended, draft):
                return earlier
            raise
        if draft.client_id and Message.objects.by_client_id(draft.client_id) is None:
            message_log.forget_sent(draft.client_id, appended)  # erased in SQL since, so this is another message
            return _append(draft)
        raise Sent
    message.pk, message.follows = appended.id, appended.follows
    message.created_at = datetime.fromisoformat(appended.at)
    conversation.pk, conversation.last_message_id = appended.conversation, appended.id
    message.conversation = conversation  # again, now that it has a number
    announce_appended(conversation)
    COUNTED[Author(message.author)].inc()
    if draft.attachments:  # the files are found by SQL
        with suppress(Error, RedisError):
            settle([conversation.pk])
    return message


def _check_unanswered(conversation: Conversation, draft: Draft) -> None:
    """Raise UnseenAnswer if a colleague has answered after the agent last looked, unless this is a retry."""
    if draft.agent is None or draft.seen is None:
        return
    if settings.MESSAGE_LOG and not catch_up(conversation):
        newest = [message for message in newest_in_log(conversation, message_log.KEPT) if message.pk > draft.seen]
        answers = [each for each in newest if each.author == Author.AGENT and each.agent_id != draft.agent.pk]
        answers = [each for each in answers if each.removed_id is None]
        answer = answers[-1] if answers else None
        was_sent = draft.client_id is not None and draft.client_id in {message.client_id for message in newest}
    else:
        answer = Message.objects.newest_of_colleagues(conversation.pk, draft.agent.pk, draft.seen)
        was_sent = answer is not None and Message.objects.by_client_id(draft.client_id) is not None
    if answer and not was_sent:
        raise UnseenAnswer(answer)


def _continued(conversation: Conversation, draft: Draft, claim: "Claim") -> Conversation | None:
    """The conversation, which is now the verified customer's; None if it is somebody else's."""
    try:
        with transaction.atomic():
            locked = _lock(conversation, draft.agent, claim)
            if not Contact.objects.may_continue(claim, locked):
                return None
            assign_to_contact(locked, claim)
            return locked
    except AWAY:
        if not Contact.objects.owns(claim, conversation):
            raise
        return conversation  # It is theirs already. What the claim says of their name is stored with the next one.


def _append_to(conversation: Conversation, message: Message, draft: Draft) -> message_log.Appended:
    append = partial(
        append_when_ready,
        client_id=draft.client_id,
        conversation=conversation.pk,
        last=conversation.last_message_id,
        values=values_of(message, draft.name, draft.email, draft.attachments),
        uuid=conversation.uuid,
        website=conversation.website_id,
        contact=conversation.contact_id,
        run=conversation.remembered_in,
    )
    try:
        return append()
    except message_log.SecretRenewed:
        if conversation.is_remembered:
            raise Conversation.DoesNotExist from None
        with transaction.atomic():
            locked = _lock(conversation, draft.agent, draft.claim)
            return append(uuid=locked.uuid, contact=locked.contact_id, last=locked.last_message_id, is_locked=True)


def append_when_ready(**arguments: Any) -> message_log.Appended:
    """`message_log.append`, after the log was made ready if it was not."""
    try:
        return message_log.append(**arguments)
    except message_log.NotReady:
        prepare_log()
        return message_log.append(**arguments)


def _sent_before(appended: message_log.Appended, draft: Draft) -> Message | None:
    """The message of a retry, as the log has it, while SQL is away; None if only SQL has it.

    Raises AlreadySent for another one.
    """
    entry = next(iter(message_log.tail(appended.conversation, appended.id - 1, 1).entries), None)
    known = known_by_log(appended.conversation)
    if entry is None or entry.id != appended.id or known is None or entry.values["files"]:
        return None
    earlier = message_of(entry, known)
    if draft.conversation is None:  # a retry of the first message: see `_may_find_by_retry`
        website = draft.website or Website.objects.default()
        is_first = "new" in entry.values and entry.values["new"]["uuid"] == known.uuid.hex  # and it was not renewed
        same_conversation = is_first and known.contact_id is None and known.website_id == website.pk
    else:
        same_conversation = _is_same(draft.conversation, known, draft)
    same_agent = earlier.agent_id == (draft.agent.pk if draft.agent else None)
    is_same = earlier.is_removed or (earlier.content == draft.content and not draft.attachments)
    if not is_same or not same_agent or not same_conversation:
        raise AlreadySent
    announce_appended(known)
    return earlier


def _new_conversation(draft: Draft) -> Conversation:
    """An unsaved conversation. The contact of a claim is saved."""
    website = draft.website or Website.objects.default()
    conversation = Conversation(
        website=website, customer=draft.customer, customer_name=draft.name, customer_email=draft.email
    )
    if draft.claim:
        try:
            with transaction.atomic():
                conversation.contact = Contact.objects.save_claim(website.pk, draft.claim)
        except AWAY:
            conversation.contact = Contact.objects.by_sub(website.pk, draft.claim.sub)
            if not settings.MESSAGE_LOG or conversation.contact is None:
                raise
    return conversation


def _check_retry(earlier: Message, draft: Draft) -> None:
    """Raise AlreadySent unless the draft is the message that was written `earlier`, and its sender may write it."""
    conversation, agent = draft.conversation, draft.agent
    if conversation is None:
        same_conversation = _may_find_by_retry(earlier, draft.website, draft.claim)
    else:
        same_conversation = _is_same(conversation, earlier.conversation, draft)
    same_agent = earlier.agent_id == (agent.pk if agent else None)
    same_files = [file.name for file in earlier.attached] == [file.name for file in draft.attachments]
    is_same = earlier.is_removed or (earlier.content == draft.content and same_files)  # of one taken back, nobody knows
    if not is_same or not same_agent or not same_conversation:
        raise AlreadySent


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


def _is_same(found: Conversation, now: Conversation, draft: Draft) -> bool:
    """Whether a retry that has read a conversation as `found` may have written the message of `now`.

    Raises Conversation.DoesNotExist where it was remembered: as it is in SQL, the retry may.
    """
    is_same = found.pk == now.pk and _may_write(found, now, draft.agent, draft.claim)
    if not is_same and found.is_remembered:
        raise Conversation.DoesNotExist
    return is_same


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


def _announce(conversation: Conversation, message: Message) -> None:
    """After commit, tell everybody who may know of the message, and count it."""
    announce(conversation)
    transaction.on_commit(COUNTED[Author(message.author)].inc, robust=True)


def _take_in(conversation: Conversation, draft: Draft) -> Message:
    """Make an unsaved message, and set the fields CHANGED_BY_MESSAGE of its conversation."""
    message = _compose(conversation, draft)
    conversation.take_in(message, draft.name, draft.email, [attachment.name for attachment in draft.attachments])
    return message


def _compose(conversation: Conversation, draft: Draft) -> Message:
    message = Message(
        conversation=conversation,
        author=Author.AGENT if draft.agent else Author.CUSTOMER,
        agent=draft.agent,
        content=draft.content,
        is_formatted=draft.is_formatted or None,
        client_id=draft.client_id,
        files=len(draft.attachments),
    )
    message.follows = conversation.last_message_id
    return message
