"""The inbox: the list of conversations, with its filters."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from conversations.agent.access import AgentRequest, agents_only
from conversations.models import Agent, Author, Conversation, Website
from conversations.screen.bubbles import Avatar
from conversations.screen.paging import number

ROWS = 50
"""Rows at first, and how many more each time; at most 500, which is further than anybody scrolls."""
MOST_ROWS = 500


@agents_only
@require_GET
def page(request: AgentRequest) -> HttpResponse:
    """The inbox with no conversation chosen."""
    return render(request, "agent/inbox.html", desk(request))


@agents_only
@require_GET
def rows(request: AgentRequest) -> HttpResponse:
    """The list alone, for a page that is open already."""
    return render(request, "agent/_list.html", desk(request))


@dataclass(frozen=True)
class View:
    """Which conversations an agent wants to see, and how many."""

    status: str  # open or closed
    whose: str  # all, mine or nobody
    rows: int
    website: str = ""  # its key, "" for all

    @classmethod
    def of(cls, request: HttpRequest) -> "View":
        """From the query string; what it does not know is the default."""
        status = "closed" if request.GET.get("status") == "closed" else "open"
        whose = request.GET.get("whose", "")
        pages = -(-min(number(request, "rows") or ROWS, MOST_ROWS) // ROWS)
        website = request.GET.get("website", "")[:40]
        return cls(status, whose if whose in {"mine", "nobody"} else "all", pages * ROWS, website)

    def query(self, **changes: Any) -> str:
        """As a query string, with some of it changed."""
        words = {"status": self.status, "whose": self.whose, "website": self.website, "rows": self.rows} | changes
        defaults = {"status": "open", "whose": "all", "website": "", "rows": ROWS}
        said = urlencode({name: word for name, word in words.items() if word != defaults[name]})
        return f"?{said}" if said else ""

    @cached_property
    def here(self) -> str:
        """As a query string, for addresses that keep the view."""
        return self.query()

    def tabs(self) -> list[dict[str, Any]]:
        """The filters to choose from: where each leads and whether it is chosen."""
        whose = {
            "all": pgettext("conversations", "All"),
            "mine": pgettext("conversations", "Mine"),
            "nobody": pgettext("conversations", "Unassigned"),
        }
        return [
            {"name": name, "query": self.query(whose=key, rows=ROWS), "chosen": key == self.whose}
            for key, name in whose.items()
        ]

    def statuses(self) -> list[dict[str, Any]]:
        """Open and closed, the same way."""
        status = {"open": pgettext("conversations", "Open"), "closed": pgettext("conversations", "Closed")}
        return [
            {"name": name, "query": self.query(status=key, rows=ROWS), "chosen": key == self.status}
            for key, name in status.items()
        ]

    def websites(self, seen: list[Website]) -> list[dict[str, Any]]:
        """The websites to choose from, the same way; none where there is but one."""
        if len(seen) < 2:
            return []
        every = [{"name": _("All websites"), "query": self.query(website="", rows=ROWS), "chosen": not self.website}]
        return every + [
            {
                "name": website.name,
                "query": self.query(website=website.key, rows=ROWS),
                "chosen": website.key == self.website,
            }
            for website in seen
        ]

    def conversations(self, agent: Agent, seen: list[Website]) -> list[Conversation]:
        """The conversations, and one more if there are more. One query, the same however many there are in all."""
        whose = {"mine": agent.pk, "nobody": None}.get(self.whose, ...)
        website = next((each.pk for each in seen if each.key == self.website), None)
        return agent.visible_conversations().inbox(agent, self.status.upper(), whose, self.rows + 1, website)


@dataclass(frozen=True)
class Row:
    """A conversation in the list, in the words in which it stands there."""

    pk: str
    avatar: Avatar
    at: datetime
    line: str
    answered: bool
    urgency: str
    assignee: str
    unread: int
    chosen: bool
    query: str
    language: str | None
    website: str  # its name, "" where there is but one

    @classmethod
    def of(cls, conversation: Any, reader: Agent, view: View, chosen: int | None, website: str) -> "Row":
        """The row of a conversation that `inbox()` found."""
        name = conversation.assignee_name or conversation.assignee_username or ""
        return cls(
            pk=str(conversation.pk),
            avatar=Avatar.of(str(conversation)),
            at=conversation.last_message_at,
            line=conversation.last_line,
            answered=conversation.last_author == Author.AGENT,
            urgency=conversation.urgency,
            assignee=_("You") if conversation.assignee_id == reader.pk else name,
            unread=conversation.unread,
            chosen=conversation.pk == chosen,
            query=view.here,
            language=get_language(),
            website=website,
        )


@lru_cache(maxsize=10_000)
def _drawn(row: Row) -> SafeString:
    """A row is drawn once and kept until something in it changes: of a live list most rows stay as they were."""
    return render_to_string("agent/_row.html", {"row": row})


def desk(request: AgentRequest, chosen: Conversation | None = None) -> dict[str, Any]:
    """What the list needs to be shown; `chosen` is the conversation that is open beside it."""
    view = View.of(request)
    seen = Website.objects.visible_to(request.agent)
    names = {website.pk: website.name for website in seen} if len(seen) > 1 else {}
    found = view.conversations(request.agent, seen)
    more = view.query(rows=view.rows + ROWS) if len(found) > view.rows and view.rows < MOST_ROWS else ""
    chosen_id = chosen.pk if chosen else number(request, "chosen")
    shown = [
        Row.of(conversation, request.agent, view, chosen_id, names.get(conversation.website_id, ""))
        for conversation in found[: view.rows]
    ]
    unread = sum(row.unread > 0 for row in shown)
    html = mark_safe("".join(_drawn(row) for row in shown))  # noqa: S308 (each was drawn by its template)
    return {
        "view": view,
        "rows": html,
        "more": more,
        "unread": unread,
        "agent": request.agent,
        "websites": view.websites(seen),
    }


def assignee_name(conversation: Conversation, reader: Agent) -> str:
    """Who has taken it, as the reader would say: you, a colleague's name, or "" for nobody."""
    if conversation.assignee is None:
        return ""
    if conversation.assignee_id == reader.pk:
        return _("You")
    return conversation.assignee.get_full_name() or conversation.assignee.username
