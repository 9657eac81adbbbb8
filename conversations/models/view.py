"""Views: which conversations a list shows, and in which order. Agents save some of them under a name."""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import and_
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from django.conf import settings
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import Exact, GreaterThan, GreaterThanOrEqual
from django.utils.translation import gettext_lazy as _

from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

    from conversations.models.agent import Agent

MAX_VIEWS = 50
"""How many views an agent may save, and how many the team may have."""

NAME_LENGTH = 60
"""Characters of a saved view's name."""

AGENT, ASSIGNEE, WEBSITE, LABEL, PRIORITY, LAST, WRITER, MENTIONED = -1, -2, -3, -4, -5, -6, -7, -8
MOMENT = datetime.fromisoformat("1970-01-01T00:00:00.000001+00:00")
"""Placeholders of prepared queries: see `prepared`."""


Lead = Literal[
    "snoozed", "label", "assignee", "priority", "website", "waiting", "unassigned", "status", "writer", "mentioned"
]
"""A condition of a view for which there is an index."""


class UtcNow(Now):
    """The database's current time, as the columns have it. A parameter would make each query another one."""

    def as_mysql(self, compiler: "SQLCompiler", connection: Any, **more: Any) -> tuple[str, Any]:
        """The time in UTC: Django stores UTC, while CURRENT_TIMESTAMP is in the time zone of the server."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **more)


EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

WAITING = Coalesce(F("waiting_since"), F("created_at"))
"""`waiting_since`, where it is not NULL. SQLite would take the index of the column, and read all who wait."""


class Cursor(NamedTuple):
    """After which row the next page of a list begins."""

    last: int  # its last message or, with `moment`, its primary key
    moment: datetime | None = None  # since when its customer waits, or until when it is snoozed


class View(NamedTuple):
    """Which conversations a list shows."""

    status: Literal["open", "snoozed", "closed", "any"] = "open"
    assignee: int | EllipsisType | None = ...
    """An agent's id, None for unassigned ones, or ... for all."""
    website_id: int | None = None
    label_id: int | None = None
    priority: int | None = None
    order: Literal["newest", "waiting"] = "newest"
    """`newest` by their last message; `waiting`: only those whose customers wait for an answer, the longest first."""
    writer: int | None = None
    """An agent's id: only conversations in which they have a draft, at most 500. The index of drafts serves it."""
    mentioned: int | None = None
    """An agent's id: only conversations in which they are mentioned, the newest mention first."""
    is_unread: bool = False
    """Only mentions that they have not read."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """What decides the SQL of its query."""
        assigned = "all" if self.assignee is ... else "nobody" if self.assignee is None else "one"
        return (
            self.status,
            assigned,
            *(bool(value) for value in self[2:5]),
            self.order,
            bool(self.writer),
            bool(self.mentioned),
            self.is_unread,
        )

    @property
    def values(self) -> dict[Any, Any]:
        """The values for the placeholders in `condition`."""
        values = {ASSIGNEE: self.assignee, WEBSITE: self.website_id, LABEL: self.label_id, PRIORITY: self.priority}
        return values | {WRITER: self.writer, MENTIONED: self.mentioned}

    @property
    def leads(self) -> "list[Lead]":
        """By which of its conditions an index may find its conversations. The first one mostly leaves the fewest."""
        if self.writer or self.mentioned:
            return ["writer" if self.writer else "mentioned"]
        if self.status == "snoozed":
            return ["snoozed"]  # few are
        is_waiting = self.order == "waiting"  # an index has those who wait by assignee
        chosen: dict[Lead, bool] = {
            "label": bool(self.label_id),
            "assignee": self.assignee not in {None, ...} and not is_waiting,
            "priority": bool(self.priority),
            "website": bool(self.website_id),
            "waiting": is_waiting,
            "unassigned": self.assignee is None and not is_waiting,
        }
        return [lead for lead, is_chosen in chosen.items() if is_chosen] or ["status"]

    def only(self, lead: "Lead") -> "View":
        """The view of all that the index of `lead` finds."""
        field = {"label": "label_id", "website": "website_id", "unassigned": "assignee"}.get(lead, lead)
        if field in {"assignee", "label_id", "priority", "website_id"}:
            return View(self.status, **{field: getattr(self, field)})
        return View(self.status, self.assignee, order="waiting") if lead == "waiting" else View(self.status)

    def ordering(self, served: "Sequence[Lead]") -> "tuple[str | Combinable, ...]":
        """The order of its rows. Snoozed ones are in the order in which they come back."""
        if self.mentioned:
            return ("-mentions__entry_id",)
        if self.status == "snoozed":
            return "snoozed_until", "pk"
        if self.order == "waiting":
            return "waiting_since" if "waiting" in served else WAITING, "pk"
        return ("-labelled__last_message_id" if "label" in served else "-last_message_id",)

    def scanning(self, lead: "Lead") -> tuple[str, ...]:
        """An order in which the index of `lead` has what it finds, to count it."""
        if lead == "label":
            return ("-labelled__last_message_id",)
        orders: dict[Lead, tuple[str, ...]] = {
            "snoozed": ("snoozed_until", "pk"),
            "waiting": ("-waiting_since", "-pk"),  # MariaDB would begin with those who do not wait
            "mentioned": () if self.is_unread else ("-mentions__entry_id",),
            "writer": (),
        }
        return orders.get(lead, ("-last_message_id",))

    def found_by(self, served: "Sequence[Lead]", *, is_later: bool = False) -> Q:
        """Those of its conditions that indexes serve, with placeholders.

        is_later: whether `after` is a condition too. With both bounds, SQLite takes another index.
        """
        stored, of_label = Q(), Q(labelled__label_id=LABEL)
        if self.status != "any":
            stored = Q(status="CLOSED" if self.status == "closed" else "OPEN")
            of_label &= Q(labelled__status="CLOSED" if self.status == "closed" else "OPEN")
        conditions: dict[Lead, Q] = {
            "writer": Q(pk__in=_with_draft()),  # no join: an agent may have an answer and a note there
            # For `unread` alone, SQLite does not use the index.
            "mentioned": Q(mentions__agent_id=MENTIONED) & (Q(mentions__unread__in=[True]) if self.is_unread else Q()),
            "snoozed": Q(snoozed_until__gt=UtcNow()),
            "label": of_label,
            "assignee": stored & Q(assignee_id=ASSIGNEE),
            "priority": stored & Q(priority=PRIORITY),
            "website": stored & Q(website_id=WEBSITE),
            # Not "not NULL": for that, MariaDB reads all who do not wait.
            "waiting": stored & self._of_assignee() & (Q() if is_later else Q(waiting_since__gt=EPOCH)),
            "unassigned": stored & Q(assignee_id=None),
            "status": stored,
        }
        return reduce(and_, (conditions[lead] for lead in served))

    def _of_assignee(self) -> Q:
        return Q() if self.assignee is ... else Q(assignee_id=None if self.assignee is None else ASSIGNEE)

    def fitting(self, served: "Sequence[Lead]") -> Q:
        """Its other conditions, written so that no index serves them.

        SQLite would take that index, as it has no statistics, and read all open conversations of an agent.
        """
        condition = Q()
        if self.status != "any" and served[0] in {"writer", "label", "snoozed"}:
            condition &= ~Q(status="OPEN" if self.status == "closed" else "CLOSED")
        if self.status == "snoozed" and self.writer:
            condition &= Q(snoozed_until__gt=UtcNow())
        if self.status == "open":
            condition &= Q(snoozed_until=None) | Q(snoozed_until__lte=UtcNow())
        if self.order == "waiting" and self.status != "snoozed":
            # A server of an earlier version does not reset `waiting_since`.
            condition &= Q(customer_messages__gt=F("answered_messages"))
            if "waiting" not in served:  # for IS NOT NULL, SQLite would take the index
                since = Coalesce(F("waiting_since"), Value(EPOCH, models.DateTimeField()))
                condition &= Q(GreaterThan(since, EPOCH))
        if self.label_id and "label" not in served:
            condition &= _has_label()
        if self.assignee is not ... and not {"assignee", "unassigned", "waiting"} & set(served):
            condition &= Q(Exact(Coalesce(F("assignee_id"), 0), 0 if self.assignee is None else ASSIGNEE))
        if self.website_id and "website" not in served:
            condition &= Q(Exact(Coalesce(F("website_id"), 0), WEBSITE))
        if self.priority and "priority" not in served:
            condition &= Q(Exact(Coalesce(F("priority"), 0), PRIORITY))
        return condition

    def after(self, served: "Sequence[Lead]") -> Q:
        """The filter for the rows after a cursor, with placeholders."""
        first, *others = self.ordering(served)
        if isinstance(first, Combinable):
            return Q(GreaterThanOrEqual(first, MOMENT)) & (Q(GreaterThan(first, MOMENT)) | Q(pk__gt=LAST))
        if not others:
            return Q(**{f"{first.removeprefix('-')}__lt": LAST})
        return Q(**{f"{first}__gte": MOMENT}) & (Q(**{f"{first}__gt": MOMENT}) | Q(pk__gt=LAST))


def _has_label() -> Q:
    """Whether a conversation has LABEL. For EXISTS, PostgreSQL might read all conversations with the label."""
    from conversations.models.label import ConversationLabel

    found = ConversationLabel.objects.filter(conversation=OuterRef("pk"), label_id=LABEL).values("label_id")[:1]
    return Q(Exact(Subquery(found, output_field=models.BigIntegerField()), LABEL))


def _with_draft() -> "models.QuerySet[Any, Any]":
    """The conversations with a draft of WRITER."""
    from conversations.models.draft import Draft

    return Draft.objects.filter(agent_id=WRITER).values("conversation_id")


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    """The queries on saved views."""

    def of(self, agent: "Agent") -> "SavedViewQuerySet":
        """The agent's own and the team's, by name: the team's first."""
        return self.filter(Q(owner=agent.pk) | Q(owner=None)).order_by(F("owner").asc(nulls_first=True), "name", "pk")

    def shown_to(self, agent: "Agent") -> "list[SavedView]":
        """The same as objects, also while the database is away, with the message log."""

        def build() -> "SavedViewQuerySet":
            return self.filter(Q(owner=-1) | Q(owner=None)).order_by(F("owner").asc(nulls_first=True), "name", "pk")

        return prepared(self, "saved views", build, {-1: agent.pk}, kind=CONTENT)


class SavedView(models.Model):
    """A view that an agent has saved under a name, for themselves or for the team."""

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("owner")
    )  # NULL: the team's
    query = models.CharField(_("query"), max_length=300)  # the query string of the list

    objects = SavedViewQuerySet.as_manager()

    def __str__(self) -> str:
        """Its name."""
        return self.name
