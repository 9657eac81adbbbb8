"""The request handler behaves like Django's own: the same requests, responses, signals and clean-up."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from django.core import signals
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.urls import reverse

from chatsite.serving.request_handler import (
    MAX_UPLOADS,
    MAX_UPLOADS_OF_ADDRESS,
    TURN,
    UPLOAD_THREADS,
    USUAL_TURN,
    RequestHandler,
    Scope,
    is_search,
)
from tests.request_handler_urls import Shared

FORM = "application/x-www-form-urlencoded"
Signals = list[tuple[str, str]]
STREAMS = ["/parts/sync/", "/parts/async/", "/parts/file/"]


async def until(condition: Callable[[], Any]) -> None:
    """Return when the condition holds; fail after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "It did not come true within 10 s."
        await asyncio.sleep(0.001)


def scope(path: str, method: str = "GET", headers: dict[str, str] | None = None, **more: Any) -> Scope:
    """An ASGI scope."""
    head = [(name.lower().encode(), value.encode("latin1")) for name, value in (headers or {}).items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": head} | more


class Exchange:
    """One request to the handler, and its response."""

    def __init__(self, app: RequestHandler, *args: Any, **more: Any) -> None:
        self.incoming, self.outgoing = asyncio.Queue[Mapping[str, Any]](), asyncio.Queue[Mapping[str, Any]]()
        self.scope = scope(*args, **more)
        self.task = asyncio.create_task(app(self.scope, self.incoming.get, self.outgoing.put))
        self.status, self.headers, self.parts = 0, list[tuple[str, str]](), list[bytes]()

    def send(self, *bodies: bytes, more: bool = False) -> None:
        """Send the body in these parts. `more`: it is not complete."""
        for body in bodies[:-1]:
            self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": True})
        self.incoming.put_nowait({"type": "http.request", "body": bodies[-1] if bodies else b"", "more_body": more})

    def disconnect(self) -> None:
        """Disconnect."""
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Mapping[str, Any]:
        """The next message of the response."""
        await until(lambda: self.task.done() or not self.outgoing.empty())
        if self.outgoing.empty():
            self.task.result()
        return self.outgoing.get_nowait()

    async def head(self) -> None:
        """Receive status and headers."""
        start = await self.receive()
        assert start["type"] == "http.response.start"
        self.status = start["status"]
        self.headers = [(name.decode("latin1"), value.decode("latin1")) for name, value in start["headers"]]

    async def part(self) -> bool:
        """Receive a part; return whether there is another."""
        message = await self.receive()
        assert message["type"] == "http.response.body"
        self.parts.append(message.get("body", b""))
        return bool(message.get("more_body"))

    async def end(self) -> None:
        """Return when the handler is done; raises what it raises."""
        await until(self.task.done)
        self.task.result()

    async def run(self, *bodies: bytes) -> "Exchange":
        """Send the body in these parts, and receive the whole response."""
        self.send(*bodies)
        await self.head()
        while await self.part():
            pass
        await self.end()
        return self

    @property
    def body(self) -> bytes:
        """What has been received."""
        return b"".join(self.parts)


def finished() -> bool:
    """Whether another view or stream has finished."""
    return Shared.finished.acquire(blocking=False)


def entered() -> bool:
    """Whether another view has begun to wait."""
    return Shared.entered.acquire(blocking=False)


@pytest.fixture(autouse=True)
def _shared(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.request_handler_urls"
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.ALLOWED_HOSTS = ["*"]
    Shared.reset()
    yield
    Shared.gate.set()


def shut_down(handler: RequestHandler, threads: int) -> None:
    """End the handler's threads, after each has closed its database connection."""
    barrier = threading.Barrier(threads)

    def last() -> None:
        barrier.wait(10)
        connections.close_all()

    for _ in range(threads):
        handler.pool.executor.submit(last)
    handler.pool.executor.shutdown()
    handler.search_pool.executor.shutdown()
    handler.upload_pool.executor.shutdown()
    handler.files.shutdown()


@pytest.fixture
async def app(_shared: None) -> AsyncIterator[RequestHandler]:
    """The handler, with two threads."""
    handler = RequestHandler(2)
    yield handler
    Shared.gate.set()
    await asyncio.to_thread(shut_down, handler, 2)


@pytest.fixture
async def one_thread(_shared: None) -> AsyncIterator[RequestHandler]:
    """The handler, with one thread."""
    handler = RequestHandler(1)
    yield handler
    Shared.gate.set()
    await asyncio.to_thread(shut_down, handler, 1)


@pytest.fixture
def sent_signals() -> Iterator[Signals]:
    """The signals of requests, with the threads in which they were sent."""
    seen: list[tuple[str, str]] = []

    def started(**_: Any) -> None:
        seen.append(("started", threading.current_thread().name))

    def finished(**_: Any) -> None:
        seen.append(("finished", threading.current_thread().name))

    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    yield seen
    signals.request_started.disconnect(started)
    signals.request_finished.disconnect(finished)


# Requests and responses ----------------------------------------------------------------------------------------------


async def test_a_response_has_its_content_and_headers(app: RequestHandler) -> None:
    page = await Exchange(app, "/hello/").run()
    assert (page.status, page.body.decode()) == (200, "Grüezi")
    assert ("Content-Type", "text/html; charset=utf-8") in page.headers
    assert ("Content-Length", "7") in page.headers


async def test_headers_are_latin1_in_both_directions(app: RequestHandler) -> None:
    page = await Exchange(app, "/headers/", headers={"X-Ask": "é"}).run()
    assert ("X-Echo", "é") in page.headers


async def test_every_cookie_is_a_header_of_its_own(app: RequestHandler) -> None:
    page = await Exchange(app, "/headers/").run()
    cookies = [value for name, value in page.headers if name == "Set-Cookie"]
    assert cookies == ["first=1; Path=/", 'second="two words"; HttpOnly; Path=/']


async def test_cookies_and_repeated_headers_arrive(app: RequestHandler) -> None:
    page = await Exchange(app, "/mirror/", headers={"Cookie": "a=1; b=2"}).run()
    assert json.loads(page.body)["cookies"] == {"a": "1", "b": "2"}


async def test_head_is_answered_like_get(app: RequestHandler) -> None:
    page = await Exchange(app, "/mirror/", "HEAD").run()
    assert (page.status, json.loads(page.body)["method"]) == (200, "HEAD")


async def test_the_query_arrives(app: RequestHandler) -> None:
    page = await Exchange(app, "/mirror/", query_string=b"a=1&a=2&b=%C3%BC").run()
    assert json.loads(page.body)["query"] == {"a": ["1", "2"], "b": ["ü"]}


async def test_a_form_arrives_in_chunks_of_any_size(app: RequestHandler) -> None:
    page = Exchange(app, "/mirror/", "POST", {"Content-Type": FORM, "Content-Length": "11"})
    await page.run(b"a=", b"", b"1&a=2&b", b"=3")
    assert json.loads(page.body)["form"] == {"a": ["1", "2"], "b": ["3"]}


@pytest.mark.parametrize(("size", "on_disk"), [(10, False), (3_000_000, True)])
async def test_a_large_upload_is_a_file_on_disk_and_every_upload_is_closed(
    app: RequestHandler, size: int, on_disk: bool
) -> None:
    data = encode_multipart(BOUNDARY, {"file": SimpleUploadedFile("name.bin", bytes(size)), "a": "1"})
    head = {"Content-Type": MULTIPART_CONTENT, "Content-Length": str(len(data))}
    page = await Exchange(app, "/mirror/", "POST", head).run(
        *(data[start : start + 65536] for start in range(0, len(data), 65536))
    )
    seen = json.loads(page.body)
    assert (seen["files"], seen["form"]) == ({"file": ["name.bin", size, on_disk]}, {"a": ["1"]})
    assert [file.closed for file in Shared.seen] == [True]


async def test_a_body_that_grows_goes_to_disk(app: RequestHandler, settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
    messages = iter([{"type": "http.request", "body": b"12345678", "more_body": more} for more in (True, True, False)])

    async def receive() -> dict[str, Any]:
        return next(messages)

    body: Any = await app.receive_body({}, receive)
    assert body._rolled
    assert body.read() == b"12345678" * 3


@pytest.mark.parametrize("length", [{"Content-Length": "300000"}, {}], ids=["length", "no length"])
async def test_a_body_over_the_limit_is_400(app: RequestHandler, settings: Any, length: dict[str, str]) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 262144
    for path, kind in (("/body/", "text/plain"), ("/mirror/", FORM)):
        page = await Exchange(app, path, "POST", {"Content-Type": kind, **length}).run(*[bytes(100_000)] * 3)
        assert page.status == 400


async def test_too_many_fields_are_400(app: RequestHandler, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    head = {"Content-Type": FORM, "Content-Length": "11"}
    assert (await Exchange(app, "/mirror/", "POST", head).run(b"a=1&b=2&c=3")).status == 400


async def test_a_query_that_is_not_ascii_is_400(app: RequestHandler, sent_signals: Signals) -> None:
    assert (await Exchange(app, "/mirror/", query_string=b"a=\xff").run()).status == 400
    assert [kind for kind, _ in sent_signals] == ["started", "finished"]


async def test_an_unknown_host_is_400(app: RequestHandler, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["chat.example"]
    assert (await Exchange(app, "/hello/", headers={"Host": "evil.example"}).run()).status == 400


async def test_an_unknown_path_is_404(app: RequestHandler) -> None:
    assert (await Exchange(app, "/nowhere/").run()).status == 404


async def test_a_view_that_raises_is_500_without_details(app: RequestHandler) -> None:
    page = await Exchange(app, "/crash/").run()
    assert page.status == 500
    assert b"RuntimeError" not in page.body


async def test_a_script_prefix_applies_to_one_request_only(one_thread: RequestHandler) -> None:
    with_it = await Exchange(one_thread, "/shop/mirror/", root_path="/shop").run()
    without = await Exchange(one_thread, "/mirror/").run()
    found = [[json.loads(page.body)[key] for key in ("path", "path_info", "hello")] for page in (with_it, without)]
    assert found == [["/shop/mirror/", "/mirror/", "/shop/hello/"], ["/mirror/", "/mirror/", "/hello/"]]


async def test_other_protocols_than_http_are_refused(app: RequestHandler) -> None:
    with pytest.raises(ValueError, match="websocket"):
        await Exchange(app, "/", type="websocket").end()


# Streams -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_arrives_in_order(app: RequestHandler, path: str) -> None:
    page = await Exchange(app, path).run()
    assert (page.status, page.body) == (200, b"eins zwei drei")


@pytest.mark.parametrize("kind", ["file", "stream"])
async def test_long_streams_are_sent_in_small_parts(
    app: RequestHandler, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.request_handler_urls.BIG", 3 * 1024 * 1024)
    page = await Exchange(app, f"/big/{kind}/").run()
    assert len(page.body) == 3 * 1024 * 1024
    assert {len(part) for part in page.parts[:-1]} == {65536}


@pytest.mark.parametrize("kind", ["sync", "async", "silent"])
async def test_a_stream_is_closed_when_its_client_disconnects(
    app: RequestHandler, kind: str, sent_signals: Signals
) -> None:
    page = Exchange(app, f"/endless/{kind}/")
    page.send()
    await page.head()
    assert await page.part()
    page.disconnect()
    await page.end()
    await until(finished)
    await until(lambda: len(sent_signals) == 2)
    assert [kind for kind, _ in sent_signals] == ["started", "finished"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_stream_that_raises_is_closed_and_not_completed(
    app: RequestHandler, kind: str, sent_signals: Signals
) -> None:
    page = Exchange(app, f"/broken/{kind}/")
    page.send()
    await page.head()
    assert await page.part()
    with pytest.raises(RuntimeError, match="This stream fails"):
        await page.end()
    assert page.outgoing.empty()
    await until(lambda: len(sent_signals) == 2)


async def test_streams_do_not_delay_other_requests(one_thread: RequestHandler) -> None:
    streams = [Exchange(one_thread, "/endless/sync/") for _ in range(3)]
    for stream in streams:
        stream.send()
        await stream.head()
    assert (await Exchange(one_thread, "/hello/").run()).status == 200
    for stream in streams:
        stream.disconnect()
        await stream.end()


@pytest.mark.parametrize("path", ["/german/sync/", "/german/async/"])
async def test_a_stream_is_in_the_language_that_its_view_has_activated(app: RequestHandler, path: str) -> None:
    assert (await Exchange(app, path).run()).body == b"de"


# Clean-up ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/hello/", "/crash/", "/nowhere/", "/rows/", *STREAMS])
@pytest.mark.django_db(transaction=True)
async def test_every_request_starts_once_and_finishes_once(
    app: RequestHandler, path: str, sent_signals: Signals
) -> None:
    await Exchange(app, path).run()
    await until(lambda: len(sent_signals) >= 2)
    await asyncio.to_thread(app.files.submit(lambda: None).result)
    assert [kind for kind, _ in sent_signals] == ["started", "finished"]
    assert all(thread.startswith(("request", "file", "stream")) for _, thread in sent_signals)


@pytest.mark.parametrize("path", ["/hello/", "/body/", "/crash/", "/hello/?\xff", *STREAMS])
async def test_the_file_of_a_body_is_closed(app: RequestHandler, path: str) -> None:
    file = BytesIO(b"a")
    path, _, query = path.partition("?")
    await Exchange(app, path, query_string=query.encode("latin1"), **{"chatsite.body": file}).run()
    await until(lambda: file.closed)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/database/", "/database/async/"])
async def test_request_signals_are_sent_in_the_thread_of_the_database_connection(
    app: RequestHandler, path: str, sent_signals: Signals
) -> None:
    await Exchange(app, path).run()
    assert [*sent_signals] == [("started", Shared.seen[0][0]), ("finished", Shared.seen[0][0])]


@pytest.mark.django_db(transaction=True)
async def test_there_is_one_database_connection_per_thread(
    app: RequestHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
    await asyncio.gather(*(Exchange(app, "/database/").run() for _ in range(60)))
    assert len(Shared.seen) == 60
    assert len({id(connection) for _, connection in Shared.seen}) == len({thread for thread, _ in Shared.seen}) <= 2


@pytest.mark.django_db(transaction=True)
async def test_a_stream_closes_its_database_connection(app: RequestHandler) -> None:
    assert (await Exchange(app, "/rows/").run()).body == b"012"
    [(thread, connection)] = Shared.seen
    assert thread.startswith("stream")
    await until(lambda: thread not in {each.name for each in threading.enumerate()})
    assert connection.connection is None


async def test_as_many_requests_run_at_once_as_there_are_threads(
    app: RequestHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shared, "together", threading.Barrier(2))
    pages = await asyncio.gather(*(Exchange(app, "/together/").run() for _ in range(6)))
    assert [page.status for page in pages] == [200] * 6
    assert len(app.pool.executor._threads) == 2


async def test_what_a_view_activates_does_not_reach_the_next_request(one_thread: RequestHandler) -> None:
    pages = [await Exchange(one_thread, "/german/").run() for _ in range(2)]
    assert [json.loads(page.body) for page in pages] == [[["en", "UTC"], "de", "Europe/Zurich"]] * 2


async def test_an_incomplete_body_starts_no_request(app: RequestHandler, sent_signals: Signals) -> None:
    page = Exchange(app, "/mirror/", "POST")
    page.send(b"a", more=True)
    page.disconnect()
    await page.end()
    assert page.outgoing.empty()
    assert sent_signals == []


async def test_a_disconnect_does_not_interrupt_a_view(app: RequestHandler, sent_signals: Signals) -> None:
    page = Exchange(app, "/hold/")
    page.send()
    await until(entered)
    page.disconnect()
    Shared.gate.set()
    await page.end()
    assert finished()
    assert [kind for kind, _ in sent_signals] == ["started", "finished"]


@pytest.mark.parametrize("path", ["/hold/", "/hold/stream/"])
async def test_a_cancelled_request_finishes_its_view_and_closes_the_response(
    app: RequestHandler, path: str, sent_signals: Signals
) -> None:
    page = Exchange(app, path)
    page.send()
    await until(entered)
    page.task.cancel()
    with suppress(asyncio.CancelledError):
        await page.task
    Shared.gate.set()
    await until(finished)
    await until(lambda: len(sent_signals) == 2)
    assert len({thread for _, thread in sent_signals}) == 1


@pytest.mark.parametrize("path", ["/hello/", *STREAMS])
async def test_a_response_that_cannot_be_sent_is_closed(app: RequestHandler, path: str, sent_signals: Signals) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"} if not sent_signals else await asyncio.Future()

    async def send(message: Any) -> None:
        raise OSError("The client has disconnected.")

    with pytest.raises(OSError, match="The client has disconnected"):
        await app(scope(path), receive, send)
    await until(lambda: len(sent_signals) == 2)


async def test_a_response_with_invalid_headers_is_closed(app: RequestHandler, sent_signals: Signals) -> None:
    page = Exchange(app, "/unsendable/")
    page.send()
    with pytest.raises(UnicodeEncodeError):
        await page.end()
    assert [kind for kind, _ in sent_signals] == ["started", "finished"]


async def test_an_error_while_closing_does_not_lose_the_response(
    app: RequestHandler, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("This receiver fails.")

    signals.request_finished.connect(fail)
    try:
        assert (await Exchange(app, "/hello/").run()).status == 200
    finally:
        signals.request_finished.disconnect(fail)
    assert "This receiver fails." in caplog.text


# Searches -------------------------------------------------------------------------------------------------------------


async def test_searches_wait_for_each_other_and_nothing_else_waits_for_them(one_thread: RequestHandler) -> None:
    query = {"query_string": b"q=parcel"}
    assert (await Exchange(one_thread, "/inbox/commands/", **query).run()).status == 500
    searches = [Exchange(one_thread, "/inbox/list/", **query) for _ in range(3)]
    for search in searches:
        search.send()
    await until(entered)
    assert sys.getswitchinterval() == pytest.approx(TURN), "threads that wait get the interpreter sooner"
    pages = await asyncio.gather(*(Exchange(one_thread, "/hello/").run() for _ in range(20)))
    assert {page.status for page in pages} == {200}
    assert not entered()
    assert not any(search.task.done() for search in searches)
    is_urgent = searches[0].scope["chatsite.is_urgent"]
    assert is_urgent(), "others wait for it"
    Shared.gate.set()
    for search in searches:
        await search.head()
        assert search.status == 200
    assert not is_urgent()
    searches[0].scope["chatsite.disconnected"] = lambda: True
    assert is_urgent(), "nobody waits for its answer"
    assert sys.getswitchinterval() == pytest.approx(USUAL_TURN)
    assert [len(pool.executor._threads) for pool in (one_thread.search_pool, one_thread.pool)] == [1, 1]


@pytest.mark.parametrize(
    ("view", "args", "query", "headers", "searches"),
    [
        ("inbox", [], "q=parcel", {}, True),
        ("list", [], "status=closed&q=parcel", {"HX-Request": "true"}, True),
        ("commands", [], "q=alice", {}, True),
        ("conversation", [12], "q=parcel", {}, True),  # the whole page has the list in it
        ("conversation", [12], "q=parcel&at=7", {"HX-Request": "true"}, False),
        ("list", [], "q=&status=closed", {}, False),
        ("list", [], "shown=q=parcel", {}, False),
        ("colleagues", [12], "q=bob", {}, False),
    ],
)
def test_which_pages_search(view: str, args: list[int], query: str, headers: dict[str, str], searches: bool) -> None:
    path = reverse(f"agent:{view}", urlconf="chatsite.urls", args=args)
    assert is_search(scope(path, headers=headers, query_string=query.encode())) is searches


# Uploads --------------------------------------------------------------------------------------------------------------

MULTIPART = {"Content-Type": MULTIPART_CONTENT}


async def upload(app: RequestHandler, address: int = 0) -> Exchange:
    """A request with a form, whose view has begun to wait."""
    page = Exchange(app, "/hold/", "POST", MULTIPART, client=(f"192.0.2.{address}", 1))
    page.send()
    await until(entered)
    return page


async def test_uploads_leave_the_threads_for_other_requests(one_thread: RequestHandler) -> None:
    pages = [await upload(one_thread, address=number) for number in range(UPLOAD_THREADS)]
    assert (await Exchange(one_thread, "/hello/").run()).status == 200
    Shared.gate.set()
    for page in pages:
        await page.head()
        assert page.status == 200


async def test_uploads_beyond_those_that_may_wait_are_503(app: RequestHandler) -> None:
    def another(address: int) -> Exchange:
        more = {"client": (f"192.0.2.{address}", 1), "chatsite.refusal": None}
        return Exchange(app, "/hold/", "POST", MULTIPART, **more)

    waiting = [another(number // MAX_UPLOADS_OF_ADDRESS) for number in range(MAX_UPLOADS)]
    for page in waiting:
        page.send()
    await until(lambda: app.uploads.total == MAX_UPLOADS)
    refused = await another(9).run()
    assert refused.status == 503
    assert ("Retry-After", "10") in refused.headers
    assert "Please try again in a few seconds." in refused.body.decode()
    Shared.gate.set()
    for page in waiting:
        await page.head()
        assert page.status == 200
    assert (await another(9).run()).status == 200


async def test_uploads_of_one_address_leave_a_thread_for_others(app: RequestHandler) -> None:
    waiting = [Exchange(app, "/hold/", "POST", MULTIPART) for _ in range(MAX_UPLOADS_OF_ADDRESS)]
    for page in waiting:
        page.send()
    await until(lambda: app.uploads.total == MAX_UPLOADS_OF_ADDRESS)
    assert (await Exchange(app, "/hold/", "POST", MULTIPART).run()).status == 503
    assert (await Exchange(app, "/hello/", "POST", MULTIPART, client=("192.0.2.1", 1)).run()).status == 200
    Shared.gate.set()
    for page in waiting:
        await page.head()


@pytest.mark.parametrize(
    ("method", "headers", "is_run"), [("GET", {}, False), ("POST", MULTIPART, False), ("POST", {}, True)]
)
async def test_a_request_whose_client_has_gone_is_run_only_if_it_writes(
    app: RequestHandler, sent_signals: Signals, method: str, headers: dict[str, str], is_run: bool
) -> None:
    file = BytesIO(b"a")
    scope = {"chatsite.body": file, "chatsite.disconnected": lambda: True}
    await Exchange(app, "/hello/", method, headers, **scope).end()
    assert bool(sent_signals) == is_run
    assert file.closed
