"""The inbox: the list of conversations, with its filters."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from conversations.agent.access import AgentRequest, agent_required
from conversations.models import Agent, Author, Conversation, View, Website
from conversations.models.conversation import InboxEntry
from conversations.screen.avatars import Avatar
from conversations.screen.paging import query_number
from conversations.screen.prepared_templates import PreparedTemplate

ROWS = 50
"""Rows at first, and how many each "Show more" adds."""

MAX_ROWS = 500
"""The most rows in the list."""


@agent_required
@require_GET
def page(request: AgentRequest) -> HttpResponse:
    """The inbox page with no conversation open."""
    return HttpResponse(render_inbox(request))


@agent_required
@require_GET
def list_only(request: AgentRequest) -> HttpResponse:
    """The list alone: an open page fetches it to refresh its own."""
    return render(request, "agent/_list.html", list_context(request))


@dataclass(frozen=True)
class Filters:
    """Which conversations the list shows, and how many."""

    status: str  # open or closed
    whose: str  # all, mine or nobody: by assignee
    rows: int
    website: str = ""  # its key, "" for all

    @classmethod
    def from_request(cls, request: HttpRequest) -> "Filters":
        """Read the filters from the query string; unknown values mean the defaults."""
        status = "closed" if request.GET.get("status") == "closed" else "open"
        whose = request.GET.get("whose", "")
        pages = -(-min(query_number(request, "rows") or ROWS, MAX_ROWS) // ROWS)
        website = request.GET.get("website", "")
        if website and Website.objects.by_key(website) is None:
            website = ""  # pages repeat no text that an attacker may have chosen: see CustomerRequest.listed_host
        return cls(status, whose if whose in {"mine", "nobody"} else "all", pages * ROWS, website)

    def query_string(self, **changes: Any) -> str:
        """Return the filters as a query string, with some of them changed; "" if all are the defaults."""
        values = {"status": self.status, "whose": self.whose, "website": self.website, "rows": self.rows} | changes
        defaults = {"status": "open", "whose": "all", "website": "", "rows": ROWS}
        query = urlencode({name: value for name, value in values.items() if value != defaults[name]})
        return f"?{query}" if query else ""

    @cached_property
    def query(self) -> str:
        """The query string of links that keep these filters."""
        return self.query_string()

    @property
    def parameters(self) -> QueryDict:
        """The parameters of `query`, for the template tag `querystring`; by default it would repeat the request's."""
        return QueryDict(self.query[1:])

    def assignee_tabs(self) -> list[dict[str, Any]]:
        """The tabs for all, mine and unassigned: name, query string, and whether it is chosen."""
        return [
            self._tab(pgettext("conversations", "All"), whose="all"),
            self._tab(pgettext("conversations", "Mine"), whose="mine"),
            self._tab(pgettext("conversations", "Unassigned"), whose="nobody"),
        ]

    def status_tabs(self) -> list[dict[str, Any]]:
        """The tabs for open and closed, in the same form."""
        return [
            self._tab(pgettext("conversations", "Open"), status="open"),
            self._tab(pgettext("conversations", "Closed"), status="closed"),
        ]

    def website_tabs(self, websites: list[Website]) -> list[dict[str, Any]]:
        """The tabs for websites, in the same form; none if the agent sees only one website."""
        if len(websites) < 2:
            return []
        tabs = [
            self._tab(_("All websites"), website=""),
            *(self._tab(site.name, website=site.key) for site in websites),
        ]
        return [tab | {"name": format_html("<bdi>{}</bdi>", tab["name"])} for tab in tabs]

    def _tab(self, name: str, **choice: str) -> dict[str, Any]:
        chosen = all(getattr(self, field) == value for field, value in choice.items())
        return {"name": name, "query": self.query_string(rows=ROWS, **choice), "chosen": chosen}

    def conversations(self, agent: Agent, websites: list[Website]) -> list[InboxEntry]:
        """Find the conversations, and one more than shown if there are more, in one query."""
        view = View(
            status="closed" if self.status == "closed" else "open",
            assignee={"mine": agent.pk, "nobody": None}.get(self.whose, ...),
            website_id=next((each.pk for each in websites if each.key == self.website), None),
        )
        return agent.visible_conversations().inbox(agent, view, self.rows + 1)


class Row(NamedTuple):
    """A conversation in the list: everything its template shows, as the key of a cache of rendered rows."""

    pk: int
    name: str
    at: datetime
    line: str
    answered: bool
    urgency: str
    assignee: str
    unread: int
    chosen: bool
    query: str
    website: str  # its name; "" if the agent sees only one website
    language: str | None


class RowKind(NamedTuple):
    """What decides how a row looks, besides which of its values are empty."""

    answered: bool
    urgency: str
    chosen: bool


ROW = PreparedTemplate(
    "agent/_row.html",
    *("pk", "query", "hue", "initials", "name", "moment", "time", "line", "website", "assignee", "unread"),
)


class TabKind(NamedTuple):
    """What decides how a tab looks."""

    chosen: bool


TAB = PreparedTemplate("agent/_tab.html", "url", "name")


class InboxKind(NamedTuple):
    """What decides how the page looks."""

    reloads: bool  # by itself, without scripts


INBOX = PreparedTemplate(
    "agent/inbox.html",
    *("agent", "csrf_token", "query", "unread", "status_tabs", "assignee_tabs", "website", "website_tabs"),
    *("list", "panel"),
)


@lru_cache(maxsize=10_000)
def _render_row(row: Row) -> SafeString:
    """Render a row. Rendered rows are cached, because most rows are the same in the next request."""
    avatar, at = Avatar.of(row.name), timezone.localtime(row.at)
    values = {
        "pk": row.pk,
        "query": row.query,
        "hue": avatar.hue,
        "initials": avatar.initials,
        "name": avatar.name,
        "moment": at.isoformat(),
        "time": f"{date_format(at, 'MONTH_DAY_FORMAT')} {at:%H:%M}",
        "line": row.line,
        "website": row.website,
        "assignee": row.assignee,
        "unread": row.unread or "",
    }
    return ROW.render(RowKind(row.answered, row.urgency, row.chosen), values)


def list_context(request: AgentRequest, chosen: Conversation | None = None) -> dict[str, Any]:
    """Return the template context of the list; `chosen` is the conversation that is open beside it."""
    filters = Filters.from_request(request)
    websites = Website.objects.visible_to(request.agent)
    names = {website.pk: website.name for website in websites} if len(websites) > 1 else {}
    found = filters.conversations(request.agent, websites)
    more = filters.query_string(rows=filters.rows + ROWS) if len(found) > filters.rows < MAX_ROWS else ""
    chosen_id = chosen.pk if chosen else query_number(request, "chosen")
    now, language, you = timezone.now(), get_language(), _("You")
    shown = [
        Row(
            pk=entry.pk,
            name=str(entry),
            at=entry.last_message_at,
            line=entry.last_line,
            answered=entry.last_author == Author.AGENT,
            urgency=entry.urgency(now),
            assignee=you
            if entry.assignee_id == request.agent.pk
            else entry.assignee_name or entry.assignee_username or "",
            unread=entry.unread,
            chosen=entry.pk == chosen_id,
            query=filters.query,
            website=names.get(entry.website_id, ""),
            language=language,
        )
        for entry in found[: filters.rows]
    ]
    unread = sum(row.unread > 0 for row in shown)
    html = mark_safe("".join(_render_row(row) for row in shown))  # noqa: S308 (each is rendered by its template)
    return {
        "filters": filters,
        "rows": html,
        "more": more,
        "unread": unread,
        "websites": websites,
    }


def render_inbox(
    request: AgentRequest,
    chosen: Conversation | None = None,
    panel: SafeString | None = None,
    *,
    reloads: bool = True,
) -> SafeString:
    """The whole page: the list and, if one is chosen, the panel of a conversation.

    reloads: whether it reloads itself without JavaScript, so that nothing can be typed in it.
    """
    context = list_context(request, chosen)
    filters: Filters = context["filters"]
    website_tabs = filters.website_tabs(context["websites"])
    values = {
        "agent": request.agent,
        "csrf_token": get_token(request),
        "query": filters.query,
        "unread": context["unread"] or "",
        "status_tabs": _render_tabs(filters.status_tabs()),
        "assignee_tabs": _render_tabs(filters.assignee_tabs()),
        "website": next((tab["name"] for tab in website_tabs if tab["chosen"]), ""),
        "website_tabs": _render_tabs(website_tabs),
        "list": render_to_string("agent/_list.html", context),
        "panel": panel,
    }
    return INBOX.render(InboxKind(reloads), values)


def _render_tabs(tabs: list[dict[str, Any]]) -> SafeString:
    inbox = reverse("agent:inbox")
    shown = [TAB.render(TabKind(tab["chosen"]), {"url": f"{inbox}{tab['query']}", "name": tab["name"]}) for tab in tabs]
    return mark_safe("".join(shown))  # noqa: S308 (each is rendered by its template)


def assignee_name(conversation: Conversation, reader: Agent) -> str:
    """Return the assignee's name as `reader` sees it: "You", a colleague's name, or "" for nobody."""
    if conversation.assignee is None:
        return ""
    if conversation.assignee_id == reader.pk:
        return _("You")
    return conversation.assignee.get_full_name() or conversation.assignee.username
