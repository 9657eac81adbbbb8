"""With the message log, no message is lost, duplicated or out of order either, however late SQL has it."""

import itertools
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import log_state
from conversations.actions import UnseenMessage, close, mark_read, post_message, reopen, replicate, take, take_back
from conversations.models import Agent, Attachment, Author, Conversation, Message, News
from tests.conftest import Page, settle_at_once
from tests.test_delivery import PICTURE, grown, rows

pytestmark = pytest.mark.django_db(transaction=True)

Lag = Callable[[], None]
"""Waits until SQL has everything."""


def copy_all() -> None:
    """A replicator copies what the log has, and ends."""
    replicator = replicate.Replicator(lambda: False)
    while replicator.step():
        pass
    replicator.leave()


@pytest.fixture(params=["at once", "50 ms later", "when it is over"])
def lag(request: pytest.FixtureRequest, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lag]:
    """When messages are copied into SQL."""
    monkeypatch.setattr(replicate, "BLOCK", 0.05)
    if request.param == "when it is over":
        yield copy_all
        return
    if request.param == "at once":
        settle_at_once(monkeypatch)
        yield copy_all
        return
    stopping = threading.Event()
    replicator = replicate.Replicator(stopping.is_set)
    copy = replicator.copy

    def copy_later(rows: list[Any]) -> int:
        time.sleep(0.05)
        return copy(rows)

    monkeypatch.setattr(replicator, "copy", copy_later)

    def run() -> None:
        replicator.run()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> None:
        deadline = time.monotonic() + 30
        while log_state.waiting(message_log.client()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    yield wait
    stopping.set()
    thread.join()


class Talk:
    """A conversation on four screens that grow by polls: alice's page, bob's page, and the API of both sides."""

    def __init__(self, bob: Agent, carol: Agent, bobs: Page, clock: "Clock") -> None:
        self.clock = clock
        first = post_message(content="Hello")
        self.talk, self.expected, self.numbers = first.conversation, ["Hello"], itertools.count()
        self.bobs: list[tuple[int, int]] = []
        self.sent: list[tuple[int, Callable[[], Message]]] = []
        alice = Page()
        alice.cookies["chat"] = self.talk.uuid.hex
        number, secret = self.talk.pk, self.talk.uuid
        self.pages = {"/chat/": ("/chat/messages/", alice), f"/inbox/{number}/": (f"/inbox/{number}/messages/", bobs)}
        self.lists = {f"/api/messages/{secret}/": alice, f"/api/conversation/{number}/messages/": bobs}
        self.shown: dict[str, list[Any]] = {
            path: browser.get(path).json()["items"] for path, browser in self.lists.items()
        }
        self.shown |= {path: rows(browser.get(path)) for path, (_, browser) in self.pages.items()}
        assert all(len(found) == 1 for found in self.shown.values())
        self.seen = dict.fromkeys(self.lists, first.pk)
        self.bob = bob
        self.steps: dict[str, Callable[[], Any]] = {
            "alice writes": lambda: self.writes(None),
            "alice sends files": lambda: self.writes(None, b"x", b"y"),
            "bob answers": lambda: self.writes(bob),
            "bob sends a picture": lambda: self.writes(bob, PICTURE),
            "carol answers": lambda: self.writes(carol),
            "bob takes back": self.takes_back,
            "take": lambda: take(conversation=self.talk, by=bob),
            "close": lambda: close(conversation=self.talk),
            "reopen": lambda: reopen(conversation=self.talk),
            "an hour": lambda: None,
            "poll": self.poll,
            "retry": self.retries,
        }

    def poll(self) -> None:
        """All four get what is new."""
        for path, (address, browser) in self.pages.items():
            last = re.findall(r'data-id="(\d+)"', self.shown[path][-1])[0]
            self.shown[path] = grown(self.shown[path], browser.get(f"{address}?since={last}"))
        for path, browser in self.lists.items():
            self.learn(path, browser.get(f"{path}?changes=true&since={self.seen[path]}").json()["items"])

    def learn(self, path: str, items: list[dict[str, Any]]) -> None:
        """A program takes in what is new and what was taken back."""
        for item in items:
            self.seen[path] = item.pop("change", item["id"])
            known = {each["id"]: number for number, each in enumerate(self.shown[path])}
            if item["id"] in known:
                self.shown[path][known[item["id"]]] = item
            else:
                self.shown[path].append(item)

    def writes(self, agent: Agent | None, *contents: bytes) -> None:
        """Somebody writes a text, or sends files."""
        number, client_id = next(self.numbers), uuid.uuid4()
        text = "" if contents else f"{number} **bold**\n- and\n- so on"

        def post() -> Message:
            files = [Attachment.from_upload(f"{number}.txt", ContentFile(content)) for content in contents]
            return post_message(
                content=text,
                is_formatted=agent == self.bob,
                conversation=self.talk,
                agent=agent,
                client_id=client_id,
                attachments=files,
            )

        self.sent.append((post().pk, post))
        self.expected.append(text)
        if agent == self.bob:
            self.bobs.append((self.sent[-1][0], len(self.expected) - 1))

    def takes_back(self) -> None:
        """Bob takes one of his messages back, perhaps again."""
        if self.bobs:
            pk, place = self.bobs[next(self.numbers) % len(self.bobs)]
            take_back(conversation=self.talk, pk=pk, by=self.bob)
            self.expected[place] = ""

    def act(self, action: str) -> None:
        """One step of the history."""
        self.clock.now += timedelta(hours=9) if action == "an hour" else timedelta(seconds=100)
        self.steps[action]()

    def retries(self) -> None:
        """The last message is sent again."""
        if self.sent:
            pk, post = self.sent[-1]
            assert post().pk == pk

    def reload(self) -> None:
        """All reload, and see the same as before."""
        for path, browser in self.lists.items():
            assert browser.get(path).json()["items"] == self.shown[path]
        for path, (_, browser) in self.pages.items():
            assert rows(browser.get(path)) == self.shown[path]


class Clock:
    """What messages take for the time."""

    now: datetime = timezone.now()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of new messages; it can be set."""
    clock = Clock()
    monkeypatch.setitem(Message._meta.get_field("created_at").__dict__, "_get_default", lambda: clock.now)
    return clock


ACTIONS = [
    "bob takes back",
    "bob takes back",
    "alice writes",
    "alice writes",
    "alice sends files",
    "bob answers",
    "bob sends a picture",
    "carol answers",
]
ACTIONS += ["take", "close", "reopen", "an hour", "poll", "poll", "retry"]


@given(history=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=20))
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reloaded_screens_equal_old_ones_with_all_polled_messages(
    lag: Lag, clock: Clock, history: list[str], bob: Agent, carol: Agent, bobs: Page
) -> None:
    clock.now = timezone.now() - timedelta(days=10)
    talk = Talk(bob, carol, bobs, clock)
    for action in history:
        talk.act(action)
    talk.poll()
    talk.reload()
    lag()
    talk.reload()
    stored = Message.objects.filter(conversation=talk.talk).written().order_by("pk")
    assert list(stored.values_list("content", flat=True)) == talk.expected


class Crowd:
    """Threads that write, poll and act on one conversation at the same time."""

    WRITERS, EACH = 6, 15

    def __init__(self, bob: Agent) -> None:
        self.bob, self.talk = bob, post_message(content="Start").conversation
        self.start, self.finished = threading.Barrier(self.WRITERS + 3), threading.Event()
        self.seen: dict[Any, list[int]] = {self.talk.uuid: [0], self.talk.pk: [0]}

    def write(self, number: int) -> None:
        """Alice or bob writes messages, each after the other."""
        self.start.wait()
        agent = self.bob if number % 2 else None
        for step in range(self.EACH):
            post_message(content=f"{number}/{step}", conversation=self.talk, agent=agent, client_id=uuid.uuid4())
        connections.close_all()

    def poll(self, key: Any) -> None:
        """Polls without pause: the customer's by the uuid, the agent's by the id."""
        self.start.wait()
        is_last = False
        while not is_last:
            is_last = self.finished.is_set()
            news = News.after(key, self.seen[key][-1], 1000)
            assert news is not None
            self.seen[key].extend(message.pk for message in news.messages)
        connections.close_all()

    def act(self) -> None:
        """Bob reads the conversation, and closes or takes it, without pause."""
        self.start.wait()
        while not self.finished.is_set():
            now = Conversation.objects.by_id(self.talk.pk)
            assert now
            mark_read(conversation=now, agent=self.bob, last=now.last_message_id)
            try:
                close(conversation=now, last_seen=now.last_message_id)
            except UnseenMessage:
                take(conversation=now, by=self.bob)
        connections.close_all()

    def run(self) -> None:
        """All at once."""
        with ThreadPoolExecutor(self.WRITERS + 3) as pool:
            others = [*(pool.submit(self.poll, key) for key in self.seen), pool.submit(self.act)]
            writing = [pool.submit(self.write, number) for number in range(self.WRITERS)]
            try:
                for each in writing:
                    each.result()
            finally:
                self.finished.set()
            for other in others:
                other.result()


def test_nobody_misses_a_message_while_six_write_and_others_close_and_read(lag: Lag, bob: Agent) -> None:
    crowd = Crowd(bob)
    crowd.run()
    lag()
    stored = list(Message.objects.order_by("pk"))
    assert len(stored) == crowd.WRITERS * crowd.EACH + 1
    for seen in crowd.seen.values():
        assert seen == [0, *(message.pk for message in stored)]
    for number in range(crowd.WRITERS):
        steps = [message.content for message in stored if message.content.startswith(f"{number}/")]
        assert steps == [f"{number}/{step}" for step in range(crowd.EACH)]
    dates = [message.created_at for message in stored]
    assert dates == sorted(dates)
    now = Conversation.objects.get()
    assert now.last_message_id == stored[-1].pk
    assert now.customer_messages == sum(message.author == Author.CUSTOMER for message in stored)
