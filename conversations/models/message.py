"""A message of a conversation."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q, prefetch_related_objects
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy

from conversations import message_log
from conversations.models.conversation import Conversation
from conversations.models.prepared import prepared

if TYPE_CHECKING:
    from conversations.models.attachment import Attachment, AttachmentQuerySet

MAX_LENGTH = 20_480
"""The most characters of a message."""

MAX_ID = 2**63 - 1
"""The highest number of a BigAutoField."""


class Author(models.TextChoices):
    """Who wrote a message: the customer, or an agent."""

    CUSTOMER = "CUS", gettext_lazy("customer")
    AGENT = "AGE", gettext_lazy("agent")


class MessageQuerySet(models.QuerySet["Message"]):
    """The queries on messages."""

    def by_client_id(self, client_id: uuid.UUID | None) -> "Message | None":
        """The message with this client_id and its conversation, read by one query; or None."""
        return self.select_related("conversation").filter(client_id=client_id).first() if client_id else None

    def last_id(self) -> int:
        """The highest id of any message, or 0."""
        return self.order_by("-pk").values_list("pk", flat=True).first() or 0

    def of(self, key: uuid.UUID | int | None) -> "MessageQuerySet":
        """The messages of the conversation with this uuid or primary key; none for None."""
        if key is None:
            return self.none()
        return self.filter(conversation=key) if isinstance(key, int) else self.filter(conversation__uuid=key)

    def after(self, since: int) -> "MessageQuerySet":
        """The messages with ids above `since`, oldest first."""
        return self.filter(id__gt=since).order_by("id")

    def before(self, pk: int) -> "MessageQuerySet":
        """The messages with ids below this one."""
        return self.filter(id__lt=pk)

    def by_agents(self) -> "MessageQuerySet":
        """The messages that agents wrote."""
        return self.filter(author=Author.AGENT)

    def written(self) -> "MessageQuerySet":
        """What somebody wrote: without removals, with the messages that they are about."""
        return self.filter(Q(removed_id=None) | Q(removed_id=F("id")))

    def kept(self) -> "MessageQuerySet":
        """What somebody wrote and did not take back."""
        return self.filter(removed_id=None)

    def count_of(self, *, has_removals: bool) -> int:
        """How many they are, with or without removals."""
        return (self if has_removals else self.written()).count()

    def one(self, conversation_id: int, pk: int) -> "Message | None":
        """The message with this id, if it is in this conversation, with its agent; or None."""
        return self.of(conversation_id).written().filter(pk=min(pk, MAX_ID)).select_related("agent").first()

    def own(self, conversation_id: int, pk: int, agent_id: int) -> "Message":
        """The message with this id, in this conversation, that this agent wrote, although it may be taken back.

        Raises Message.DoesNotExist.
        """
        found = self.filter(conversation_id=conversation_id, pk=min(pk, MAX_ID), agent_id=agent_id)
        return found.by_agents().written().get()

    def newest_of_colleagues(self, conversation_id: int, agent_id: int, since: int) -> "Message | None":
        """The newest answer in a conversation that another agent wrote, if its id is above `since`."""
        found = self.filter(conversation_id=conversation_id, id__gt=since).kept().by_agents().exclude(agent_id=agent_id)
        return found.select_related("agent").order_by("-id").first()

    def newest(self, conversation_id: int, most: int, *, since: int = 0, before: int | None = None) -> "list[Message]":
        """The newest `most` messages of a conversation, oldest first, with their agents and files.

        since, before: only those with ids above, and below, these.
        """

        def build() -> "MessageQuerySet":
            found = self.filter(conversation_id=-1, id__gt=-2, id__lt=-3)
            return found.select_related("agent__profile").order_by("-id")[:most]

        values = {-1: conversation_id, -2: since, -3: MAX_ID if before is None else before}
        return prefetch_files(prepared(self, ("newest messages", most), build, values)[::-1])

    def delete_oldest(self, most: int) -> bool:
        """Delete the `most` oldest of them; return whether there are more.

        Call it in a transaction that has locked their conversation.
        """
        oldest = list(self.order_by("pk").values_list("pk", "files")[: most + 1])
        found = self.filter(pk__in=[pk for pk, _ in oldest[:most]])
        if any(files for _, files in oldest):
            found.delete()
        else:  # nothing belongs to them, and Django need not look
            found._raw_delete(found.db)
            from conversations.models.searchable import Searchable

            Searchable.objects.forget([pk for pk, _ in oldest[:most]])
        return len(oldest) > most


class Message(models.Model):
    """A message. It is never changed after it was posted, unless its author takes it back.

    Then it stays in its place without its text and files, and another row, a removal, tells every open page so: it has
    the id of a new message, so `?since=` finds it.
    """

    # Its index is `message_order`.
    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="messages", db_index=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    author = models.CharField(max_length=3, choices=Author)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    content = models.TextField(max_length=MAX_LENGTH, blank=True)  # blank only with files
    # How many attachments it has, so that only messages with attachments need a query for them.
    files = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    # Whether its text is Markdown (models/formatted.py). NULL, as in all older ones: it is shown as it was typed.
    is_formatted = models.BooleanField(null=True, editable=False)
    # Idempotency key, chosen by the client before its first try. It proves who sent the message: never show it to the
    # other side.
    client_id = models.UUIDField(null=True, unique=True, editable=False)
    # The id of a message that was taken back: its own, or in a removal that of an earlier message.
    removed_id = models.BigIntegerField(null=True, editable=False)

    objects = MessageQuerySet.as_manager()

    follows: int | None = None
    """The id of the message before it in the conversation, 0 for none. Only known when it has just been posted."""

    removed_at: datetime | None = None
    """The date of the message that a removal is about. Only known to the message log, for when SQL is away."""

    removed_by: int | None = None
    """The id of the removal that has led to this message; only where removals were asked for."""

    if TYPE_CHECKING:
        attachments: AttachmentQuerySet
        conversation_id: int
        agent_id: int | None

    class Meta:
        indexes = (models.Index(fields=["conversation", "id"], name="message_order"),)

    def __str__(self) -> str:
        """The author and the beginning of the text."""
        return f"{self.get_author_display()}: {self.content[:60]}"

    @property
    def attached(self) -> "list[Attachment]":
        """Its attachments."""
        return list(self.attachments.all()) if self.files else []

    @property
    def is_removed(self) -> bool:
        """Whether it was taken back: then it has no text and no files any more."""
        return self.removed_id is not None and self.removed_id == self.pk

    @property
    def is_removal(self) -> bool:
        """Whether it is no message, but says that another one was taken back."""
        return self.removed_id is not None and self.removed_id != self.pk

    def erase(self) -> None:
        """Forget the text and the files in this object, not in the database: it was taken back."""
        self.content, self.files, self.removed_id = "", 0, self.pk


def prefetch_files(messages: list[Message]) -> list[Message]:
    """Fetch the attachments of all the messages in one query, or in none if no message has any."""
    prefetch_related_objects([message for message in messages if message.files], "attachments")
    return messages


def erase_removed(messages: Iterable[Message]) -> None:
    """Forget in these objects what those of them that others take back have said: SQL may not know it yet."""
    found = list(messages)
    if removed := {message.removed_id for message in found if message.is_removal}:
        for message in found:
            if message.pk in removed:
                message.erase()


@receiver(pre_delete, sender=Message)
def _note_in_conversation(instance: Message, origin: Any = None, **_more: Any) -> None:
    """Lock the conversation and change its version (models/replica.py), unless all of it is deleted."""
    if Message in {type(origin), getattr(origin, "model", None)}:
        Conversation.objects.filter(pk=instance.conversation_id).touch()


@receiver(post_delete, sender=Message)
def _forget_in_log(instance: Message, origin: Any = None, **_more: Any) -> None:
    """Delete it in the message log too, unless all of its conversation is deleted there."""
    if settings.MESSAGE_LOG and Message in {type(origin), getattr(origin, "model", None)}:
        pk, conversation = instance.pk, instance.conversation_id
        transaction.on_commit(lambda: message_log.forget_message(conversation, pk), robust=True)
