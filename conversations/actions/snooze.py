"""An agent snoozes a conversation."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.close import check_seen
from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAX_SNOOZE = timedelta(days=366 * 5)
"""For how long a conversation may be snoozed."""


@transaction.atomic
def snooze(
    *, conversation: Conversation, until: datetime | None, last_seen: int | None = None, by: "User | None" = None
) -> Conversation:
    """Take an open conversation out of the open ones until this moment; None brings it back now. A closed one stays.

    Nothing has to wake up then: lists compare the moment with the time. A message of the customer brings it back, too.

    last_seen: as for `close`. Raises UnseenMessage if the customer has written a newer one: it would stay unread.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    is_later = until is not None and conversation.is_open and conversation.snoozed_until != until
    if is_later and last_seen is not None:
        check_seen(conversation, last_seen)
    if conversation.is_open and conversation.snoozed_until != until:
        conversation.snoozed_until = until
        record(conversation, Kind.SNOOZED if until else Kind.UNSNOOZED, by, content=until.isoformat() if until else "")
        conversation.save_changes("snoozed_until", "last_entry_id")
    announce_to_agents(conversation)  # also again: the first time it may have been snoozed without that
    return conversation
