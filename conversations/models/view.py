"""Views: which conversations a list shows, and in which order. Agents save some of them under a name."""

from datetime import datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import Exact
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


class UtcNow(Now):
    """The database's current time, as the columns have it. A parameter would make each query another one."""

    def as_mysql(self, compiler: "SQLCompiler", connection: Any, **more: Any) -> tuple[str, Any]:
        """The time in UTC: Django stores UTC, while CURRENT_TIMESTAMP is in the time zone of the server."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **more)


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
    def ordering(self) -> tuple[str, ...]:
        """The order of its rows. Snoozed ones are in the order in which they come back."""
        if self.mentioned:
            return ("-mentions__entry_id",)
        if self.status == "snoozed":
            return "snoozed_until", "pk"
        if self.order == "waiting":
            return "waiting_since", "pk"
        return ("-labelled__last_message_id" if self.label_id else "-last_message_id",)

    def condition(self) -> Q:
        """Its filter, with placeholders. One index serves it: the conditions on what this index lacks drop few rows."""
        condition = self._status_condition()
        if self.order == "waiting" and self.status != "snoozed":
            # A server of an earlier version does not reset `waiting_since`.
            condition &= Q(waiting_since__isnull=False, customer_messages__gt=F("answered_messages"))
        if self.writer:
            condition &= Q(pk__in=_with_draft())  # no join: an agent may have an answer and a note there
        if self.mentioned:
            condition &= Q(mentions__agent_id=MENTIONED)
        if self.is_unread:
            condition &= Q(mentions__unread__in=[True])  # for `unread` alone, SQLite does not use the index
        return condition & self._narrowing()

    def _status_condition(self) -> Q:
        """The status and the label, which one index has together."""
        condition = Q(labelled__label_id=LABEL) if self.label_id else Q()
        if self.status == "any":
            return condition
        stored, other = ("CLOSED", "OPEN") if self.status == "closed" else ("OPEN", "CLOSED")
        if self.label_id:
            condition &= Q(labelled__status=stored)
        if self.status == "snoozed":
            condition &= Q(snoozed_until__gt=UtcNow())
        if self.status == "snoozed" or self.writer:
            condition &= ~Q(status=other)  # no index serves this: see _by
        elif not self.label_id or self.order == "waiting":
            condition &= Q(status=stored)
        if self.status == "open":
            condition &= Q(snoozed_until=None) | Q(snoozed_until__lte=UtcNow())
        return condition

    def _narrowing(self) -> Q:
        """The assignee, the website and the priority."""
        condition = Q()
        if self.assignee is not ...:
            condition &= self._by("assignee_id", None if self.assignee is None else ASSIGNEE)
        if self.website_id:
            condition &= self._by("website_id", WEBSITE)
        if self.priority:
            condition &= self._by("priority", PRIORITY)
        return condition

    def _by(self, column: str, value: int | None) -> Q:
        """A column's value; for snoozed ones, drafts and mentions, which are few, as no index of the column has it.

        SQLite would take that index, as it has no statistics, and read all open conversations of an agent.
        """
        if self.status == "snoozed" or self.writer or self.mentioned:
            return Q(Exact(Coalesce(F(column), 0), value or 0))
        return Q(**{column: value})

    def after(self) -> Q:
        """The filter for the rows after a cursor, with placeholders."""
        first, *others = self.ordering
        if not others:
            return Q(**{f"{first.removeprefix('-')}__lt": LAST})
        return Q(**{f"{first}__gte": MOMENT}) & (Q(**{f"{first}__gt": MOMENT}) | Q(pk__gt=LAST))


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
