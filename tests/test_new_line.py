"""The line "New": where an agent has stopped reading."""

import re
from html import unescape
from typing import Any

import pytest

from conversations import actions
from conversations.models import Agent, Conversation
from conversations.screen import paging
from tests.conftest import Page

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def alice_writes(talk: Conversation, text: str = "Hello?") -> int:
    conversation = Conversation.objects.get(pk=talk.pk)
    return actions.post_message(content=text, conversation=conversation).pk


def opened(page: Page, talk: Conversation, query: str = "") -> str:
    """The page of a conversation that the agent opens."""
    response = page.get(f"/inbox/{talk.pk}/{query}", headers={"Sec-Fetch-Site": "same-origin"})
    return str(response.content.decode())


def thread(html: str) -> list[int | str]:
    """The ids of the rows, with the line and the link to older messages among them."""
    found = re.findall(r'<li [^>]*?class="(new-line|older)"|<li id="message-(\d+)"', html)
    return [name or int(pk) for name, pk in found]


def test_the_line_stands_above_the_first_message_that_bob_has_not_read(
    talk: Conversation, bob: Agent, carol: Agent, bobs: Page
) -> None:
    assert thread(opened(bobs, talk)) == [talk.last_message_id], "he has never read any of it"
    note = actions.write_note(conversation=talk, agent=carol, content="A note is no line").pk
    first, second = alice_writes(talk), alice_writes(talk)
    answer = actions.post_message(content="Hi", conversation=Conversation.objects.get(), agent=carol).pk
    rows = [talk.last_message_id, note, "new-line", first, second, answer]
    page = opened(bobs, talk)
    assert thread(page) == rows
    third = alice_writes(talk)
    news = bobs.get(f"/inbox/{talk.pk}/messages/?since={answer}", headers=HTMX).content.decode()
    assert thread(news) == [third], "polls bring no second line"
    rows.remove("new-line")
    bobs.post(f"/inbox/{talk.pk}/read/", {"last": third}, headers=HTMX)
    assert thread(opened(bobs, talk)) == [*rows, third]


def test_without_scripts_the_line_stays_while_the_page_reloads_itself(talk: Conversation, bobs: Page) -> None:
    opened(bobs, talk)
    first = alice_writes(talk)
    page = opened(bobs, talk, "?whose=mine&note=1")
    url = re.search(r'http-equiv="refresh" content="15;url=([^"]*)"', page)
    assert url
    query = unescape(url[1])
    assert query == f"?whose=mine&read={talk.last_message_id}&note=1"
    again = opened(bobs, talk, query)
    assert thread(again) == thread(page) == [talk.last_message_id, "new-line", first]
    assert url[0] in again
    assert 'content="15"' in opened(bobs, talk)


@pytest.mark.parametrize("scripts", [True, False])
def test_the_line_moves_to_its_place_when_older_messages_are_shown(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch, scripts: bool
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 3)
    read = [talk.last_message_id, alice_writes(talk), alice_writes(talk)]
    opened(bobs, talk)
    new = [alice_writes(talk) for _number in range(5)]
    page = opened(bobs, talk)
    assert thread(page) == ["older", "new-line", *new[2:]]
    attribute = "hx-get" if scripts else "href"
    url = re.search(rf'class="older"><a [^>]*?{attribute}="([^"]*)"', page)
    assert url
    path = unescape(url[1])
    older = bobs.get(path if scripts else f"/inbox/{talk.pk}/{path}", headers=HTMX if scripts else {})
    assert thread(older.content.decode()) == ["older", read[2], "new-line", *new[:2]]
    assert "read=" not in re.findall(r'class="older".*', older.content.decode())[0]


@pytest.mark.parametrize("query", ["?read=x", "?read=-1", "?read=99999999999999999999999", "?read=0"])
def test_wrong_numbers_draw_no_line(talk: Conversation, bobs: Page, query: str) -> None:
    assert "new-line" not in thread(opened(bobs, talk, query))


def test_a_page_around_a_message_has_the_line_only_in_its_place(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "HALF", 2)
    opened(bobs, talk)
    new: list[Any] = [alice_writes(talk) for _number in range(9)]
    assert thread(opened(bobs, talk, f"?at={new[0]}"))[:3] == [talk.last_message_id, "new-line", new[0]]
    assert "new-line" not in thread(opened(bobs, talk, f"?at={new[5]}"))
