"""Searching messages, notes, file names, and names and e-mail addresses of customers.

The index is read in the newest windows first (models/searchable.py), in steps that each take a few milliseconds, until
there are enough or SECONDS are over. Then the search says from where to go on. What the index finds is checked against
the text itself: it only narrows what is read.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Substr
from django.utils import timezone

from conversations.models.conversation import AWAY, Conversation, ConversationQuerySet
from conversations.models.desk_entry import DeskEntry, Kind
from conversations.models.label import ConversationLabel
from conversations.models.message import MAX_ID, Author, Message, prefetch_files
from conversations.models.prepared import prepared
from conversations.models.search_words import Phrase
from conversations.models.searchable import BATCH, WINDOW_BITS, Searchable, SearchState, stored, window_bits

SECONDS = 0.25
"""How long one search goes on."""

URGENT_SECONDS = 0.1
"""How long it goes on if other searches wait for it, or nobody waits for its answer any more."""

STATEMENT_SECONDS = 0.2
"""How long one of its statements may take. They take a few milliseconds."""

MOST_WINDOWS = 256
"""Windows that one statement reads."""

GROWTH = 4
"""How many times as many windows the next statement reads while nothing is found; of smaller windows more."""

CANDIDATES = (24, 200)
"""How many rows of the index are looked at in one step, at least and at most."""

SAMPLE = 100
"""The newest rows, which tell which of the words are common."""

COMMON = 10
"""A word is common if one of so many messages has it."""

AT_LEAST = 20_000
"""Characters of texts that one step reads, however late it is: of texts of usual length, all."""

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


def search(
    desk: ConversationQuerySet,
    question: Question,
    most: int,
    after: int | None = None,
    is_urgent: Callable[[], bool] = bool,
) -> Answer:
    """What there is for a question in these conversations: at most `most` messages and notes, with ids below `after`.

    is_urgent: whether it should end after URGENT_SECONDS; called again and again.

    Raises the database's errors while it is away.
    """
    deadline = time.monotonic() + SECONDS
    state = SearchState.now()
    answer = Answer(is_complete=state.is_complete)
    highest, lowest = _bounds(question, after)
    if after is None and not question.is_about_messages:
        with _time_limit() as limits:
            answer.names = _find_names(desk, question, state.indexed, limits, deadline)
    rare, terms = _rarest_first(question, highest)
    agents = question.agents if not rare else None
    place = Place(highest, lowest, state.indexed, deadline, is_urgent)
    size, looked_at = _first_size(question, rare, terms), 0
    while len(answer.found) <= most:
        began, highest = time.monotonic(), place.highest
        try:
            with _time_limit() as limits:
                pks = _written_by(agents, place, size) if agents else _candidates(rare or terms, place, size, limits)
                answer.found += _check(desk, question, pks, place)
        except AWAY:
            if time.monotonic() < began + STATEMENT_SECONDS:
                raise
            answer.after = highest + 1  # it took too long
            break
        if place.is_at_end:
            break
        if place.is_late:
            answer.after = place.highest + 1
            break
        looked_at += len(pks)
        if COMMON * len(answer.found) < looked_at:
            rare = []  # so most of what has them has not all
        wanted = 1.2 * (most + 1 - len(answer.found)) * looked_at / max(len(answer.found), 0.01)
        size = int(min(max(wanted, CANDIDATES[0]), CANDIDATES[1]))
    if len(answer.found) > most:
        del answer.found[most:]
        answer.after = answer.found[-1].entry.pk
    return answer


def _first_size(question: Question, rare: Sequence[str], terms: Sequence[str]) -> int:
    """How many rows of the index to look at first: more if fewer of them will be an answer."""
    if len(terms) > len(question.phrases):  # many have the words, but not next to each other
        return CANDIDATES[1]
    size = CANDIDATES[0] * (3 if 0 < len(rare) < len(terms) else 1)
    return size + (BATCH if question.until else 0)


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
    lowest = Searchable.objects.filter(pk__gte=1).order_by("pk").values_list("pk", flat=True).first() or 1
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


@dataclass
class Place:
    """Where in the index a search is, on its way down."""

    highest: int  # id that was not looked at
    lowest: int  # id to look at
    indexed: int  # SQLite: the highest id in the full-text index
    deadline: float
    is_urgent: Callable[[], bool]
    step: int = 1  # windows for the next statement

    @property
    def is_at_end(self) -> bool:
        """Whether all was looked at."""
        return self.highest < max(self.lowest, 1)

    @property
    def is_late(self) -> bool:
        """Whether the search has to end here for now."""
        left = self.deadline - time.monotonic()
        return left < 0 or (left < SECONDS - URGENT_SECONDS and self.is_urgent())

    def in_time(self, sizes: Mapping[int, int]) -> Iterator[int]:
        """Those of these rows, the newest first, whose texts are reached in time: AT_LEAST characters in any case.

        sizes: how many characters there are to read of each. The next time it goes on with what was not reached.
        """
        read = 0
        for pk, size in sizes.items():
            if size and read > AT_LEAST and self.is_late:
                self.highest = max(self.highest, pk)
                return
            read += size
            yield pk


def _candidates(terms: Sequence[str], place: Place, most: int, limits: Limits) -> list[int]:
    """About `most` ids of the next rows that may have the terms, the newest first."""
    if not terms:
        rows = Searchable.objects.filter(pk__lte=place.highest, pk__gte=place.lowest).order_by("-pk")
        pks = list(rows.values_list("pk", flat=True)[:most])
        place.highest = pks[-1] - 1 if len(pks) == most else 0
        return pks
    pks = []
    if connection.vendor == "sqlite" and place.highest > place.indexed:
        pks = _pending(terms, max(place.indexed + 1, place.lowest), place.highest)
        place.highest = max(place.indexed, 0)
    bits, read = window_bits(), 0
    growth = GROWTH << WINDOW_BITS - bits
    while len(pks) < most and not place.is_at_end:
        window = place.highest >> bits
        below = max(window - place.step + 1, place.lowest >> bits)
        names = [f"{number:x}_" for number in range(window, below - 1, -1)]
        found = _ask_index(names, terms, max(below << bits, place.lowest), place.highest, most - len(pks), limits)
        pks += found
        place.highest = found[-1] - 1 if len(pks) >= most else (below << bits) - 1
        read += len(names)
        # As many windows as seem to be needed: each costs time, and each statement, too.
        needed = (most - len(pks)) * read // len(pks) if pks else growth * place.step
        place.step = min(max(needed, 1), MOST_WINDOWS)
        if place.is_late:
            break
    return pks


def _written_by(agents: Sequence[int], place: Place, most: int) -> list[int]:
    """The next ids of what these agents have written, the newest first: for words that are in most of it."""
    pks: list[int] = []
    for rows in (Message.objects.all(), DeskEntry.objects.filter(kind=Kind.NOTE)):
        found = rows.filter(agent_id__in=agents, pk__lte=place.highest, pk__gte=place.lowest).order_by("-pk")
        pks += found.values_list("pk", flat=True)[:most]
    pks = sorted(pks, reverse=True)[:most]
    place.highest = pks[-1] - 1 if len(pks) == most else 0
    return pks


def _terms(phrases: Sequence[Phrase]) -> list[str]:
    """The words of the phrases as the index has them; the beginning of one has a star."""
    return [
        stored(word) + ("*" if phrase.is_prefix and word is phrase.words[-1] else "")
        for phrase in phrases
        for word in phrase.words
    ]


def _rarest_first(question: Question, highest: int) -> tuple[list[str], list[str]]:
    """The terms without the common ones, and all of them, both the rarest first.

    What is found by a rare word is sooner read than all that have a common one, and MariaDB begins with the first.
    """
    terms = _terms(question.phrases)
    if not terms or (len(terms) == 1 and question.agents is None):
        return terms, terms
    rows = Searchable.objects.filter(pk__gte=1, pk__lte=highest).order_by("-pk")
    sample = list(rows.values_list(Substr("words", 1, 500), flat=True)[:SAMPLE])
    often = {term: sum(_has(row, term) for row in sample) for term in terms}
    terms.sort(key=lambda term: (often[term], -len(term)))
    return [term for term in terms if COMMON * often[term] <= len(sample)], terms


def _has(row: str, term: str) -> bool:
    """Whether the index has a term in a row, as far as it can be told without its window."""
    return f"_{term[:-1]}" in row if term.endswith("*") else f"_{term} " in f"{row} "


def _pending(terms: Sequence[str], lowest: int, highest: int) -> list[int]:
    """SQLite: the ids of rows that may have the terms and are not in the full-text index yet, the newest first."""
    rows = Searchable.objects.filter(pk__gte=lowest, pk__lte=highest).order_by("-pk").values_list("pk", "words")
    return [pk for pk, row in rows if all(_has(row, term) for term in terms)]


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
    # Expressions: else the planner may read all rows in the order of the primary key, or all in the range of ids.
    return query, (
        "SELECT id FROM conversations_searchable"
        " WHERE array_to_tsvector(string_to_array(words, ' ')) @@ %s::tsquery"
        " AND id + 0 >= %s AND id + 0 <= %s ORDER BY id + 0 DESC LIMIT %s"
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


def _check(desk: ConversationQuerySet, question: Question, pks: Sequence[int], place: Place) -> list[Found]:
    """Those of the messages and notes with these ids that answer the question, the newest first.

    Reading long texts may take longer than the search may. Then the rest of them is left for the next time.
    """
    texts: dict[int, str] = {}
    if len(pks) > CANDIDATES[0]:  # making objects of all of them would take longer
        texts = dict(Message.objects.filter(pk__in=pks, files=0).values_list("pk", "content"))
        reached = place.in_time({pk: len(texts.get(pk, "")) for pk in pks})
        pks = [pk for pk in reached if pk not in texts or has_all(question.phrases, [texts[pk]])]
    if not pks:
        return []
    entries: list[Message | DeskEntry] = []
    if "note" not in question.kinds:
        messages = Message.objects.filter(pk__in=pks).select_related("agent")
        if question.agents is not None:
            messages = _by(messages.by_agents(), question.agents)
        elif question.customer is not None:
            messages = messages.filter(author=Author.CUSTOMER)
        if "file" in question.kinds:
            messages = messages.filter(files__gt=0)
        entries += prefetch_files(list(_in_time(messages, question)))
    if "file" not in question.kinds and question.customer is None:
        notes = DeskEntry.objects.filter(pk__in=pks, kind=Kind.NOTE).select_related("agent")
        if question.agents is not None:
            notes = _by(notes, question.agents)
        entries += _in_time(notes, question)
    entries.sort(key=lambda entry: -entry.pk)
    by_pk = {entry.pk: entry for entry in entries}
    sizes = {pk: 0 if pk in texts else sum(map(len, texts_of(entry))) for pk, entry in by_pk.items()}
    reached = place.in_time(sizes)
    entries = [by_pk[pk] for pk in reached if pk in texts or has_all(question.phrases, texts_of(by_pk[pk]))]
    # Not by a join, for which databases may begin with all conversations.
    numbers = {entry.conversation_id for entry in entries}
    known = {each.pk: each for each in _narrowed(desk, question).filter(pk__in=numbers)} if numbers else {}
    return [Found(entry, known[entry.conversation_id]) for entry in entries if entry.conversation_id in known]


def _by(entries: Any, agents: Sequence[int]) -> Any:
    """Those that these agents have written, by an expression: else MariaDB reads all that the index of agents has."""
    return entries.annotate(by=F("agent_id") + 0).filter(by__in=agents)


def texts_of(entry: Message | DeskEntry) -> list[str]:
    """What of an entry can be found."""
    files = [file.name for file in entry.attached] if isinstance(entry, Message) else []
    return [entry.content, *files]


def has_all(phrases: Sequence[Phrase], texts: Sequence[str]) -> bool:
    """Whether each phrase stands in one of the texts."""
    return all(any(phrase.stands_in(text) for text in texts) for phrase in phrases)


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
    pending = _pending(terms, indexed + 1, -1) if is_pending else []
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
