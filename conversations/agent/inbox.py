"""The inbox: the list of conversations, with its filters."""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from secrets import token_hex
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpResponse, QueryDict
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from conversations.agent.access import AgentRequest, agent_required, compressed_if_opened
from conversations.agent.chips import chips_by_id
from conversations.agent.done import notice_of
from conversations.agent.filters import Filters, Site
from conversations.agent.inbox_rows import LABELS, UNREAD, Frame, render_rows
from conversations.agent.search import Found, find
from conversations.models import Agent, AgentProfile, Conversation, Draft, SavedView, View, Website
from conversations.models.conversation import InboxEntry
from conversations.models.prepared import AtLeast
from conversations.screen.paging import query_number
from conversations.screen.prepared_templates import PreparedTemplate

ROWS = 50
"""Rows at first, and how many are added when the last one is reached."""

MAX_ROWS = 500
"""The most rows that an open page updates; inbox-list.js loads no more."""

MOST = 99
"""Counts are right up to this number."""

MAX_TABS = 1000
"""How many lists' tabs, and how many saved views, are remembered: about 3 MB."""


MAX_SHEETS = 200
"""How many are remembered of the filters of a list, with all that they offer: about 3 MB."""


@agent_required
@require_GET
@compressed_if_opened
def page(request: AgentRequest) -> HttpResponse:
    """The inbox page with no conversation open."""
    return HttpResponse(render_inbox(request))


@agent_required
@require_GET
def list_only(request: AgentRequest) -> HttpResponse:
    """The list alone, for a page that is open, with the counts of all lists.

    `?shown=` is the query string of the list on the page: it gets other filters too, if it wants another list now.
    With `?append`, only the rows after a cursor. `?known=` is the digest of what the page shows: 204 if it is the same.
    """
    listing = find_rows(request)
    if listing.found and listing.found.status != 200:
        return listing.found.refusal()
    if "append" in request.GET:
        return render(request, "agent/_rows.html", {**listing._asdict(), "list_url": request.path})
    filters = listing.filters
    shown = request.GET.get("shown", filters.query)
    is_other = shown != filters.query
    lists = render_lists(request, listing, counts_only=not is_other, is_update=True)
    if listing.found is None and filters.q:  # the page updates itself: what was found stays
        return HttpResponse(lists.html, headers={"HX-Reswap": "none"})
    if not is_other and request.GET.get("known") == lists.digest:
        return HttpResponse(status=204)
    response = HttpResponse(render_list(listing, lists) + lists.html)
    chosen = query_number(request, "chosen")
    if is_other and request.htmx.trigger not in {"list", None}:  # the agent has chosen it, and did not go back to it
        url = reverse("agent:conversation", args=[chosen]) if chosen else reverse("agent:inbox")
        is_typing = filters.q and QueryDict(shown[1:]).get("q")  # one entry of the history for all that was typed
        response["HX-Replace-Url" if is_typing else "HX-Push-Url"] = url + filters.query
    return response


class Tab(NamedTuple):
    """A link to a list, with how many conversations it has."""

    id: str
    name: str
    query: str
    is_chosen: bool
    view: View
    delete_url: str = ""  # of a saved view
    is_team: bool = False  # whether the team has saved it
    is_unread: bool = False  # whether it counts only what is new for the agent


def status_tabs(filters: Filters, agent: Agent, websites: list[Website]) -> tuple[Tab, ...]:
    """The tabs for open, snoozed and closed ones, and for mentions of the agent in any of them."""
    return _status_tabs(filters, agent.pk, Site.all_of(websites), get_language())


@lru_cache(MAX_TABS)
def _status_tabs(filters: Filters, agent_id: int, sites: tuple[Site, ...], _language: str | None) -> tuple[Tab, ...]:
    names = {
        "open": pgettext("conversations", "Open"),
        "snoozed": pgettext("conversations", "Snoozed"),
        "closed": pgettext("conversations", "Closed"),
    }
    rest = {"whose": "all"} if filters.whose == "mentions" else {}
    mentions = _tab(filters, agent_id, sites, pgettext("conversations", "Mentions"), whose="mentions")
    return (
        *(_tab(filters, agent_id, sites, name, status=status, **rest) for status, name in names.items()),
        mentions._replace(view=mentions.view._replace(is_unread=True), is_unread=True),
    )


def assignee_tabs(filters: Filters, agent: Agent, websites: list[Website]) -> tuple[Tab, ...]:
    """The tabs for all, mine, unassigned, and those with a draft of the agent."""
    return _assignee_tabs(filters, agent.pk, Site.all_of(websites), get_language())


@lru_cache(MAX_TABS)
def _assignee_tabs(filters: Filters, agent_id: int, sites: tuple[Site, ...], _language: str | None) -> tuple[Tab, ...]:
    names = {
        "all": pgettext("conversations", "All"),
        "mine": pgettext("conversations", "Mine"),
        "nobody": pgettext("conversations", "Unassigned"),
        "drafts": pgettext("conversations", "Drafts"),
    }
    return tuple(_tab(filters, agent_id, sites, name, whose=whose) for whose, name in names.items())


def _tab(filters: Filters, agent_id: int, sites: tuple[Site, ...], name: str, **choice: str) -> Tab:
    field, value = next(iter(choice.items()))
    query = filters.query_string(after="", q="", **choice)
    is_chosen = not filters.q and getattr(filters, field) == value
    return Tab(f"tab-{value}", name, query, is_chosen, filters.view(agent_id, sites, **choice))


def saved_tabs(filters: Filters, agent: Agent, websites: list[Website]) -> list[Tab]:
    """The views that the agent and the team have saved."""
    tabs: list[Tab] = []
    for saved in SavedView.objects.shown_to(agent):
        query, view = _saved(saved.query, agent.pk, Site.all_of(websites))
        is_chosen = not filters.q and query == filters.first_page
        delete_url = reverse("agent:delete-view", args=[saved.pk])
        is_team = saved.owner_id is None
        tabs.append(Tab(f"view-{saved.pk}", saved.name, query, is_chosen, view, delete_url, is_team))
    return tabs


@lru_cache(MAX_TABS)
def _saved(query: str, agent_id: int, sites: tuple[Site, ...]) -> tuple[str, View]:
    """What a saved query string means now: websites are renamed and deleted."""
    filters = Filters.parse(QueryDict(query), sites)
    return filters.query, filters.view(agent_id, sites)


class TabKind(NamedTuple):
    """What decides how a tab looks."""

    chosen: bool
    is_unread: bool


TAB = PreparedTemplate("agent/_tab.html", "id", "url", "list_url", "name", "count")


Offered = tuple[tuple[str, tuple[tuple[Any, str], ...]], ...]
"""The values and names that each field offers, by the field's name."""

HOLES = {
    name: mark_safe(f"\ue000{name} {token_hex(8)}\ue001")  # noqa: S308 (no HTML)
    for name in ("status_tabs", "assignee_tabs", "saved_tabs", "csrf_token")
}
"""In place of what differs each time. They are random, so no name of a website or label has one."""


class Sheet(NamedTuple):
    """All that decides how the links to all lists and the filters look, besides what fills the HOLES."""

    filters: Filters
    is_update: bool
    chosen: tuple[Tab, ...]  # the saved views that are shown
    offered: Offered
    after_closing: str
    has_saved: bool  # whether there are saved views


class CountsKind(NamedTuple):
    """All look the same."""


COUNTS = PreparedTemplate("agent/_counts.html", "status_tabs", "assignee_tabs", "saved_tabs")


class ListFilters(NamedTuple):
    """What a list says about its filters."""

    after: bool
    is_narrow: bool
    status: str
    whose: str


class ListKind(NamedTuple):
    """What decides how a list looks, besides its rows."""

    filters: ListFilters


LIST = PreparedTemplate("agent/_list.html", "rows", "more", "first_page", "list_url", "unread", "digest")


class InboxKind(NamedTuple):
    """What decides how the page looks."""

    reloads: bool  # by itself, without scripts
    letter_keys: bool


INBOX = PreparedTemplate(
    "agent/inbox.html",
    *("agent", "agent_pk", "reload_query", "csrf_token", "query", "unread", "lists", "list", "panel", "notice"),
    *("search", "sound_when", "sound", "desktop", "zone"),
)


class Listing(NamedTuple):
    """The list, as a request asks for it."""

    filters: Filters
    websites: list[Website]
    rows: SafeString
    more: str  # the query string of the next page, or ""
    unread: int  # how many of its rows are
    found: Found | None = None  # what the agent searches for


def find_rows(request: AgentRequest, chosen: Conversation | None = None) -> Listing:
    """Find the conversations and render their rows; `chosen` is the conversation that is open beside them.

    `?rows=` says how many an open page has loaded already, when it asks for all of them again.
    """
    filters, agent = Filters.from_request(request), request.agent
    if filters.q:
        return _find(request, filters)
    most = -(-min(query_number(request, "rows") or ROWS, MAX_ROWS) // ROWS) * ROWS
    websites = Website.objects.visible_to(agent)
    names = tuple((website.pk, website.name) for website in websites) if len(websites) > 1 else ()
    view = filters.view(agent.pk, Site.all_of(websites))
    found = agent.visible_conversations().inbox_rows(agent, view, most + 1, filters.cursor)
    drafts = Draft.objects.conversations_of(agent) if found.raw else set()
    labels = tuple(chips_by_id().values()) if any(row[LABELS] for row in found.raw) else ()
    more = ""
    if len(found.raw) > most:
        [last] = InboxEntry.of(found, [found.raw[most - 1]])
        more = filters.query_string(after=filters.cursor_of(last))
    chosen_id = chosen.pk if chosen else query_number(request, "chosen")
    zone = timezone.get_current_timezone_name()
    frame = Frame(filters.query, names, labels, filters.status == "any", get_language(), zone)
    html = mark_safe("".join(render_rows(found, most, frame, agent.pk, chosen_id, drafts)))  # noqa: S308 (templates)
    return Listing(filters, websites, html, more, sum(row[UNREAD] > 0 for row in found.raw[:most]))


class Lists(NamedTuple):
    """The links to all lists, and what identifies all that the page shows beside a conversation."""

    html: SafeString
    digest: str


def _find(request: AgentRequest, filters: Filters) -> Listing:
    """What is found, unless the page only updates itself."""
    websites = Website.objects.visible_to(request.agent)
    if request.htmx.trigger == "list" and request.GET.get("shown") == filters.query:
        return Listing(filters, websites, SafeString(), "", 0)
    found = find(request, filters, websites)
    return Listing(filters, websites, found.rows, found.more, 0, found)


def render_list(listing: Listing, lists: Lists) -> SafeString:
    """The rows, or why there are none."""
    filters = listing.filters
    if listing.found:
        return listing.found.render(filters)
    kind = ListKind(ListFilters(bool(filters.after), filters.is_narrow, filters.status, filters.kind_of_whose))
    values = {
        "rows": listing.rows,
        "more": listing.more,
        "first_page": filters.first_page,
        "list_url": _urls()[1],
        "unread": listing.unread,
        "digest": lists.digest,
    }
    return LIST.render(kind, values)


def render_lists(
    request: AgentRequest, listing: Listing, *, counts_only: bool = False, is_update: bool = False
) -> Lists:
    """The links to all lists with their counts and, unless `counts_only`, the filters.

    is_update: htmx replaces those on the page by it.
    """
    filters, websites, agent = listing.filters, listing.websites, request.agent
    groups: list[Sequence[Tab]] = [tabs(filters, agent, websites) for tabs in (status_tabs, assignee_tabs, saved_tabs)]
    views = list(dict.fromkeys(tab.view for tabs in groups for tab in tabs))
    counts = dict(zip(views, agent.visible_conversations().counts(views), strict=True))
    groups[1] = [tab for tab in groups[1] if tab.id != "tab-drafts" or tab.is_chosen or counts[tab.view]]
    urls = _urls()
    language = get_language()
    status, whose, saved = (
        [_render_tab(tab, shown_count(counts[tab.view]), counts[tab.view] > 0, *urls, language) for tab in tabs]
        for tabs in groups
    )
    shown = "".join([listing.rows, listing.more, *status, *whose, *saved])
    digest = blake2b(shown.encode(), digest_size=8).hexdigest()
    tabs: dict[str, Any] = {
        "status_tabs": mark_safe("".join(status)),  # noqa: S308 (each is rendered by its template)
        "assignee_tabs": mark_safe("".join(whose)),  # noqa: S308
        "saved_tabs": mark_safe("".join(f"<div>{tab}</div>" for tab in saved)),  # noqa: S308 (templates)
    }
    if counts_only:
        return Lists(COUNTS.render(CountsKind(), tabs), digest)
    offered = _offered(filters, agent, websites)
    chosen = tuple(tab for tab in groups[2] if tab.is_chosen)
    sheet = Sheet(filters, is_update, chosen, offered, agent.preferences.after_closing, bool(saved))
    html = (_render_sheet.__wrapped__ if settings.DEBUG else _render_sheet)(sheet, language)
    for name, value in {**tabs, "csrf_token": get_token(request)}.items():
        html = html.replace(HOLES[name], value)
    return Lists(mark_safe(html), digest)  # noqa: S308 (all are rendered by their templates, or harmless)


@cache
def _urls() -> tuple[str, str]:
    """The URLs of the inbox and of its list."""
    return reverse("agent:inbox"), reverse("agent:list")


@lru_cache(MAX_TABS)
def _render_tab(tab: Tab, count: str, has_any: bool, page: str, rows: str, _language: str | None) -> SafeString:
    values = {"id": tab.id, "url": page + tab.query, "list_url": rows + tab.query, "name": tab.name, "count": count}
    return TAB.render(TabKind(tab.is_chosen, tab.is_unread and has_any), values)


def shown_count(count: int) -> str:
    """A count as a tab shows it: nothing where it is not known whether there are any."""
    if isinstance(count, AtLeast) and not count:
        return ""
    return f"{min(count, MOST)}+" if count > MOST or isinstance(count, AtLeast) else str(count)


def _offered(filters: Filters, agent: Agent, websites: list[Website]) -> Offered:
    """What the fields of the filter offer."""
    return (
        ("website", tuple((website.key, website.name) for website in websites) if len(websites) > 1 else ()),
        ("label", tuple((chip.pk, chip.name) for chip in chips_by_id().values())),
        ("priority", tuple((each.value, capfirst(str(each.label))) for each in reversed(Conversation.Priority))),
        ("whose", tuple((str(each.pk), str(each)) for each in Agent.objects.offered_to(agent) if each.pk != agent.pk)),
    )


@lru_cache(MAX_SHEETS)
def _render_sheet(sheet: Sheet, _language: str | None) -> str:
    """The links and the filters, with HOLES in them."""
    filters, offered = sheet.filters, dict(sheet.offered)
    words = [word for name, choices in offered.items() if (word := dict(choices).get(getattr(filters, name)))]
    if filters.order == "waiting":
        words.append(_("Waiting longest"))
    context = {
        **HOLES,
        "filters": filters,
        "is_update": sheet.is_update,
        "chosen": next(iter(sheet.chosen), None),
        "views": sheet.chosen,
        "offered": offered,
        "words": words,
        "after_closing": sheet.after_closing,
        "after_closing_choices": AgentProfile.AfterClosing.choices,
    }
    if not sheet.has_saved:
        context["saved_tabs"] = ""
    return str(render_to_string("agent/_lists.html", context))


def render_inbox(
    request: AgentRequest,
    chosen: Conversation | None = None,
    panel: SafeString | None = None,
    *,
    reloads: bool = True,
    reload_query: str = "",
    notice: SafeString | None = None,
) -> SafeString:
    """The whole page: the list and, if one is chosen, the panel of a conversation.

    reloads: whether it reloads itself without JavaScript, so that nothing can be typed in it.
    reload_query: the query string with which it does, if that is another one.
    notice: what has just been done. The page stays as long as it does.
    """
    listing, notice = find_rows(request, chosen), notice or notice_of(request)
    lists = render_lists(request, listing)
    preferences = request.agent.preferences
    values = {
        "agent": request.agent,
        "sound_when": preferences.sound_when,
        "sound": preferences.sound,
        "desktop": "yes" if preferences.desktop else "",
        "zone": preferences.zone.key if preferences.zone else "",
        "agent_pk": request.agent.pk,
        "reload_query": reload_query,
        "csrf_token": get_token(request),
        "query": listing.filters.query,
        "unread": listing.unread or "",
        "lists": lists.html,
        "list": render_list(listing, lists),
        "search": render_to_string("agent/_search.html", {"filters": listing.filters}),
        "panel": panel,
        "notice": notice,
    }
    return INBOX.render(InboxKind(reloads and not notice, preferences.letter_keys), values)


def assignee_name(conversation: Conversation, reader: Agent) -> str:
    """Return the assignee's name as `reader` sees it: "You", a colleague's name, or "" for nobody."""
    if conversation.assignee is None:
        return ""
    if conversation.assignee_id == reader.pk:
        return _("You")
    return conversation.assignee.get_full_name() or conversation.assignee.username
