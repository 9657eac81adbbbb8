"""The search index: which words each message, note and customer's name has.

One table for all databases, with one row for each of them, written in the transaction that writes them. Its full-text
index is FTS5 on SQLite, GIN on PostgreSQL and FULLTEXT on MariaDB (migration 0023).

No full-text index gives the newest rows first without reading all that have the word, which takes seconds for a common
word among millions. So each word begins with the window of its row's id, `3d_hello`, and models/search.py looks for it
in the newest window first. It also makes all words long enough for MariaDB, and none a stop word.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from django.db import connection, models
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver

from conversations.models.conversation import Conversation
from conversations.models.desk_entry import DeskEntry, Kind, last_ids
from conversations.models.message import MAX_ID, Message
from conversations.models.prepared import current_connection, prepared_cursor
from conversations.models.search_words import words

if TYPE_CHECKING:
    from conversations.models.attachment import Attachment

WINDOW_BITS = 14
"""A window has 2 ** 14 ids: about as many rows are read at once for a word that every message has."""

WINDOW_BITS_OF_MARIADB = 12
"""It ranks all of them before it gives the first."""

BATCH = 64
"""SQLite: after so many ids, their words are added to the full-text index at once: one by one costs ten times as much.
Until then all of them are read (models/search.py)."""

MOST_WORDS = 2_000
"""Different words of one row that are found."""

LONGEST_ASCII = 72
"""Characters of a word as MariaDB has it: it leaves out words of more than 84 with the window."""


def window_bits() -> int:
    """How many bits of an id are not the number of its window, in this database."""
    return WINDOW_BITS_OF_MARIADB if connection.vendor == "mysql" else WINDOW_BITS


def prefix_of(pk: int) -> str:
    """The window of a row, as its words begin with it."""
    return f"{pk >> window_bits():x}_" if pk >= 0 else f"n{-pk >> window_bits():x}_"


def stored(word: str) -> str:
    """A word as this database has it. MariaDB's parser knows letters and digits only, so it gets ASCII."""
    if word.isascii() or connection.vendor != "mysql":
        return word
    return "".join(char if char.isascii() else f"_{ord(char):05x}" for char in word)[:LONGEST_ASCII]


def different_words(*texts: str) -> list[str]:
    """The words of some texts, each once, as this database has them."""
    found = dict.fromkeys(word.text for text in texts for word in words(text))
    return [stored(word) for word in found][:MOST_WORDS]


class SearchableQuerySet(models.QuerySet["Searchable"]):
    """The queries that write to the index. models/search.py reads it."""

    def add(self, pk: int, conversation_id: int, *texts: str) -> None:
        """Add what is new, in the transaction that has written it."""
        if found := different_words(*texts):
            prefix = prefix_of(pk)
            with prepared_cursor() as cursor:
                cursor.execute(INSERT, [pk, conversation_id, " ".join(prefix + word for word in found)])
        if pk % BATCH == 0:
            index_pending(pk)

    def add_message(self, message: Message, files: "Iterable[Attachment]" = ()) -> None:
        """Add a message that was written in this transaction."""
        self.add(message.pk, message.conversation_id, message.content, *(file.name for file in files))

    def add_all(self, messages: Sequence[Message]) -> None:
        """Add messages that were written in this transaction."""
        rows = [_row(each.pk, each.conversation_id, _texts(each)) for each in messages]
        self.bulk_create([row for row in rows if row.words])
        if batch := max((each.pk for each in messages if each.pk % BATCH == 0), default=None):
            index_pending(batch)

    def put_names(self, conversation: Conversation) -> None:
        """Replace the name and the e-mail address of a conversation's customer, in the transaction that saves them."""
        self.forget([-conversation.pk])
        self.add(-conversation.pk, conversation.pk, conversation.customer_name, conversation.customer_email)

    def forget(self, pks: Collection[int]) -> None:
        """Delete the words of messages and notes, in the transaction that erases them."""
        found = self.filter(pk__in=pks)
        found._raw_delete(found.db)  # nothing belongs to them, and Django need not look

    def make_anew(self, messages: Sequence[Message], notes: Sequence[DeskEntry], lowest: int, highest: int) -> None:
        """Replace what the index has of these messages and notes: all of those with ids from `lowest` to `highest`.

        Call it in a transaction that has locked their rows. What the index has of others is deleted.
        """
        self.forget([row.pk for row in (*messages, *notes)])
        gone = self.filter(pk__gte=lowest, pk__lte=highest)
        for kept in (Message.objects.all(), DeskEntry.objects.filter(kind=Kind.NOTE)):
            gone = gone.exclude(models.Exists(kept.filter(pk=models.OuterRef("pk"))))
        gone._raw_delete(gone.db)
        rows = [_row(each.pk, each.conversation_id, _texts(each)) for each in messages]
        rows += [_row(each.pk, each.conversation_id, [each.content]) for each in notes]
        self.bulk_create([row for row in rows if row.words], ignore_conflicts=True)

    def make_names_anew(self, conversations: Sequence[Conversation]) -> None:
        """Replace what the index has of the names of these conversations, in a transaction that has locked them."""
        self.forget([-each.pk for each in conversations])
        rows = [_row(-each.pk, each.pk, [each.customer_name, each.customer_email]) for each in conversations]
        self.bulk_create([row for row in rows if row.words], ignore_conflicts=True)


class Searchable(models.Model):
    """The words of one message or note, under its id, or of a customer's name, under minus its conversation's id."""

    id = models.BigIntegerField(primary_key=True)
    # No foreign key: deleting a conversation would look for its rows, and for that each message would pay for an index.
    conversation_id = models.BigIntegerField()
    words = models.TextField()

    objects = SearchableQuerySet.as_manager()

    def __str__(self) -> str:
        """The beginning of its words."""
        return self.words[:60]


class SearchState(models.Model):
    """How far the index is. There is one row; none means that all is in it that was written since it exists."""

    # Messages and notes with ids up to this one may be missing, 0: none; and names, up to this conversation.
    missing = models.BigIntegerField(default=0)
    missing_names = models.BigIntegerField(default=0)
    # SQLite: rows with higher ids are not in the full-text index yet.
    indexed = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        """What is missing."""
        return f"missing up to {self.missing}"

    @classmethod
    def now(cls) -> "SearchState":
        """The state."""
        return cls.objects.filter(pk=1).first() or cls(pk=1, indexed=-MAX_ID)

    @classmethod
    def begin_anew(cls) -> None:
        """Note that all that there is now may be missing: actions/reindex.py adds it."""
        last, last_conversation = last_ids()
        index_pending(last)
        cls.objects.get_or_create(pk=1)
        cls.objects.filter(pk=1).update(missing=last, missing_names=last_conversation)

    @property
    def is_complete(self) -> bool:
        """Whether everything is found."""
        return not self.missing and not self.missing_names


INSERT = "INSERT INTO conversations_searchable (id, conversation_id, words) VALUES (%s, %s, %s)"
ADVANCE = "UPDATE conversations_searchstate SET indexed = %s WHERE id = 1 AND indexed < %s"
HAS_STATE = "SELECT 1 FROM conversations_searchstate WHERE id = 1"


def index_pending(pk: int) -> None:
    """SQLite: add all rows up to this id to the full-text index, in a transaction. A trigger does it."""
    if current_connection().vendor != "sqlite":
        return
    with prepared_cursor() as cursor:
        cursor.execute(ADVANCE, [pk, pk])
        if not cursor.rowcount and not cursor.execute(HAS_STATE).fetchone():
            SearchState.objects.create(pk=1, indexed=-MAX_ID)
            cursor.execute(ADVANCE, [pk, pk])


def _row(pk: int, conversation_id: int, texts: Iterable[str]) -> Searchable:
    prefix = prefix_of(pk)
    return Searchable(
        id=pk,
        conversation_id=conversation_id,
        words=" ".join(prefix + word for word in different_words(*texts)),
    )


def _texts(message: Message) -> list[str]:
    return [message.content, *(file.name for file in message.attached)]


@receiver(pre_delete, sender=Conversation)
def _forget_conversation(instance: Conversation, **_more: object) -> None:
    """Delete what the index has of a conversation."""
    for model in (Message, DeskEntry):
        found = model.objects.filter(conversation_id=instance.pk)
        Searchable.objects.forget(list(found.values_list("pk", flat=True)))
    Searchable.objects.forget([-instance.pk])


@receiver(post_delete, sender=Message)
def _forget_message(instance: Message, origin: object = None, **_more: object) -> None:
    """Delete what the index has of a message, unless all of its conversation is deleted."""
    if Message in {type(origin), getattr(origin, "model", None)}:
        Searchable.objects.forget([instance.pk])
