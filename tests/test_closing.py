"""Closing: never over a message that the agent has not seen."""

from typing import Any

import pytest

from conversations.actions import UnseenMessage, close, post_message
from conversations.models import Agent, Conversation
from tests.conftest import Page, texts
from tests.test_api_conversations import bearer

pytestmark = pytest.mark.django_db


def seen(response: Any) -> str:
    """The id that the page's form says was the last on the screen."""
    html = response.content.decode()
    return str(html.partition('name="last" value="')[2].partition('"')[0])


def test_closing_is_refused_if_the_customer_has_written_since(talk: Conversation) -> None:
    last = talk.last_message_id
    post_message(content="One more thing!", conversation=talk)
    with pytest.raises(UnseenMessage):
        close(conversation=talk, last_seen=last)  # `talk` is as the request has read it: without the message
    talk.refresh_from_db()
    assert talk.is_open
    close(conversation=talk, last_seen=talk.last_message_id)
    talk.refresh_from_db()
    assert not talk.is_open
    close(conversation=talk, last_seen=last)  # closed already: nothing changes


def test_an_answer_of_a_colleague_does_not_keep_it_open(talk: Conversation, carol: Agent) -> None:
    last = talk.last_message_id
    post_message(content="Goodbye.", conversation=talk, agent=carol)
    close(conversation=talk, last_seen=last)
    talk.refresh_from_db()
    assert not talk.is_open


def test_without_script_the_page_shows_the_new_message_and_says_why(bobs: Page, talk: Conversation) -> None:
    here = f"/inbox/{talk.pk}/"
    on_screen = seen(bobs.get(here))
    assert on_screen == str(talk.last_message_id)
    post_message(content="One more thing!", conversation=talk)
    page = bobs.post(f"{here}close/", {"last": on_screen})
    assert page.status_code == 409
    assert "A new message has come in. Read it first, then close the conversation." in page.content.decode()
    assert texts(page) == ["Hello, is anybody there?", "One more thing!"]
    assert bobs.post(f"{here}close/", {"last": seen(page)}).status_code == 302
    talk.refresh_from_db()
    assert not talk.is_open


def test_htmx_says_why_and_fetches_the_new_message(bobs: Page, talk: Conversation) -> None:
    part = bobs.htmx(f"/inbox/{talk.pk}/close/", {"last": "0"})
    assert "A new message has come in." in part.content.decode()
    assert part["HX-Trigger"] == "inbox, messages"
    talk.refresh_from_db()
    assert talk.is_open


def test_a_page_of_older_messages_closes_what_the_agent_has_read(bobs: Page, talk: Conversation) -> None:
    here = f"/inbox/{talk.pk}/"
    newer = post_message(content="And more", conversation=talk).pk
    bobs.get(here, headers={"Sec-Fetch-Site": "none"})
    assert seen(bobs.get(f"{here}?before={newer}")) == str(newer)
    newest = post_message(content="And more still", conversation=talk).pk
    assert seen(bobs.get(f"{here}?before={newest}")) == str(newer)


def test_the_api_closes_unless_there_is_a_message_after_the_last_that_was_seen(bobs: Page, talk: Conversation) -> None:
    [path, last] = [f"/api/conversation/{talk.pk}/close", talk.last_message_id]
    newer = post_message(content="One more thing!", conversation=talk).pk
    refused = bobs.patch(f"{path}?last={last}")
    assert refused.status_code == 409
    assert "newer message" in refused.json()["detail"]
    assert bobs.patch(f"{path}?last=x").status_code == 422
    assert bobs.patch(f"{path}?last={newer}").json()["status"] == "CLOSED"


def test_the_api_closes_in_any_case_for_clients_that_do_not_say_what_they_saw(bob: Agent, talk: Conversation) -> None:
    answer = Page().patch(f"/api/conversation/{talk.pk}/close", headers=bearer(bob))
    assert answer.json()["status"] == "CLOSED"
