"""An agent has read a conversation."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_seen
from conversations.models import Author, Conversation, Mention, Reading
from conversations.models.prepared import insert, update

if TYPE_CHECKING:
    from conversations.models import Agent


def mark_read(*, conversation: Conversation, agent: "Agent", last: int) -> None:
    """Store that the agent has read up to the row with the id `last`, and what mentions them there.

    It never goes back, nor past the last message. The customer sees it where the website shows receipts.
    """
    known = conversation
    mark_mentions_read(conversation=conversation, agent=agent, last=last)
    last = min(last, conversation.last_message_id)
    reading = Reading.objects.of(agent, conversation.pk)
    if reading and reading.last_message_id >= last:
        return
    with transaction.atomic():
        # Again under the lock: a message may arrive meanwhile, and another tab may have read further.
        conversation = Conversation.objects.lock(conversation.pk)
        reading = Reading.objects.of(agent, conversation.pk) or Reading(conversation=conversation, agent_id=agent.pk)
        if reading.last_message_id >= last:
            return
        unread = 0
        if last < conversation.last_message_id:
            unread = conversation.messages.after(last).filter(author=Author.CUSTOMER).count()
        reading.last_message_id, reading.customer_messages = last, conversation.customer_messages - unread
        if reading.pk:
            update(reading, "last_message_id", "customer_messages")
        else:
            insert(reading)
        if last == conversation.last_message_id and conversation.may_be_seen(Author.CUSTOMER) and known.shows_receipts:
            conversation.see()
            announce_seen(conversation)


def mark_mentions_read(*, conversation: Conversation, agent: "Agent", last: int) -> None:
    """Store that the agent has seen the notes up to the row with the id `last`."""
    if conversation.last_entry_id:
        Mention.objects.mark_read(agent, conversation.pk, last)
