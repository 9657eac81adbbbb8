"""Searching messages, notes, file names and names."""

import pytest
from django.db import connection

from conversations.actions import post_message, write_note
from conversations.models import Conversation
from conversations.models.search import Question, search
from conversations.models.search_words import phrase

pytestmark = pytest.mark.django_db(transaction=connection.vendor == "mysql")


def test_x(talk, bob):
    post_message(content="Where is my order?", conversation=talk)
    write_note(content="The ordering system is down", conversation=talk, agent=bob)
    a = search(Conversation.objects.all(), Question((phrase("orde", is_prefix=True),)), 20)
    assert [f.entry.content for f in a.found] == ["The ordering system is down", "Where is my order?"]
    a = search(Conversation.objects.all(), Question((phrase("ali", is_prefix=True),)), 20)
    assert a.names == [talk]
    for n in range(200):
        post_message(content=f"number {n}", conversation=talk)
    a = search(Conversation.objects.all(), Question((phrase("orde", is_prefix=True),)), 20)
    assert [f.entry.content for f in a.found] == ["The ordering system is down", "Where is my order?"]
    a = search(Conversation.objects.all(), Question((phrase("number", is_prefix=True),)), 20)
    assert len(a.found) == 20
