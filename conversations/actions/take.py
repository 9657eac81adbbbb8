"""An agent takes a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_to_agents
from conversations.models import Conversation

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class TakenBySomebodyElse(Exception):
    """Somebody was quicker."""


UNSEEN = -1


@transaction.atomic
def take(*, conversation: Conversation, by: "User", seen_assignee: int | None = UNSEEN) -> Conversation:
    """Assign it to the agent who takes it, whoever had it.

    `seen_assignee` is the id of the agent whom the taker saw as its assignee, or None for nobody: if that has changed
    in the meantime, TakenBySomebodyElse is raised, so that of two agents who press at once only one gets it.
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
