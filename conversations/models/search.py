"""Searching messages, notes, file names, and names and e-mail addresses of customers.

The index is read in the newest windows first (models/searchable.py), in steps that each take a few milliseconds, until
there are enough or SECONDS are over. Then the search says from where to go on. What the index finds is checked against
the text itself: it only narrows what is read.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from conversations.models.conversation import AWAY, Conversation, ConversationQuerySet
from conversations.models.desk_entry import DeskEntry, Kind
from conversations.models.label import ConversationLabel
from conversations.models.message import MAX_ID, Author, Message, prefetch_files
from conversations.models.prepared import prepared
from conversations.models.search_words import Phrase, words
from conversations.models.searchable import BATCH, Searchable, SearchState, stored, window_bits

SECONDS = 0.25
"""How long one search goes on."""

STATEMENT_SECONDS = 0.2
"""How long one of its statements may take. They take a few milliseconds."""

MOST_WINDOWS = 64
"""Windows that one statement reads."""

CANDIDATES = (40, 200)
"""How many rows of the index are looked at in the first step, and in each of the following."""

MOST_NAMES = 5
"""Customers that are found by their names."""

NAMES_AT_ONCE = 1000
"""Names that are looked at in one step."""


@dataclass(frozen=True)
class Question:
    """What to search for."""

    phrases: tuple[Phrase, ...] = ()
    agents: tuple[int, ...] | None = None  # who wrote it: one of these agents,
    customer: str | None = None  # or a customer with this in their name or e-mail address; "" for any
    labels: tuple[int, ...] = ()  # each of them
    website: int | None = None
    states: frozenset[str] = frozenset()  # open, closed, snoozed, mine, assigned, unassigned
    kinds: frozenset[str] = frozenset()  # note, file
    since: datetime | None = None
    until: datetime | None = None  # the first moment that is too late

    @property
    def is_empty(self) -> bool:
        """Whether it asks for everything."""
        return self == Question()

    @property
    def is_about_messages(self) -> bool:
        """Whether no name can be an answer."""
        by = self.agents is not None or self.customer is not None
        return bool(by or self.kinds or self.since or self.until or not self.phrases)


class Found(NamedTuple):
    """A message or a note that was found."""

    entry: Message | DeskEntry
    conversation: Conversation


@dataclass
class Answer:
    """What was found, the newest first."""

    found: list[Found] = field(default_factory=list)
    names: list[Conversation] = field(default_factory=list)  # of which the customer was found
    after: int | None = None  # the id below which to go on; None if there is no more
    is_complete: bool = True  # whether the search index is


def search(desk: ConversationQuerySet, question: Question, most: int, after: int | None = None) -> Answer:
    """What there is for a question in these conversations: at most `most` messages and notes, with ids below `after`.

    Raises the database's errors while it is away.
    """
    deadline = time.monotonic() + SECONDS
    state = SearchState.now()
    answer = Answer(is_complete=state.is_complete)
    highest, lowest = _bounds(question, after)
    if after is None and not question.is_about_messages:
        with _time_limit() as limits:
            answer.names = _find_names(desk, question, state.indexed, limits, deadline)
    size = CANDIDATES[0]
    while len(answer.found) <= most:
        began = time.monotonic()
        try:
            with _time_limit() as limits:
                pks, below = _candidates(question.phrases, highest, lowest, size, state.indexed, limits)
                answer.found += _check(desk, question, pks)
        except AWAY:
            if time.monotonic() < began + STATEMENT_SECONDS:
                raise
            answer.after = highest + 1  # it took too long
            break
        highest = below
        if highest < lowest or not highest:
            break
        if time.monotonic() > deadline:
            answer.after = highest + 1
            break
        size = CANDIDATES[1]
    if len(answer.found) > most:
        del answer.found[most:]
        answer.after = answer.found[-1].entry.pk
    return answer


def find_customers(desk: ConversationQuerySet, phrases: Sequence[Phrase]) -> list[Conversation]:
    """The newest of these conversations, at most MOST_NAMES, whose customer's name or e-mail address has the phrases.

    Raises the database's errors while it is away.
    """
    if not phrases:
        return []
    with _time_limit() as limits:
        question = Question(phrases=tuple(phrases))
        return _find_names(desk, question, SearchState.now().indexed, limits, time.monotonic() + SECONDS)


def _bounds(question: Question, after: int | None) -> tuple[int, int]:
    """The highest and the lowest id to look at."""
    newest = Searchable.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    highest = min(newest, MAX_ID if after is None else after - 1)
    lowest = 1
    # The order of ids may differ from that of the times by moments, and a day is a day: the rows are checked, too.
    if question.until:
        highest = min(highest, _first_id(question.until, newest) + BATCH)
    if question.since:
        lowest = max(lowest, _first_id(question.since, newest) - BATCH)
    return highest, lowest


def _first_id(moment: datetime, newest: int) -> int:
    """About the lowest id of what was written from this moment on, by halving."""

    def build() -> Any:
        return Message.objects.filter(pk__gte=-1).order_by("pk").values_list("pk", "created_at")[:1]

    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        found = prepared(Message.objects.all(), "first from", build, {-1: middle})
        if not found or found[0][1] >= moment:
            high = middle
        else:
            low = found[0][0] + 1
    return low


class Limits(NamedTuple):
    """How the statements of one search are limited."""

    before: str = ""  # what each statement begins with


@contextmanager
def _time_limit() -> Iterator[Limits]:
    """Let no statement take long, whatever is asked."""
    vendor = connection.vendor
    if vendor == "postgresql":
        if connection.in_atomic_block:  # the limit would hold for the rest of it
            yield Limits()
            return
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{STATEMENT_SECONDS * 1000:.0f}"])
            yield Limits()
    elif vendor == "mysql":
        yield Limits(f"SET STATEMENT max_statement_time = {STATEMENT_SECONDS} FOR ")
    else:
        connection.ensure_connection()
        end = time.monotonic() + SECONDS + STATEMENT_SECONDS
        raw: Any = connection.connection
        raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            yield Limits()
        finally:
            raw.set_progress_handler(None, 0)


def _candidates(
    phrases: Sequence[Phrase], highest: int, lowest: int, most: int, indexed: int, limits: Limits
) -> tuple[list[int], int]:
    """About `most` ids from `highest` down to `lowest` of rows that may have the phrases, the newest first.

    Also returns the highest id that was not looked at.
    """
    if not phrases:
        rows = Searchable.objects.filter(pk__lte=highest, pk__gte=lowest).order_by("-pk")
        pks = list(rows.values_list("pk", flat=True)[:most])
        return pks, pks[-1] - 1 if len(pks) == most else 0
    pks = []
    if connection.vendor == "sqlite" and highest > indexed:
        pks = _pending(phrases, max(indexed + 1, lowest), highest)
        highest = max(indexed, 0)
    terms = _terms(phrases)
    bits, step = window_bits(), 1
    window, last = highest >> bits, lowest >> bits
    while highest >= lowest and len(pks) < most:
        below = max(window - step + 1, last)
        names = [f"{number:x}_" for number in range(window, below - 1, -1)]
        found = _ask_index(names, terms, max(below << bits, lowest), highest, most - len(pks), limits)
        pks += found
        highest = found[-1] - 1 if len(pks) >= most else (below << bits) - 1
        window, step = below - 1, min(2 * step, MOST_WINDOWS)
    return pks, max(highest, 0)


def _terms(phrases: Sequence[Phrase]) -> list[str]:
    """The words of the phrases as the index has them; the beginning of one has a star."""
    return [
        stored(word) + ("*" if phrase.is_prefix and word is phrase.words[-1] else "")
        for phrase in phrases
        for word in phrase.words
    ]


def _pending(phrases: Sequence[Phrase], lowest: int, highest: int) -> list[int]:
    """SQLite: the ids of rows that may have the phrases and are not in the full-text index yet, the newest first."""
    rows = Searchable.objects.filter(pk__gte=lowest, pk__lte=highest)
    found = []
    for pk, text in rows.order_by("-pk").values_list("pk", "words"):
        there = [word.partition("_")[2] for word in text.split(" ")]
        if all(
            word in there or any(each.startswith(word) for each in there) for each in phrases for word in each.words
        ):
            found.append(pk)
    return found


def _ask_index(
    windows: Sequence[str],
    terms: Sequence[str],
    lowest: int,
    highest: int,
    most: int,
    limits: Limits,
    *,
    is_upward: bool = False,
) -> list[int]:
    """At most `most` ids from `highest` down to `lowest` of rows in these windows that have all the terms.

    A term is a word, or the beginning of one with a star. `is_upward`: from `lowest` up to `highest`.
    """
    query, sql = ASK[connection.vendor](windows, terms)
    if is_upward:
        sql = sql.replace(" DESC ", " ASC ")
    with connection.cursor() as cursor:
        cursor.execute(limits.before + sql, [query, lowest, highest, most])
        return [pk for (pk,) in cursor.fetchall()]


def _ask_sqlite(windows: Sequence[str], terms: Sequence[str]) -> tuple[str, str]:
    def quote(window: str, term: str) -> str:
        return f'"{window}{term[:-1]}" *' if term.endswith("*") else f'"{window}{term}"'

    query = " OR ".join(f"({' AND '.join(quote(window, term) for term in terms)})" for window in windows)
    return query, (
        "SELECT rowid FROM conversations_searchindex WHERE conversations_searchindex MATCH %s"
        " AND rowid >= %s AND rowid <= %s ORDER BY rowid DESC LIMIT %s"
    )


def _ask_postgresql(windows: Sequence[str], terms: Sequence[str]) -> tuple[str, str]:
    def quote(window: str, term: str) -> str:
        return f"'{window}{term[:-1]}':*" if term.endswith("*") else f"'{window}{term}'"

    query = " | ".join(f"({' & '.join(quote(window, term) for term in terms)})" for window in windows)
    # Ordered by an expression: else the planner may read all rows in the order of the primary key.
    return query, (
        "SELECT id FROM conversations_searchable"
        " WHERE array_to_tsvector(string_to_array(words, ' ')) @@ %s::tsquery"
        " AND id >= %s AND id <= %s ORDER BY id + 0 DESC LIMIT %s"
    )


def _ask_mysql(windows: Sequence[str], terms: Sequence[str]) -> tuple[str, str]:
    query = " ".join(f"({' '.join(f'+{window}{term}' for term in terms)})" for window in windows)
    return query, (
        "SELECT id FROM conversations_searchable WHERE MATCH (words) AGAINST (%s IN BOOLEAN MODE)"
        " AND id >= %s AND id <= %s ORDER BY id DESC LIMIT %s"
    )


ASK: dict[str, Callable[[Sequence[str], Sequence[str]], tuple[str, str]]] = {
    "sqlite": _ask_sqlite,
    "postgresql": _ask_postgresql,
    "mysql": _ask_mysql,
}


def _check(desk: ConversationQuerySet, question: Question, pks: Sequence[int]) -> list[Found]:
    """Those of the messages and notes with these ids that answer the question, the newest first."""
    if not pks:
        return []
    entries: list[Message | DeskEntry] = []
    if "note" not in question.kinds:
        messages = Message.objects.filter(pk__in=pks).select_related("agent")
        if question.agents is not None:
            messages = messages.by_agents().filter(agent_id__in=question.agents)
        elif question.customer is not None:
            messages = messages.filter(author=Author.CUSTOMER)
        if "file" in question.kinds:
            messages = messages.filter(files__gt=0)
        entries += prefetch_files(list(_in_time(messages, question)))
    if "file" not in question.kinds and question.customer is None:
        notes = DeskEntry.objects.filter(pk__in=pks, kind=Kind.NOTE).select_related("agent")
        if question.agents is not None:
            notes = notes.filter(agent_id__in=question.agents)
        entries += _in_time(notes, question)
    entries.sort(key=lambda entry: -entry.pk)
    entries = [entry for entry in entries if has_all(question.phrases, texts_of(entry))]
    # Not by a join, for which databases may begin with all conversations.
    numbers = {entry.conversation_id for entry in entries}
    known = {each.pk: each for each in _narrowed(desk, question).filter(pk__in=numbers)} if numbers else {}
    return [Found(entry, known[entry.conversation_id]) for entry in entries if entry.conversation_id in known]


def texts_of(entry: Message | DeskEntry) -> list[str]:
    """What of an entry can be found."""
    files = [file.name for file in entry.attached] if isinstance(entry, Message) else []
    return [entry.content, *files]


def has_all(phrases: Sequence[Phrase], texts: Sequence[str]) -> bool:
    """Whether each phrase stands in one of the texts."""
    if not phrases:
        return True
    there = [list(words(text)) for text in texts]
    return all(any(next(phrase.places(each), None) for each in there) for phrase in phrases)


def _narrowed(desk: ConversationQuerySet, question: Question) -> ConversationQuerySet:
    """The conversations in which to search."""
    found = desk
    if question.website is not None:
        found = found.filter(website_id=question.website)
    for label in question.labels:
        found = found.filter(Exists(ConversationLabel.objects.filter(conversation=OuterRef("pk"), label_id=label)))
    if question.customer:
        named = Q(customer_name__icontains=question.customer) | Q(customer_email__icontains=question.customer)
        found = found.filter(named)
    now = timezone.now()
    snoozed = Q(status=Conversation.Status.OPEN, snoozed_until__gt=now)
    conditions = {
        "open": Q(status=Conversation.Status.OPEN) & ~Q(snoozed_until__gt=now) | Q(status="OPEN", snoozed_until=None),
        "snoozed": snoozed,
        "closed": Q(status=Conversation.Status.CLOSED),
        "assigned": Q(assignee__isnull=False),
        "unassigned": Q(assignee=None),
    }
    for state in question.states:
        found = found.filter(Q(assignee_id=int(state[5:])) if state.startswith("mine ") else conditions[state])
    return found.order_by()


def _in_time(entries: Any, question: Question) -> Any:
    if question.since:
        entries = entries.filter(created_at__gte=question.since)
    if question.until:
        entries = entries.filter(created_at__lt=question.until)
    return entries


def _find_names(
    desk: ConversationQuerySet, question: Question, indexed: int, limits: Limits, deadline: float
) -> list[Conversation]:
    """The newest conversations of customers with a name or an e-mail address that has all of the phrases."""
    found: list[Conversation] = []
    highest = -(Searchable.objects.order_by("pk").values_list("pk", flat=True).first() or 0)
    terms = _terms(question.phrases)
    is_pending = connection.vendor == "sqlite" and indexed < -1
    pending = _pending(question.phrases, indexed + 1, -1) if is_pending else []
    bits, step = window_bits(), 1
    window = highest >> bits
    while highest > 0 and window >= 0 and len(found) < MOST_NAMES and time.monotonic() < deadline:
        below = max(window - step + 1, 0)
        names = [f"n{number:x}_" for number in range(window, below - 1, -1)]
        # Ids are negative: the highest conversations have the lowest.
        pks = _ask_index(names, terms, -highest, -1, NAMES_AT_ONCE, limits, is_upward=True)
        numbers = [-pk for pk in {*pks, *pending}]
        rows = _narrowed(desk, question).filter(pk__in=numbers).order_by("-last_message_id")
        found += [each for each in rows[: 10 * MOST_NAMES] if has_all(question.phrases, each.names)]
        pending = []
        if len(pks) == NAMES_AT_ONCE:  # the agent may see few of them
            highest = -pks[-1] - 1
            window = highest >> bits
        else:
            highest = (below << bits) - 1
            window, step = below - 1, min(2 * step, MOST_WINDOWS)
    return found[:MOST_NAMES]
