"""HTTP for Chatsite: Django's whole synchronous stack in one hop to a fixed pool of threads.

Django's own ASGI handler starts a thread context for every request and hops between the event loop and threads for
every middleware, and persistent database connections leak there. Here the event loop receives, one of a few threads
does everything else, and the event loop sends. The threads live as long as the process, so each keeps its database
connection. Compare them with `make bench`.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from functools import partial
from io import BytesIO
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections, connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils import timezone, translation

from chatsite.serving.thread_pool import Callback, ThreadPool, nothing

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
# Any of Django's responses, with the attributes that its handlers use and its types keep to themselves; the ASGI
# message of its head; its content or, if it is a stream, the context that its parts are made in.
Answer = tuple[Any, dict[str, Any], Any]
END = object()

logger = logging.getLogger("django.request")


class RequestHandler(ASGIHandler):
    """An ASGI application for HTTP that answers with Django's synchronous stack.

    Everything about requests and responses is Django's own: the request class, the middleware chain, upload limits,
    the signals around a request (in the thread that has its database connection), closing of responses.
    """

    def __init__(self, threads: int, begins: Callback = nothing, delivered: Callback = nothing) -> None:
        """Load the middleware once; `threads` is how many requests are worked on at the same time.

        `begins` is done in each thread at first, `delivered` in the event loop after its work: see thread_pool.py.
        """
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)
        self.pool = ThreadPool(threads, begins, delivered)
        self.files = ThreadPoolExecutor(2, thread_name_prefix="file")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A customer who has gone stops a stream, never a write that has begun.

        Raises ValueError for anything but http, and what a stream raises while it is sent.
        """
        if scope["type"] != "http":
            raise ValueError(f"RequestHandler answers http, not {scope['type']}.")
        try:
            body = await self.body(scope, receive)
        except RequestAborted:
            return
        response, head, content = await self.pool.run(partial(self.answer, scope, body), close_unsent)
        if response.streaming:
            # A task of its own, because only a task can have the context of the view.
            await asyncio.get_running_loop().create_task(self.stream(response, head, receive, send), context=content)
        else:
            await send(head)
            await send({"type": "http.response.body", "body": content})

    async def body(self, scope: Scope, receive: Receive) -> IO[bytes]:
        """The request's body as a file: in memory while small, on disk when it has grown.

        Raises RequestAborted if the client goes before it is complete.
        """
        if "chatsite.body" in scope:  # our server leaves it in the file where it was received: see server.py
            return scope["chatsite.body"]  # type: ignore[no-any-return]
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return BytesIO(message.get("body", b""))
        # Whoever answers closes it.
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

    def answer(self, scope: Scope, body: IO[bytes]) -> Answer:
        """Everything that happens in the thread, which must not remember what the request before has chosen."""
        translation.deactivate()
        timezone.deactivate()
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, error = self.create_request(scope, body)
        response: Any = error if request is None else self.get_response(request)
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
        """Send a streaming response until it ends or the client goes, and close it."""
        # Files are read by two threads of their own. Any other stream may read the database as it goes, and a database
        # cursor belongs to one thread: it gets its own, so that slow readers never hold up anybody.
        pool = self.files
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        elif not response.is_async:
            pool = ThreadPoolExecutor(1, thread_name_prefix="stream")
        sending = asyncio.ensure_future(self.send_parts(response, head, pool, send))
        sending.add_done_callback(lambda _: self.end(response, pool))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()

    async def send_parts(self, response: Any, head: dict[str, Any], pool: ThreadPoolExecutor, send: Send) -> None:
        """Send the parts of a streaming response as they come."""
        await send(head)
        if response.is_async:
            # Its queries run in asgiref's one thread, where no signal tells of requests. And what the view has chosen,
            # such as a language, comes along from there.
            await sync_to_async(close_old_connections)()
        parts = aiter(response) if response.is_async else from_thread(response, pool)
        async with aclosing(parts):
            async for part in parts:
                for chunk, _ in self.chunk_bytes(part):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    def end(self, response: Any, pool: ThreadPoolExecutor) -> None:
        """Close a stream in the thread that made its parts."""
        pool.submit(close, response)
        if pool is not self.files:
            pool.submit(connections.close_all)
            pool.shutdown(wait=False)


async def from_thread(response: Any, pool: ThreadPoolExecutor) -> AsyncGenerator[bytes, None]:
    """The parts of a synchronous stream, made in the pool."""
    work = partial(next, iter(response), END)
    step: Callable[[], Awaitable[Any]]
    if isinstance(response, FileResponse):
        step = partial(asyncio.get_running_loop().run_in_executor, pool, work)
    else:  # asgiref brings along what the view has chosen, such as a language
        step = sync_to_async(work, thread_sensitive=False, executor=pool)
    while (part := await step()) is not END:
        yield part


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def close(response: Any) -> None:
    """Close a response. What goes wrong then must not take the answer away from the customer."""
    try:
        response.close()
    except Exception:
        logger.exception("A response could not be closed.")


def close_unsent(answer: Answer | None) -> None:
    """Close the response that nobody waits for any more."""
    if answer is not None and not answer[0].closed:
        close(answer[0])


def headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """The response's headers and cookies as ASGI wants them."""
    pairs = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    cookies = [(b"Set-Cookie", morsel.OutputString().encode("ascii")) for morsel in response.cookies.values()]
    return pairs + cookies
