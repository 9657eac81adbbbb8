"""How many messages a page gets at once, and what it gets after the database was restored."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations.actions import post_message
from conversations.models import Conversation, Message
from conversations.screen.paging import MAX_BYTES, PAGE_SIZE
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db

SIDES = ("customer", "agent")
LONG = "長" * 20_000  # 60 kB
HALF = "半" * 8_000  # 24 kB


class Screen:
    """The pages of one conversation for one side."""

    def __init__(self, side: str, browser: Page, talk: Conversation) -> None:
        self.browser = browser
        self.page, self.news = ("/chat/", "/chat/messages/")
        if side == "customer":
            browser.cookies["chat"] = talk.uuid.hex
        else:
            self.page, self.news = f"/inbox/{talk.pk}/", f"/inbox/{talk.pk}/messages/"

    def opens(self) -> Any:
        return self.browser.get(self.page)

    def asks(self, query: str) -> Any:
        return self.browser.htmx(self.news + query)


@pytest.fixture(params=SIDES)
def screen(request: pytest.FixtureRequest, talk: Conversation, alice: Page, bobs: Page) -> Screen:
    """The page of alice or of bob."""
    return Screen(request.param, alice if request.param == "customer" else bobs, talk)


def ids(response: Any) -> list[int]:
    """The ids of the messages in a response."""
    return [int(pk) for pk in re.findall(r'data-id="(\d+)"', response.content.decode())]


def older(response: Any) -> str:
    """The query of the button for older messages, or "" where there is none."""
    found = re.search(r"before=(\d+)", response.content.decode())
    return found[0] if found else ""


def test_new_messages_come_in_responses_that_a_slow_line_can_take(talk: Conversation, screen: Screen) -> None:
    since = talk.last_message_id
    contents = [LONG, "short", HALF, HALF, HALF, LONG, LONG, *["x" * 700] * (PAGE_SIZE + 5), "last"]
    sent = [post_message(content=content, conversation=talk).pk for content in contents]
    seen: list[int] = []
    while True:
        response = screen.asks(f"?since={since}")
        shown = ids(response)
        assert len(shown) <= PAGE_SIZE
        assert len("".join(texts(response)).encode()) <= MAX_BYTES or len(shown) == 1
        seen += shown
        if "HX-Trigger" not in response:
            break
        assert response["HX-Trigger"] == "messages"
        since = seen[-1]
    assert seen == sent
    assert screen.asks(f"?since={sent[-1]}").status_code == 204


def test_a_page_and_its_older_messages_come_in_responses_that_a_slow_line_can_take(
    talk: Conversation, screen: Screen
) -> None:
    for content in [HALF, LONG, "short", *["x" * 700] * PAGE_SIZE, LONG, HALF, "last"]:
        post_message(content=content, conversation=talk)
    response = screen.opens()
    assert texts(response) == [HALF, "last"]
    seen = ids(response)
    while query := older(response):
        response = screen.asks(f"?{query}")
        shown = ids(response)
        assert len("".join(texts(response)).encode()) <= MAX_BYTES or len(shown) == 1
        seen = shown + seen
    assert seen == list(talk.messages.order_by("id").values_list("pk", flat=True))


def restore(talk: Conversation, last: int) -> None:
    """Delete the messages above `last`, as a restored database does not have them."""
    talk.messages.filter(pk__gt=last).delete()
    Conversation.objects.filter(pk=talk.pk).update(last_message_id=last)


@pytest.mark.parametrize("ids_begin", [1, 1000])
@pytest.mark.parametrize("written", [0, 1, 7])
def test_a_page_that_is_ahead_of_a_restored_database_gets_all_that_there_is(
    talk: Conversation, screen: Screen, written: int, ids_begin: int
) -> None:
    other = post_message(content="Another customer").conversation
    first = talk.last_message_id + 1
    lost = [post_message(content=f"lost {number}", conversation=talk) for number in range(5)]
    since = lost[-1].pk
    assert screen.asks(f"?since={since}").status_code == 204
    restore(talk, talk.last_message_id)
    expected = ["Hello, is anybody there?"]
    for pk in range(first + ids_begin, first + ids_begin + written):
        conversation = other if pk == since else talk
        Message.objects.create(pk=pk, conversation=conversation, author="CUS", content=f"new {pk}")
        if conversation == talk:
            Conversation.objects.filter(pk=talk.pk).update(last_message_id=pk)
            expected.append(f"new {pk}")
    response = screen.asks(f"?since={since}")
    assert response["HX-Reswap"] == "innerHTML"
    assert texts(response) == expected
    assert "This conversation was restored. Newer messages may be missing." in response.content.decode()
    assert screen.asks(f"?since={ids(response)[-1]}").status_code == 204


def test_a_poll_without_news_costs_no_query_more_for_that(talk: Conversation, alice: Page) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    alice.get(f"/chat/messages/?since={talk.last_message_id}")
    with CaptureQueriesContext(connection) as queries:
        response = alice.get(f"/chat/messages/?since={talk.last_message_id}&state=OPEN+{talk.pk}")
    assert response.status_code == 204
    assert len(queries) == 1
