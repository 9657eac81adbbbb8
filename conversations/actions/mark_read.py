"""An agent has read a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.models import Author, Conversation, Reading

if TYPE_CHECKING:
    from conversations.models import Agent


def mark_read(*, conversation: Conversation, agent: "Agent", last: int) -> None:
    """Store that the agent has read up to the message id `last`. It never goes back, nor past the last message."""
    last = min(last, conversation.last_message_id)
    if Reading.objects.is_past(last, agent, conversation.pk):
        return
    with transaction.atomic():
        # Again under the lock: a message may arrive meanwhile, and another tab may have read further.
        conversation = Conversation.objects.lock(conversation.pk)
        if Reading.objects.is_past(last, agent, conversation.pk):
            return
        unread = conversation.messages.after(last).filter(author=Author.CUSTOMER).count()
        Reading.objects.update_or_create(
            conversation=conversation,
            agent_id=agent.pk,
            defaults={"last_message_id": last, "customer_messages": conversation.customer_messages - unread},
        )
