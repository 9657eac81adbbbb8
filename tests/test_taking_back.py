"""An agent takes back a message of theirs: it is erased for everybody, and every open page learns it."""

import re
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import connections
from django.utils import timezone

from conversations import actions
from conversations.models import Agent, Attachment, Conversation, Message, News, Token, View
from tests.conftest import Page
from tests.test_delivery import PICTURE

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}
QUESTION = "Take this message back?"


def answer(talk: Conversation, agent: Agent, content: str = "My wrong answer", *files: bytes, **more: Any) -> Message:
    """An agent's message."""
    attachments = [Attachment.from_upload(f"private{n}.txt", ContentFile(data)) for n, data in enumerate(files)]
    return actions.post_message(content=content, conversation=now(talk), agent=agent, attachments=attachments, **more)


def now(talk: Conversation) -> Conversation:
    """The conversation as it is now."""
    found = Conversation.objects.by_id(talk.pk)
    assert found
    return found


def path_of(message: Message) -> str:
    """Where it is taken back."""
    return f"/inbox/{message.conversation_id}/messages/{message.pk}/"


@pytest.fixture
def alices(talk: Conversation) -> Page:
    """Alice's browser, with her conversation."""
    page = Page()
    page.cookies["chat"] = talk.uuid.hex
    return page


def stored_files() -> list[Path]:
    """The files on the disk."""
    return [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]


def test_bob_takes_a_message_back_and_it_is_gone_for_everybody(
    talk: Conversation, bob: Agent, bobs: Page, carols: Page, alices: Page
) -> None:
    before = set(stored_files())
    message = answer(talk, bob, "My wrong answer", PICTURE, b"my secret file")
    assert set(stored_files()) - before
    file = re.findall(r'href="(/chat/files/[^"?]*)', alices.get("/chat/").content.decode())[0]
    for headers in ({}, HTMX):
        menu = bobs.get(path_of(message), headers=headers).content.decode()
        assert "My wrong answer" in menu
        assert QUESTION in menu
        assert f"http://testserver/inbox/{talk.pk}/?at={message.pk}#message-{message.pk}" in menu
    response = bobs.post(path_of(message))
    assert response.status_code == 302
    assert response["Location"].endswith(f"/inbox/{talk.pk}/#message-{message.pk}")
    assert set(stored_files()) == before
    assert alices.get(file).status_code == 404
    seen = {
        alices: ("/chat/", "Message removed"),
        bobs: (f"/inbox/{talk.pk}/", "You removed this message"),
        carols: (f"/inbox/{talk.pk}/", "Bob removed this message"),
    }
    for browser, (address, sentence) in seen.items():
        html = browser.get(address).content.decode()
        assert sentence in html
        assert "wrong answer" not in html
        assert "private" not in html
    assert "My wrong answer" not in str(list(Message.objects.values()) + list(Conversation.objects.values()))
    assert QUESTION not in bobs.get(path_of(message)).content.decode()


def test_only_its_author_takes_a_message_back(
    talk: Conversation, bob: Agent, bobs: Page, carols: Page, mallory: Page, alices: Page
) -> None:
    message, hers = answer(talk, bob), talk.messages.get(author="CUS")
    rows = list(Message.objects.values())
    assert carols.post(path_of(message)).status_code == 404
    assert QUESTION not in carols.get(path_of(message)).content.decode()
    assert bobs.post(path_of(hers)).status_code == 404
    for outsider in (mallory, alices):
        assert outsider.post(path_of(message)).status_code in {302, 401, 403}
    for number in (0, message.pk + 1, 2**70):
        assert bobs.post(f"/inbox/{talk.pk}/messages/{number}/").status_code == 404
        assert bobs.get(f"/inbox/{talk.pk}/messages/{number}/").status_code == 404
    other = actions.post_message(content="Another customer").conversation
    assert bobs.post(f"/inbox/{other.pk}/messages/{message.pk}/").status_code == 404
    assert list(Message.objects.filter(conversation=talk).values()) == rows


def test_taking_back_twice_happens_once(talk: Conversation, bob: Agent, bobs: Page) -> None:
    message = answer(talk, bob)
    for _ in range(2):
        assert bobs.post(path_of(message), headers=HTMX).status_code == 204
    assert Message.objects.filter(conversation=talk).count() == 3
    removal = Message.objects.get(removed_id=message.pk, pk__gt=message.pk)
    assert bobs.post(path_of(removal)).status_code == 404
    assert now(talk).last_message_id == removal.pk


@pytest.mark.parametrize("files", [(), (b"my secret file",)])
def test_a_retry_does_not_bring_it_back(talk: Conversation, bob: Agent, files: tuple[bytes, ...]) -> None:
    key, before = uuid.uuid4(), set(stored_files())
    message = answer(talk, bob, "My wrong answer", *files, client_id=key)
    actions.take_back(conversation=talk, pk=message.pk, by=bob)
    again = answer(talk, bob, "My wrong answer", *files, client_id=key)
    assert (again.pk, again.content, again.is_removed) == (message.pk, "", True)
    assert "wrong answer" not in str(list(Message.objects.values()))
    assert set(stored_files()) == before


def test_a_removal_is_no_answer(talk: Conversation, bob: Agent, bobs: Page) -> None:
    began = now(talk)
    message = answer(talk, bob)
    assert now(talk).waiting_since is None
    answered = now(talk)
    actions.take_back(conversation=talk, pk=message.pk, by=bob)
    found = now(talk)
    assert (found.waiting_since, found.answered_messages) == (began.waiting_since, 0)
    assert (found.first_answer_after, found.last_message_at) == (answered.first_answer_after, answered.last_message_at)
    assert (found.last_line, found.customer_messages, found.status) == ("", 1, "OPEN")
    assert found.updated_at != answered.updated_at
    [row] = Conversation.objects.inbox(bob, View(order="waiting"), 10)
    assert row.pk == talk.pk
    assert row.urgency(timezone.now() + timedelta(hours=1)) == "late"
    assert "Message removed" in bobs.get("/inbox/list/", headers=HTMX).content.decode()


def test_an_earlier_message_changes_nothing_but_itself(talk: Conversation, bob: Agent) -> None:
    message = answer(talk, bob)
    answer(talk, bob, "My right answer")
    before = now(talk)
    actions.take_back(conversation=talk, pk=message.pk, by=bob)
    after = now(talk)
    same = {"last_line", "waiting_since", "answered_messages", "last_author", "last_message_at"}
    assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
    assert after.last_line == "My right answer"


def test_nobody_is_asked_because_of_an_answer_that_was_taken_back(
    talk: Conversation, bob: Agent, carol: Agent, carols: Page
) -> None:
    seen = now(talk).last_message_id
    message = answer(talk, bob)
    actions.take_back(conversation=talk, pk=message.pk, by=bob)
    data = {"content": "Mine", "seen": seen}
    assert carols.post(f"/inbox/{talk.pk}/messages/", data, headers=HTMX).status_code == 204


def test_programs_learn_it(talk: Conversation, bob: Agent, carol: Agent, alices: Page, bobs: Page) -> None:
    message = answer(talk, bob, "My wrong answer", b"my secret file")
    secret, number = f"/api/messages/{talk.uuid}/", f"/api/conversation/{talk.pk}/messages/"
    tokens = {agent: f"Bearer {Token.objects.issue(agent, '', Token.Scope.WRITE)}" for agent in (bob, carol)}
    one = f"{number}{message.pk}/"
    mallory = Page()
    assert mallory.delete(one).status_code == 401
    assert mallory.delete(one, headers={"Authorization": tokens[carol]}).status_code == 404
    assert len(alices.get(secret).json()["items"][1]["attachments"]) == 1
    for _ in range(2):
        left = mallory.delete(one, headers={"Authorization": tokens[bob]}).json()
    assert left == {**bobs.get(f"{number}?since={talk.last_message_id}").json(), "count": 1}
    last = now(talk).last_message_id
    for browser, address in ((alices, secret), (bobs, number)):
        found = browser.get(address).json()
        assert found["count"] == 2
        hers, his = found["items"]
        assert "removed" not in hers
        assert (his["id"], his["content"], his["removed"], his["attachments"]) == (message.pk, "", True, [])
        assert browser.get(f"{address}?limit=1&offset=1").json()["count"] == 2
        for since in (message.pk, last):
            answered = browser.get(f"{address}?since={since}")
            assert answered.json() == {"items": [], "count": 0}
            assert answered["X-Last-Message"] == str(last)
        changes = browser.get(f"{address}?since={message.pk}&changes=true").json()
        assert changes == {"items": [{**his, "change": last}], "count": 1}
        assert browser.get(f"{address}?since={last}&changes=true").json() == {"items": [], "count": 0}


def test_many_who_take_it_back_at_once_do_it_once_and_no_poll_misses_it(talk: Conversation, bob: Agent) -> None:
    message, seen = answer(talk, bob), [talk.last_message_id]
    together, finished = threading.Barrier(7), threading.Event()

    def run(act: Callable[[], Any]) -> None:
        together.wait()
        act()
        connections.close_all()

    def poll() -> None:
        is_last = False
        while not is_last:
            is_last = finished.is_set()
            news = News.after(talk.pk, seen[-1], 1000)
            assert news
            seen.extend(each.pk for each in news.messages)

    def take() -> None:
        actions.take_back(conversation=talk, pk=message.pk, by=bob)

    def write() -> None:
        for number in range(5):
            actions.post_message(content=str(number), conversation=now(talk), agent=bob)

    with ThreadPoolExecutor(7) as pool:
        polling = pool.submit(run, poll)
        for each in [pool.submit(run, act) for act in [take] * 4 + [write] * 2]:
            each.result()
        finished.set()
        polling.result()
    assert seen[1:] == list(talk.messages.filter(pk__gt=seen[0]).order_by("pk").values_list("pk", flat=True))
    assert Message.objects.filter(removed_id=message.pk).count() == 2
    assert now(talk).last_message_id == seen[-1]
    assert (now(talk).answered_messages, now(talk).waiting_since) == (1, None)
