"""No message is lost, duplicated or out of order."""

import re
import threading
import uuid
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conversations.actions import AlreadySent, close, post_message, reopen, take, take_back
from conversations.models import Agent, Attachment, Author, Conversation, Message, News
from tests.conftest import Page

PICTURE = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
ROW = re.compile(r"<li id=\"message-(?:[^\n]*</li>|.*?\n</li>)", re.DOTALL)  # formatted text has elements li, too

OUT_OF_BAND = ' hx-swap-oob="true"'

histories = st.lists(
    st.sampled_from(
        [
            "alice writes",
            "alice sends files",
            "bob answers",
            "bob sends files",
            "carol answers",
            "bob takes back",
            "bob takes back",
            "take",
            "close",
            "reopen",
            "an hour",
            "poll",
        ]
    ),
    min_size=1,
    max_size=25,
)


def rows(response: Any) -> list[str]:
    """The rows of a page or of a ?since= answer, as HTML."""
    return ROW.findall(response.content.decode())


def grown(shown: list[str], response: Any) -> list[str]:
    """The rows of a page that has shown these, after it has taken in an answer to `?since=`."""
    found, changed = rows(response), {}
    for row in [row for row in found if OUT_OF_BAND in row]:
        found.remove(row)
        changed[row.partition(" class=")[0]] = row.replace(OUT_OF_BAND, "")
    return [changed.get(row.partition(" class=")[0], row) for row in shown] + found


def take_one_back(talk: Conversation, bob: Agent, number: int) -> None:
    """Bob takes one of his messages back, if there are any, perhaps again."""
    mine = [message.pk for message in talk.messages.written().order_by("pk") if message.agent_id == bob.pk]
    if mine:
        take_back(conversation=talk, pk=mine[number % len(mine)], by=bob)


def reload_and_poll(actions: list[str], bob: Agent, carol: Agent, alice: Page, bobs: Page) -> None:
    """Let alice's page and bob's grow by polls while the actions happen, and compare both with reloaded pages."""
    now = timezone.now() - timedelta(days=3)
    talk = post_message(content="Hello").conversation
    alice.cookies["chat"] = talk.uuid.hex
    screens: dict[tuple[str, str], Any] = {
        ("/chat/", "/chat/messages/"): alice,
        (f"/inbox/{talk.pk}/", f"/inbox/{talk.pk}/messages/"): bobs,
    }
    Message.objects.filter(conversation=talk).update(created_at=now)
    shown = {page: rows(browser.get(page)) for (page, _), browser in screens.items()}
    assert all(len(found) == 1 for found in shown.values())

    def poll_all() -> None:
        for (page, poll), browser in screens.items():
            last = re.findall(r'data-id="(\d+)"', shown[page][-1])[0]
            shown[page] = grown(shown[page], browser.get(f"{poll}?since={last}"))

    writers = {"alice writes": None, "alice sends files": None, "bob answers": bob, "carol answers": carol}
    writers["bob sends files"] = bob
    others: dict[str, Callable[[], Any]] = {
        "take": lambda: take(conversation=talk, by=bob),
        "close": lambda: close(conversation=talk),
        "reopen": lambda: reopen(conversation=talk),
        "poll": poll_all,
        "bob takes back": lambda: take_one_back(talk, bob, number),
    }
    for number, action in enumerate(actions):
        now += timedelta(hours=9) if action == "an hour" else timedelta(seconds=100)
        if action in writers:
            agent = writers[action]
            contents = [PICTURE, b"x"] if "files" in action else []
            files = [Attachment.from_upload(str(number), ContentFile(content)) for content in contents]
            message = post_message(
                content="" if files else f"{number} **{action}**\n- and\n- so on",
                is_formatted=agent == bob,
                conversation=talk,
                agent=agent,
                client_id=uuid.uuid4(),
                attachments=files,
            )
            Message.objects.filter(pk=message.pk).update(created_at=now)
        elif action in others:
            others[action]()
    poll_all()
    for (page, _), browser in screens.items():
        for old, fresh in zip(shown[page], rows(browser.get(page)), strict=True):
            assert old == fresh


AFTER_A_REMOVAL = [
    "bob answers",
    "bob takes back",
    "poll",
    "bob answers",
    "bob takes back",
    "an hour",
    "an hour",
    "an hour",
]
AFTER_A_REMOVAL += ["poll", "alice writes", "bob takes back", "poll", "alice writes", "poll", "bob answers"]


@pytest.mark.django_db
@given(actions=histories)
@example(actions=AFTER_A_REMOVAL)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_reloaded_page_equals_the_old_page_with_all_polled_messages(
    actions: list[str], bob: Agent, carol: Agent, bobs: Page
) -> None:
    reload_and_poll(actions, bob, carol, Page(), bobs)


@pytest.mark.django_db(transaction=True)
def test_polling_misses_no_message_while_six_threads_write(bob: Agent) -> None:
    """Each thread has its own database connection; one polls without pause."""
    talk = post_message(content="start").conversation
    writers, each = 6, 25
    finished = threading.Event()
    start = threading.Barrier(writers + 1)
    seen: list[int] = [talk.last_message_id]

    def write(number: int) -> None:
        start.wait()
        for step in range(each):
            agent = bob if number % 2 else None
            post_message(content=f"{number}/{step}", conversation=talk, agent=agent, client_id=uuid.uuid4())
        connections.close_all()

    def poll() -> None:
        start.wait()
        while True:
            last_round = finished.is_set()
            news = News.after(talk.uuid, seen[-1], 1000)
            assert news is not None
            seen.extend(message.pk for message in news.messages)
            if last_round:
                break
        connections.close_all()

    with ThreadPoolExecutor(writers + 1) as pool:
        polling = pool.submit(poll)
        for writing in [pool.submit(write, number) for number in range(writers)]:
            writing.result()
        finished.set()
        polling.result()
    assert seen == list(talk.messages.order_by("id").values_list("pk", flat=True))
    assert len(seen) == writers * each + 1
    talk.refresh_from_db()
    assert talk.last_message_id == seen[-1]
    assert talk.customer_messages == talk.messages.filter(author=Author.CUSTOMER).count()
    dates = list(talk.messages.order_by("id").values_list("created_at", flat=True))
    assert dates == sorted(dates)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("started", [True, False])
def test_one_client_id_sent_many_times_at_once_is_one_message(started: bool) -> None:
    talk = post_message(content="start").conversation if started else None
    name = uuid.uuid4()
    together = threading.Barrier(5)

    def send(number: int) -> int:
        together.wait()
        try:
            return post_message(content="once", conversation=talk, client_id=name).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as pool:
        assert len(set(pool.map(send, range(5)))) == 1
    assert Message.objects.filter(content="once").count() == 1
    assert Conversation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_when_two_texts_have_one_client_id_only_one_is_saved() -> None:
    name = uuid.uuid4()
    together = threading.Barrier(2)

    def send(text: str) -> str:
        together.wait()
        try:
            return post_message(content=text, client_id=name).content
        except AlreadySent:
            return "refused"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        results = set(pool.map(send, ["one", "two"]))
    assert "refused" in results
    assert results <= {"one", "two", "refused"}
    assert Message.objects.count() == 1


@pytest.mark.django_db
def test_sqlite_is_configured_for_durable_transactions() -> None:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        for pragma, value in [("journal_mode", "wal"), ("synchronous", 2)]:
            cursor.execute(f"PRAGMA {pragma}")
            assert cursor.fetchone()[0] == value
    assert connection.settings_dict["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
