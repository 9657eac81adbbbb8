"""An ASGI handler for HTTP that runs Django's whole synchronous stack in one thread of a fixed pool.

Django's own ASGI handler starts a thread context for every request and switches between the event loop and threads for
every middleware, and persistent database connections leak there. Here the event loop receives the request, a thread of
the pool does everything else, and the event loop sends the response. The threads live as long as the process, so each
keeps its database connection. `make bench` compares the two.
"""

import asyncio
import logging
import re
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from functools import partial
from io import SEEK_END, BytesIO
from time import perf_counter
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils import timezone, translation

from chatsite.metrics import observe_request
from chatsite.request_id import HEADER, answering, request_id
from chatsite.serving.thread_pool import Callback, ThreadPool, do_nothing
from chatsite.serving.usage import Usage
from conversations.poll_cache import keep
from conversations.screen.plain_posts import heads
from conversations.threshold.proxies import address_of_scope

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
# A Django response (Any, because handlers use private attributes of it), the ASGI message that starts it, and its
# content or, if it is streaming, the context in which its iterator runs.
Result = tuple[Any, dict[str, Any], Any]
END = object()
SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}

POSTS = re.compile(r"/api/messages/?|/chat/([^/]+/)?messages/?")
"""The paths of customers' messages."""

SEARCHES = re.compile(r"/inbox/(list/|commands/|(\d+/))?")
"""The paths of agents' pages that search, if they have `?q=`: a conversation's page only beside the list."""

HAS_QUERY = re.compile(rb"(^|&)q=[^&]")

TURN, USUAL_TURN = 0.0005, sys.getswitchinterval()
"""Seconds for which a thread may use the interpreter while others wait for it: while somebody searches, and usually.

The event loop and a thread need it in turn, some ten times for each poll, and each time the search may have it."""

UPLOAD_THREADS = 4
"""Requests with files that are handled at the same time, in separate threads: they may take long."""

MAX_UPLOADS = 20
"""Requests with files that are handled or wait for such a thread; further ones are answered 503."""

MAX_UPLOADS_OF_ADDRESS = UPLOAD_THREADS - 1
"""Those of one address; more are answered 503, so that a thread is left for others."""

logger = logging.getLogger("django.request")


class RequestHandler(ASGIHandler):
    """An ASGI application for HTTP that answers with Django's synchronous stack.

    Requests and responses are Django's own: the request class, the middleware chain, upload limits, the request signals
    (in the thread that has the database connection) and closing of responses.
    """

    def __init__(self, threads: int, initializer: Callback = do_nothing, after_results: Callback = do_nothing) -> None:
        """Load the middleware. `threads` is the largest number of requests that are handled at the same time.

        `initializer` and `after_results` are passed on to the thread pool.
        """
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)
        can_share = hasattr(connections[DEFAULT_DB_ALIAS], "hold_commits")  # SQLite; servers do it by themselves
        self.pool = ThreadPool(threads, initializer, after_results, database if can_share else None)
        # Searches may take long. They wait for each other in a thread of their own, and nothing else waits for them.
        self.search_pool = ThreadPool(1, initializer, after_results)
        self.upload_pool = ThreadPool(UPLOAD_THREADS, initializer, after_results)
        self.uploads = Usage(MAX_UPLOADS_OF_ADDRESS, MAX_UPLOADS)
        self.files = ThreadPoolExecutor(2, thread_name_prefix="file")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. A client that disconnects ends a stream, but never a view that has begun.

        Raises ValueError for anything but http, and the exceptions of a streaming response's iterator.
        """
        if scope["type"] != "http":
            raise ValueError(f"RequestHandler answers http, not {scope['type']}.")
        scope["chatsite.request_id"] = request_id(scope["headers"])
        with answering(scope):
            await self.handle_request(scope, receive, send)

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body, let a thread answer, and send the response."""
        try:
            body = await self.receive_body(scope, receive)
            began = perf_counter()
            run = self.run_upload if is_upload(scope) else self.run
            response, head, content = await run(scope, body)
        except RequestAborted:
            return
        observe_request(scope, head["status"], perf_counter() - began)
        if response.streaming:
            # In a new task, because only a task can run in the context of the view.
            await asyncio.get_running_loop().create_task(self.stream(response, head, receive, send), context=content)
        else:
            keep(scope.get("chatsite.poll"), response, head, content)
            heads.keep(scope.get("chatsite.plain_post"), response, head)
            await send(head)
            await send({"type": "http.response.body", "body": content})

    async def run(self, scope: Scope, body: IO[bytes]) -> Result:
        """Handle a request in a thread."""
        # Django refuses a larger body without reading it.
        is_post = posts_message(scope) and body.seek(0, SEEK_END) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        respond = self.repeatable(scope, body) if is_post else partial(self.respond, scope, body)
        pool = self.pool
        if is_search(scope):
            pool, respond = self.search_pool, partial(give_way, respond)
            scope["chatsite.is_urgent"] = partial(self.is_urgent, scope)
        result: Result = await pool.run(respond, close_unsent, address_of_scope(scope), shares_commit=is_post)
        return result

    def is_urgent(self, scope: Scope) -> bool:
        """In the thread of a search: whether it should end soon. Others wait for it, or its client has disconnected."""
        return bool(self.search_pool.jobs) or scope.get("chatsite.disconnected", bool)()

    def repeatable(self, scope: Scope, body: IO[bytes]) -> Callable[[], Result]:
        """A function that handles a request, and may be called again: see ThreadPool.run_together."""
        body.seek(0)
        content = body.read()
        body.close()
        return lambda: self.respond(scope, BytesIO(content))

    async def run_upload(self, scope: Scope, body: IO[bytes]) -> Result:
        """Handle a request with files in a thread for uploads, or answer 503 if there are too many."""
        if scope.get("chatsite.refusal"):
            return await self.run(scope, body)
        address = address_of_scope(scope)
        if not self.uploads.take(address, 1):
            return await self.run({**scope, "chatsite.refusal": 503}, body)
        try:
            result: Result = await self.upload_pool.run(partial(self.respond, scope, body), close_unsent, address)
            return result
        finally:
            self.uploads.give_back(address, 1)

    async def receive_body(self, scope: Scope, receive: Receive) -> IO[bytes]:
        """The request's body as a file: in memory while it is small, on disk above FILE_UPLOAD_MAX_MEMORY_SIZE.

        Raises RequestAborted if the client disconnects before it is complete.
        """
        if "chatsite.body" in scope:  # our server passes the file that it has received the body in
            return scope["chatsite.body"]  # type: ignore[no-any-return]
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return BytesIO(message.get("body", b""))
        # `respond` closes it.
        file: IO[bytes] = tempfile.SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE, "w+b")  # noqa: SIM115
        while True:
            if message["type"] == "http.disconnect":
                file.close()
                raise RequestAborted
            file.write(message.get("body", b""))
            if not message.get("more_body"):
                break
            message = await receive()
        file.seek(0)
        return file

    def respond(self, scope: Scope, body: IO[bytes]) -> Result:
        """In a thread: `respond_to`, with the id of the request in log lines."""
        with answering(scope):
            return self.respond_to(scope, body)

    def respond_to(self, scope: Scope, body: IO[bytes]) -> Result:
        """Run middleware and view. Resets what the previous request has activated in this thread.

        Raises RequestAborted if the client has disconnected meanwhile and the request would only read, or has files.
        """
        if scope.get("chatsite.disconnected", bool)() and (scope["method"] in SAFE_METHODS or is_upload(scope)):
            body.close()
            raise RequestAborted
        scope = with_length(scope, body)
        translation.deactivate()
        timezone.deactivate()
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request: Any
        request, error = self.create_request(scope, body)
        if request is not None and (status := scope.get("chatsite.refusal")):
            request.refusal, request.urlconf = status, "chatsite.refusals"
        response: Any = error if request is None else self.get_response(request)
        if response.status_code >= 500:
            response[HEADER] = scope["chatsite.request_id"]
        response._handler_class = self.__class__
        response._resource_closers.append(body.close)
        try:
            head = {"type": "http.response.start", "status": response.status_code, "headers": headers(response)}
            if response.streaming:
                return response, head, copy_context()
            content = response.content
        except Exception:
            close(response)
            raise
        close(response)
        return response, head, content

    async def stream(self, response: Any, head: dict[str, Any], receive: Receive, send: Send) -> None:
        """Send a streaming response until it ends or the client disconnects, and close it."""
        # Two threads read all files. Any other stream may query the database as it goes, and a cursor belongs to one
        # thread: each gets its own thread, so that a slow client does not delay others.
        pool = self.files
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        elif not response.is_async:
            pool = ThreadPoolExecutor(1, thread_name_prefix="stream")
        sending = asyncio.ensure_future(self.send_parts(response, head, pool, send))
        sending.add_done_callback(lambda _: self.close_stream(response, pool))
        disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            await asyncio.wait([sending, disconnected], return_when=asyncio.FIRST_COMPLETED)
        finally:
            disconnected.cancel()
            sending.cancel()
            await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()

    async def send_parts(self, response: Any, head: dict[str, Any], pool: ThreadPoolExecutor, send: Send) -> None:
        """Send the parts of a streaming response as its iterator yields them."""
        await send(head)
        if response.is_async:
            # Its queries run in asgiref's one thread, where request_started is not sent. Besides, this copies what the
            # view has activated, such as a language, from there into our context.
            await sync_to_async(close_old_connections)()
        parts = aiter(response) if response.is_async else iterate_in_thread(response, pool)
        async with aclosing(parts):
            async for part in parts:
                for chunk, _ in self.chunk_bytes(part):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    def close_stream(self, response: Any, pool: ThreadPoolExecutor) -> None:
        """Close a streaming response in the thread that its iterator ran in."""
        pool.submit(close, response)
        if pool is not self.files:
            pool.submit(connections.close_all)
            pool.shutdown(wait=False)


def give_way(respond: Callable[[], Result]) -> Result:
    """Answer a search. Meanwhile, threads that wait for Python's interpreter get it sooner: see TURN."""
    sys.setswitchinterval(TURN)
    try:
        return respond()
    finally:
        sys.setswitchinterval(USUAL_TURN)


def database() -> Any:
    """The connection of this thread to the database."""
    return connections[DEFAULT_DB_ALIAS]


def posts_message(scope: Scope) -> bool:
    """Whether a customer's page or widget posts a message without files."""
    return scope["method"] == "POST" and POSTS.fullmatch(scope["path"]) is not None and not is_upload(scope)


def is_search(scope: Scope) -> bool:
    """Whether an agent's page searches for something."""
    if scope["method"] not in SAFE_METHODS or not HAS_QUERY.search(scope["query_string"]):
        return False
    found = SEARCHES.fullmatch(scope["path"])
    # htmx opens a conversation without the list, although its address has the search in it.
    return found is not None and not (found[2] and (b"hx-request", b"true") in scope["headers"])


def is_upload(scope: Scope) -> bool:
    """Whether a request may have files in it."""
    if scope["method"] in SAFE_METHODS:
        return False
    return any(name == b"content-type" and value[:10].lower() == b"multipart/" for name, value in scope["headers"])


def with_length(scope: Scope, body: IO[bytes]) -> Scope:
    """Scope with the real length of the body: Django would not parse a chunked body, which has no Content-Length."""
    length = body.seek(0, SEEK_END)
    body.seek(0)
    if not length:
        return scope
    headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*headers, (b"content-length", b"%d" % length)]}


async def iterate_in_thread(response: Any, pool: ThreadPoolExecutor) -> AsyncGenerator[bytes, None]:
    """The parts of a synchronous streaming response, each computed in a thread of the pool."""
    function = partial(next, iter(response), END)
    next_part: Callable[[], Awaitable[Any]]
    if isinstance(response, FileResponse):
        next_part = partial(asyncio.get_running_loop().run_in_executor, pool, function)
    else:  # asgiref passes on the context of the view, such as an activated language
        next_part = sync_to_async(function, thread_sensitive=False, executor=pool)
    while (part := await next_part()) is not END:
        yield part


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def close(response: Any) -> None:
    """Close a response. An error is only logged, so that the client still gets the response."""
    try:
        response.close()
    except Exception:
        logger.exception("A response could not be closed.")


def close_unsent(result: Result) -> None:
    """Close a response whose request was cancelled."""
    if not result[0].closed:
        close(result[0])


def headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """The response's headers and cookies as ASGI pairs of bytes."""
    pairs = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    cookies = [(b"Set-Cookie", morsel.OutputString().encode("ascii")) for morsel in response.cookies.values()]
    return pairs + cookies
