"""What stands between the messages of a conversation on agents' screens only: notes and activities.

They are in a table of their own, so that no query for customers can find one. Their ids come from the sequence of the
messages, under the lock of the conversation, so the cursor of an agent's page is the id of its last row, whatever that
is (models/desk_news.py).
"""

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection, models
from django.utils import timezone
from django.utils.translation import gettext_lazy

from conversations import message_log
from conversations.models.message import MAX_ID, MAX_LENGTH, Author, Message
from conversations.models.prepared import insert, prepared

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from conversations.models.conversation import Conversation


class Kind(models.TextChoices):
    """What it is: a note, or something that happened."""

    NOTE = "note", gettext_lazy("note")
    ASSIGNED = "assigned", gettext_lazy("assigned")
    UNASSIGNED = "unassigned", gettext_lazy("unassigned")
    CLOSED = "closed", gettext_lazy("closed")
    REOPENED = "reopened", gettext_lazy("reopened")
    LABELLED = "labelled", gettext_lazy("labelled")
    UNLABELLED = "unlabelled", gettext_lazy("unlabelled")
    PRIORITIZED = "prioritized", gettext_lazy("prioritized")
    SNOOZED = "snoozed", gettext_lazy("snoozed")
    UNSNOOZED = "unsnoozed", gettext_lazy("no longer snoozed")
    CORRECTED = "corrected", gettext_lazy("corrected")


class DeskEntryQuerySet(models.QuerySet["DeskEntry"]):
    """The queries on notes and activities."""

    def newest(self, conversation_id: int, most: int, before: int) -> "list[DeskEntry]":
        """The newest `most` of a conversation with ids below `before`, oldest first."""

        def build() -> "DeskEntryQuerySet":
            found = self.filter(conversation_id=-1, id__lt=-2)
            return found.select_related("agent__profile", "about").order_by("-id")[:most]

        return prepared(self, ("newest desk entries", most), build, {-1: conversation_id, -2: before})[::-1]

    def between(self, conversation_id: int, lowest: int, highest: int, most: int) -> "list[DeskEntry]":
        """The oldest `most` of a conversation with ids from `lowest` to `highest`, oldest first."""

        def build() -> "DeskEntryQuerySet":
            found = self.filter(conversation_id=-1, id__gte=-2, id__lte=-3)
            return found.select_related("agent__profile", "about").order_by("id")[:most]

        return prepared(self, ("desk entries", most), build, {-1: conversation_id, -2: lowest, -3: highest})

    def note(self, conversation_id: int, pk: int) -> "DeskEntry | None":
        """The note with this id, if it is in this conversation, with its agent; or None."""
        found = self.filter(conversation_id=conversation_id, pk=min(pk, MAX_ID), kind=Kind.NOTE)
        return found.select_related("agent").first()

    def by_client_id(self, client_id: uuid.UUID | None) -> "DeskEntry | None":
        """The note with this client_id and its conversation; or None."""
        return self.select_related("conversation").filter(client_id=client_id).first() if client_id else None

    def add(
        self,
        conversation: "Conversation",
        kind: Kind,
        agent: "User | None",
        *,
        about: "User | None" = None,
        content: str = "",
        is_formatted: bool | None = None,
        client_id: uuid.UUID | None = None,
        mentions: str | None = None,
    ) -> "DeskEntry":
        """Add one to a conversation, which is locked. The caller saves its `last_entry_id`.

        Raises redis.RedisError with the message log, which gives the ids.
        """
        entry = DeskEntry(
            id=next_id(conversation.pk),
            conversation=conversation,
            kind=kind,
            agent=agent,
            about=about,
            content=content,
            is_formatted=is_formatted,
            client_id=client_id,
            mentions=mentions,
        )
        entry.save(force_insert=True)
        conversation.last_entry_id = entry.pk
        if kind == Kind.NOTE:
            from conversations.models.searchable import Searchable

            Searchable.objects.add(entry.pk, conversation.pk, content)
        return entry


class DeskEntry(models.Model):
    """A note, or something that happened."""

    id = models.BigIntegerField(primary_key=True)
    # Its index is `desk_entry_order`.
    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="desk_entries", db_index=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    kind = models.CharField(max_length=12, choices=Kind)
    # Who wrote it or did it; None for what happened by itself, or if the user was deleted.
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    # To whom something was assigned, for example.
    about = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    # The text of a note, the name of a label, a priority or nothing, until when it is snoozed (ISO 8601), or
    # what of the customer was corrected: "name", "email" or "name email".
    content = models.TextField(max_length=MAX_LENGTH, blank=True)
    # Whether the text of a note is Markdown, as in Message.
    is_formatted = models.BooleanField(null=True, editable=False)
    client_id = models.UUIDField(null=True, unique=True, editable=False)
    # Whom a note mentions: models/mention.py `read_names`.
    mentions = models.TextField(null=True, editable=False)  # noqa: DJ001 (adding it copies no table)

    objects = DeskEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "desk entries"
        indexes = (models.Index(fields=["conversation", "id"], name="desk_entry_order"),)

    if TYPE_CHECKING:
        conversation_id: int
        agent_id: int | None
        about_id: int | None

    def __str__(self) -> str:
        """The kind and the beginning of the text."""
        return f"{self.get_kind_display()}: {self.content[:60]}"


def next_id(conversation_id: int) -> int:
    """An id of the messages' sequence for an entry of this conversation, in a transaction that has locked it.

    Every database takes it as an inserted row takes it, and never gives it again, although the row is deleted at once.
    Raises redis.RedisError with the message log.
    """
    if settings.MESSAGE_LOG:
        try:
            return message_log.next_id()
        except message_log.NotReady:
            prepare_log()
            return message_log.next_id()
    row = Message(conversation_id=conversation_id, author=Author.AGENT, content="")
    insert(row)
    found = Message.objects.filter(pk=row.pk)
    found._raw_delete(found.db)  # nothing belongs to it
    return row.pk


GIVEN = {
    "postgresql": "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {table}_id_seq",
    "sqlite": "SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
    "mysql": "SELECT auto_increment - 1 FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name = '{table}'",
}
"""The last id that SQL has given by itself, or is to begin above: after a restore that is far above all rows."""


def prepare_log() -> None:
    """Let the log give ids above those that SQL has. While SQL is away, its own counters must do.

    Raises redis.RedisError, and the database's error if Redis has no counters either.
    """
    from conversations.models.conversation import AWAY

    try:
        given = given_ids()
    except AWAY:
        if not message_log.prepare_without_sql():
            raise
    else:
        message_log.prepare(*given)


def given_ids() -> tuple[int, int]:
    """The highest id that any message, note or activity has or has had, and any conversation; 0 for none."""
    from conversations.models.conversation import Conversation

    given = []
    with connection.cursor() as cursor:
        for model in (Message, Conversation):
            cursor.execute(GIVEN[connection.vendor].format(table=model._meta.db_table))
            given.append((cursor.fetchone() or (0,))[0] or 0)
    last_message, last_conversation = last_ids()
    return max(last_message, given[0]), max(last_conversation, given[1])


def last_ids() -> tuple[int, int]:
    """The highest id of any message, note or activity, and of any conversation; 0 for none."""
    from conversations.models.conversation import Conversation

    last_entry = DeskEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return max(Message.objects.last_id(), last_entry), Conversation.objects.first_and_last_id()[1]
