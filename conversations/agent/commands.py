"""Every command of the inbox by its name, in a menu that Ctrl+K opens, and the map of its keys, which `?` opens."""

from typing import NamedTuple

from django.http import HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy
from django.views.decorators.http import require_safe

from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters
from conversations.agent.inbox import assignee_tabs, render_inbox, saved_tabs, status_tabs
from conversations.models import Website
from conversations.models.search import find_customers
from conversations.models.search_words import phrase
from conversations.screen.avatars import Avatar
from conversations.threshold import limits

MAX_QUERY = 100
"""Characters of a name that count."""


class Key(NamedTuple):
    """A key and what it does."""

    keys: tuple[str | Promise, ...]
    name: str | Promise


CONVERSATION_KEYS = (
    Key(("r",), gettext_lazy("Write a reply")),
    Key(("n",), gettext_lazy("Write a note")),
    Key(("a",), pgettext_lazy("conversation", "Assign")),
    Key(("l",), gettext_lazy("Labels")),
    Key(("z",), pgettext_lazy("conversation", "Snooze")),
    Key(("e",), gettext_lazy("Close or reopen")),
)
"""For the conversation that is open or, where some are selected in the list, for those; static/js/pick-bar.js acts."""

LIST_KEYS = (
    Key(("j", "k"), gettext_lazy("Next and previous conversation")),
    Key((pgettext_lazy("key", "Enter"),), gettext_lazy("Open it")),
    Key(("x",), gettext_lazy("Select it; with Shift, all from the last one")),
    Key(("/",), gettext_lazy("Search")),
)
OTHER_KEYS = (
    Key(("Ctrl K", "⌘ K"), gettext_lazy("All commands, and all conversations by name")),
    Key(("?",), gettext_lazy("This map")),
    Key((pgettext_lazy("key", "Esc"),), gettext_lazy("Leave a menu or the field, or clear the selection")),
)
WRITING_KEYS = (
    Key((pgettext_lazy("key", "Enter"),), gettext_lazy("Send")),
    Key((pgettext_lazy("key", "Shift + Enter"),), gettext_lazy("Start a new line")),
    Key(("/",), gettext_lazy("Insert a canned reply, at the start of an answer")),
    Key(("Ctrl+B",), gettext_lazy("Bold")),
    Key(("Ctrl+I",), gettext_lazy("Italics")),
    Key(("Ctrl+Shift+8",), pgettext_lazy("formatting", "List")),
    Key(("Ctrl+E",), pgettext_lazy("formatting", "Code")),
    Key(("Ctrl+Shift+K",), gettext_lazy("Link")),
)


class Command(NamedTuple):
    """A command of the menu: a link, or a key that is pressed instead."""

    name: str | Promise
    key: str = ""
    url: str = ""
    list_url: str = ""  # of a list, which replaces the one on the page


@agent_required
@require_safe
def commands(request: AgentRequest) -> HttpResponse:
    """All commands. With `?chosen=`, also those for the conversation that is open.

    `?q=`: only the conversations of customers with this name, or the beginnings of its words.
    """
    if "q" in request.GET:
        return _conversations(request, request.GET["q"][:MAX_QUERY])
    inbox, listed = reverse("agent:inbox"), reverse("agent:list")
    filters, websites = Filters(), Website.objects.visible_to(request.agent)
    tabs = [
        *status_tabs(filters, request.agent, websites),
        *assignee_tabs(filters, request.agent, websites)[1:],
        *saved_tabs(filters, request.agent, websites),
    ]
    groups = [
        (
            pgettext("commands", "Show"),
            [Command(tab.name, "", inbox + tab.query, listed + tab.query) for tab in tabs],
        ),
        (
            _("Go to"),
            [
                Command(_("Canned replies"), url=reverse("agent:replies")),
                Command(_("Your account"), url=reverse("agent:me")),
                Command(_("Keys"), "?", reverse("agent:keys")),
            ],
        ),
    ]
    if "chosen" in request.GET and request.htmx:
        groups.insert(0, (_("This conversation"), [Command(key.name, str(key.keys[0])) for key in CONVERSATION_KEYS]))
    return _response(request, render_to_string("agent/_commands.html", {"groups": groups}))


def _conversations(request: AgentRequest, query: str) -> HttpResponse:
    try:
        limits.enforce("searches of one agent", request.agent.pk)
        phrases = [found for word in query.split() if (found := phrase(word, is_prefix=True))]
        shown = find_customers(request.agent.visible_conversations(), phrases)
    except limits.RateLimitExceeded as error:
        headers = {"Retry-After": str(error.retry_after)}
        return HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8", headers=headers)
    return render(request, "agent/_named.html", {"shown": [(each, Avatar.of(str(each))) for each in shown]})


@agent_required
@require_safe
def keys(request: AgentRequest) -> HttpResponse:
    """The map of the keys."""
    groups = [
        (_("In the list"), LIST_KEYS),
        (_("For the open conversation, or the selected ones"), CONVERSATION_KEYS),
        (_("While you write"), WRITING_KEYS),
        (_("Everywhere"), OTHER_KEYS),
    ]
    return _response(request, render_to_string("agent/_keys.html", {"groups": groups}))


def _response(request: AgentRequest, html: SafeString) -> HttpResponse:
    """The menu alone for htmx, else in the place of the conversation."""
    if request.htmx:
        return HttpResponse(html)
    return HttpResponse(render_inbox(request, panel=SafeString(f'<div class="menu-page">{html}</div>'), reloads=False))
