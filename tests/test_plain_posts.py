"""With the message log, plain posts are answered without Django, and every answer is as Django's."""

import asyncio
import json
import re
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
import redis
from channels.layers import get_channel_layer
from django.core.signals import request_started
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatsite.asgi import application
from conversations import actions, poll_cache
from conversations.actions import post_message
from conversations.actions.post_message import PLACEHOLDERS
from conversations.metrics import registry
from conversations.models import Agent, Conversation, Message, Token, Website
from conversations.models.message import MAX_LENGTH
from conversations.models.recipients import recipients
from conversations.presence import visitor
from conversations.screen.plain_posts import VARYING, batches, heads
from conversations.threshold import limits
from tests.conftest import UNKNOWN, use_new_client
from tests.services import Line, Service, follow, follow_nobody, redis_server
from tests.test_message_log import replicate

pytestmark = pytest.mark.django_db(transaction=True)

SHOP = "https://shop.example"
USUAL = {"Content-Type": "application/json", "Origin": SHOP, "User-Agent": "Mozilla/5.0"}

runner: asyncio.Runner
"""The event loop of a test."""


class Answer:
    """A response of the ASGI application."""

    def __init__(self, start: dict[str, Any], content: bytes, has_django: bool) -> None:
        self.status, self.content = start["status"], content
        self.headers = sorted((name.decode().lower(), value.decode()) for name, value in start["headers"])
        self.has_django = has_django  # whether Django has seen the request

    @property
    def shown(self) -> tuple[Any, ...]:
        """All of it, without ids, dates and uuids."""
        text = re.sub(r'"id": \d+', '"id": 1', self.content.decode())
        text = re.sub(r'"date": "[^"]+"', '"date": "now"', text)
        text = re.sub(r'"conversation": "[^"]+"', '"conversation": "uuid"', text)
        random = {"content-length": "1", "x-message": "1"}
        secret = re.compile("csrftoken=[^;]+|[0-9a-f]{32}|(?<=expires=)[^;]+")
        headers = [(name, random.get(name, secret.sub("…", value))) for name, value in self.headers]
        return self.status, headers, text

    def json(self) -> Any:
        return json.loads(self.content)


async def ask_together(requests: list[tuple[str, bytes, dict[str, str]]], method: str = "POST") -> list[Answer]:
    """Send requests at the same moment through the whole ASGI application, as our server does."""
    seen: list[int] = []

    def see(**signal: Any) -> None:
        seen.append(signal["scope"]["number"])

    async def ask(number: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[dict[str, Any], bytes]:
        path, _, query = path.partition("?")
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        pairs = [(b"host", b"localhost"), *pairs, (b"content-length", b"%d" % len(body))]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            raise AssertionError("The body is there already.")

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
            "client": ["192.0.2.7", 4711],
            "chatsite.body": BytesIO(body),
            "number": number,
        }
        await application(scope, receive, send)
        return sent[0], b"".join(message["body"] for message in sent[1:])

    request_started.connect(see)
    try:
        found = await asyncio.gather(*(ask(number, *request) for number, request in enumerate(requests)))
    finally:
        request_started.disconnect(see)
    return [Answer(*each, number in seen) for number, each in enumerate(found)]


def ask(path: str, body: bytes, headers: dict[str, str] = USUAL, method: str = "POST") -> Answer:
    return runner.run(ask_together([(path, body, headers)], method))[0]


@pytest.fixture(autouse=True)
def _server(message_log: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    global runner
    limits.store.cache_clear()
    recipients.clear()
    heads.known.clear()
    with asyncio.Runner() as runner:
        yield
        runner.run(batches.close())
        if poll_cache.poll_cache.shared:
            runner.run(poll_cache.poll_cache.shared.close())
        runner.run(get_channel_layer().close())
    recipients.clear()
    limits.store.cache_clear()


class Widget:
    """Alice's widget, which has a conversation open."""

    path = "/api/messages/?since=LAST"
    headers: dict[str, str] = USUAL
    last = 0

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.headers = headers or self.headers
        response = self.send({"content": "Hello", "client_id": str(uuid.uuid4())})
        self.uuid = response.json()["items"][0]["conversation"]
        self.see(response)

    def filled(self, text: str) -> str:
        """A part of a request, for this widget."""
        return text.replace("LAST", str(self.last)).replace("SECRET", getattr(self, "uuid", "").replace("-", ""))

    def see(self, response: Answer) -> None:
        """Know the id of the last message."""
        if response.status == 200 and response.json()["items"]:
            self.last = response.json()["items"][-1]["id"]

    def send(self, body: Any) -> Answer:
        return ask(self.filled(self.path), json.dumps(body).encode(), self.headers)

    def says(self, text: str, **more: Any) -> Answer:
        """Write a message, as a widget should."""
        client_id = str(uuid.uuid4())
        response = self.send({"content": text, "client_id": client_id, "conversation": self.uuid, **more})
        self.see(response)
        return response


class Tab(Widget):
    """Alice's page, which has her secret in a cookie."""

    path = "/chat/messages/"
    headers: dict[str, str] = {  # noqa: RUF012
        "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
        "Origin": "http://localhost",
        "Sec-Fetch-Site": "same-origin",
        "HX-Request": "true",
        "User-Agent": "Mozilla/5.0",
        "Accept-Language": "de-AT,de;q=0.9,en;q=0.8",
        "Cookie": "chat=SECRET",
    }
    uuid = ""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.headers = {**self.headers, **(headers or {})}
        first = {name: value for name, value in self.headers.items() if "SECRET" not in value}
        response = ask(self.path, urlencode({"content": "Hello", "X-Keep": "yes"}).encode(), {**first, "X-Keep": "yes"})
        self.uuid = str(uuid.UUID(dict(response.headers)["x-secret"]))
        self.see(response)

    def see(self, response: Answer) -> None:
        self.last = int(dict(response.headers).get("x-message", self.last))

    def send(self, body: Any) -> Answer:
        headers = {name: self.filled(value) for name, value in self.headers.items()}
        return ask(self.filled(self.path), urlencode(body).encode(), headers)

    def says(self, text: str, **more: Any) -> Answer:
        response = self.send({"content": text, "client_id": str(uuid.uuid4()), "zone": "Europe/Vienna", **more})
        self.see(response)
        return response


@pytest.fixture
def shop() -> Website:
    website = Website.objects.default()
    website.origins.create(origin=SHOP)
    return website


@pytest.fixture
def widget(shop: Website) -> Widget:
    """One whose next message needs no Django."""
    found = Widget()
    assert found.says("The first after that").has_django
    return found


def stored() -> list[str]:
    """What is in SQL, after everything was copied."""
    replicate()
    return list(Message.objects.order_by("pk").values_list("content", flat=True))


def test_a_message_is_answered_as_by_django_and_stored_once(widget: Widget) -> None:
    widget.says("two")
    heads.known.clear()
    by_django = widget.says("three")
    without = widget.says("four")
    assert (by_django.has_django, without.has_django) == (True, False)
    assert without.shown == (200, by_django.shown[1], by_django.shown[2].replace("three", "four"))
    assert [item["id"] for item in without.json()["items"]] == [widget.last]
    assert dict(without.headers)["access-control-allow-origin"] == SHOP
    assert dict(without.headers)["content-length"] == str(len(without.content))
    assert stored() == ["Hello", "The first after that", "two", "three", "four"]
    assert Conversation.objects.get().last_message_id == widget.last


def test_it_needs_no_query(widget: Widget) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert not widget.says("two").has_django
    assert len(queries) == 0


PLAIN = {"content": "Hi", "client_id": "CLIENT_ID", "conversation": "CONVERSATION"}
TEXTS = ["Hi", "Grüße 🌱", '"<b>" & \\ \n', "‮evil", " ", "", "​", "x" * MAX_LENGTH, "x" * (MAX_LENGTH + 1), "\x00"]
TEXTS += ["\ud800", "🌱" * MAX_LENGTH]


def with_each(name: str, *values: Any) -> list[Any]:
    """Bodies that have each of these values under this name."""
    return [{**PLAIN, name: value} for value in values]


BODIES: list[Any] = [
    *with_each("content", *TEXTS),
    *with_each("content", None, 7, True, [], {}, ["Hi"], 1e400),
    *with_each("client_id", None, "", "nonsense", 7, "CLIENT_HEX", "CLIENT_UPPER"),
    *with_each("client_id", *map(str, sorted(PLACEHOLDERS))),
    *with_each("client_id", "{CLIENT_ID}", "urn:uuid:CLIENT_ID", [str(UNKNOWN)]),
    *with_each("conversation", None, "", "nonsense", str(UNKNOWN), 7, [], {"a": 1}, True, "HEX"),
    *with_each("name", None, "", "Alice", 0, False, [], "x" * 81, "\x00"),
    *with_each("email", None, "", "alice@shop.example", "nonsense", 0, "x" * 255),
    *with_each("website", None, "", "default", "nonsense", 0, False),
    *with_each("identity", None, "", "nonsense", 0, "x" * 4097),
    {**PLAIN, "more": 1, "author": "AGE"},
    {"content": "Hi"},
    {},
    *([], [PLAIN], "Hi", 7, None),
    *(b"", b"{", b"\xff", b"null", b'{"content": NaN}', b"[" * 50_000, b'{"a":' * 9_000, b"1" * 5_000),
    *(b'{"content": "a", "content": "b", "client_id": "CLIENT_ID", "conversation": "CONVERSATION"}',),
    json.dumps(PLAIN).encode("utf-16"),
    b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(),
    json.dumps(PLAIN).encode() + b" " * 70_000,
    json.dumps(PLAIN).encode() + b" " * 300_000,
    b"content=Hi",
]
QUERIES = ["", "?", "?since=", "?since=0", "?since=LAST", "?since=00LAST", "?since=-1", "?since=x", "?since=1e3"]
QUERIES += ["?since=LAST&since=0", "?since=LAST&x=1", "?x=1", "?since=%30", "?since=LAST%00", "?since=99999999999999"]
QUERIES += ["?since=999999999999999999", "?since=9223372036854775807", "?since=99999999999999999999999", "?Since=LAST"]
HEADERS: list[dict[str, str]] = [
    {},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost"},
    {"Origin": SHOP.upper()},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    {"Host": "evil.example"},
    {"Host": "localhost:80"},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Prefix": "/chat"},
    {"Content-Type": "text/plain"},
    {"Content-Type": ""},
    {"Content-Type": "application/json; charset=latin-1"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Authorization": "Bearer nonsense"},
    {"Authorization": "Basic YTpi"},
    {"Authorization": "Bearer TOKEN"},
    {"Cookie": "sessionid=nonsense"},
    {"Cookie": "sessionid=SESSION"},
    {"Cookie": "sessionid=SESSION; csrftoken=x"},
    {"Cookie": "a=b"},
    {"X-Identity": "nonsense"},
    {"HX-Request": "true"},
    {"Transfer-Encoding": "chunked"},
    {"If-None-Match": "*"},
    {"Range": "bytes=0-1"},
    {"Expect": "100-continue"},
    *({name.decode(): "1, é\x7f"} for name in sorted(VARYING) if name != b"content-length"),
]


def body_of(body: Any, widget: Widget) -> bytes:
    """A body of BODIES, for this widget and with a new client_id."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    new = uuid.uuid4()
    names = {
        "CLIENT_ID": str(new),
        "CLIENT_HEX": new.hex,
        "CLIENT_UPPER": str(new).upper(),
        "CONVERSATION": widget.uuid,
    }
    for name, value in names.items():
        content = content.replace(name.encode(), value.encode())
        content = content.replace(name.encode("utf-16-le"), value.encode("utf-16-le"))
    return content.replace(b'"HEX"', json.dumps(widget.uuid.replace("-", "")).encode())


def compare(
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: Any,
    headers: dict[str, str],
    method: str = "POST",
    kind: "type[Widget]" = Widget,
) -> bool:
    """Send a request twice as it usually is, and twice with Django only, each time to a conversation of its own.

    All answers must be equal. Returns whether one of them was without Django.
    """
    answers, written, has_been_without = list[Any](), list[Any](), False
    for is_usual in (True, False):
        widget = kind()
        assert widget.says("The first after that").status in (200, 204)
        if not is_usual:
            monkeypatch.setattr(heads, "find", lambda *_: None)
        for _ in range(2):  # the first one may be remembered
            sent = {name: widget.filled(value) for name, value in {**widget.headers, **headers}.items()}
            answer = ask(widget.filled(path), body_of(body, widget), sent, method)
            has_been_without |= not answer.has_django
            widget.see(answer)
            answers.append((is_usual, answer.shown))
        replicate()
        talk = Conversation.objects.by_uuid(uuid.UUID(widget.uuid))
        assert talk is not None
        written.append(list(talk.messages.order_by("pk").values_list("content", "author", "is_formatted", "files")))
        written.append([(talk.status, talk.names, talk.last_author, visitor.get(talk.pk))])
    monkeypatch.undo()
    usual, django = ([shown for is_usual, shown in answers if is_usual is which] for which in (True, False))
    assert usual == django
    assert written[:2] == written[2:]
    return has_been_without


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body)[:60].encode("ascii", "replace").decode())
def test_every_body_is_answered_as_by_django(shop: Website, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    compare(monkeypatch, "/api/messages/?since=LAST", body, {})


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_answered_as_by_django(shop: Website, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    compare(monkeypatch, f"/api/messages/{query}", PLAIN, {})


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_every_header_is_answered_as_by_django(
    shop: Website, bob: Agent, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    client = Client()
    client.force_login(bob)
    secret = {"TOKEN": str(Token.objects.issue(bob, "a bot", "WRITE")), "SESSION": client.cookies["sessionid"].value}
    for name, value in secret.items():
        headers = {header: text.replace(name, value) for header, text in headers.items()}
    has_been_without = compare(monkeypatch, "/api/messages/?since=LAST", PLAIN, headers)
    if any(name.lower().encode() in VARYING for name in headers):
        assert has_been_without


@pytest.mark.parametrize(
    "path", ["/api/messages", "/api/messages/", "/api/messages//", "/api/Messages/", "/api/%6dessages/"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "post", "PATCH"])
def test_every_path_and_method_is_answered_as_by_django(
    shop: Website, monkeypatch: pytest.MonkeyPatch, path: str, method: str
) -> None:
    compare(monkeypatch, f"{path}?since=LAST", PLAIN, {}, method)


def test_usual_requests_are_answered_without_django(shop: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing would be compared above."""
    for path in ("/api/messages/?since=LAST", "/api/messages?since=LAST"):
        assert compare(monkeypatch, path, PLAIN, {})
    assert compare(monkeypatch, path, {**PLAIN, "content": "🌱" * 5_000}, {})
    assert compare(monkeypatch, path, PLAIN, {"Sec-Fetch-Site": "cross-site"})


def test_pages_of_another_origin_are_refused_although_one_with_the_same_browser_is_not(widget: Widget) -> None:
    widget.headers = {**USUAL, "Origin": "https://evil.example"}
    response = widget.says("for mallory")
    assert (response.status, response.has_django) == (403, True)


def test_an_origin_that_is_removed_is_refused_at_once(widget: Widget, shop: Website) -> None:
    assert not widget.says("two").has_django
    shop.origins.all().delete()
    assert widget.says("three").status == 403


def test_a_website_that_now_requires_a_proof_refuses_at_once(widget: Widget, shop: Website) -> None:
    assert not widget.says("two").has_django
    shop.identity_required = True
    shop.save()
    assert widget.says("three").status == 401


def test_what_another_process_has_changed_is_known_after_some_seconds(
    widget: Widget, shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not widget.says("two").has_django
    shop.origins.filter(pk__gt=0)._raw_delete(using="default")  # without signals
    recipients.websites[shop.pk] = recipients.websites[shop.pk]._replace(until=0.0)  # ten seconds later
    assert widget.says("three").status == 403


def test_a_website_that_was_read_again_and_has_not_changed_goes_on_without_django(
    widget: Widget, shop: Website
) -> None:
    assert not widget.says("two").has_django
    recipients.websites[shop.pk] = recipients.websites[shop.pk]._replace(until=0.0)  # ten seconds later
    replicate()
    ask(f"/api/messages/{widget.uuid}/?since=0", b"", USUAL, "GET")  # a poll reads it
    assert not widget.says("three").has_django


def test_the_head_of_one_website_says_nothing_of_another(widget: Widget, shop: Website) -> None:
    other = Website.objects.create(key="other", name="Other")
    talk = post_message(content="Hi", website=other).conversation
    replicate()
    recipients.put(Conversation.objects.select_related("website").get(pk=talk.pk))
    widget.uuid, widget.last = str(talk.uuid), talk.last_message_id
    assert widget.says("from the shop's page").status == 403


def test_a_retry_is_stored_once(widget: Widget) -> None:
    body = {"content": "two", "client_id": str(uuid.uuid4()), "conversation": widget.uuid}
    first, again = widget.send(body), widget.send(body)
    assert (first.has_django, again.has_django) == (False, True)
    assert first.content == again.content
    other = widget.send({**body, "content": "three"})
    assert other.status == 409
    assert stored() == ["Hello", "The first after that", "two"]


def test_retries_at_the_same_moment_are_stored_once(widget: Widget) -> None:
    body = {"content": "two", "client_id": str(uuid.uuid4()), "conversation": widget.uuid}
    path, texts = f"/api/messages/?since={widget.last}", ["two", "two", "three"]
    requests = [(path, json.dumps({**body, "content": text}).encode(), USUAL) for text in texts]
    answers = runner.run(ask_together(requests))
    assert [answer.status for answer in answers] == [200, 200, 409]
    assert answers[0].content == answers[1].content
    assert stored() == ["Hello", "The first after that", "two"]


def test_messages_at_the_same_moment_are_appended_together(shop: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    widgets = [Widget() for _ in range(10)]
    widgets[0].says("The first after that")
    sizes = []
    run = batches.run

    async def count(arguments: list[Any]) -> list[str]:
        sizes.append(len(arguments) - 7)
        return await run(arguments)

    monkeypatch.setattr(batches, "run", count)
    requests = [
        (f"/api/messages/?since={widget.last}", body_of({**PLAIN, "content": f"{number}"}, widget), USUAL)
        for number, widget in enumerate(widgets[1:])
    ]
    answers = runner.run(ask_together(requests))
    assert [answer.json()["items"][0]["content"] for answer in answers] == [str(number) for number in range(9)]
    assert not any(answer.has_django for answer in answers)
    assert sizes == [9]
    ids = [answer.json()["items"][0]["id"] for answer in answers]
    assert ids == list(range(ids[0], ids[0] + 9))
    assert stored()[-9:] == [str(number) for number in range(9)]


def test_a_customer_who_has_not_read_an_answer_gets_it(widget: Widget, bob: Agent) -> None:
    replicate()
    post_message(content="Can I help?", conversation=Conversation.objects.get(), agent=bob)
    response = widget.says("two")
    assert response.has_django
    assert [item["content"] for item in response.json()["items"]] == ["Can I help?", "two"]
    assert not widget.says("three").has_django


def test_what_has_a_time_before_the_last_message_gets_its_time(widget: Widget, message_log: ModuleType) -> None:
    replicate()
    message_log.client().hset(f"{{log}}:h:{Conversation.objects.get().pk}", "at", "2100-01-01T00:00:00.000000+00:00")
    response = widget.says("two")
    assert not response.has_django
    assert response.json()["items"][0]["date"] == "2100-01-01T00:00:00.000Z"


def test_a_renewed_secret_and_a_deleted_conversation_are_refused(widget: Widget) -> None:
    replicate()
    before = Conversation.objects.get()
    renewed = actions.renew_secret(conversation=before)
    assert recipients.get(before.uuid), "this process was not told"
    assert widget.says("for somebody new").has_django
    replicate()
    assert "for somebody new" not in renewed.messages.values_list("content", flat=True)


def test_limits_count_what_django_does_not_see(shop: Website, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "messages in one conversation": (5, 60), "messages of one address": (9, 60)}
    widget = Widget()
    found = [widget.says(f"{number}") for number in range(6)]
    assert [answer.status for answer in found] == [200] * 5 + [429]
    assert [answer.has_django for answer in found] == [True, False, False, False, False, True]
    other = Widget()
    statuses = [other.says(f"{number}").status for number in range(3)]
    assert statuses == [200, 429, 429], "one of the address: the first messages of both, 5, a refused one and this"
    limits.store.cache_clear()


def test_each_address_has_its_own_limit(shop: Website, settings: Any) -> None:
    settings.TRUSTED_PROXIES, settings.RATE_LIMITS = 1, True
    settings.LIMITS = {**settings.LIMITS, "messages of one address": (4, 60)}
    widget = Widget({**USUAL, "X-Forwarded-For": "198.51.100.1"})
    assert [widget.says("x").has_django for _ in range(4)] == [True, False, False, True]
    assert widget.says("x").status == 429
    widget.headers = {**USUAL, "X-Forwarded-For": "198.51.100.2"}
    assert [widget.says("x").status for _ in range(5)] == [200, 200, 200, 200, 429]


def test_metrics_count_what_django_does_not_see(widget: Widget) -> None:
    def counted() -> tuple[float, float, float]:
        labels = {"handler": "widget_api", "code": "200"}
        return (
            registry.get_sample_value("chatsite_messages_total", {"author": "customer"}) or 0,
            registry.get_sample_value("chatsite_http_requests_total", labels) or 0,
            registry.get_sample_value("chatsite_http_request_duration_seconds_count", {"handler": "widget_api"}) or 0,
        )

    before = counted()
    assert not widget.says("two").has_django
    assert counted() == tuple(number + 1 for number in before)


def test_everybody_is_rung(widget: Widget) -> None:
    told: list[dict[str, Any]] = []

    class Socket:
        def tell(self, event: dict[str, Any]) -> None:
            told.append(event)

    replicate()
    pk = Conversation.objects.get().pk
    layer: Any = get_channel_layer()

    sockets = {f"conversation-{pk}-customer": Socket(), "agents": Socket()}

    async def each(do: Callable[[str, Socket], None]) -> None:
        for group, socket in sockets.items():
            do(group, socket)

    runner.run(each(layer.join))
    try:
        assert not widget.says("two").has_django
    finally:
        runner.run(each(layer.leave))
    ring = {"type": "ring", "conversation": pk, "last": widget.last}
    assert [event for event in told if event["last"] == widget.last] == [ring, {**ring, "beside": True}]


def test_what_cannot_be_announced_is_announced_by_django(widget: Widget, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr("conversations.actions.post_plain.announce_appended", fail)
        assert widget.says("two").has_django
    assert not widget.says("three").has_django
    replicate()
    assert [message.content for message in Message.objects.order_by("pk")][-2:] == ["two", "three"]


def test_polls_of_this_process_find_it_at_once(widget: Widget) -> None:
    replicate()
    poll = f"/api/messages/{widget.uuid}/?since={widget.last}"
    for _ in range(2):
        assert ask(poll, b"", USUAL, "GET").json()["items"] == []
    widget.says("two")
    assert [item["content"] for item in ask(poll, b"", USUAL, "GET").json()["items"]] == ["two"]


def test_a_cancelled_request_is_announced(widget: Widget, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancel() -> None:
        body = body_of(PLAIN, widget)
        task = asyncio.create_task(ask_together([(f"/api/messages/?since={widget.last}", body, USUAL)]))
        while not batches.waiting:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        while batches.task:
            await asyncio.sleep(0.001)

    replicate()
    poll = f"/api/messages/{widget.uuid}/?since={widget.last}"
    assert ask(poll, b"", USUAL, "GET").json()["items"] == []
    runner.run(cancel())
    assert [item["content"] for item in ask(poll, b"", USUAL, "GET").json()["items"]] == ["Hi"]


def test_nothing_is_acknowledged_that_redis_has_not_acknowledged(widget: Widget, log_service: Any) -> None:
    assert not widget.says("two").has_django
    log_service.freeze()
    try:
        response = widget.says("three")
        assert (response.status, response.has_django) == (503, True)
    finally:
        log_service.thaw()
    while (response := widget.says("four")).status == 503:
        pass
    assert "four" in stored()
    assert stored().count("three") <= 1


def test_who_sends_a_cookie_is_left_to_django(widget: Widget) -> None:
    widget.headers = {**USUAL, "Cookie": "theme=dark"}
    assert [widget.says("x").has_django for _ in range(3)] == [True] * 3


def test_a_redis_that_was_started_anew_skips_ids(widget: Widget, message_log: ModuleType, log_service: Any) -> None:
    """It may have lost the last ones that it gave."""
    assert not widget.says("two").has_django
    before = widget.last
    replicate()
    log_service.kill()
    log_service.start()
    while True:
        with suppress(redis.RedisError):
            redis.Redis.from_url(log_service.url).ping()
            break
    response = widget.says("three")
    assert (response.status, response.has_django) == (200, True)
    assert widget.last > before + message_log.MARGIN
    assert [widget.says("four").has_django for _ in range(3)][-1] is False
    assert stored() == ["Hello", "The first after that", "two", "three", "four", "four", "four"]


def test_a_redis_that_has_become_a_copy_gets_no_more_messages(
    shop: Website, log_service: Service, settings: Any, tmp_path: Path
) -> None:
    """It keeps its connections open, and whoever connects anew reaches the one that has taken over."""
    line = Line(log_service.port)
    settings.REDIS_URL = f"redis://127.0.0.1:{line.port}"
    use_new_client()
    with redis_server(tmp_path) as new:
        widget = Widget()
        assert [widget.says("x").has_django for _ in range(2)] == [True, False]
        follow(new, log_service)
        follow_nobody(new)
        line.to = new.port
        try:
            follow(log_service, new)
            while widget.says("y").status == 503:
                pass
            assert [widget.says("z").has_django for _ in range(3)][-1] is False
        finally:
            follow_nobody(log_service)
            line.close()


FORM = "content=Hi&client_id=CLIENT_ID&state=OPEN+&zone=Europe%2FVienna"
FORMS = [
    FORM,
    "content=Hi&client_id=CLIENT_ID",
    "content=Hi&client_id=CLIENT_ID&zone=Asia/Tokyo",
    "content=Hi&zone=Europe/Vienna",
    "content=Hi&client_id=&zone=Europe/Vienna",
    "content=Hi&client_id=nonsense&zone=Europe/Vienna",
    "content=Hi&client_id=CLIENT_HEX&zone=Europe/Vienna",
    "content=Hi&client_id=+CLIENT_ID+&zone=Europe/Vienna",
    "content=&client_id=CLIENT_ID&zone=Europe/Vienna",
    "client_id=CLIENT_ID&zone=Europe/Vienna",
    "content=%E2%80%8B&client_id=CLIENT_ID&zone=Europe/Vienna",
    "content=%00&client_id=CLIENT_ID&zone=Europe/Vienna",
    "content=%FF%C3%A4&client_id=CLIENT_ID&zone=Europe/Vienna",
    "content=a%0D%0Ab%0Dc%0Ad+++&client_id=CLIENT_ID&zone=Europe/Vienna",
    f"content={'x' * MAX_LENGTH}&client_id=CLIENT_ID&zone=Europe/Vienna",
    f"content={'x' * (MAX_LENGTH + 1)}&client_id=CLIENT_ID&zone=Europe/Vienna",
    f"content={'%F0%9F%8C%B1' * MAX_LENGTH}&client_id=CLIENT_ID&zone=Europe/Vienna",
    "content=a&content=b&client_id=CLIENT_ID&zone=Europe/Vienna",
    f"{FORM}&name=Alice",
    f"{FORM}&name=&email=",
    f"{FORM}&email=nonsense",
    f"{FORM}&more=1",
    f"{FORM}&state=CLOSED+99999",
    f"{FORM}&state=x+y+z",
    f"{FORM}&language=fr",
    f"{FORM}&csrfmiddlewaretoken=x",
    FORM + "&x=1" * 700,
    FORM + "&zone=" + "x" * 70_000,
    "",
    "&&&",
    "content",
    '{"content": "Hi"}',
]
FORM_HEADERS: list[dict[str, str]] = [
    {"Cookie": "chat=SECRET; theme=dark"},
    {"Cookie": "theme=dark; chat=SECRET"},
    {"Cookie": "chat=SECRET;"},
    {"Cookie": "chat=SECRET; chat=SECRET"},
    {"Cookie": "chat=0d5b7a5e3c0f4f0e9d8a6f1d2b3c4d5e"},
    {"Cookie": "chat=nonsense"},
    {"Cookie": ""},
    {"Cookie": "chat-other=SECRET"},
    {"Cookie": "theme=dark", "X-Chat": "SECRET"},
    {"X-Chat": "SECRET"},
    {"X-Chat": "nonsense"},
    {"X-Keep": "yes"},
    {"X-Identity": "nonsense"},
    {"HX-Request": "false"},
    {"HX-Request": ""},
    {"HX-Current-URL": "http://localhost/chat/"},
    {"Accept-Language": "en"},
    {"Accept-Language": "xx, é"},
    {"User-Agent": "another"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "application/x-www-form-urlencoded; charset=latin-1"},
    {"Content-Type": "application/json"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": SHOP},
    {"Host": "evil.example"},
    {"Authorization": "Bearer nonsense"},
    *({name.decode(): "1, é\x7f"} for name in sorted(VARYING) if name != b"content-length"),
]
PATHS = [
    *("/chat/messages/", "/chat/default/messages/", "/chat/other/messages/", "/chat/nonsense/messages/"),
    *("/chat/messages", "/chat/messages//", "/chat/messages/?language=fr", "/chat/messages/?language=nonsense"),
    *("/chat/messages/?host=https://shop.example", "/chat/messages/?host=https://evil.example"),
    *("/chat/messages/?since=LAST", "/chat/messages/?%00", "/chat/messages/?x=%FF"),
]


@pytest.fixture
def tab(shop: Website) -> Tab:
    """One whose next message needs no Django."""
    found = Tab()
    assert [found.says("The first after that").has_django for _ in range(2)] == [True, False]
    return found


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[-60:])
def test_every_form_is_answered_as_by_django(shop: Website, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    compare(monkeypatch, "/chat/messages/", form.encode(), {}, kind=Tab)


@pytest.mark.parametrize("headers", FORM_HEADERS, ids=str)
def test_every_header_of_a_page_is_answered_as_by_django(
    shop: Website, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    compare(monkeypatch, "/chat/messages/", FORM.encode(), headers, kind=Tab)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_every_path_of_a_page_is_answered_as_by_django(
    shop: Website, monkeypatch: pytest.MonkeyPatch, path: str, method: str
) -> None:
    Website.objects.create(key="other", name="Other")
    compare(monkeypatch, path, FORM.encode(), {}, method, kind=Tab)


def test_usual_posts_of_pages_are_answered_without_django(shop: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing would be compared above."""
    for headers in ({}, {"X-Keep": "yes"}, {"Accept-Language": "fr"}, {"HX-Current-URL": "http://localhost/chat/"}):
        assert compare(monkeypatch, "/chat/messages/", FORM.encode(), headers, kind=Tab)


def test_two_pages_each_get_their_own_secret(tab: Tab) -> None:
    other = Tab()
    other.says("The first one here")
    responses = [each.says("mine") for each in (tab, other)]
    assert [response.has_django for response in responses] == [False, False]
    for each, response in zip((tab, other), responses, strict=True):
        assert dict(response.headers)["set-cookie"].startswith(f"chat={uuid.UUID(each.uuid).hex}; expires=")
    replicate()
    for each in (tab, other):
        talk = Conversation.objects.by_uuid(uuid.UUID(each.uuid))
        assert talk
        assert talk.last_message_id == each.last


def test_a_page_that_has_said_something_else_of_its_browser_is_left_to_django(tab: Tab) -> None:
    tab.headers = {**tab.headers, "User-Agent": "another"}
    assert [tab.says("x").has_django for _ in range(2)] == [True, False]
    replicate()
    seen = visitor.get(Conversation.objects.get().pk)
    assert seen
    assert seen.browser == "another"


def test_what_was_saved_of_browsers_takes_little_memory(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(visitor, "cache", SimpleNamespace(get=lambda key: None, set=lambda *value: None))
    monkeypatch.setattr(visitor, "MAX_SAVED", 1000)
    visitor._saved.clear()
    tracemalloc.start()
    try:
        for number in range(1500):
            long = f"{number:500}"
            visitor.save(number, visitor.parse({"url": f"x{long}x", "title": f"y{long}y"}, long))
        assert 500 <= len(visitor._saved) <= 1000
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
    visitor._saved.clear()
    settings.MESSAGE_LOG = False
    visitor.save(1, visitor.parse({}, "a browser"))
    assert not visitor._saved


def test_a_page_that_shows_another_conversation_is_told_so(tab: Tab) -> None:
    response = tab.says("x", state=f"OPEN {Conversation.objects.count() + 4711}")
    assert (response.status, dict(response.headers)["hx-trigger"]) == (204, "another")


def test_a_page_whose_secret_was_renewed_is_told_so(tab: Tab) -> None:
    replicate()
    actions.renew_secret(conversation=Conversation.objects.get())
    response = tab.says("x")
    assert (response.status, dict(response.headers)["hx-trigger"]) == (204, "stranger")


def test_a_conversation_that_the_log_does_not_know_is_read_at_once(
    widget: Widget, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has written to it for an hour."""
    replicate()
    pk = Conversation.objects.get().pk
    message_log.client().delete(f"{{log}}:h:{pk}", f"{{log}}:c:{pk}", f"{{log}}:u:{uuid.UUID(widget.uuid).hex}")
    tries: list[int | None] = []
    append = message_log.append

    def count(**arguments: Any) -> Any:
        tries.append(arguments["last"])
        return append(**arguments)

    monkeypatch.setattr(message_log, "append", count)
    last = widget.last
    assert widget.says("two").has_django
    assert tries == [last], "what SQL says, and nothing was tried in vain"
    assert not widget.says("three").has_django
    assert stored() == ["Hello", "The first after that", "two", "three"]
