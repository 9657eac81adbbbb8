"""Pages of messages on a screen, and the numbers in query strings that select them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from conversations.models import Agent, Conversation, DeskEntry, Message, News, replica
from conversations.models.conversation import AWAY
from conversations.models.desk_news import DeskNews, ThreadRow, in_order, newest_entries
from conversations.models.removed_rows import removals_after, removed_messages, row_before
from conversations.models.settling import catch_up, newest_in_log
from conversations.screen.bubbles import Bubble, ChangedRow, FileUrl, ShownRow, make_rows

Row = TypeVar("Row", bound=ThreadRow)

PAGE_SIZE = 50
"""Messages on a screen at first, and how many older ones each request adds."""

HALF = PAGE_SIZE // 2
"""Messages before and after one in the middle of a conversation."""

MAX_BYTES = 50_000
"""Bytes of messages in one response: 5 seconds at 10 kB/s. A larger message is the only one in its response."""

MAX_NUMBER = 2**62
"""Larger than any id, and small enough that every database can still add to it."""


def parse_number(text: str) -> int | None:
    """The whole number in a text, capped at MAX_NUMBER, or None if the text is not one."""
    return min(int(text), MAX_NUMBER) if text.isascii() and text.isdigit() and len(text) < 20 else None


def query_number(request: HttpRequest, name: str) -> int | None:
    """The whole number in a query parameter, capped at MAX_NUMBER, or None."""
    return parse_number(request.GET.get(name, ""))


def latest_page(
    conversation: Conversation, before: int | None, reader: Agent | None, file_url: FileUrl
) -> tuple[list[ShownRow], int | None]:
    """The newest page of messages with ids below `before`, or of all messages if it is None.

    For agents, with the notes and activities among them. Then it is as the conversation was read, so that no entry is
    passed over between two queries; what has come since is new for the next poll.

    Also returns the value of `before` for the page of older messages, or None if there are none.
    """
    is_whole = catch_up(conversation)
    top = conversation.last_message_id + 1 if reader and is_whole and before is None else before
    try:
        found = _newest(conversation, PAGE_SIZE + 1, top, is_whole)
        entries = newest_entries(conversation, PAGE_SIZE + 1, before) if reader else []
        if before is None and not (is_whole and found):
            last = found[-1].pk if found else 0
            found += [message for message in newest_in_log(conversation, PAGE_SIZE + 1) if message.pk > last]
    except AWAY:
        found, entries = newest_in_log(conversation, PAGE_SIZE + 1) if before is None else [], []
        if not found:
            raise
    rows = in_order(found, entries)[-PAGE_SIZE - 1 :]
    fit = _fitting(reversed(rows[-PAGE_SIZE:]))[::-1]
    fit, previous, older = _beginning(rows, fit, conversation.pk, has_entries=reader is not None)
    shown = make_rows(fit, previous=previous, conversation=conversation, reader=reader, file_url=file_url)
    return shown, older


def _newest(conversation: Conversation, most: int, before: int | None, is_whole: bool) -> list[Message]:
    if is_whole:
        return replica.newest(conversation, most, before)
    return Message.objects.newest(conversation.pk, most, before=before)


class Place(NamedTuple):
    """The rows around an entry of a conversation."""

    rows: list[ShownRow]
    older: int | None  # as `latest_page` returns it
    newer: int | None  # the last row's id, if newer ones follow


def page_around(conversation: Conversation, at: int, reader: Agent, file_url: FileUrl) -> Place:
    """The entry with the id `at` with those around it, for an agent; the newest page if nothing is newer than it.

    If there is no such entry, those around where it would be. While SQL is away, the newest page of the log.
    """
    is_whole = catch_up(conversation)
    found: list[Message] = []
    entries: list[DeskEntry] = []
    news = None
    if at < max(conversation.last_message_id, conversation.last_entry_id or 0):
        try:
            news = DeskNews.after(conversation, at, HALF)
            found = _newest(conversation, HALF + 1, at + 1, is_whole)
            entries = newest_entries(conversation, HALF + 1, at + 1)
        except AWAY:
            news = None
    if news is None or not news.rows:
        return Place(*latest_page(conversation, None, reader, file_url), None)
    rows = in_order(found, entries)[-HALF - 1 :]
    fit = _fitting(reversed(rows[-HALF:]), MAX_BYTES // 2)[::-1]
    fit, previous, older = _beginning(rows, fit, conversation.pk, has_entries=True)
    following = _fitting(news.rows, MAX_BYTES // 2)
    shown = make_rows(
        [*fit, *following], previous=previous, conversation=conversation, reader=reader, file_url=file_url
    )
    return Place(shown, older, following[-1].pk if following[-1].pk < news.last else None)


def newer_page(news: News, file_url: FileUrl) -> tuple[list[ShownRow], bool]:
    """The first of the new messages for the customer, as many as fit, and whether there are more of them."""
    fit = _fitting(news.messages)
    previous = _shown(news.previous, news.conversation_id, has_entries=False) if fit else None
    shown = make_rows(fit, previous=previous, conversation=None, reader=None, file_url=file_url)
    return _changed_above(fit, None, None, file_url) + shown, bool(fit) and fit[-1].pk < news.last_message_id


def newer_desk_page(
    news: DeskNews, conversation: Conversation, reader: Agent, file_url: FileUrl
) -> tuple[list[ShownRow], bool]:
    """As `newer_page`, for an agent."""
    fit = _fitting(news.rows)
    previous = _shown(news.previous, conversation.pk, has_entries=True)
    shown = make_rows(fit, previous=previous, conversation=conversation, reader=reader, file_url=file_url)
    return _changed_above(fit, conversation, reader, file_url) + shown, bool(fit) and fit[-1].pk < news.last


def _beginning(
    rows: list[Row], fit: list[Row], conversation_id: int, *, has_entries: bool
) -> tuple[list[Row], ThreadRow | None, int | None]:
    """The last rows `fit` of these as a page, the row before them, and the id below which there are older ones.

    A page begins with a row that is shown, not with a removal.
    """
    while len(fit) > 1 and _is_removal(fit[0]):
        fit = fit[1:]
    if len(fit) == len(rows):
        return fit, None, None
    return fit, _shown(rows[-len(fit) - 1], conversation_id, has_entries=has_entries), fit[0].pk


def _is_removal(row: ThreadRow) -> bool:
    return isinstance(row, Message) and row.is_removal


def _shown(row: ThreadRow | None, conversation_id: int, *, has_entries: bool) -> ThreadRow | None:
    """The row or, if it is a removal, the one before it that is shown."""
    return row_before(conversation_id, row.pk, has_entries=has_entries) if row and _is_removal(row) else row


def changed_page(
    conversation: Conversation, since: int, reader: Agent, file_url: FileUrl
) -> tuple[list[ShownRow], int | None]:
    """What removals with ids above `since` have changed, for an agent's page in the middle of the conversation.

    Also the id of the last of them, if there are any.
    """
    if conversation.last_message_id <= since:
        return [], None
    removals = removals_after(conversation.pk, since, PAGE_SIZE)
    last = removals[-1].pk if removals else None
    return _changed_rows(removals, conversation, reader, file_url), last


def _changed_above(
    rows: Sequence[ThreadRow], conversation: Conversation | None, reader: Agent | None, file_url: FileUrl
) -> list[ShownRow]:
    """What the removals among these rows change on the page above them."""
    removals = [row for row in rows if isinstance(row, Message) and row.is_removal]
    above = [removal for removal in removals if (removal.removed_id or 0) < rows[0].pk]
    return _changed_rows(above, conversation, reader, file_url)


def _changed_rows(
    removals: Sequence[Message], conversation: Conversation | None, reader: Agent | None, file_url: FileUrl
) -> list[ShownRow]:
    changed: list[ShownRow] = []
    for message in removed_messages(removals):
        previous = row_before(message.conversation_id, message.pk, has_entries=reader is not None)
        made = make_rows([message], previous=previous, conversation=conversation, reader=reader, file_url=file_url)
        changed += [ChangedRow(bubble) for bubble in made if isinstance(bubble, Bubble)]
    return changed


def restored_page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Replace all messages of a page that shows newer ones than there are: the database was restored.

    `context` is the one of `_older.html` for the newest page.
    """
    response = render(request, "conversations/_restored.html", context)
    response["HX-Reswap"] = "innerHTML"
    return response


def _fitting(messages: Iterable[Row], most: int = MAX_BYTES) -> list[Row]:
    """The first of the messages whose texts fit into `most` bytes, at least one of them."""
    fit: list[Row] = []
    size = 0
    for message in messages:
        size += len(message.content.encode())
        if fit and size > most:
            break
        fit.append(message)
    return fit


def message_accepted(message: ThreadRow) -> HttpResponse:
    """Tell the page's script that its message or note is stored under this id, and make it fetch the new messages."""
    return HttpResponse(status=204, headers={"HX-Trigger": "messages", "X-Message": str(message.pk)})
