"""An agent sets the priority of a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def prioritize(*, conversation: Conversation, priority: int | None, by: "User | None" = None) -> Conversation:
    """Set the priority, one of Conversation.Priority; None takes it away."""
    conversation = Conversation.objects.lock(conversation.pk)
    if conversation.priority != priority:
        conversation.priority = priority
        record(conversation, Kind.PRIORITIZED, by, content=str(priority or ""))
        conversation.save_changes("priority", "last_entry_id")
    announce_to_agents(conversation)  # also again: the first time it may have been set without that
    return conversation
