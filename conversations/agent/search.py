"""The search: what was found, in the place of the list."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.agent.access import AgentRequest
from conversations.agent.chips import chips_by_id, render_chips
from conversations.agent.filters import Filters, parse_cursor
from conversations.agent.question import ask
from conversations.models import Author, DeskEntry, Message, Website
from conversations.models.conversation import AWAY, Conversation
from conversations.models.formatted import LONG, plain
from conversations.models.search import Answer, search, texts_of
from conversations.models.search_words import Phrase, all_words
from conversations.screen.avatars import Avatar
from conversations.screen.paging import query_number
from conversations.screen.prepared_templates import PreparedTemplate
from conversations.threshold import limits

ROWS = 20
"""Rows at once."""

SNIPPET = 160
"""Characters that a row shows of a message."""

BEFORE = 40
"""Characters of a snippet before the first word that was found."""

PATIENCE = 1.0
"""Seconds for which a search waits for another one of the same agent."""

MAX_CHIPS = 3
"""The most labels that a row shows."""


NOTHING = SafeString()


class Kind(NamedTuple):
    """What decides how a row looks."""

    is_note: bool
    is_name: bool
    chosen: bool


FOUND = PreparedTemplate(
    "agent/_found.html",
    *("id", "href", "get", "hue", "initials", "name", "moment", "time", "writer", "snippet", "website", "labels"),
)


@dataclass(frozen=True)
class Found:
    """What was found, or why it could not be searched for."""

    rows: SafeString = NOTHING
    more: str = ""  # the query string of the next rows, or ""
    number: int = 0
    notices: Sequence[str] = ()
    is_complete: bool = True  # whether the search index is
    has_ended: bool = False  # whether it was searched only up to some moment
    status: int = 200
    problem: str = ""
    retry_after: int = 0  # seconds

    def render(self, filters: Filters) -> SafeString:
        """The rows, or why there are none."""
        if self.more or self.has_ended:
            said = _("%(count)s results, and there may be more.") % {"count": self.number}
        else:
            said = ngettext("%(count)s result.", "%(count)s results.", self.number) % {"count": self.number}
        context = {
            "found": self,
            "filters": filters,
            "rows": self.rows,
            "more": self.more,
            "list_url": reverse("agent:list"),
            "said": self.problem or " ".join((said, *self.notices)),
        }
        return render_to_string("agent/_results.html", context)

    def refusal(self) -> HttpResponse:
        """The response to a script."""
        response = HttpResponse(self.problem, status=self.status, content_type="text/plain; charset=utf-8")
        if self.retry_after:
            response["Retry-After"] = str(self.retry_after)
        return response


def find(request: AgentRequest, filters: Filters, websites: Sequence[Website]) -> Found:
    """Search for what the agent has typed, one search of each agent at a time."""
    asked = ask(filters.q, request.agent)
    if asked.cannot_be or asked.question.is_empty:
        return Found(notices=asked.notices)
    try:
        limits.enforce("searches of one agent", request.agent.pk)
        with _alone(request.agent.pk):
            after = parse_cursor(filters.after)
            desk, before = request.agent.visible_conversations(), after and after.last
            answer = search(desk, asked.question, ROWS, before, _is_urgent(request))
    except limits.RateLimitExceeded as error:
        return Found(status=429, problem=str(error), retry_after=error.retry_after)
    except Busy:
        return Found(status=429, problem=_("Another search of yours goes on. Try again."), retry_after=1)
    except AWAY:
        return Found(status=503, problem=_("The search does not work at the moment. Try again later."))
    return Found(
        rows=_render(request, filters, websites, answer, asked.question.phrases),
        more=filters.query_string(after=str(answer.after)) if answer.after else "",
        number=len(answer.found) + len(answer.names),
        notices=asked.notices,
        is_complete=answer.is_complete,
        has_ended=answer.after is not None and len(answer.found) < ROWS,
    )


def _is_urgent(request: AgentRequest) -> Callable[[], bool]:
    """What tells, during a search, whether somebody waits for its end; chatsite/serving/request_handler.py knows."""
    found: Callable[[], bool] = getattr(request, "scope", {}).get("chatsite.is_urgent", bool)
    return found


class Busy(Exception):
    """Another search of the same agent goes on."""


_searching: dict[int, threading.Lock] = {}


@contextmanager
def _alone(agent_id: int) -> Iterator[None]:
    """Let an agent have one search at a time. Raises Busy if another one does not end soon."""
    lock = _searching.setdefault(agent_id, threading.Lock())
    if not lock.acquire(timeout=PATIENCE):
        raise Busy
    try:
        yield
    finally:
        lock.release()


def _render(
    request: AgentRequest, filters: Filters, websites: Sequence[Website], answer: Answer, phrases: Sequence[Phrase]
) -> SafeString:
    names = {each.pk: each.name for each in websites} if len(websites) > 1 else {}
    conversations = [*answer.names, *(found.conversation for found in answer.found)]
    labels = chips_by_id() if any(each.label_ids for each in conversations) else {}
    at, query = query_number(request, "at"), filters.query_string(after="")

    def row(conversation: Conversation, entry: Message | DeskEntry | None) -> SafeString:
        avatar = Avatar.of(str(conversation))
        address = reverse("agent:conversation", args=[conversation.pk]) + query
        moment = timezone.localtime(entry.created_at if entry else conversation.last_message_at)
        kind = Kind(isinstance(entry, DeskEntry), entry is None, entry is not None and entry.pk == at)
        values: dict[str, Any] = {
            "id": entry.pk if entry else f"name-{conversation.pk}",
            "href": f"{address}&at={entry.pk}#message-{entry.pk}" if entry else address,
            "get": f"{address}&at={entry.pk}" if entry else address,
            "hue": avatar.hue,
            "initials": avatar.initials,
            "name": mark(str(conversation), phrases) if entry is None else avatar.name,
            "moment": moment.isoformat(),
            "time": f"{date_format(moment, 'MONTH_DAY_FORMAT')} {moment:%H:%M}",
            "writer": _writer(entry, request),
            "snippet": snippet(entry, phrases) if entry else mark(_line(conversation), phrases),
            "website": names.get(conversation.website_id, ""),
            "labels": render_chips([labels[pk] for pk in conversation.labels if pk in labels], MAX_CHIPS),
        }
        return FOUND.render(kind, values)

    rows = [row(conversation, None) for conversation in answer.names]
    rows += [row(found.conversation, found.entry) for found in answer.found]
    return mark_safe("".join(rows))  # noqa: S308 (each is rendered by its template)


def _line(conversation: Conversation) -> str:
    return conversation.customer_email or conversation.last_line


def _writer(entry: Message | DeskEntry | None, request: AgentRequest) -> str:
    """Who has written an entry; "" for the customer."""
    if entry is None or (isinstance(entry, Message) and entry.author == Author.CUSTOMER):
        return ""
    if entry.agent_id == request.agent.pk:
        return _("You")
    return (entry.agent and (entry.agent.get_full_name() or entry.agent.username)) or _("Agent")


def snippet(entry: Message | DeskEntry, phrases: Sequence[Phrase]) -> SafeString:
    """What was found of an entry, with what stands around it."""
    content, *files = texts_of(entry)
    for text in _shown(entry, content, phrases):
        if _places(text, phrases):
            return cut(text, phrases)
    for name in files:
        if _places(name, phrases):
            return format_html("📎 {}", cut(name, phrases))
    return cut(next(_shown(entry, content, phrases)), phrases)


def _shown(entry: Message | DeskEntry, content: str, phrases: Sequence[Phrase]) -> Iterator[str]:
    """An entry's text without marks, of a long one also the part around what was found, and then as it was typed.

    Where a link leads is only in the last one.
    """
    if entry.is_formatted:
        yield plain(content)
        if len(content) > LONG and (places := _places(content, phrases)):
            start = max(0, places[0][0] - LONG // 2)
            yield plain(
                content[content.find("\n", start, start + LONG // 4) + 1 or start :]
            )  # if possible, from a line on
    yield content


def cut(text: str, phrases: Sequence[Phrase]) -> SafeString:
    """The part of a text that has the first of the phrases, with all of them marked."""
    places = _places(text, phrases)
    start = max(0, places[0][0] - BEFORE) if places else 0
    if start:  # not in the middle of a word
        space = text.find(" ", start, places[0][0])
        start = space + 1 if space >= 0 else start
    end = start + SNIPPET
    return format_html(
        "{}{}{}",
        "…" if start else "",
        _marked(text, places, start, min(end, len(text))),
        "…" if end < len(text) else "",
    )


def mark(text: str, phrases: Sequence[Phrase]) -> SafeString:
    """A text with the phrases marked."""
    return _marked(text, _places(text, phrases), 0, len(text))


def _places(text: str, phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """From where to where the phrases stand in a text, in order. Those that overlap are one."""
    there = all_words(text)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(place for phrase in phrases for place in phrase.places(there)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _marked(text: str, places: Sequence[tuple[int, int]], start: int, end: int) -> SafeString:
    parts, last = list[SafeString](), start
    for begin, stop in places:
        if begin >= end:
            break
        if begin >= start:
            parts += [escape(text[last:begin]), format_html("<mark>{}</mark>", text[begin : min(stop, end)])]
            last = min(stop, end)
    return format_html_join("", "{}", ((part,) for part in (*parts, escape(text[last:end]))))
