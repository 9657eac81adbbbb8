"""An agent assigns a conversation to an agent, or to nobody."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_to_agents
from conversations.models import Agent, Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def assign(*, conversation: Conversation, to: Agent | None, by: "User | None" = None) -> Conversation:
    """Assign a conversation to an agent who may see it; None releases it, so that it is unassigned again."""
    conversation = Conversation.objects.lock(conversation.pk)
    assignee_id = to.pk if to else None
    if conversation.assignee_id != assignee_id:
        conversation.assignee = to
        conversation.save_changes("assignee")
    announce_to_agents(conversation)  # also again: the first time it may have been assigned without that
    return conversation
