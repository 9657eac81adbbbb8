"""Dead letters: messages of the message log that SQL has refused (models/settling.py). An operator decides on them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from django.db import transaction

from conversations import message_log
from conversations.announce import announce
from conversations.message_log import DEAD, PAGE
from conversations.models import Conversation, Message
from conversations.models.attachment import FILE_FIELDS
from conversations.models.settling import settle

WORDS = 60
"""How many characters of a message and of a reason are shown."""


class CannotRetry(Exception):
    """Why a dead letter cannot become a message, in a sentence."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that SQL has refused."""

    key: str  # its id in the stream of dead letters
    id: int  # of the message
    conversation: int  # its number
    reason: str
    text: str  # JSON

    @property
    def values(self) -> dict[str, Any]:
        """What the entry says of the message; {} if it is no JSON object."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def __str__(self) -> str:
        """One line for an operator."""
        content = " ".join(str(self.values.get("content", self.text)).split())[:WORDS]
        reason = " ".join(self.reason.split())[: 3 * WORDS]
        return f"{self.id}  conversation {self.conversation}  “{content}”  {reason}"


def dead_letters() -> Iterator[DeadLetter]:
    """All dead letters, in the order in which they were refused. Raises redis.RedisError."""
    start = "-"
    while rows := message_log.client().xrange(DEAD, start, "+", count=PAGE):
        start = f"({rows[-1][0]}"
        for key, fields in rows:
            yield DeadLetter(key, int(fields["id"]), int(fields["conversation"]), fields["reason"], fields["entry"])


def stored_names() -> set[str]:
    """The paths of the stored files of all dead letters. Raises redis.RedisError."""
    files = [file for letter in dead_letters() for file in letter.values.get("files", ())]
    return {file[field] for file in files for field in FILE_FIELDS if file.get(field)}


def retry(letter: DeadLetter) -> Message:
    """Write a dead letter again, at the end of its conversation and with a new id; return the message.

    At the end, because readers ask for what is newer than what they have: at its old place nobody would see it. It is
    written once, however often this is interrupted and called again.

    Raises CannotRetry, redis.RedisError, and the database's errors.
    """
    values = letter.values
    if not values:
        raise CannotRetry("it is no JSON object")
    number = letter.conversation
    with transaction.atomic():
        found = Conversation.objects.filter(pk=number).exists()
        if not found and "new" not in values:
            raise CannotRetry("its conversation does not exist")
        locked = Conversation.objects.lock(number) if found else None
        appended = message_log.append(
            client_id=uuid5(NAMESPACE_OID, f"dead letter {letter.id}"),
            conversation=number,
            last=locked.last_message_id if locked else 0,
            values=values,
            uuid=locked.uuid if locked else UUID(values["new"]["uuid"]),
            website=locked.website_id if locked else values["new"]["website_id"],
            contact=locked.contact_id if locked else values["new"]["contact_id"],
            is_locked=True,
        )
    settle([number])
    _remove(letter.id)
    message = Message.objects.filter(pk=appended.id).select_related("conversation").first()
    if message is None:
        raise CannotRetry(f"it is refused again, and is now {appended.id}")
    announce(message.conversation)
    return message


def forget(pk: int) -> bool:
    """Delete a message that is a dead letter; return whether there was one. Raises redis.RedisError.

    If a conversation would have begun with it, the log forgets that, too: it will never be in SQL.
    """
    found = _remove(pk)
    left = {letter.conversation for letter in dead_letters()}
    for number in {letter.conversation for letter in found} - left:
        if not Conversation.objects.filter(pk=number).exists():
            message_log.forget(number, pk)
    return bool(found)


def _remove(pk: int) -> list[DeadLetter]:
    """Delete and return the dead letters of a message. A killed process may have left two."""
    found = [letter for letter in dead_letters() if letter.id == pk]
    if found:
        message_log.client().xdel(DEAD, *[letter.key for letter in found])
    return found
