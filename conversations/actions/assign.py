"""An agent assigns a conversation to an agent, or to nobody."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Agent, Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def assign(*, conversation: Conversation, to: Agent | None, by: "User | None" = None) -> Conversation:
    """Assign a conversation to an agent who may see it; None releases it, so that it is unassigned again.

    `by` is the agent who does it.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    assignee_id = to.pk if to else None
    if conversation.assignee_id != assignee_id:
        conversation.assignee = to
        record(conversation, Kind.ASSIGNED if to else Kind.UNASSIGNED, by, about=to)
        conversation.save_changes("assignee", "last_entry_id")
    announce_to_agents(conversation)  # also again: the first time it may have been assigned without that
    return conversation
