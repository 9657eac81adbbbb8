"""Two agents answer: the second one is asked before their answer goes out."""

import importlib
import threading
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.db import connection
from django.utils.html import escape

from conversations.actions import UnseenAnswer, post_message
from conversations.models import Agent, Conversation, Message
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db

QUESTION = "Carol has just answered. Send yours too?"


def answers(page: Page, talk: Conversation, text: str, seen: int, **more: Any) -> Any:
    """Answer as the page's script does."""
    return page.htmx(f"/inbox/{talk.pk}/messages/", {"content": text, "seen": str(seen), **more})


def contents(talk: Conversation) -> list[str]:
    """The texts in the conversation."""
    return list(Message.objects.of(talk.pk).order_by("pk").values_list("content", flat=True))


def test_an_agent_is_asked_before_a_second_answer_goes_out(
    bobs: Page, carols: Page, talk: Conversation, alice: Page
) -> None:
    seen = talk.last_message_id
    assert answers(carols, talk, "We are here", seen).status_code == 204
    refused = answers(bobs, talk, "Yes, I am", seen)
    assert (refused.status_code, refused.content.decode()) == (409, QUESTION)
    assert contents(talk) == ["Hello, is anybody there?", "We are here"]
    anyway = answers(bobs, talk, "Yes, I am", int(refused["X-Answered"]))
    assert anyway.status_code == 204
    assert contents(talk)[2:] == ["Yes, I am"]


def test_nobody_is_asked_about_the_customer_or_about_their_own_answers(bobs: Page, talk: Conversation) -> None:
    seen = talk.last_message_id
    post_message(content="Hello?", conversation=talk)
    assert answers(bobs, talk, "Yes", seen).status_code == 204
    assert answers(bobs, talk, "How can I help?", seen).status_code == 204


def test_a_retry_is_no_second_answer(bobs: Page, carols: Page, talk: Conversation) -> None:
    seen, name = talk.last_message_id, str(uuid.uuid4())
    first = answers(bobs, talk, "Yes, I am", seen, client_id=name)
    answers(carols, talk, "We are here", int(first["X-Message"]))
    again = answers(bobs, talk, "Yes, I am", seen, client_id=name)
    assert (again.status_code, again["X-Message"]) == (204, first["X-Message"])
    assert contents(talk)[1:] == ["Yes, I am", "We are here"]


def test_without_javascript_the_page_asks_and_keeps_the_text(bobs: Page, carols: Page, talk: Conversation) -> None:
    seen = talk.last_message_id
    carols.answers(talk, "We are here", seen=seen)
    page = bobs.answers(talk, "Yes, I am", seen=seen)
    html = page.content.decode()
    assert page.status_code == 409
    assert QUESTION in html
    assert "Send anyway" in html
    assert "Keep editing" in html
    assert "http-equiv" not in html  # it does not reload, which would lose the text
    assert "Yes, I am</textarea>" in html
    assert "We are here" in texts(page)
    newest = Conversation.objects.get().last_entry_id  # carol has taken it by answering
    assert f'name="seen" value="{newest}"' in html
    assert bobs.answers(talk, "Yes, I am", seen=newest).status_code == 302
    assert contents(talk)[2:] == ["Yes, I am"]


def test_the_page_says_what_its_reader_has_seen(bobs: Page, talk: Conversation) -> None:
    assert f'name="seen" value="{talk.last_message_id}"' in bobs.get(f"/inbox/{talk.pk}/?write=1").content.decode()


@pytest.mark.parametrize("wrong", ["x", "-1", "9" * 30])
def test_a_wrong_id_is_refused(bobs: Page, talk: Conversation, wrong: str) -> None:
    assert bobs.htmx(f"/inbox/{talk.pk}/messages/", {"content": "Hi", "seen": wrong}).status_code == 422
    assert len(contents(talk)) == 1


def test_a_page_or_program_that_does_not_say_what_was_seen_is_not_asked(
    bobs: Page, carols: Page, talk: Conversation
) -> None:
    carols.answers(talk, "We are here")
    assert bobs.answers(talk, "Yes, I am").status_code == 302


def test_a_name_of_a_colleague_is_escaped(bobs: Page, carol: Agent, talk: Conversation) -> None:
    carol.first_name = "<b>Carol"
    carol.save()
    post_message(content="We are here", conversation=talk, agent=carol)
    page = bobs.answers(talk, "Yes", seen=talk.last_message_id)
    assert escape("<b>Carol has just answered.") in page.content.decode()


@pytest.mark.django_db(transaction=True)
def test_of_two_agents_at_the_same_moment_exactly_one_is_asked(
    bob: Agent, carol: Agent, talk: Conversation, settings: Any
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    if settings.MESSAGE_LOG:
        pytest.skip("the message log has no lock")
    for round_number in range(10):
        now, barrier = Conversation.objects.get(pk=talk.pk), threading.Barrier(2)
        asked: list[str] = []

        def answer(agent: Agent, seen: int = now.last_message_id, start: Callable[[], int] = barrier.wait) -> None:
            try:
                read = Conversation.objects.get(pk=talk.pk)
                start()
                post_message(content=f"{agent}", conversation=read, agent=agent, seen=seen)
            except UnseenAnswer:
                asked.append(str(agent))  # noqa: B023
            finally:
                connection.close()

        threads = [threading.Thread(target=answer, args=(agent,)) for agent in (bob, carol)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(asked) == 1, round_number


@pytest.mark.django_db(transaction=True)
def test_with_the_message_log_the_check_reads_the_log(message_log: ModuleType, bob: Agent, carol: Agent) -> None:
    talk = post_message(content="Hello?").conversation
    seen, name = talk.last_message_id, uuid.uuid4()
    mine = post_message(content="Yes, I am", conversation=talk, agent=bob, seen=seen, client_id=name)
    theirs = post_message(content="We are here", conversation=talk, agent=carol, seen=mine.pk)
    with pytest.raises(UnseenAnswer) as asked:
        post_message(content="And I", conversation=talk, agent=bob, seen=seen)
    assert asked.value.answer.pk == theirs.pk
    retry = post_message(content="Yes, I am", conversation=talk, agent=bob, seen=seen, client_id=name)
    assert retry.pk == mine.pk
    assert post_message(content="And I", conversation=talk, agent=bob, seen=theirs.pk).pk > theirs.pk


@pytest.mark.django_db(transaction=True)
def test_while_sql_is_away_the_check_reads_the_log_alone(
    message_log: ModuleType, bob: Agent, carol: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = post_message(content="Hello?").conversation
    seen, name = talk.last_message_id, uuid.uuid4()
    mine = post_message(content="Yes, I am", conversation=talk, agent=bob, seen=seen, client_id=name)
    theirs = post_message(content="We are here", conversation=talk, agent=carol, seen=mine.pk)
    module = importlib.import_module("conversations.actions.post_message")
    monkeypatch.setattr(module, "catch_up", lambda _conversation: False)
    with pytest.raises(UnseenAnswer) as asked:
        post_message(content="And I", conversation=talk, agent=bob, seen=seen)
    assert asked.value.answer.pk == theirs.pk
    assert post_message(content="Yes, I am", conversation=talk, agent=bob, seen=seen, client_id=name).pk == mine.pk
