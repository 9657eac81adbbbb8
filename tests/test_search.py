"""Searching messages, notes, file names and names."""

import re
from typing import Any

import pytest
from django.db import connection

from conversations.actions import post_message, write_note
from conversations.models import Conversation
from conversations.models.search import Answer, Question, search
from conversations.models.search_words import phrase
from tests.conftest import Page

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


SAME = {"Sec-Fetch-Site": "same-origin"}


def page_of(browser: Page, query: str, path: str = "/inbox/") -> str:
    """The inbox as the agent sees it after searching."""
    response = browser.get(path, {"q": query}, headers=SAME)
    assert response.status_code == 200
    html: str = response.content.decode()
    return html


def snippets(html: str) -> list[str]:
    """What the rows of a page show."""
    found = re.findall(r'<span class="line" dir="auto">(.*?)</span>\n', html, re.DOTALL)
    return [re.sub(r"\s+", " ", text).strip() for text in found]


def test_the_page_shows_what_was_found_with_marks_and_opens_it_in_its_place(talk: Conversation, bobs: Page) -> None:
    sent = post_message(content="Where is my <b>order</b>, the Ördered one? " + "x" * 300, conversation=talk)
    html = page_of(bobs, "order")
    marked = "Where is my &lt;b&gt;<mark>order</mark>&lt;/b&gt;, the <mark>Ördered</mark> one?"
    assert snippets(html)[0].startswith(marked)
    assert snippets(html)[0].endswith("…")
    assert f'href="/inbox/{talk.pk}/?q=order&amp;at={sent.pk}#message-{sent.pk}"' in html
    beside = page_of(bobs, "order", f"/inbox/{talk.pk}/")
    assert f'data-conversation="{talk.pk}"' in beside
    assert snippets(beside) == snippets(html)
