"""An agent takes a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class TakenBySomebodyElse(Exception):
    """Another agent has taken the conversation meanwhile."""


UNSEEN = -1
"""The caller does not say who was the assignee on the agent's screen, so take it from anybody."""


@transaction.atomic
def take(*, conversation: Conversation, by: "User", seen_assignee: int | None = UNSEEN) -> Conversation:
    """Assign a conversation to the agent `by`.

    `seen_assignee` is the id of the assignee on the agent's screen, or None for nobody. Raises TakenBySomebodyElse if
    the assignee is another one now, so that only one of two agents who press at once gets it.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    if conversation.assignee_id == by.pk:
        announce_to_agents(conversation)  # the first time it may have been taken without that
        return conversation
    if seen_assignee != UNSEEN and conversation.assignee_id != seen_assignee:
        raise TakenBySomebodyElse
    conversation.assignee = by
    record(conversation, Kind.ASSIGNED, by, about=by)
    conversation.save_changes("assignee", "last_entry_id")
    announce_to_agents(conversation)
    return conversation
