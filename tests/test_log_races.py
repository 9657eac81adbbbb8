"""The message log, and what happens at the same moment: deaths of replicators, actions, renewed secrets."""

import threading
import time
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from conversations import actions, log_state
from conversations.actions import replicate
from conversations.models import Agent, Conversation, Message, News, Reading
from tests.conftest import Page, texts
from tests.test_log_delivery import copy_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def talk(message_log: ModuleType) -> Conversation:
    """A conversation that alice has begun, in SQL."""
    conversation = actions.post_message(content="Hello, is anybody there?", name="Alice").conversation
    copy_all()
    return Conversation.objects.get(pk=conversation.pk)


def stored(conversation: Conversation) -> list[str]:
    """The texts in SQL."""
    return list(Message.objects.filter(conversation=conversation).order_by("pk").values_list("content", flat=True))


class Killed(BaseException):
    """kill -9."""


def in_thread(action: Callable[[], Any]) -> threading.Thread:
    """Start doing something in another thread."""

    def run() -> None:
        try:
            action()
        except Killed:
            pass
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


# Replicators ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", ["before it copies", "before it acknowledges"])
def test_what_a_killed_replicator_has_read_is_copied_by_another(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    for name, seconds in {"BLOCK": 0.05, "CLAIM": 0.2, "UPKEEP": 0.1}.items():
        monkeypatch.setattr(replicate, name, seconds)

    def die(*_: Any) -> None:
        raise Killed

    killed = replicate.Replicator(lambda: False)
    if dies == "before it copies":
        monkeypatch.setattr(killed, "copy", die)
    else:
        monkeypatch.setattr(killed.client, "xack", die)
    wanted = ["Hello, is anybody there?", *(str(number) for number in range(5))]
    for text in wanted[1:]:
        actions.post_message(content=text, conversation=talk)
    in_thread(killed.run).join()
    assert len(stored(talk)) == (1 if dies == "before it copies" else 6)
    other = actions.post_message(content="Another customer").conversation
    stopping = threading.Event()
    running = [in_thread(replicate.Replicator(stopping.is_set).run) for _ in range(2)]
    deadline = time.monotonic() + 20
    while log_state.waiting(message_log.client()) and time.monotonic() < deadline:
        time.sleep(0.02)
    stopping.set()
    for thread in running:
        thread.join()
    assert not log_state.waiting(message_log.client())
    assert stored(talk) == wanted
    assert stored(other) == ["Another customer"]
    assert Conversation.objects.get(pk=talk.pk).customer_messages == 6


# Actions --------------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_while_bob_closes_opens_the_conversation_again(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Conversation.save_changes

    def save_later(conversation: Conversation, *names: str) -> None:
        monkeypatch.undo()
        actions.post_message(content="Wait!", conversation=talk)
        save(conversation, *names)

    monkeypatch.setattr(Conversation, "save_changes", save_later)
    actions.close(conversation=talk, last_seen=talk.last_message_id)
    news = News.after(talk.uuid, talk.last_message_id, 10)
    assert news
    assert (news.status, [message.content for message in news.messages]) == ("OPEN", ["Wait!"])
    copy_all()
    assert Conversation.objects.get().is_open


def test_bob_has_read_what_is_only_in_the_log(talk: Conversation, bob: Agent, bobs: Page) -> None:
    last = actions.post_message(content="One more thing", conversation=talk).pk
    assert bobs.post(f"/inbox/{talk.pk}/read/", {"last": last}).status_code == 204
    actions.post_message(content="And another one", conversation=talk)
    copy_all()
    reading = Reading.objects.get()
    assert (reading.last_message_id, reading.customer_messages) == (last, 2)
    assert Conversation.objects.with_unread(bob.pk).get().unread == 1  # type: ignore[attr-defined]  # annotated


def test_bob_takes_and_closes_a_conversation_that_only_the_log_has(message_log: ModuleType, bob: Agent) -> None:
    begun = actions.post_message(content="Hello").conversation
    actions.take(conversation=begun, by=bob)
    other = actions.post_message(content="Hello").conversation
    assert not actions.close(conversation=other).is_open


def test_actions_go_on_when_the_author_of_a_message_in_the_log_is_deleted(talk: Conversation, bob: Agent) -> None:
    actions.post_message(content="I am leaving today.", conversation=talk, agent=bob)
    bob.delete()
    actions.close(conversation=talk)
    assert stored(talk)[-1] == "I am leaving today."


def test_nobody_writes_to_a_deleted_conversation(talk: Conversation) -> None:
    Conversation.objects.get().delete()
    with pytest.raises(Conversation.DoesNotExist):
        actions.post_message(content="Too late", conversation=talk)
    copy_all()
    assert not Conversation.objects.exists()


def test_what_is_copied_late_was_updated_late(talk: Conversation) -> None:
    actions.post_message(content="One more thing", conversation=talk)
    moment = timezone.now()
    assert not Conversation.objects.updated_since(moment)
    copy_all()
    assert Conversation.objects.updated_since(moment)


# Conversations that SQL does not have yet -----------------------------------------------------------------------------


@pytest.mark.parametrize("opens", ["socket", "page", "api", "customer", "poll"])
def test_a_conversation_is_opened_before_it_was_copied(
    message_log: ModuleType, bob: Agent, bobs: Page, alice: Page, opens: str
) -> None:
    begun = actions.post_message(content="Hello").conversation
    assert not Conversation.objects.exists()
    if opens == "socket":
        known = Conversation.objects.by_uuids([begun.uuid, uuid.uuid4()])
        assert {key: found.pk for key, found in known.items()} == {begun.uuid: begun.pk}
    elif opens == "page":
        assert texts(bobs.get(f"/inbox/{begun.pk}/")) == ["Hello"]
    elif opens == "api":
        assert bobs.get(f"/api/conversation/{begun.pk}/").json()["id"] == begun.pk
    else:
        alice.cookies["chat"] = begun.uuid.hex
        path = "/chat/" if opens == "customer" else "/chat/messages/?since=0"
        assert texts(alice.get(path)) == ["Hello"]
    assert stored(begun) == ["Hello"]


# Renewed secrets ------------------------------------------------------------------------------------------------------


def test_a_retry_of_the_first_message_brings_no_renewed_secret(message_log: ModuleType) -> None:
    key = uuid.uuid4()
    first = actions.post_message(content="Hello", client_id=key)
    actions.post_message(content="My secret", conversation=first.conversation)
    renewed = actions.renew_secret(conversation=first.conversation)
    again = actions.post_message(content="Hello", client_id=key)
    assert again.conversation.pk != renewed.pk
    assert actions.post_message(content="Hello", client_id=key).pk == again.pk
    copy_all()
    assert stored(renewed) == ["Hello", "My secret"]
    assert stored(again.conversation) == ["Hello"]


def test_an_old_secret_writes_nothing_as_soon_as_it_is_renewed(talk: Conversation) -> None:
    actions.post_message(content="Before", conversation=talk)
    renewed = actions.renew_secret(conversation=talk)
    with pytest.raises(Conversation.DoesNotExist):
        actions.post_message(content="Mallory was here", conversation=talk)
    actions.post_message(content="After", conversation=renewed)
    copy_all()
    assert stored(talk) == ["Hello, is anybody there?", "Before", "After"]


def test_an_answer_of_an_agent_who_has_read_the_old_secret_does_not_revive_it(talk: Conversation, bob: Agent) -> None:
    actions.renew_secret(conversation=talk)
    actions.post_message(content="An answer", conversation=talk, agent=bob)
    with pytest.raises(Conversation.DoesNotExist):
        actions.post_message(content="Mallory was here", conversation=talk)
    copy_all()
    assert stored(talk)[-1] == "An answer"


@pytest.mark.parametrize("is_renewed", [True, False])
def test_a_message_waits_for_a_renewal_at_the_same_moment(talk: Conversation, is_renewed: bool) -> None:
    results: list[str] = []

    def write() -> None:
        try:
            results.append(actions.post_message(content="In flight", conversation=talk).content)
        except Conversation.DoesNotExist:
            results.append("refused")

    with transaction.atomic():
        actions.renew_secret(conversation=talk)
        writing = in_thread(write)
        writing.join(0.3)
        assert writing.is_alive()  # it waits for the lock
        transaction.set_rollback(not is_renewed)
    writing.join()
    assert results == ["refused" if is_renewed else "In flight"]
