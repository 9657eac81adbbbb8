"""Searching messages, notes, file names and names."""

from typing import Any

import pytest
from django.db import connection

from conversations.actions import post_message, write_note
from conversations.models import Conversation
from conversations.models.search import Answer, Question, search
from conversations.models.search_words import phrase

# MariaDB finds what was committed.
pytestmark = pytest.mark.django_db(transaction=connection.vendor == "mysql")


def look_for(*texts: str, most: int = 20, after: int | None = None) -> Answer:
    """Search everywhere for texts that begin with these."""
    phrases = tuple(found for text in texts if (found := phrase(text, is_prefix=True)))
    return search(Conversation.objects.all(), Question(phrases), most, after)


def contents(answer: Answer) -> list[str]:
    """The texts of what was found."""
    return [found.entry.content for found in answer.found]


def test_messages_notes_and_names_are_found_by_the_beginnings_of_words(talk: Conversation, bob: Any) -> None:
    post_message(content="Where is my order?", conversation=talk)
    write_note(content="The ordering system is down", conversation=talk, agent=bob)
    for _ in range(2):
        assert contents(look_for("orde")) == ["The ordering system is down", "Where is my order?"]
        assert contents(look_for("ORDER", "whe")) == ["Where is my order?"]
        assert look_for("ali").names == [talk]
        for number in range(150):
            post_message(content=f"number {number}", conversation=talk)
    found = look_for("number")
    assert contents(found) == [f"number {number}" for number in range(149, 129, -1)]
    assert contents(look_for("number", after=found.after)) == [f"number {number}" for number in range(129, 109, -1)]
