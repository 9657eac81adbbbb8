"""Delete what nobody may read any more or nobody needs: everything that would otherwise grow for ever."""

from collections import Counter
from collections.abc import Callable, Iterator

from conversations.actions.delete_expired_conversations import delete_expired_conversations
from conversations.actions.delete_expired_sessions import delete_expired_sessions
from conversations.actions.delete_forgotten_contacts import delete_forgotten_contacts
from conversations.actions.delete_orphaned_files import delete_orphaned_files
from conversations.actions.reindex import fill_search_index

CLEANING: tuple[Callable[[], Iterator[Counter[str]]], ...] = (
    delete_expired_conversations,
    delete_forgotten_contacts,
    delete_expired_sessions,
    delete_orphaned_files,
    fill_search_index,
)
"""What is done once a day: old things are deleted, and the search index gets what it lacks.

Each goes on by a short step when it is asked for the next, and yields how many were deleted.

No transaction is open between two steps, and what a step has done need not be known by the next run.
"""
