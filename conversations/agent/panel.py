"""The HTML of an open conversation: its header, and the panel with header, messages, composer and details."""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.http import QueryDict
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations.agent import customer_details
from conversations.agent.access import AgentRequest
from conversations.agent.canned_replies import render_options
from conversations.agent.chips import chips_of, render_chips
from conversations.agent.filters import Filters
from conversations.agent.inbox import assignee_name
from conversations.models import Author, Conversation
from conversations.presence import visitor
from conversations.presence.visitor import Visitor
from conversations.screen.avatars import Avatar
from conversations.screen.bubbles import Bubble, ShownRow
from conversations.screen.message_rows import render_folded, render_messages
from conversations.screen.prepared_templates import PreparedTemplate

MAX_CHIPS = 8
"""The most labels that the header shows; the menu has all."""

HEADER_VALUES = (
    "here",  # the conversation's URL
    "query",  # the query string of the list's filters
    "list_url",
    "csrf_token",
    "name",  # the customer's
    "hue",  # of their avatar
    "initials",
    "state",  # its version: see customer_details.state_version
    "assignee",  # their name
    "assignee_id",
    "notice",
    "menus",  # the URL of the menus that change it, without the name of one
    "labels",  # as HTML
    "snoozed_moment",
    "snoozed_time",
    "last_seen",  # the id of the newest message on the screen, for browsers without script
)
HEADER = PreparedTemplate("agent/_state.html", *HEADER_VALUES)
PANEL = PreparedTemplate(
    "agent/_conversation.html",
    *HEADER_VALUES,
    *("pk", "thread", "details", "read_up_to"),
    *("to", "draft", "agent_pk", "client_id", "content", "error", "megabytes", "write_query"),
    *("note_query", "reply_options", "version", "preview"),  # of the composer
    *("at", "newer", "newest"),
    "receipt",  # as HTML
)
RECEIPT = PreparedTemplate("agent/_receipt.html", "pk", "moment", "time")


class ReceiptKind(NamedTuple):
    """What decides how the line looks that says when the customer has seen the last answer."""

    is_apart: bool


class HeaderKind(NamedTuple):
    """What decides how the header looks."""

    is_open: bool
    mine: bool
    priority: int | None


class PanelKind(NamedTuple):
    """What decides how the panel looks."""

    is_open: bool
    mine: bool
    priority: int | None
    before: bool  # whether it shows older messages, and no composer
    writes: bool  # see templates/conversations/_composer.html
    reloads: bool
    asks: bool  # whether `error` is the question whether to send the answer although a colleague has answered
    is_note: bool
    has_other_draft: bool  # of a note beside the answer, or of an answer beside the note


class Unread(NamedTuple):
    """Where an agent has stopped reading, as far as a page shows it."""

    first: int | None = None  # the customer's message below the line "New"
    above: int | None = None  # the id up to which they have read, if the first unread message may be on an older page

    @classmethod
    def on_page(cls, shown: Sequence[ShownRow], older: int | None, read_up_to: int, *, at_top: bool = True) -> "Unread":
        """Find it among these rows. There is none if the agent has read nothing yet, or everything.

        older: as `latest_page` returns it. at_top: whether the line may stand at the top although the first unread
        message is older.
        """
        new = (row.pk for row in shown if isinstance(row, Bubble) and row.pk > read_up_to and not row.from_readers_side)
        first = next(new, None) if read_up_to else None
        may_be_older = first is not None and older is not None and shown[0].pk > read_up_to
        if may_be_older and not at_top:
            return cls()
        return cls(first, read_up_to if may_be_older else None)

    def parameters(self, filters: Filters) -> QueryDict:
        """The query parameters of links to other pages of the conversation."""
        kept = filters.parameters.copy()
        if self.above:
            kept["read"] = str(self.above)
        return kept


def render_header(request: AgentRequest, conversation: Conversation, notice: str = "") -> SafeString:
    """The header: assignee and status, with the buttons that change them, and a notice below."""
    return _header(request, conversation, notice) + _receipt(conversation, is_apart=True)


def render_header_apart(request: AgentRequest, conversation: Conversation) -> SafeString:
    """The same, for a response with something else in it. Only a page that shows this conversation takes it."""
    header = "<div hx-swap-oob=\"innerHTML:[data-conversation='{}'] #state\">{}</div>{}"
    return format_html(header, conversation.pk, _header(request, conversation), _receipt(conversation, is_apart=True))


def _header(request: AgentRequest, conversation: Conversation, notice: str = "") -> SafeString:
    values = _header_values(request, conversation, visitor.get(conversation.pk))
    kind = HeaderKind(conversation.is_open, _is_mine(request, conversation), conversation.priority)
    return HEADER.render(kind, values | {"notice": notice})


def _receipt(conversation: Conversation, *, is_apart: bool = False) -> SafeString:
    """The line below the messages: when the customer has seen the last answer. `is_apart`: it replaces the page's."""
    moment = conversation.receipt(Author.AGENT)
    seen_at = timezone.localtime(moment) if moment else None
    values = {"moment": seen_at.isoformat(), "time": f"{seen_at:%H:%M %Z}"} if seen_at else {"moment": "", "time": ""}
    return RECEIPT.render(ReceiptKind(is_apart), values | {"pk": conversation.pk})


def render_details(request: AgentRequest, conversation: Conversation, seen: Visitor | None) -> SafeString:
    """The customer's details; `seen` is what their browser has reported."""
    context = {
        "details": customer_details.CustomerDetails.of(conversation, seen, request.agent),
        "conversation": conversation,
        "filters": Filters.from_request(request),
        "csrf_token": get_token(request),
    }
    return render_to_string("agent/_details.html", context)


def render_panel(
    request: AgentRequest,
    conversation: Conversation,
    shown: Sequence[ShownRow],
    *,
    older: int | None,
    before: int | None,
    newer: int | None,
    at: int | None,
    unread: Unread,
    content: str,
    version: int,
    error: str,
    preview: str = "",
    asks: bool = False,
    writes: bool = False,
    is_note: bool,
    has_other_draft: bool,
    **values: Any,
) -> SafeString:
    """The whole conversation.

    older, before: the ids below which there are older messages, and below which all shown ones are.
    newer: the id of the last shown message, if there are newer ones.
    at: the id of the message that the page was opened for.
    unread: where the agent has stopped reading.
    content: the text of the answer that is being written.
    version: of the agent's draft, 0 for none.
    error: why an answer was not accepted.
    preview: the text as its readers will see it, for browsers without script that have asked for it.
    asks: whether the agent may send it all the same.
    writes: see templates/conversations/_composer.html. is_note: whether the composer is for a note.
    values: `read_up_to` and `last_seen`, as ids of messages.
    """
    filters, seen = Filters.from_request(request), visitor.get(conversation.pk)
    header = _header_values(request, conversation, seen)
    here, website = header["here"], conversation.website
    kind = PanelKind(
        is_open=conversation.is_open,
        mine=_is_mine(request, conversation),
        priority=conversation.priority,
        before=before is not None,
        writes=writes,
        reloads=not error and not writes,
        asks=asks,
        is_note=is_note,
        has_other_draft=has_other_draft,
    )
    folded = "" if request.htmx else render_folded(shown, unread.first, at)
    thread = {
        "thread": folded or render_messages(shown, unread.first),
        "older": older,
        "newer": newer,
        "news": f"{here}messages/",
        "parameters": unread.parameters(filters) if older or newer else None,
        "read": unread.above,
    }
    also = f"{filters.query}{'&' if filters.query else '?'}"
    composer = {
        "to": f"{here}{'notes' if is_note else 'messages'}/{filters.query}",
        "draft": f"note {conversation.pk}" if is_note else conversation.pk,
        "note_query": f"{also}note=1",
        "agent_pk": request.agent.pk,
        "client_id": values.pop("client_id", None) or uuid.uuid4(),
        "content": content,
        "version": version,
        "error": error,
        "preview": preview,
        "megabytes": website.attachment_megabytes if website.attachments and not is_note else "",
        # Scripts fetch them.
        "reply_options": render_options(request.agent, conversation) if writes and not is_note else "",
        "write_query": f"{also}note=1&write=1" if is_note else f"{also}write=1",
    }
    more = {
        "pk": conversation.pk,
        "at": at or "",
        "newest": conversation.last_message_id if at else "",
        "newer": newer or "",
        "thread": render_to_string("conversations/_older.html", thread),
        "details": render_details(request, conversation, seen),
        "receipt": _receipt(conversation) if before is None and not newer else "",
    }
    return PANEL.render(kind, header | composer | more | values)


def _header_values(request: AgentRequest, conversation: Conversation, seen: Visitor | None) -> dict[str, Any]:
    query, pk = Filters.from_request(request).query, conversation.pk
    avatar = Avatar.of(str(conversation))
    until = timezone.localtime(conversation.snoozed_until) if conversation.is_snoozed else None
    return {
        "here": reverse("agent:conversation", args=[conversation.pk]),
        "query": query,
        "list_url": reverse("agent:inbox") + query,
        "csrf_token": get_token(request),
        "name": avatar.name,
        "hue": avatar.hue,
        "initials": avatar.initials,
        "state": customer_details.state_version(conversation, seen),
        "assignee": assignee_name(conversation, request.agent),
        "assignee_id": conversation.assignee_id,
        "notice": "",
        "menus": f"{reverse('agent:changes')}{query}{'&' if query else '?'}open={pk}&pk={pk}&menu=",
        "labels": render_chips(chips_of(conversation.labels), MAX_CHIPS),
        "snoozed_moment": until.isoformat() if until else "",
        "snoozed_time": f"{date_format(until, 'MONTH_DAY_FORMAT')} {until:%H:%M}" if until else "",
        "last_seen": "",
    }


def _is_mine(request: AgentRequest, conversation: Conversation) -> bool:
    return conversation.assignee_id == request.agent.pk
