"""Quotes: an agent begins a text with what somebody has written before."""

from conversations.agent.access import AgentRequest
from conversations.models import Conversation, DeskEntry, Message
from conversations.screen.paging import query_number

MAX_QUOTE = 2_000
"""Characters of a message that are quoted."""


def find(conversation: Conversation, number: int) -> Message | DeskEntry | None:
    """The message or note of a conversation with this id; None if there is none."""
    return Message.objects.one(conversation.pk, number) or DeskEntry.objects.note(conversation.pk, number)


def quote(written: Message | DeskEntry) -> str:
    """A message or note as quoted lines and an empty one; the names of its files if it has no text.

    It is "" for a message that was taken back.
    """
    text = written.content.strip()
    if not text and isinstance(written, Message):
        text = "\n".join(f"📎 {file.name}" for file in written.attached)
    if len(text) > MAX_QUOTE:
        text = f"{text[:MAX_QUOTE].rstrip()}…"
    return "".join(f"> {line}".rstrip() + "\n" for line in text.split("\n")) + "\n" if text else ""


def with_asked(request: AgentRequest, conversation: Conversation, typed: str, *, is_note: bool) -> str:
    """What an agent has typed, with the quote that `?quote=` asks for below it.

    A note is quoted only in a note: what agents write for each other reaches no customer.
    """
    number = query_number(request, "quote")
    written = find(conversation, number) if number else None
    if written is None or (isinstance(written, DeskEntry) and not is_note):
        return typed
    return "\n\n".join(part for part in (typed.rstrip("\n"), quote(written)) if part)
