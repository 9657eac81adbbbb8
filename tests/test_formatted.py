"""Formatted text: what agents type in the inbox is Markdown, and what anybody else writes is shown as it was typed."""

import uuid
from typing import Any

import pytest

from conversations import actions
from conversations.models import Conversation, DeskEntry, Message, News
from tests.conftest import Page

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}


def answer(talk: Conversation, bobs: Page, text: str) -> int:
    """Bob answers on the desk's page; return the message's id."""
    response = bobs.post(f"/inbox/{talk.pk}/messages/", {"content": text}, headers=HTMX)
    assert response.status_code == 204, response.content
    return int(response["X-Message"])


def test_only_what_agents_write_in_the_inbox_is_formatted(
    talk: Conversation, alice: Page, bob: Any, bobs: Page
) -> None:
    written = answer(talk, bobs, "**bold**")
    actions.post_message(content="**bot**", conversation=Conversation.objects.get(pk=talk.pk), agent=bob)
    alice.post(
        "/api/messages/", {"conversation": talk.uuid.hex, "content": "**typed**"}, content_type="application/json"
    )
    bobs.post(f"/inbox/{talk.pk}/notes/", {"content": "**note**"}, headers=HTMX)
    formatted = {message.content: bool(message.is_formatted) for message in Message.objects.filter(conversation=talk)}
    assert formatted == {
        talk.messages.earliest("pk").content: False,
        "**bold**": True,
        "**bot**": False,
        "**typed**": False,
    }
    assert DeskEntry.objects.get().is_formatted is True
    news = News.after(talk.pk, written - 1, 10)
    assert news
    assert [bool(message.is_formatted) for message in news.messages] == [True, False, False]


def test_a_retry_finds_the_formatted_message(talk: Conversation, bobs: Page) -> None:
    sent = {"content": "*once*", "client_id": str(uuid.uuid4())}
    ids = {bobs.post(f"/inbox/{talk.pk}/messages/", sent, headers=HTMX)["X-Message"] for _ in range(2)}
    assert len(ids) == 1
