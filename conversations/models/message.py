"""A message of a conversation."""

import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, models
from django.db.models import prefetch_related_objects
from django.utils import timezone
from django.utils.translation import gettext_lazy

from conversations.models.prepared import prepared

if TYPE_CHECKING:
    from conversations.models.attachment import Attachment, AttachmentQuerySet

MAX_LENGTH = 20_480
"""Characters of the longest message."""


class Author(models.TextChoices):
    """Which side wrote a message."""

    CUSTOMER = "CUS", gettext_lazy("customer")
    AGENT = "AGE", gettext_lazy("agent")


class MessageQuerySet(models.QuerySet["Message"]):
    """How messages are found."""

    def by_client_id(self, client_id: uuid.UUID | None) -> "Message | None":
        """The message that a client sent under this client_id, or None."""
        if client_id is None:
            return None
        mark = uuid.UUID(int=0)
        written = Message._meta.get_field("client_id").get_db_prep_value
        values = {written(mark, connection): written(client_id, connection)}
        return next(iter(prepared(self, "message named", lambda: self.filter(client_id=mark), values)), None)

    def of(self, uuid: Any) -> "MessageQuerySet":
        """Those of the conversation with this uuid; none for None."""
        return self.filter(conversation__uuid=uuid) if uuid else self.none()

    def after(self, since: int) -> "MessageQuerySet":
        """Those newer than the message id `since`, oldest first."""
        return self.filter(id__gt=since).order_by("id")

    def before(self, pk: int) -> "MessageQuerySet":
        """Those older than the message with this id."""
        return self.filter(id__lt=pk)

    def by_agents(self) -> "MessageQuerySet":
        """Those that agents wrote."""
        return self.filter(author=Author.AGENT)

    def latest_before(self, before: int | None, most: int) -> "list[Message]":
        """The newest `most` messages with ids below `before` (None: of all), oldest first, with agents and files."""
        messages = self.select_related("agent").order_by("-id")
        if before is not None:
            messages = messages.filter(id__lt=before)
        return with_files(list(messages[:most])[::-1])


class Message(models.Model):
    """What somebody wrote. It is never changed afterwards."""

    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="messages")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    author = models.CharField(max_length=3, choices=Author)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    content = models.TextField(max_length=MAX_LENGTH, blank=True)  # never without files
    # How many files came with it, so that they are asked for only where there are any.
    files = models.PositiveSmallIntegerField(default=0, editable=False)
    # The client's own name for it, given before its first try. It proves who sent it, so the other side never sees it.
    client_id = models.UUIDField(null=True, unique=True, editable=False)

    objects = MessageQuerySet.as_manager()

    if TYPE_CHECKING:
        attachments: AttachmentQuerySet
        conversation_id: int
        agent_id: int | None

    class Meta:
        indexes = (models.Index(fields=["conversation", "id"], name="message_order"),)

    def __str__(self) -> str:
        """Who wrote and how it begins."""
        return f"{self.get_author_display()}: {self.content[:60]}"

    @property
    def attached(self) -> "list[Attachment]":
        """The files that came with it."""
        return list(self.attachments.all()) if self.files else []


def with_files(messages: list[Message]) -> list[Message]:
    """The messages, with all their files fetched at once. Costs nothing where there are none."""
    prefetch_related_objects([message for message in messages if message.files], "attachments")
    return messages
