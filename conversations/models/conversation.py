"""A conversation between a customer and the agents."""

import hashlib
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection, models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Concat, Greatest, Lower, Trim
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from redis import RedisError

from conversations import message_log
from conversations.models.formatted import plain
from conversations.models.leads import best_leads
from conversations.models.prepared import (
    FoundRows,
    Raw,
    bounded_counts,
    current_connection,
    prepared,
    prepared_rows,
    update,
)
from conversations.models.remembered import CONTENT, SECRET, memory
from conversations.models.view import AGENT, LAST, MOMENT, Cursor, View

if TYPE_CHECKING:
    from conversations.models.agent import Agent
    from conversations.models.message import Message, MessageQuerySet
    from conversations.models.website import Website

AWAY = (OperationalError, InterfaceError, InternalError)
"""What the database raises while it is away, is full, or accepts no writes."""

LAST_LINE_LENGTH = 120
"""How many characters of the last message the inbox shows."""

SOON, LATE = timedelta(minutes=5), timedelta(minutes=30)
"""A customer who has been waiting longer than that is marked in the inbox."""

MICROSECOND, FOREVER = timedelta(microseconds=1), datetime.max.replace(tzinfo=UTC)

MAX_READ = 200
"""How many rows are read to count a view."""

YES, NO = RawSQL("1", []), RawSQL("0", [])
"""Numbers that are no parameters: where one is only selected, PostgreSQL may take it for text."""

QUOTE = re.compile(r"(?:>[^\n]*\n+)+(?=\S)")
"""A quote at the beginning of a formatted message that goes on after it. The inbox shows what goes on."""

CHANGED_BY_MESSAGE = (
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
    "waiting_since",
    "snoozed_until",
)
"""The columns of a conversation that a message changes, besides `last_message_id`."""


def _settle_unknown(uuids: Collection[uuid.UUID]) -> bool:
    from conversations.models.settling import settle_unknown

    return settle_unknown(uuids)


def _known_by_log(number: int | None = None, uuid: uuid.UUID | None = None) -> "Conversation | None":
    from conversations.models.settling import known_by_log

    found = known_by_log(number, uuid) if settings.MESSAGE_LOG else None
    if found:
        from conversations.models.website import Website

        found.website = Website.objects.by_id(found.website_id)
    return found


def _settle_number(number: int) -> bool:
    from conversations.models.settling import settle_number

    return settle_number(number)


class InboxEntry(NamedTuple):
    """A conversation in an agent's list. Objects of the model would take a fifth of the time of the whole list."""

    pk: int
    website_id: int
    status: str
    customer_name: str
    customer_email: str
    assignee_id: int | None
    assignee_name: str
    assignee_username: str | None
    last_message_id: int
    last_message_at: datetime
    last_line: str
    last_author: str
    priority: int | None
    label_ids: str | None
    snoozed_until: datetime | None
    waiting_since: datetime | None
    unread: int
    is_mentioned: bool  # the agent, and has not read it
    mention_id: int  # the note that has mentioned them last, in the list of mentions; otherwise 0

    def __str__(self) -> str:
        """What the list calls the customer."""
        return name_of_customer(self.customer_name, self.customer_email, self.pk)

    @classmethod
    def of(cls, found: FoundRows[tuple[Any, ...]], rows: Iterable[Raw] | None = None) -> "list[InboxEntry]":
        """These of the rows that were found, or all of them."""
        return [cls._make(row) for row in found.converted(rows)]

    def urgency(self, now: datetime) -> str:
        """How long the customer has been waiting: "" (5 minutes at most), "soon" (up to 30) or "late"."""
        was_taken_back = not self.last_line and self.waiting_since
        is_unanswered = self.last_author == "CUS" or was_taken_back
        if self.status != "OPEN" or not is_unanswered:
            return ""
        waited = now - (self.waiting_since or self.last_message_at)
        return "late" if waited > LATE else "soon" if waited > SOON else ""

    def same_until(self, now: datetime) -> datetime:
        """The first moment after `now` at which time alone may change what the list shows of it."""
        since = self.waiting_since or self.last_message_at
        moments = (since + SOON + MICROSECOND, since + LATE + MICROSECOND, self.snoozed_until)
        return min((moment for moment in moments if moment and moment > now), default=FOREVER)


class KnownConversation(NamedTuple):
    """What the customer's sockets need to know of a conversation."""

    pk: int
    website_id: int
    contact_id: int | None
    last_message_id: int


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """The queries on conversations."""

    def by_uuids(self, uuids: Iterable[uuid.UUID]) -> dict[uuid.UUID, KnownConversation]:
        """The conversations with these uuids, by one query."""
        uuids = set(uuids)
        found = self.filter(uuid__in=uuids).values_list("uuid", "pk", "website_id", "contact_id", "last_message_id")
        known = {key: KnownConversation(*values) for key, *values in found}
        unknown = uuids - set(known) if settings.MESSAGE_LOG else set()
        try:
            if unknown and _settle_unknown(unknown):
                known |= {key: KnownConversation(*values) for key, *values in found.filter(uuid__in=unknown)}
        except (*AWAY, RedisError):  # the others are known all the same
            in_log = [found_in_log for key in unknown if (found_in_log := _known_by_log(uuid=key))]
            known |= {
                one.uuid: KnownConversation(one.pk, one.website_id, one.contact_id, one.last_message_id)
                for one in in_log
            }
        if settings.MESSAGE_LOG:
            with suppress(RedisError):
                lasts = message_log.lasts([each.pk for each in known.values()])
                for (key, each), last in zip(list(known.items()), lasts, strict=True):
                    known[key] = each._replace(last_message_id=max(last, each.last_message_id))
        return known

    def by_uuid(self, value: str | uuid.UUID | None, *related: str) -> "Conversation | None":
        """The conversation with a uuid, written with dashes or without; None if it is unknown or malformed.

        The objects of the foreign keys `related` are read by the same query.
        """
        key = parse_uuid(value)
        if key is None:
            return None
        placeholder = uuid.UUID(int=0)
        prepare, database = Conversation._meta.get_field("uuid").get_db_prep_value, current_connection()
        values = {prepare(placeholder, database): prepare(key, database)}

        def build() -> "ConversationQuerySet":
            found = self.filter(uuid=placeholder)
            return found.select_related(*related) if related else found

        try:
            found = prepared(self, ("conversation by uuid", related), build, values, kind=SECRET)
            if settings.MESSAGE_LOG and not found and _settle_unknown([key]):
                found = prepared(self, ("conversation by uuid", related), build, values, kind=SECRET)
        except AWAY:
            if found_in_log := _known_by_log(uuid=key):
                return found_in_log
            raise
        return next(iter(found), None)

    def by_id(self, pk: int, *related: str) -> "Conversation | None":
        """The conversation with this primary key and the objects of these foreign keys, by one query; or None."""
        if pk >= 2**63:  # overflows the databases' integers
            return None

        def build() -> "ConversationQuerySet":
            found = self.filter(pk=-1)
            return found.select_related(*related) if related else found

        try:
            found = prepared(self, ("by id", related), build, {-1: pk}, kind=CONTENT)
            if settings.MESSAGE_LOG and not found and _settle_number(pk):
                found = prepared(self, ("by id", related), build, {-1: pk}, kind=CONTENT)
        except AWAY:
            # Which websites an agent is limited to, only SQL knows.
            found_in_log = None if self.query.where else _known_by_log(number=pk)
            if found_in_log:
                return found_in_log
            raise
        return next(iter(found), None)

    def lock(self, pk: int, secret: uuid.UUID | None = None) -> "Conversation":
        """Get a conversation and lock its row until the transaction ends. What the message log has of it is settled.

        `secret` is the uuid that a customer's request has sent. Raises Conversation.DoesNotExist if the conversation
        was deleted, or its uuid was renewed, since the request has read it.

        Everything that writes to a conversation locks its row first. So the ids of its messages are in the order of the
        commits, and `?since=` skips none. SQLite has no row locks: there a transaction locks the whole file.
        """
        found = self._lock_row(pk)
        if settings.MESSAGE_LOG and found is None and _settle_number(pk):
            found = self._lock_row(pk)
        if found is None or (secret and secret != found.uuid):
            raise Conversation.DoesNotExist
        if settings.MESSAGE_LOG:
            from conversations.models.settling import settle_if_possible

            settle_if_possible(found)
        return found

    def _lock_row(self, pk: int) -> "Conversation | None":
        def build() -> "ConversationQuerySet":
            locked = self.select_for_update() if connection.features.has_select_for_update else self
            return locked.filter(pk=-1)

        return next(iter(prepared(self, "lock", build, {-1: pk})), None)

    def lock_all(self, pks: Collection[int]) -> "list[Conversation]":
        """Lock the rows of these conversations, in the order of their ids, until the transaction ends."""
        locked = self.select_for_update() if connection.features.has_select_for_update else self
        return list(locked.filter(pk__in=pks).order_by("pk"))

    def open(self) -> "ConversationQuerySet":
        """The open conversations."""
        return self.filter(status=Conversation.Status.OPEN)

    def closed(self) -> "ConversationQuerySet":
        """The closed conversations."""
        return self.filter(status=Conversation.Status.CLOSED)

    def unassigned(self) -> "ConversationQuerySet":
        """The conversations without an assignee."""
        return self.filter(assignee=None)

    def assigned(self) -> "ConversationQuerySet":
        """The conversations with an assignee."""
        return self.exclude(assignee=None)

    def assigned_to(self, agent: "Agent") -> "ConversationQuerySet":
        """The conversations that are assigned to the agent."""
        return self.filter(assignee_id=agent.pk)

    def of(self, website: "Website") -> "ConversationQuerySet":
        """The conversations of a website."""
        return self.filter(website=website)

    def on_website(self, key: str) -> "ConversationQuerySet":
        """The conversations of the website with this key."""
        return self.filter(website__key=key)

    def labelled_as(self, name: str) -> "ConversationQuerySet":
        """The conversations with the label of this name, in upper or lower case."""
        from conversations.models.label import fold

        return self.filter(labelled__label__folded=fold(name))

    def snoozed(self, *, is_snoozed: bool) -> "ConversationQuerySet":
        """The conversations that are snoozed now, or those that are not."""
        snoozed = Q(status=Conversation.Status.OPEN, snoozed_until__gt=timezone.now())
        return self.filter(snoozed if is_snoozed else ~snoozed)

    def updated_since(self, moment: datetime) -> "ConversationQuerySet":
        """The conversations of which a message, the status, the assignee or the customer changed since this moment."""
        return self.filter(Q(updated_at__gte=moment) | Q(updated_at=None, last_message_at__gte=moment))

    def inactive_since(self, before: Mapping[int, datetime], above: int, most: int) -> list[int]:
        """The ids, above `above` and at most `most`, of those without a message since `before[website_id]`."""
        moments: dict[datetime, list[int]] = {}
        for website_id, moment in before.items():
            moments.setdefault(moment, []).append(website_id)
        expired = Q(pk__in=[])
        for moment, website_ids in moments.items():
            expired |= Q(website__in=website_ids, last_message_at__lt=moment)
        found = self.filter(expired, pk__gt=above, pk__lte=most)
        return list(found.order_by("pk").values_list("pk", flat=True))

    def first_and_last_id(self) -> tuple[int, int]:
        """The ids of the conversations that were started first and last. Without any, the first is higher."""
        ids = self.order_by("pk").values_list("pk", flat=True)
        return ids.first() or 1, ids.last() or 0

    def touch(self) -> None:
        """Note that messages of them have changed: models/replica.py."""
        self.update(updated_at=timezone.now())

    def lock_if_exists(self, pk: int) -> "Conversation | None":
        """As `lock`, but None if the conversation was deleted."""
        with suppress(Conversation.DoesNotExist):
            return self.lock(pk)
        return None

    def median_wait(self, least: int, most: int) -> int | None:
        """The median time to the first answer, in seconds of office hours, of the newest `most` answered conversations.

        None if fewer than `least` conversations have an answer.
        """
        answered = self.exclude(first_answer_after=None).newest_first().values_list("first_answer_after", flat=True)
        waits = sorted(wait for wait in answered[:most] if wait is not None)
        return waits[len(waits) // 2] if len(waits) >= least else None

    def newest_first(self) -> "ConversationQuerySet":
        """Ordered by their last message, the newest first; an index makes this fast for any number of conversations."""
        return self.order_by("-last_message_id")

    def page(
        self, column: str, most: int, *, skip: int = 0, before: int | None = None, after: int | None = None
    ) -> "tuple[list[Conversation], int]":
        """At most `most` conversations with their websites, the highest `column` first, and how many there are.

        column: `id` (their start) or `last_message_id` (their activity).
        before, after: only those with a lower, or a higher, value in this column. Unlike `skip`, this misses none if
            others leave the list meanwhile. With `after`, those with the next higher values.
        """
        found = self.select_related("website")
        if before is not None:
            found = found.filter(**{f"{column}__lt": before})
        if after is not None:
            found = found.filter(**{f"{column}__gt": after})
        rows = found.order_by(f"-{column}" if after is None else column)[skip : skip + most]
        return list(rows if after is None else reversed(rows)), found.count()

    def last_message_id(self) -> int:
        """The id of the newest message in any of them, or 0."""
        newest = self.newest_first().values_list("last_message_id", flat=True).first()
        return newest or 0

    def inbox(self, agent: "Agent", view: View, most: int, after: Cursor | None = None) -> list[InboxEntry]:
        """The first `most` conversations of a view, for an agent's list; those after a row, if it is given."""
        return InboxEntry.of(self.inbox_rows(agent, view, most, after))

    def inbox_rows(
        self, agent: "Agent", view: View, most: int, after: Cursor | None = None
    ) -> FoundRows[tuple[Any, ...]]:
        """The same as rows of the database, in the order of InboxEntry: most of them the caller knows already."""
        [lead] = best_leads([view])
        # PostgreSQL has statistics of all columns.
        served = view.leads if connection.vendor == "postgresql" else [lead]

        def build() -> "models.QuerySet[Conversation, tuple[Any, ...]]":
            condition = view.found_by(served, is_later=after is not None) & view.fitting(served)
            condition &= view.after(served) if after else Q()
            found = self.filter(condition).order_by(*view.ordering(served))
            mention_id = F("mentions__entry_id") if view.mentioned else Value(0)
            annotated = found.with_unread(AGENT).with_assignee().with_mention(AGENT).annotate(mention_id=mention_id)
            return annotated.values_list(*InboxEntry._fields)[:most]

        values = {**view.values, AGENT: agent.pk, LAST: after and after.last}
        if after and after.moment:
            prepare, database = Conversation._meta.get_field("waiting_since").get_db_prep_value, current_connection()
            values[prepare(MOMENT, database)] = prepare(after.moment, database)
        key = ("inbox", most, view.shape, *served, after is not None)
        found = prepared_rows(self, key, build, values, is_planned_once=False, kind=CONTENT)
        if settings.MESSAGE_LOG and memory.away_since is not None:
            found.raw = _without_removed_lines(found.raw)
        return found

    def with_email(self, email: str, most: int) -> "list[Conversation]":
        """The newest `most` conversations with this e-mail address, as customers have said it or agents corrected.

        In upper or lower case: MariaDB compares so anyway. SQLite knows upper and lower case only of A to Z.
        """
        if not email:
            return []

        def build() -> "ConversationQuerySet":
            if not connection.features.supports_expression_indexes:
                return self.filter(customer_email="?").order_by("-id")[:most]
            return self.alias(lower=Lower("customer_email")).filter(lower=Lower(Value("?"))).order_by("-id")[:most]

        found = prepared(self, ("with email", most), build, {"?": email}, kind=CONTENT)
        # Some databases take letters with accents for the same.
        return [each for each in found if each.customer_email.casefold() == email.casefold()]

    def visible_ids(self, pks: Collection[int]) -> list[int]:
        """Which of these conversations are among them, in the order of their ids."""
        return sorted(self.filter(pk__in=pks).values_list("pk", flat=True))

    def counts(self, views: Sequence[View]) -> list[int]:
        """How many conversations each view has, by one query.

        For each, one index finds rows, and at most MAX_READ are read. If there are more, the count is an AtLeast.
        """
        leads = dict(zip(views, best_leads(views), strict=True))

        def build(view: View) -> "models.QuerySet[Conversation, tuple[int]]":
            lead = leads[view]
            fits = view.fitting([lead])
            if self.query.where:  # here, because it may drop nearly all rows that the index finds
                fits &= Q(Exists(self.filter(pk=OuterRef("pk"))))
            each = Case(When(fits, then=YES), default=NO) if fits else YES
            scanned = Conversation.objects.filter(view.found_by([lead])).order_by(*view.scanning(lead))
            return scanned.annotate(fits=each).values_list("fits")[: MAX_READ + 1]

        asked = [(("count", MAX_READ, view.shape, leads[view]), partial(build, view), view.values) for view in views]
        return bounded_counts(self, asked, MAX_READ, kind=CONTENT)

    def with_assignee(self) -> "ConversationQuerySet":
        """Annotate the assignee's names."""
        full_name = Concat("assignee__first_name", Value(" "), "assignee__last_name")
        return self.annotate(
            assignee_name=Trim(Coalesce(full_name, Value(""))), assignee_username=F("assignee__username")
        )

    def with_mention(self, agent_id: int) -> "ConversationQuerySet":
        """Annotate `is_mentioned`: whether a note mentions the agent that they have not read."""
        from conversations.models.mention import Mention

        found = Mention.objects.filter(conversation=OuterRef("pk"), agent_id=agent_id, unread=True)
        return self.annotate(is_mentioned=Exists(found))

    def with_unread(self, agent_id: int) -> "ConversationQuerySet":
        """Annotate `unread`: the customer's messages that the agent has not read and no agent has answered.

        It is a difference of two counters, so its cost does not depend on the length of the conversation.
        """
        from conversations.models.reading import Reading

        read = Reading.objects.filter(conversation=OuterRef("pk"), agent_id=agent_id).values("customer_messages")
        handled = Greatest(F("answered_messages"), Coalesce(Subquery(read), Value(0)))
        return self.annotate(unread=F("customer_messages") - handled)


class Conversation(models.Model):
    """One customer's chat. Its uuid is the customer's secret: everybody who knows it can act as the customer."""

    class Status(models.TextChoices):
        OPEN = "OPEN", gettext_lazy("open")
        CLOSED = "CLOSED", gettext_lazy("closed")

    class Priority(models.IntegerChoices):
        LOW = 1, pgettext_lazy("priority", "low")
        MEDIUM = 2, pgettext_lazy("priority", "medium")
        HIGH = 3, pgettext_lazy("priority", "high")
        URGENT = 4, pgettext_lazy("priority", "urgent")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # db_index=False: an index of Meta begins with the same column, and each index makes every message dearer.
    website = models.ForeignKey("Website", models.PROTECT, related_name="conversations", db_index=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    status = models.CharField(max_length=6, choices=Status, default=Status.OPEN)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="conversations"
    )
    # Set if the website's server has proven who the customer is.
    contact = models.ForeignKey(
        "Contact", models.SET_NULL, null=True, blank=True, related_name="conversations", db_index=False
    )
    customer_name = models.CharField(max_length=80, blank=True)
    customer_email = models.EmailField(blank=True)
    assignee = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    # Denormalized from the last message, so that the inbox reads 50 rows of one table.
    last_message_id = models.BigIntegerField(default=0, editable=False)
    last_message_at = models.DateTimeField(default=timezone.now, editable=False)
    last_line = models.CharField(max_length=LAST_LINE_LENGTH, blank=True, editable=False)
    last_author = models.CharField(max_length=3, blank=True, editable=False)
    # How many messages the customer has written, and how many of them before the last answer of an agent.
    customer_messages = models.PositiveIntegerField(default=0, editable=False)
    answered_messages = models.PositiveIntegerField(default=0, editable=False)
    # Seconds of office hours until the first answer; None without an answer, or if all of it was outside office hours.
    first_answer_after = models.PositiveIntegerField(null=True, editable=False)
    # The id of the newest note or activity, which only agents see (models/desk_entry.py); None without any.
    last_entry_id = models.BigIntegerField(null=True, editable=False)
    # When a message, the status, the assignee or the customer changed last; None until then in earlier conversations.
    updated_at = models.DateTimeField(null=True, editable=False)
    # Its last message, if the other side has seen it, and since when; only where the website shows receipts.
    seen_id = models.BigIntegerField(null=True, editable=False)
    seen_at = models.DateTimeField(null=True, editable=False)
    # What an agent has corrected: "name", "email" or "name email". What the customer says later does not replace it.
    corrected = models.CharField(max_length=10, null=True, editable=False)  # noqa: DJ001 (adding it copies no table)
    # Since when the customer waits for an answer: their first message that nobody has answered, or None.
    waiting_since = models.DateTimeField(null=True, editable=False)
    # Until then it is not among the open ones. It comes back because lists compare this with the time.
    snoozed_until = models.DateTimeField(null=True, editable=False)
    priority = models.SmallIntegerField(choices=Priority, null=True, editable=False)  # NULL: none
    # The ids of its labels, by name, with spaces between. Some may have been deleted.
    label_ids = models.CharField(max_length=500, null=True, editable=False)  # noqa: DJ001 (adding it copies no table)

    objects = ConversationQuerySet.as_manager()

    remembered_in = ""
    """In which run of Redis it was read for an earlier message, if it was: see models/recipients.py."""

    has_new_header = False
    """Whether settling has just changed its status, or the customer's name or e-mail address."""

    if TYPE_CHECKING:
        messages: MessageQuerySet
        website_id: int
        contact_id: int | None

    class Meta:
        indexes = (
            models.Index(fields=["-last_message_id"], name="newest"),
            models.Index(fields=["status", "-last_message_id"], name="inbox_all"),
            models.Index(fields=["website", "status", "-last_message_id"], name="inbox_website"),
            models.Index(fields=["contact", "-last_message_id"], name="contact_newest"),
            models.Index(fields=["status", "assignee", "-last_message_id"], name="inbox_assignee"),
            models.Index(fields=["updated_at"], name="conversation_updated"),
            models.Index(fields=["customer_email", "-id"], name="conversation_email"),  # for MariaDB
            models.Index(Lower("customer_email"), F("id").desc(), name="conversation_email_any_case"),  # for the others
            models.Index(fields=["status", "waiting_since", "id"], name="inbox_waiting"),
            models.Index(fields=["status", "assignee", "waiting_since", "id"], name="inbox_assignee_waiting"),
            models.Index(fields=["snoozed_until", "id"], name="inbox_snoozed"),
            models.Index(fields=["priority", "status", "-last_message_id"], name="inbox_priority"),
        )

    def __str__(self) -> str:
        """The customer's name or e-mail address, or a number if they gave neither."""
        return name_of_customer(self.customer_name, self.customer_email, self.pk)

    def save_changes(self, *names: str) -> None:
        """Save these fields and `updated_at`."""
        self.updated_at = timezone.now()
        self.save(update_fields=[*names, "updated_at"])
        if "status" in names:
            self.update_label_rows()
        if "customer_name" in names or "customer_email" in names:
            from conversations.models.searchable import Searchable

            Searchable.objects.put_names(self)

    def update_label_rows(self) -> None:
        """Let the lists of its labels know its status and its last message, after one of them was saved."""
        from conversations.models.label import ConversationLabel

        if self.label_ids:
            ConversationLabel.objects.follow([self])

    def take_in(self, message: "Message", name: str, email: str, files: Sequence[str] = ()) -> None:
        """Set the fields CHANGED_BY_MESSAGE for a message that is written now.

        name, email: what the customer has said with it. files: the names of its attachments.
        """
        self.last_message_at = self.updated_at = message.created_at
        line = message.content or "📎 " + ", ".join(files)
        if message.is_formatted:
            line = plain(line[found.end() :] if (found := QUOTE.match(line)) else line)
        self.last_line = " ".join(line[: 4 * LAST_LINE_LENGTH].split())[:LAST_LINE_LENGTH]
        self.last_author = message.author
        if message.author == "AGE":
            if self.customer_messages and not self.answered_messages:
                from conversations.models.website import Website

                hours = Website.objects.by_id(self.website_id).hours
                self.first_answer_after = hours.waiting_time(self.created_at, message.created_at)
            self.answered_messages = self.customer_messages
            self.waiting_since = None
            if not self.is_snoozed:
                self.snoozed_until = None
        else:
            if contact := self.contact:  # what is proven is not replaced by what the customer says
                name, email = contact.name or name, contact.email or email
            name = "" if "name" in self.corrections else name  # nor is what an agent has corrected
            email = "" if "email" in self.corrections else email
            if not self.is_open or self.waiting_since is None:
                self.waiting_since = message.created_at
            self.snoozed_until = None
            self.customer_messages += 1
            self.status = self.Status.OPEN
            self.customer_name = name or self.customer_name
            self.customer_email = email or self.customer_email

    @property
    def corrections(self) -> list[str]:
        """Which of `name` and `email` an agent has corrected."""
        return (self.corrected or "").split()

    @property
    def names(self) -> tuple[str, str]:
        """What the customer is called: their name and e-mail address."""
        return self.customer_name, self.customer_email

    @property
    def shows_receipts(self) -> bool:
        """Whether each side sees when the other one has seen its last message."""
        if "website" in self._state.fields_cache:
            return self.website.receipts
        from conversations.models.website import Website

        return Website.objects.by_id(self.website_id).receipts

    def may_be_seen(self, author: str) -> bool:
        """Whether the last message is of this side, and the other one has not seen it yet."""
        return self.last_author == author and not self.is_seen

    def see(self) -> None:
        """Save that the other side has seen the last message, now. The conversation is locked."""
        self.seen_id, self.seen_at = self.last_message_id, timezone.now()
        update(self, "seen_id", "seen_at")

    @property
    def is_seen(self) -> bool:
        """Whether the other side has seen the last message, where the website shows receipts."""
        return self.seen_id is not None and self.seen_id == self.last_message_id

    def receipt(self, author: str) -> datetime | None:
        """When the last message was seen, if it is of this side and the website shows receipts."""
        return self.seen_at if self.is_seen and self.last_author == author and self.shows_receipts else None

    @property
    def secret_digest(self) -> str:
        """A hash of the uuid. A signature that contains it becomes invalid when the uuid is renewed."""
        return hashlib.sha256(self.uuid.bytes).hexdigest()

    @property
    def is_remembered(self) -> bool:
        """Whether it was read for an earlier message."""
        return bool(self.remembered_in)

    @property
    def is_open(self) -> bool:
        """Whether its status is open."""
        return self.status == self.Status.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether its status is closed. While SQL is away, a conversation may be neither: nobody knows."""
        return self.status == self.Status.CLOSED

    @property
    def is_verified(self) -> bool:
        """Whether the website's server has proven who the customer is."""
        return self.contact_id is not None

    @property
    def state(self) -> str:
        """A string that changes whenever the header of an agent's page must be redrawn."""
        rest = (self.priority, self.label_ids or None, self.snoozed_until)
        return f"{self.status} {self.assignee_id or ''}" + (f" {crc32(repr(rest).encode()):x}" if any(rest) else "")

    @property
    def is_snoozed(self) -> bool:
        """Whether it is not among the open ones until a later moment."""
        return self.is_open and self.snoozed_until is not None and self.snoozed_until > timezone.now()

    @property
    def labels(self) -> list[int]:
        """The ids of its labels. Some may have been deleted."""
        return [int(label_id) for label_id in (self.label_ids or "").split()]

    def earlier(self, most: int = 20) -> "list[Conversation]":
        """Other conversations of the same verified customer, the newest first."""
        if self.contact_id is None:
            return []
        others = Conversation.objects.filter(contact_id=self.contact_id).exclude(pk=self.pk)
        return list(others.newest_first()[:most])


def _without_removed_lines(rows: list[Raw]) -> list[Raw]:
    """These rows, which were read before the database went away, without what was taken back after that.

    Raises redis.RedisError: without the log nobody can say what was.
    """
    entries = [InboxEntry._make(row) for row in rows]
    removals = message_log.removals([entry.pk for entry in entries])
    return [
        entry._replace(last_line="") if removal > entry.last_message_id else entry
        for entry, removal in zip(entries, removals, strict=True)
    ]


def name_of_customer(name: str, email: str, pk: int) -> str:
    """What agents call a conversation's customer: by their name or e-mail address, or a number if they gave neither."""
    # Translators: the number must stand last, apart.
    return name or email or _("Visitor %(number)s") % {"number": pk}


def identified_uuid(secret: uuid.UUID) -> uuid.UUID:
    """The uuid that an anonymous conversation gets when its customer is identified.

    It is derived with the SECRET_KEY, so the old uuid alone does not reveal it. But a customer who missed the response
    with the new one can still be recognized, by the old one and their proof.
    """
    digest = salted_hmac("conversations.identified", secret.bytes, algorithm="sha256").digest()
    return uuid.UUID(bytes=digest[:16], version=4)


def parse_uuid(value: Any) -> uuid.UUID | None:
    """A uuid from its text, with dashes or without, or None if the text is not a uuid."""
    try:
        return value if isinstance(value, uuid.UUID) else uuid.UUID(value)
    except (TypeError, ValueError, AttributeError):
        return None


@receiver(pre_delete, sender=Conversation)
def _fence_in_log(instance: Conversation, **_more: Any) -> None:
    """Let nobody write to it in the message log any more. Raises redis.RedisError: then it is not deleted."""
    if settings.MESSAGE_LOG:
        message_log.fence(instance.pk)


@receiver(post_delete, sender=Conversation)
def _forget_in_log(instance: Conversation, **_more: Any) -> None:
    """Delete it in the message log too, however it is deleted: by `serve`, or in the admin."""
    if settings.MESSAGE_LOG:
        pk, last = instance.pk, instance.last_message_id
        transaction.on_commit(lambda: message_log.forget(pk, last), robust=True)
