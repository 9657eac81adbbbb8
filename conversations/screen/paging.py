"""How much of a conversation is shown at once, and the numbers in addresses that say where."""

from django.http import HttpRequest, HttpResponse

from conversations.models import Agent, Conversation, Message
from conversations.screen.bubbles import Bubble, FileAddress, bubbles

PAGE = 50
"""Messages at once on a screen; older ones are fetched on demand."""

LARGEST = 2**62
"""Larger than any id, and small enough for every database's arithmetic."""


def number(request: HttpRequest, name: str) -> int | None:
    """The whole number in the query string under `name`, or None if there is none."""
    text = request.GET.get(name, "")
    return min(int(text), LARGEST) if text.isascii() and text.isdigit() and len(text) < 20 else None


def latest(
    conversation: Conversation, before: int | None, reader: Agent | None, file_address: FileAddress
) -> tuple[list[Bubble], int | None]:
    """The newest page of messages with ids below `before` (None: of all), and below which id there are older ones."""
    found = conversation.messages.latest_before(before, PAGE + 1)
    previous = found.pop(0) if len(found) > PAGE else None
    shown = bubbles(found, previous=previous, conversation=conversation, reader=reader, file_address=file_address)
    return shown, found[0].pk if previous else None


def sent(message: Message) -> HttpResponse:
    """The answer to a page whose script has sent a message: there are messages to fetch, up to its id at least."""
    return HttpResponse(status=204, headers={"HX-Trigger": "messages", "X-Message": str(message.pk)})
