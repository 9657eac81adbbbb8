"""Settling: messages of the message log are copied into SQL. Only with MESSAGE_LOG=redis (message_log.py).

Only this inserts messages then. Under the lock of a conversation's row, whatever its stream has above `last_message_id`
is inserted in order. So it may be called by anybody, at any time and as often as they like: by the replicator, and by
requests that need a conversation as it is now.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, NotSupportedError, ProgrammingError, transaction
from django.db.models import Model, prefetch_related_objects
from django.utils import timezone

from conversations import message_log
from conversations.message_log import Entry
from conversations.models.agent_profile import picture_of, with_picture
from conversations.models.attachment import Attachment
from conversations.models.conversation import AWAY as SQL_AWAY
from conversations.models.conversation import CHANGED_BY_MESSAGE, Conversation
from conversations.models.label import ConversationLabel
from conversations.models.message import MAX_ID, Message
from conversations.models.prepared import update_all
from conversations.models.removal import remove
from conversations.models.searchable import Searchable

logger = logging.getLogger(__name__)

UUIDS = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
"""Secrets, as databases write them."""

FIRST_VALUES = ("uuid", "website_id", "created_at", "customer_id", "contact_id", "customer_name", "customer_email")
"""The fields of a new conversation that its first entry has. All others come from its messages."""

AWAY = (*SQL_AWAY, ProgrammingError, NotSupportedError, redis.RedisError)
"""Errors that say nothing about an entry, but that a database is away, full, read-only or not migrated, or that it
forbids this to everybody. The entry is copied later."""

FILE_VALUES = [field.attname for field in Attachment._meta.concrete_fields if field.attname not in {"id", "message_id"}]


def values_of(message: Message, name: str, email: str, attachments: Iterable[Attachment]) -> dict[str, Any]:
    """What an entry says of a message, as JSON. `name` and `email` are what the customer has said with it."""
    conversation, agent = message.conversation, message.agent
    values: dict[str, Any] = {
        "website": conversation.website_id,
        "author": message.author,
        "agent": message.agent_id,
        "names": [agent.first_name, agent.last_name, agent.username] if agent else None,
        "picture": picture_of(agent),
        "content": message.content,
        "is_formatted": message.is_formatted,
        "client_id": message.client_id.hex if message.client_id else None,
        "at": message.created_at.isoformat(timespec="microseconds"),  # always as long, to be compared as a text
        "name": name,
        "email": email,
        "files": [
            {
                field: str(value) if value is not None else None
                for field in FILE_VALUES
                if (value := getattr(file, field)) != ""
            }
            for file in attachments
        ],
    }
    if message.removed_id is not None:
        values["removed"] = message.removed_id
        if message.removed_at:
            values["removed_at"] = message.removed_at.isoformat()
    if conversation.pk is None:
        values["new"] = {name: getattr(conversation, name) for name in FIRST_VALUES}
        values["new"] |= {"uuid": conversation.uuid.hex, "created_at": conversation.created_at.isoformat()}
    return values


def message_of(entry: Entry, conversation: Conversation) -> Message:
    """The message of an entry, with its agent and its files. It is not saved."""
    values = entry.values
    message = Message(
        id=entry.id,
        conversation=conversation,
        created_at=datetime.fromisoformat(values["at"]),
        author=values["author"],
        agent_id=values["agent"],
        content=values["content"],
        is_formatted=values.get("is_formatted"),  # an older version may have written it
        client_id=UUID(values["client_id"]) if values["client_id"] else None,
        files=len(values["files"]),
        removed_id=values.get("removed"),
    )
    if "removed_at" in values:
        message.removed_at = datetime.fromisoformat(values["removed_at"])
    if values["agent"] is not None:
        first_name, last_name, username = values["names"]
        user = User(id=values["agent"], first_name=first_name, last_name=last_name, username=username)
        message.agent = with_picture(user, values.get("picture", ""))  # earlier versions do not know it
    files = [_attachment(file, message) for file in values["files"]]
    message._prefetched_objects_cache = {"attachments": files}  # type: ignore[attr-defined]  # Django's, for prefetching
    return message


def _attachment(values: dict[str, Any], message: Message) -> Attachment:
    meta: Any = Attachment._meta
    fields = {field: meta.get_field(field).to_python(value) for field, value in values.items()}
    return Attachment(message=message, **fields)


def without_content(entry: Entry) -> Entry:
    """What is left of the entry of a message that is taken back. Raises ValueError if it is no JSON."""
    values = {**entry.values, "content": "", "files": [], "removed": entry.id}
    return Entry(entry.id, entry.follows, message_log.encode(values))


def conversation_of(number: int, values: dict[str, Any]) -> Conversation:
    """The new conversation of a first entry, without its messages. It is not saved."""
    fields = values["new"]
    return Conversation(
        pk=number,
        **{**fields, "uuid": UUID(fields["uuid"]), "created_at": datetime.fromisoformat(fields["created_at"])},
    )


def settle(numbers: Collection[int]) -> list[Conversation]:
    """Copy what the log has of these conversations into SQL; return those that exist.

    It is one transaction, or several if it is more than MOST_BYTES. If SQL refuses any of it, each conversation is
    copied in a transaction of its own, and the refused entries go to the dead letters. Raises redis.RedisError and the
    database's errors. Then the rest is copied later.
    """
    wanted = sorted(set(numbers))
    try:
        return _settle(wanted, _start, _copy)
    except AWAY:
        raise
    except Exception:
        return [each for number in wanted for each in _settle([number], _start_with_care, _copy_one_by_one)]


Tails = list[tuple[Conversation, list[Entry]]]


def _settle(
    numbers: list[int], start: Callable[[list[int]], None], copy_tails: Callable[[Tails], None]
) -> list[Conversation]:
    changed: set[int] = set()
    while True:
        found, is_all = _settle_some(numbers, start, copy_tails)
        changed |= {conversation.pk for conversation in found if conversation.has_new_header}
        if is_all:
            break
    for conversation in found:
        conversation.has_new_header = conversation.pk in changed
    return found


def _settle_some(
    numbers: list[int], start: Callable[[list[int]], None], copy_tails: Callable[[Tails], None]
) -> tuple[list[Conversation], bool]:
    """One transaction of `_settle`, and whether it was the last one."""
    with transaction.atomic():
        # First new rows in the order of their numbers, then locks in this order: so two settlers never wait for each
        # other.
        known = set(Conversation.objects.filter(pk__in=numbers).values_list("pk", flat=True))
        if unknown := [number for number in numbers if number not in known]:
            start(unknown)
        found = {conversation.pk: conversation for conversation in Conversation.objects.lock_all(numbers)}
        prefetch_related_objects([each for each in found.values() if each.contact_id], "contact")
        tails, is_all = message_log.tails({number: each.last_message_id for number, each in found.items()})
        copy_tails([(found[number], entries) for number, entries in tails.items() if entries])
        # All of them: whoever has copied them may have died before this.
        last = [(number, found[number].last_message_id if number in found else MAX_ID) for number in numbers]
        message_log.Run.see(max((each.last_message_id for each in found.values()), default=0))
        transaction.on_commit(lambda: message_log.set_settled(last), robust=True)
    return list(found.values()), is_all


def settle_locked(conversation: Conversation) -> None:
    """Copy what the log has of a locked conversation, in a transaction. Raises redis.RedisError."""
    is_all = False
    while not is_all:
        tails, is_all = message_log.tails({conversation.pk: conversation.last_message_id})
        if entries := tails[conversation.pk]:
            _settle_entries(conversation, entries)


def _settle_entries(conversation: Conversation, entries: list[Entry]) -> None:
    before = dict(conversation.__dict__)
    try:
        with transaction.atomic():
            _copy([(conversation, entries)])
    except AWAY:
        raise
    except Exception:
        conversation.__dict__.update(before)
        _copy_one_by_one([(conversation, entries)])
    last = [(conversation.pk, conversation.last_message_id)]
    transaction.on_commit(lambda: message_log.set_settled(last), robust=True)


def settle_if_possible(conversation: Conversation) -> None:
    """Settle a locked conversation, unless Redis is away: then SQL has all of its messages up to some moment."""
    try:
        settle_locked(conversation)
    except redis.RedisError as error:
        logger.warning("The message log does not answer: a conversation is changed as SQL has it. %r", error)


def _start(numbers: list[int]) -> None:
    """Insert conversations that were started in the log. Those that were deleted stay away."""
    firsts = message_log.firsts(numbers)
    new = [conversation_of(number, first.values) for number, first in firsts.items() if "new" in first.values]
    Conversation.objects.bulk_create(new, ignore_conflicts=True)  # another may insert them at this moment
    if Conversation.objects.filter(pk__in=firsts).count() < len(firsts):
        raise IntegrityError("The database refuses conversations of the message log.")


def _start_with_care(numbers: list[int]) -> None:
    """As `_start`, for one conversation. If it is refused, its entries go to the dead letters."""
    [number] = numbers
    first = message_log.firsts(numbers).get(number)
    if first is None:
        return
    try:
        if "new" not in first.values:  # a killed process may have buried the message that had it
            raise IntegrityError("The beginning of the conversation was refused.")
        conversation = conversation_of(number, first.values)
        _drop_deleted(conversation)
        with transaction.atomic():
            conversation.save(force_insert=True)
    except AWAY:
        raise
    except Exception as error:
        if not Conversation.objects.filter(pk=number).exists():  # else another has just inserted it
            logger.error("The conversation %s of the message log is refused: %s", number, _reason(error))
            message_log.refuse(number)  # before its messages are buried: none may come after them
            while entries := message_log.tails({number: 0})[0][number]:
                for entry in entries:
                    message_log.bury(number, entry, _reason(error))


def _reason(error: Exception) -> str:
    """What an error says, without what was written and without secrets: databases repeat both."""
    return UUIDS.sub("…", str(error).partition("\n")[0])


def _drop_deleted(instance: Model) -> None:
    """Set foreign keys of what was deleted meanwhile to None. Most databases look at them only at the commit.

    Raises IntegrityError if one must not be None.
    """
    for field in instance._meta.concrete_fields:
        value, related = getattr(instance, field.attname), field.related_model
        if not related or value is None or related._base_manager.filter(pk=value).exists():
            continue
        if not field.null:
            raise IntegrityError(f"The {field.name} {value} does not exist any more.")
        setattr(instance, field.attname, None)


def _copy(tails: Tails) -> None:
    """Insert entries of locked conversations, with few statements."""
    before = [_header(conversation) for conversation, _ in tails]
    names = [conversation.names if conversation.last_message_id else ("", "") for conversation, _ in tails]
    messages = [_take_in(conversation, entry) for conversation, entries in tails for entry in entries]
    for (conversation, _), header in zip(tails, before, strict=True):
        conversation.has_new_header = _header(conversation) != header
    agents = {message.agent_id for message in messages if message.agent_id}
    if len(agents) > User.objects.filter(pk__in=agents).count():
        raise IntegrityError("An agent was deleted.")  # most databases would say so only at the commit
    Message.objects.bulk_create(messages)
    if files := [file for message in messages for file in message.attached]:
        Attachment.objects.bulk_create(files)
    Searchable.objects.add_all(messages)
    for (conversation, _), known in zip(tails, names, strict=True):
        if conversation.names != known:
            Searchable.objects.put_names(conversation)
    for message in messages:
        if message.is_removal:
            remove(message)
    update_all([conversation for conversation, _ in tails], "last_message_id", *CHANGED_BY_MESSAGE)
    ConversationLabel.objects.follow(conversation for conversation, _ in tails)


def _header(conversation: Conversation) -> tuple[object, ...]:
    """What an agent's page shows of a conversation besides its messages, and a message may change."""
    header = conversation.status, conversation.customer_name, conversation.customer_email
    return (*header, conversation.snoozed_until)


def _copy_one_by_one(tails: Tails) -> None:
    """Insert entries of locked conversations, and leave out those that SQL refuses."""
    for conversation, entries in tails:
        conversation.has_new_header = True
        for entry in entries:
            before = dict(conversation.__dict__)
            try:
                with transaction.atomic():
                    if not _insert(conversation, entry):
                        message_log.remove(conversation.pk, entry.id)
            except AWAY:
                raise
            except Exception as error:
                conversation.__dict__.update(before)
                logger.error("The message %s of the message log is refused: %s", entry.id, _reason(error))
                message_log.bury(conversation.pk, entry, _reason(error))
    update_all([conversation for conversation, _ in tails], "last_message_id", *CHANGED_BY_MESSAGE)
    ConversationLabel.objects.follow(conversation for conversation, _ in tails)


def _insert(conversation: Conversation, entry: Entry) -> bool:
    """Insert one entry, or pass it over and return False: it is a retry of a message that SQL has."""
    earlier = Message.objects.by_client_id(UUID(entry.values["client_id"]) if entry.values["client_id"] else None)
    is_same = earlier and (earlier.is_removed or earlier.content == entry.values["content"])
    if earlier and earlier.conversation_id == conversation.pk and is_same:
        return False
    message = _take_in(conversation, entry)
    if earlier:  # another message: it is kept, without this client_id
        message.client_id = None
    _drop_deleted(message)
    message.save(force_insert=True)
    Attachment.objects.bulk_create(message.attached)
    Searchable.objects.add_message(message, message.attached)
    Searchable.objects.put_names(conversation)
    if message.is_removal:
        remove(message)
    return True


def _take_in(conversation: Conversation, entry: Entry) -> Message:
    message = message_of(entry, conversation)
    if not message.is_removal:
        names = [file.name for file in message.attached]
        conversation.take_in(message, entry.values["name"], entry.values["email"], names)
    conversation.last_message_id = entry.id
    conversation.updated_at = timezone.now()  # whoever asks for what was updated since a moment has not seen it before
    return message


def catch_up(conversation: Conversation) -> bool:
    """Settle a conversation that was read, if the log has more of it, and set its fields to what they are now.

    While SQL or Redis is away, or SQL accepts no writes, it stays as it is, and this returns False.
    """
    if not settings.MESSAGE_LOG:
        return True
    try:
        if message_log.has_more(conversation.pk, conversation.last_message_id):
            for now in settle([conversation.pk]):
                for field in conversation._meta.concrete_fields:
                    setattr(conversation, field.attname, getattr(now, field.attname))
    except AWAY as error:
        logger.warning("A conversation is shown as it was read: %r", error)
        return False
    return True


def newest_in_log(conversation: Conversation, most: int) -> list[Message]:
    """The newest messages that the log has of a conversation without a gap, oldest first, while SQL is away."""
    try:
        entries = message_log.newest(conversation.pk, most) if settings.MESSAGE_LOG else []
    except redis.RedisError:
        return []
    return [message_of(entry, conversation) for entry in message_log.unbroken(entries)]


def known_by_log(number: int | None = None, uuid: UUID | None = None) -> Conversation | None:
    """A conversation as the log knows it, for the time in which SQL is away; None if it does not know it.

    It has no more than its number, secret, website and contact, and the id of its last message.
    """
    try:
        if uuid:
            number = next(iter(message_log.numbers_of([uuid])), None)
        found = message_log.known(number) if number is not None else {}
    except redis.RedisError:
        return None
    is_gone = found.get("uuid") in {None, message_log.DELETED, message_log.REFUSED}
    if "last" not in found or is_gone or (uuid and found["uuid"] != uuid.hex):
        return None
    return Conversation(
        pk=number,
        uuid=UUID(found["uuid"]),
        website_id=int(found["website"]),
        contact_id=int(found["contact"]) if found["contact"] else None,
        last_message_id=int(found["last"]),
        status="",  # nobody knows
    )


def settle_number(number: int) -> bool:
    """Settle a conversation of which only the number is known; return whether the log had more of it than SQL."""
    if not settings.MESSAGE_LOG:
        return False
    try:
        return message_log.has_more(number, 0) and bool(settle([number]))
    except redis.RedisError as error:
        logger.warning("The message log does not answer: a conversation is read as SQL has it. %r", error)
    return False


def settle_unknown(uuids: Collection[UUID]) -> bool:
    """Settle the conversations with these uuids that were started in the log; return whether there are any.

    Raises redis.RedisError: without the log nobody can say that there is no such conversation.
    """
    if not settings.MESSAGE_LOG or not uuids:
        return False
    numbers = message_log.numbers_of(list(uuids))
    return bool(numbers and settle(numbers))
