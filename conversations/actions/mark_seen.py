"""A customer has seen the last answer. Agents see that they have, where the website shows receipts."""

from django.db import transaction

from conversations.announce import announce_customer
from conversations.models import Author, Conversation


def mark_seen(*, conversation: Conversation, last: int) -> None:
    """Store that the customer has seen up to the message id `last`, if that is an agent's and the last one.

    It is stored once for each message, and never where the website shows no receipts.
    """
    if last < conversation.last_message_id or not conversation.may_be_seen(Author.AGENT):
        return
    if not conversation.shows_receipts:
        return
    with transaction.atomic():
        locked = Conversation.objects.lock(conversation.pk, conversation.uuid)  # a message may arrive meanwhile
        if last >= locked.last_message_id and locked.may_be_seen(Author.AGENT):
            locked.see()
            announce_customer(locked)
