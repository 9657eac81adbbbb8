"""What it changes in the database that an agent takes a message back."""

from django.utils import timezone

from conversations.models.attachment import Attachment
from conversations.models.message import Author, Message
from conversations.models.searchable import Searchable


def remove(removal: Message) -> None:
    """Erase the text and the files of the message that a removal is about, in the transaction that inserts the removal.

    Set the fields CHANGED_BY_MESSAGE of its locked conversation; the caller saves them. The files are deleted after the
    commit. A removal is no answer: if it was the last one, the customer waits for another.
    """
    conversation, pk = removal.conversation, removal.removed_id or 0
    conversation.updated_at = timezone.now()
    messages = Message.objects.of(conversation.pk)
    if not messages.filter(pk=pk).update(content="", files=0, removed_id=pk):
        return  # it was deleted meanwhile
    Attachment.objects.filter(message=pk).delete()
    Searchable.objects.forget([pk])
    if messages.written().last_id() == pk:
        conversation.last_line = ""
    answers = messages.kept().by_agents()
    if not answers.filter(pk__gt=pk).exists():
        waiting = messages.after(answers.last_id()).filter(author=Author.CUSTOMER)
        conversation.answered_messages = conversation.customer_messages - waiting.count()
        conversation.waiting_since = waiting.values_list("created_at", flat=True).first()
