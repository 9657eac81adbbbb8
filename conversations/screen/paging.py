"""Pages of messages on a screen, and the numbers in query strings that select them."""

from django.http import HttpRequest, HttpResponse

from conversations.models import Agent, Conversation, Message
from conversations.screen.bubbles import Bubble, FileUrl, make_bubbles

PAGE_SIZE = 50
"""Messages on a screen at first, and how many older ones each request adds."""

MAX_NUMBER = 2**62
"""Larger than any id, and small enough that every database can still add to it."""


def parse_number(text: str) -> int | None:
    """The whole number in a text, capped at MAX_NUMBER, or None if the text is not one."""
    return min(int(text), MAX_NUMBER) if text.isascii() and text.isdigit() and len(text) < 20 else None


def query_number(request: HttpRequest, name: str) -> int | None:
    """The whole number in a query parameter, capped at MAX_NUMBER, or None."""
    return parse_number(request.GET.get(name, ""))


def latest_page(
    conversation: Conversation, before: int | None, reader: Agent | None, file_url: FileUrl
) -> tuple[list[Bubble], int | None]:
    """The newest page of messages with ids below `before`, or of all messages if it is None.

    Also returns the value of `before` for the page of older messages, or None if there are none.
    """
    found = conversation.messages.latest_before(before, PAGE_SIZE + 1)
    previous = found.pop(0) if len(found) > PAGE_SIZE else None
    shown = make_bubbles(found, previous=previous, conversation=conversation, reader=reader, file_url=file_url)
    return shown, found[0].pk if previous else None


def message_accepted(message: Message) -> HttpResponse:
    """Tell the page's script that its message is stored under this id, and make it fetch the new messages."""
    return HttpResponse(status=204, headers={"HX-Trigger": "messages", "X-Message": str(message.pk)})
