"""A conversation between a customer and the agents."""

import uuid
from datetime import datetime, timedelta
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, models
from django.db.models import F, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce, Concat, Greatest, Trim
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations.models.prepared import prepared

if TYPE_CHECKING:
    from conversations.models.agent import Agent
    from conversations.models.message import MessageQuerySet
    from conversations.models.website import Website

LAST_LINE = 120
"""Characters of the last message that the inbox shows."""

LISTED = (
    "website",
    "status",
    "customer_name",
    "customer_email",
    "assignee",
    "last_message_id",
    "last_message_at",
    "last_line",
    "last_author",
)
"""The columns that the inbox shows."""


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """How conversations are found."""

    def by_uuid(self, name: str | uuid.UUID | None) -> "Conversation | None":
        """The conversation of a uuid, with dashes or without, or None for one that is unknown or malformed."""
        key = as_uuid(name)
        if key is None:
            return None
        mark = uuid.UUID(int=0)
        written = Conversation._meta.get_field("uuid").get_db_prep_value
        values = {written(mark, connection): written(key, connection)}
        return next(iter(prepared(self, "conversation by uuid", lambda: self.filter(uuid=mark), values)), None)

    def by_id(self, pk: int) -> "Conversation | None":
        """The conversation of a number, or None."""
        if pk >= 2**63:  # more than a database counts
            return None
        return next(iter(prepared(self, "by id", lambda: self.filter(pk=-1), {-1: pk})), None)

    def lock(self, pk: int) -> "Conversation":
        """Get a conversation and hold its row until the transaction ends.

        Whoever writes in a conversation holds its row, so that inside one conversation ids are given in the order of
        commits and `?since=` skips nothing. SQLite has no row locks: there the transaction holds the whole file.
        """
        locked = self.select_for_update() if connection.features.has_select_for_update else self
        return next(iter(prepared(self, "lock", lambda: locked.filter(pk=-1), {-1: pk})))

    def open(self) -> "ConversationQuerySet":
        """Those that are not closed."""
        return self.filter(status=Conversation.Status.OPEN)

    def closed(self) -> "ConversationQuerySet":
        """Those that are closed."""
        return self.filter(status=Conversation.Status.CLOSED)

    def unassigned(self) -> "ConversationQuerySet":
        """Those that nobody has taken."""
        return self.filter(assignee=None)

    def taken(self) -> "ConversationQuerySet":
        """Those that somebody has taken."""
        return self.exclude(assignee=None)

    def assigned_to(self, agent: "Agent") -> "ConversationQuerySet":
        """Those that the agent has taken."""
        return self.filter(assignee_id=agent.pk)

    def of(self, website: "Website") -> "ConversationQuerySet":
        """Those of a website."""
        return self.filter(website=website)

    def on(self, key: str) -> "ConversationQuerySet":
        """Those of the website with this key."""
        return self.filter(website__key=key)

    def inactive_since(self, moment: datetime) -> "ConversationQuerySet":
        """Those in which nothing has been written since then."""
        return self.filter(last_message_at__lt=moment)

    def usual_wait(self, least: int, most: int) -> int | None:
        """Seconds of office hours until the first answer, in the middle one of the newest `most` that have any.

        None if there are fewer than `least`, which would say little.
        """
        answered = self.exclude(first_answer_after=None).newest_first().values_list("first_answer_after", flat=True)
        waits = sorted(wait for wait in answered[:most] if wait is not None)
        return waits[len(waits) // 2] if len(waits) >= least else None

    def newest_first(self) -> "ConversationQuerySet":
        """By their last message, the newest first. An index serves it however many there are."""
        return self.order_by("-last_message_id")

    def newest_started_first(self) -> "ConversationQuerySet":
        """By when they began: an order in which paging with offsets does not shift while people write."""
        return self.select_related("website").order_by("-id")

    def last_message_id(self) -> int:
        """The id of the newest message in any of them, 0 where there is none."""
        newest = self.newest_first().values_list("last_message_id", flat=True).first()
        return newest or 0

    def inbox(
        self,
        agent: "Agent",
        status: str,
        assignee: int | EllipsisType | None,
        most: int,
        website_id: int | None = None,
    ) -> "list[Conversation]":
        """The newest `most` of this status, as `with_unread` and with the assignee's name, for an agent's list.

        `assignee` is an agent's id, None for those that nobody has taken, or ... for all; `website_id` None is all too.
        """

        def build() -> "ConversationQuerySet":
            found = self.filter(status="?").newest_first().with_unread(-1).with_assignee()
            if assignee is not ...:
                found = found.filter(assignee=None if assignee is None else -2)
            if website_id is not None:
                found = found.filter(website_id=-3)
            return found[:most]

        whose = "all" if assignee is ... else "nobody" if assignee is None else "one"
        key = ("inbox", most, whose, website_id is not None)
        return list(prepared(self, key, build, {"?": status, -1: agent.pk, -2: assignee, -3: website_id}))

    def with_assignee(self) -> "ConversationQuerySet":
        """Annotate the names of those who have taken them, and leave out the columns that a list does not show."""
        full_name = Concat("assignee__first_name", Value(" "), "assignee__last_name")
        return self.only(*LISTED).annotate(
            assignee_name=Trim(Coalesce(full_name, Value(""))), assignee_username=F("assignee__username")
        )

    def with_unread(self, agent_id: int) -> "ConversationQuerySet":
        """Annotate `unread`: how many messages of the customer neither the agent has read nor anybody answered.

        It is the difference of two counters, so it costs the same in a conversation of three messages and of 30,000.
        """
        from conversations.models.reading import Reading

        mine = Reading.objects.filter(conversation=OuterRef("pk"), agent_id=agent_id).values("customer_messages")
        settled = Greatest(F("answered_messages"), Coalesce(Subquery(mine), Value(0)))
        return self.annotate(unread=F("customer_messages") - settled)


class Conversation(models.Model):
    """One customer's chat. Its uuid is a secret that only the customer holds: knowing it is being the customer."""

    class Status(models.TextChoices):
        OPEN = "OPEN", gettext_lazy("open")
        CLOSED = "CLOSED", gettext_lazy("closed")

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    website = models.ForeignKey("Website", models.PROTECT, related_name="conversations")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    status = models.CharField(max_length=6, choices=Status, default=Status.OPEN)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="conversations"
    )
    # The same person as the website's own server knows them, if it vouches for them.
    contact = models.ForeignKey("Contact", models.SET_NULL, null=True, blank=True, related_name="conversations")
    customer_name = models.CharField(max_length=80, blank=True)
    customer_email = models.EmailField(blank=True)
    assignee = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    # What the inbox shows of the last message, noted when it is posted so that a list of 50 is one query of one table.
    last_message_id = models.BigIntegerField(default=0, editable=False)
    last_message_at = models.DateTimeField(default=timezone.now, editable=False)
    last_line = models.CharField(max_length=LAST_LINE, blank=True, editable=False)
    last_author = models.CharField(max_length=3, blank=True, editable=False)
    # How many messages the customer has written, and how many of them had been when an agent last answered.
    customer_messages = models.PositiveIntegerField(default=0, editable=False)
    answered_messages = models.PositiveIntegerField(default=0, editable=False)
    # Seconds of office hours until the first answer, or None while there is none, and where it all was outside of them.
    first_answer_after = models.PositiveIntegerField(null=True, editable=False)

    objects = ConversationQuerySet.as_manager()

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
        )

    def __str__(self) -> str:
        """The customer's name, or a number where they gave none."""
        # Translators: the number must stand last, apart.
        return self.customer_name or self.customer_email or _("Visitor %(number)s") % {"number": self.pk}

    @property
    def is_open(self) -> bool:
        """Whether it is not closed."""
        return self.status == self.Status.OPEN

    @property
    def is_verified(self) -> bool:
        """Whether the website's own server vouches for the customer. What they say of themselves proves nothing."""
        return self.contact_id is not None

    @property
    def state(self) -> str:
        """Everything about it that an agent's page shows above the messages, in a word, to see whether it changed."""
        return f"{self.status} {self.assignee_id or ''}"

    def earlier(self, most: int = 20) -> "list[Conversation]":
        """Other conversations of the same verified customer, the newest first."""
        if self.contact_id is None:
            return []
        others = Conversation.objects.filter(contact_id=self.contact_id).exclude(pk=self.pk)
        return list(others.newest_first()[:most])

    @property
    def is_waiting(self) -> bool:
        """Whether the customer wrote last and it is open."""
        return self.is_open and self.last_author == "CUS"

    @property
    def urgency(self) -> str:
        """Whether the customer has been waiting for long: "" (no), "soon" (over 5 minutes) or "late" (over 30)."""
        if not self.is_waiting:
            return ""
        waited = timezone.now() - self.last_message_at
        return "late" if waited > timedelta(minutes=30) else "soon" if waited > timedelta(minutes=5) else ""


def as_uuid(name: Any) -> uuid.UUID | None:
    """The uuid that `name` spells, with dashes or without, or None."""
    try:
        return name if isinstance(name, uuid.UUID) else uuid.UUID(name)
    except (TypeError, ValueError, AttributeError):
        return None
