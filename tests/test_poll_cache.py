"""Empty polls are answered again before Django, but never after something has changed."""

import asyncio
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.core.signals import request_started
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from chatsite.asgi import application
from conversations import actions, poll_cache
from conversations.actions import post_message
from conversations.models import Agent, Contact, Conversation, Website
from conversations.models.contact import Claim
from conversations.poll_cache import IGNORED_HEADERS, MAX_AGE, Kept, Moment, PollCache, poll_key
from tests.conftest import ROOT, Page
from tests.test_delivery import histories, reload_and_poll

pytestmark = pytest.mark.django_db(transaction=True)
VERA = Claim("vera-7", Contact.Proof.TOKEN)


class Answer:
    """A response of the ASGI application."""

    def __init__(self, start: dict[str, Any], content: bytes, is_anew: bool) -> None:
        self.status, self.content = start["status"], content
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        self.is_anew = is_anew  # whether Django has seen the request


def scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    """The ASGI scope of a GET."""
    path, _, query = path.partition("?")
    pairs = [(name.lower().encode(), value.encode()) for name, value in {"Host": "localhost", **headers}.items()]
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": pairs,
        "client": ["192.0.2.7", 4711],
    }


async def ask(path: str, headers: dict[str, str]) -> Answer:
    """GET through the whole ASGI application, as in production."""
    sent: list[dict[str, Any]] = []
    seen: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def see(**signal: Any) -> None:
        seen.append(signal["scope"]["path"])

    request_started.connect(see)
    try:
        await application(scope(path, headers), receive, send)
    finally:
        request_started.disconnect(see)
    return Answer(sent[0], b"".join(message["body"] for message in sent[1:]), bool(seen))


class Browser(Page):
    """A browser whose GETs go through the whole ASGI application."""

    runner: asyncio.Runner
    """The event loop of a test. In each new one Redis' client would connect anew, and know of no change before."""

    def get(self, path: str, **more: Any) -> Any:  # type: ignore[override]  # takes no data
        """Send its cookies with a GET."""
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        headers = {"Cookie": cookies, "HX-Request": "true", **more.get("headers", {})}
        return self.runner.run(ask(path, headers))


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """An event loop, and an empty cache."""
    settings.POLL_CACHE = True
    shared = poll_cache.poll_cache.shared
    if shared:
        monkeypatch.setattr(shared, "timeout", 10)  # on a busy machine Redis may not answer in time
    monkeypatch.setattr(poll_cache.poll_cache, "answers", {})
    monkeypatch.setattr(poll_cache.poll_cache, "changes", OrderedDict())
    with asyncio.Runner() as Browser.runner:
        yield
        if shared:
            Browser.runner.run(shared.close())
        Browser.runner.run(get_channel_layer().close())


@pytest.fixture
def alices(talk: Conversation) -> Browser:
    """Alice's browser."""
    browser = Browser()
    browser.cookies["chat"] = talk.uuid.hex
    return browser


@pytest.fixture
def bobs(bob: Agent) -> Browser:
    """Bob's browser."""
    browser = Browser()
    browser.force_login(bob)
    return browser


Polls = dict[str, Callable[[], Answer]]


@pytest.fixture
def polls(talk: Conversation, alices: Browser, bobs: Browser) -> Polls:
    """Alice's, bob's and a widget's polls of the conversation, which has one message."""
    last = talk.last_message_id
    state = f"{talk.status}+{talk.pk}"
    return {
        "widget": lambda: Browser().get(f"/api/messages/{talk.uuid}/?since={last}"),
        "customer": lambda: alices.get(f"/chat/messages/?since={last}&state={state}"),
        "agent": lambda: bobs.get(f"/inbox/{talk.pk}/messages/?since={last}"),
    }


DOORS = ["widget", "customer", "agent"]


@pytest.mark.parametrize("door", DOORS)
def test_an_empty_poll_is_answered_again_without_django(polls: Polls, door: str) -> None:
    first, second = polls[door](), polls[door]()
    assert first.is_anew
    assert not second.is_anew
    assert (first.status, first.headers, first.content) == (second.status, second.headers, second.content)


@pytest.mark.parametrize("door", DOORS)
def test_every_poll_is_answered_anew_if_that_is_switched_off(polls: Polls, door: str, settings: Any) -> None:
    settings.POLL_CACHE = False
    assert polls[door]().is_anew
    assert polls[door]().is_anew


HOUR = timedelta(hours=1)


def read_with_receipts(talk: Conversation, carol: Agent) -> None:
    """Read all, on a website that shows customers so."""
    Website.objects.update(receipts=True)
    actions.mark_read(conversation=Conversation.objects.get(pk=talk.pk), agent=carol, last=talk.last_message_id)


CHANGES: dict[str, Callable[[Conversation, Agent, Agent], object]] = {
    "alice writes": lambda talk, bob, carol: post_message(content="And now?", conversation=talk),
    "bob answers": lambda talk, bob, carol: post_message(content="Hello!", conversation=talk, agent=bob),
    "bob closes": lambda talk, bob, carol: actions.close(conversation=talk),
    "bob takes": lambda talk, bob, carol: actions.take(conversation=talk, by=bob),
    "carol is assigned": lambda talk, bob, carol: actions.assign(conversation=talk, to=carol),
    "carol snoozes it": lambda talk, bob, carol: actions.snooze(conversation=talk, until=timezone.now() + HOUR),
    "carol labels it": lambda talk, bob, carol: actions.label(
        conversation=talk, add=[actions.create_label(name="refund")]
    ),
    "carol prioritizes it": lambda talk, bob, carol: actions.prioritize(conversation=talk, priority=2),
    "carol writes a note": lambda talk, bob, carol: actions.write_note(conversation=talk, agent=carol, content="VIP"),
    "carol corrects a name": lambda talk, bob, carol: actions.correct(
        conversation=talk, name="Alison", email="", by=carol
    ),
    "carol reads it": lambda talk, bob, carol: read_with_receipts(talk, carol),
    "alice signs out": lambda talk, bob, carol: actions.renew_secret(conversation=talk),
    "alice is identified": lambda talk, bob, carol: actions.identify(claim=VERA, website=talk.website, current=talk),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("door", DOORS)
def test_a_poll_after_a_change_is_answered_anew(
    polls: Polls, door: str, change: str, talk: Conversation, bob: Agent, carol: Agent
) -> None:
    polls[door]()
    assert not polls[door]().is_anew
    CHANGES[change](talk, bob, carol)
    assert polls[door]().is_anew


@pytest.mark.parametrize("door", DOORS)
def test_a_poll_is_answered_anew_after_a_message_was_acknowledged_when_sent_again(
    polls: Polls, door: str, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time the server was killed, or lost the database, after the commit and before it told anybody."""
    polls[door]()
    key = uuid.uuid4()
    with monkeypatch.context() as lost:
        lost.setattr("conversations.announce._send_after_commit", lambda *_: None)
        post_message(content="And now?", conversation=talk, client_id=key)
    assert not polls[door]().is_anew
    post_message(content="And now?", conversation=talk, client_id=key)
    assert polls[door]().is_anew


AGAIN: dict[str, Callable[[Conversation, Agent, Agent], object]] = {
    **{name: CHANGES[name] for name in ("bob closes", "bob takes", "carol is assigned")},
    "bob reopens": lambda talk, bob, carol: actions.reopen(conversation=talk),
}


@pytest.mark.parametrize("change", AGAIN)
def test_a_poll_is_answered_anew_after_a_change_was_acknowledged_the_second_time(
    polls: Polls, change: str, talk: Conversation, bob: Agent, carol: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls["agent"]()
    with monkeypatch.context() as lost:
        lost.setattr("conversations.announce._send_after_commit", lambda *_: None)
        AGAIN[change](talk, bob, carol)
    assert not polls["agent"]().is_anew
    AGAIN[change](talk, bob, carol)
    assert polls["agent"]().is_anew


def test_all_actions_that_change_a_conversation_are_tested() -> None:
    names = {name for name in actions.__all__ if name.islower()}
    assert names - {"reopen", "mark_mentions_read", "mark_seen", "create_label", "take_back"} == {
        *("post_message", "write_note", "close", "take", "assign", "snooze", "label", "prioritize"),
        *("renew_secret", "identify", "mark_read", "correct"),
    }


def test_reopening_is_a_change(polls: Polls, talk: Conversation) -> None:
    actions.close(conversation=talk)
    polls["agent"]()
    assert not polls["agent"]().is_anew
    actions.reopen(conversation=talk)
    assert polls["agent"]().is_anew


def test_the_page_that_the_customer_is_on_is_a_change(polls: Polls, alices: Browser, talk: Conversation) -> None:
    polls["agent"]()
    assert not polls["agent"]().is_anew
    Website.objects.default().origins.create(origin="https://shop.example")
    here = alices.post(
        "/chat/here/?host=https://shop.example",
        {"url": "https://shop.example/", "chat": talk.uuid.hex},
        content_type="application/json",
        headers={"Origin": "https://shop.example"},
    )
    assert here.status_code == 200
    assert polls["agent"]().is_anew


def test_a_change_that_cannot_be_noted_fails_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_conversation: int) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(poll_cache.poll_cache, "forget", fail)
    assert Page().post("/api/messages/", {"content": "Hi"}, content_type="application/json").status_code == 200


def test_messages_of_another_conversation_change_nothing(polls: Polls) -> None:
    polls["widget"]()
    post_message(content="I am somebody else.")
    assert not polls["widget"]().is_anew


def test_a_poll_that_read_before_a_change_and_ends_after_it_is_not_kept(
    polls: Polls, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = poll_cache.poll_cache.put

    def put(*args: Any) -> None:
        post_message(content="Written while the poll is being answered.", conversation=talk)
        original(*args)

    monkeypatch.setattr(poll_cache.poll_cache, "put", lambda *args: _in_thread(put, *args))
    polls["widget"]()
    monkeypatch.undo()
    assert b"Written while" in polls["widget"]().content


def _in_thread(function: Callable[..., object], *args: Any) -> None:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "another origin": ("", {"Origin": "https://evil.example"}),
    "another site": ("", {"Sec-Fetch-Site": "cross-site"}),
    "a session": ("", {"Cookie": "sessionid=mallory0mallory0mallory0"}),
    "a token": ("", {"Authorization": "Bearer nonsense"}),
    "an earlier cursor": ("&since=0", {}),
    "an unknown word": ("&colour=red", {}),
    "a language": ("", {"Accept-Language": "de"}),
    "another host": ("", {"Host": "127.0.0.1"}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_request_that_differs_is_answered_anew(talk: Conversation, other: str) -> None:
    path = f"/api/messages/{talk.uuid}/?since={talk.last_message_id}"
    Browser().get(path)
    more, headers = OTHERS[other]
    assert Browser().get(path + more, headers=headers).is_anew


def test_numbers_of_requests_make_no_difference(talk: Conversation) -> None:
    path = f"/api/messages/{talk.uuid}/?since={talk.last_message_id}"
    Browser().get(path, headers={"X-Request-Id": "1"})
    assert not Browser().get(path, headers={"X-Request-Id": "2"}).is_anew


def test_nothing_reads_the_headers_that_make_no_difference() -> None:
    for path in [*ROOT.glob("chatsite/**/*.py"), *ROOT.glob("conversations/**/*.py")]:
        text = path.read_text().lower()
        if path.name in ("request_id.py", "settings.py"):  # for log lines and errors, neither of which is kept
            text = text.replace("x-request-id", "")
        if path.name != "poll_cache.py":
            assert not [name for name in IGNORED_HEADERS if name.decode() in text], path


def test_only_empty_polls_are_kept(talk: Conversation, alices: Browser, bobs: Browser) -> None:
    for path in [f"/api/messages/{talk.uuid}/?since=0", f"/api/messages/{uuid.uuid4()}/?since=0"]:
        assert Browser().get(path).is_anew
        assert Browser().get(path).is_anew
    for browser, path in [(alices, "/chat/messages/?since=0"), (bobs, f"/inbox/{talk.pk}/messages/?since=0")]:
        assert browser.get(path).is_anew
        assert browser.get(path).is_anew
    mallory = Browser()
    assert mallory.get("/chat/messages/?since=0").is_anew
    assert mallory.get("/chat/messages/?since=0").is_anew


def test_only_gets_have_a_key() -> None:
    poll = scope("/chat/messages/?since=1", {})
    assert poll_key(poll)
    assert poll_key({**poll, "method": "POST"}) is None
    assert poll_key({**poll, "method": "HEAD"}) is None
    assert poll_key({**poll, "query_string": b"before=1"}) is None
    assert poll_key({**poll, "chatsite.refusal": 413}) is None


ANSWER = (204, (), b"")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test can set."""
    now = [1000.0]
    monkeypatch.setattr("conversations.poll_cache.time.monotonic", lambda: now[0])
    return now


def test_an_answer_is_used_for_ten_seconds(clock: list[float]) -> None:
    cache = PollCache()
    cache.put(b"alice", Kept(1, Moment(clock[0], 0), ANSWER))
    clock[0] += MAX_AGE - 0.1
    assert asyncio.run(cache.look_up(b"alice"))[0]
    clock[0] += 0.2
    assert not asyncio.run(cache.look_up(b"alice"))[0]


class Overtaken:
    """A lock. The first who asks for it has to wait while somebody else holds it."""

    def __init__(self, other: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.others = [other]

    def __enter__(self) -> None:
        if self.others:
            self.others.pop()()
        self.lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self.lock.release()


def test_a_change_is_not_replaced_by_an_earlier_one(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PollCache()

    def change_and_poll() -> None:
        began = Moment(clock[0] + 0.1, 0)
        clock[0] += 0.2
        cache.forget(1)
        cache.put(b"alice", Kept(1, began, ANSWER))  # does not have that change

    monkeypatch.setattr(cache, "lock", Overtaken(change_and_poll))
    cache.forget(1)
    assert not asyncio.run(cache.look_up(b"alice"))[0]


def test_a_change_counts_while_the_next_one_is_written(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PollCache()
    seen: list[Any] = []

    class Changes(OrderedDict[int, float]):
        def __setitem__(self, conversation: int, moment: float) -> None:
            seen.append(asyncio.run(cache.look_up(b"alice"))[0])
            super().__setitem__(conversation, moment)

    monkeypatch.setattr(cache, "changes", Changes())
    cache.put(b"alice", Kept(1, Moment(clock[0], 0), ANSWER))
    for _ in range(3):
        clock[0] += 1
        cache.forget(1)
    assert seen == [ANSWER, None, None]


def test_memory_is_bounded(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversations.poll_cache.MAX_ANSWERS", 3)
    cache = PollCache()
    for number in range(10):
        cache.put(b"%d" % number, Kept(number, Moment(clock[0], 0), ANSWER))
        cache.forget(number)
    assert list(cache.answers) == [b"7", b"8", b"9"]
    clock[0] += MAX_AGE + 1
    cache.put(b"10", Kept(10, Moment(clock[0], 0), ANSWER))
    cache.forget(10)
    assert (list(cache.answers), list(cache.changes)) == ([b"10"], [10])


@given(actions=histories)
@hypothesis_settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_reloaded_page_equals_the_old_page_with_all_polled_messages(
    actions: list[str], bob: Agent, carol: Agent, bobs: Browser
) -> None:
    """Like the test of the same name in test_delivery.py, through the ASGI application."""
    reload_and_poll(actions, bob, carol, Browser(), bobs)


def test_no_message_is_missed_while_six_threads_write_and_polls_never_pause(talk: Conversation) -> None:
    first, writers, each = talk.last_message_id, 6, 10
    start = threading.Barrier(writers + 1)

    def write(number: int) -> None:
        start.wait()
        for step in range(each):
            post_message(content=f"{number}/{step}", conversation=talk, client_id=uuid.uuid4())
        connections.close_all()

    async def poll(writing: list[Any]) -> list[int]:
        seen = [first]
        start.wait()
        while True:
            done = all(each.done() for each in writing)
            answer = await ask(f"/api/messages/{talk.uuid}/?since={seen[-1]}", {})
            seen += [item["id"] for item in json.loads(answer.content)["items"]]
            if done:
                return seen

    with ThreadPoolExecutor(writers) as pool:
        seen = Browser.runner.run(poll([pool.submit(write, number) for number in range(writers)]))
    assert seen == list(talk.messages.order_by("id").values_list("pk", flat=True))
    assert len(seen) == 1 + writers * each
