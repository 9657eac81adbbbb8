"""An agent takes a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_to_agents
from conversations.models import Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class TakenBySomebodyElse(Exception):
    """Another agent was quicker."""


UNSEEN = -1
"""The taker did not say whom they saw as the assignee."""


@transaction.atomic
def take(*, conversation: Conversation, by: "User", seen_assignee: int | None = UNSEEN) -> Conversation:
    """Assign it to the agent `by`, whoever had it.

    `seen_assignee` is the id of the assignee on the taker's screen, or None for nobody. Raises TakenBySomebodyElse if
    that has changed meanwhile, so that only one of two agents who press at once gets it.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    if conversation.assignee_id == by.pk:
        return conversation
    if seen_assignee != UNSEEN and conversation.assignee_id != seen_assignee:
        raise TakenBySomebodyElse
    conversation.assignee = by
    conversation.save(update_fields=["assignee"])
    announce_to_agents(conversation)
    return conversation
