"""Fill the search index with what was written before it existed, or anew."""

from collections import Counter
from collections.abc import Iterator

from django.db import connection, transaction

from conversations.models import Conversation, DeskEntry, Message, Searchable, SearchState
from conversations.models.desk_entry import Kind
from conversations.models.message import prefetch_files

ROWS = 100
"""Messages, notes or names of one step. It locks them for a few milliseconds."""


def fill_search_index() -> Iterator[Counter[str]]:
    """As `add_missing`, for CLEANING: nothing is deleted."""
    for _added in add_missing():
        yield Counter()


def add_missing() -> Iterator[int]:
    """Add to the search index what is missing in it, the newest first.

    Yields after each short transaction how many messages and notes were added. It may be interrupted at any moment and
    run again, also twice at the same time.
    """
    is_done = SearchState.now().is_complete
    while not is_done:
        with transaction.atomic():
            state = SearchState.now()
            added = _add_names(state) if state.missing_names else _add_messages(state)
        yield added
        is_done = SearchState.now().is_complete


def reindex() -> Iterator[int]:
    """Make the search index anew, as `add_missing` does."""
    with transaction.atomic():
        SearchState.begin_anew()
    return add_missing()


def _add_names(state: SearchState) -> int:
    conversations = Conversation.objects.filter(pk__lte=state.missing_names).order_by("-pk")
    found = list((conversations.select_for_update() if _locks_rows() else conversations)[:ROWS])
    Searchable.objects.make_names_anew(found)
    below = found[-1].pk - 1 if len(found) == ROWS else 0
    SearchState.objects.filter(pk=1, missing_names=state.missing_names).update(missing_names=max(below, 0))
    return 0


def _add_messages(state: SearchState) -> int:
    messages = Message.objects.filter(pk__lte=state.missing).order_by("-pk")
    notes = DeskEntry.objects.filter(pk__lte=state.missing, kind=Kind.NOTE).order_by("-pk")
    if _locks_rows():  # what is erased meanwhile is not added after it was erased
        messages, notes = messages.select_for_update(), notes.select_for_update()
    some_messages, some_notes = list(messages[:ROWS]), list(notes[:ROWS])
    lowest = max((some[-1].pk for some in (some_messages, some_notes) if len(some) == ROWS), default=0)
    some_messages = prefetch_files([each for each in some_messages if each.pk >= lowest])
    some_notes = [each for each in some_notes if each.pk >= lowest]
    Searchable.objects.make_anew(some_messages, some_notes, max(lowest, 1), state.missing)
    SearchState.objects.filter(pk=1, missing=state.missing).update(missing=max(lowest - 1, 0))
    return len(some_messages) + len(some_notes)


def _locks_rows() -> bool:
    return connection.features.has_select_for_update
