"""Small views, and an ASGI application of them, with which tests observe the request handler and the server."""

import asyncio
import gc
import hashlib
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from channels.routing import ProtocolTypeRouter
from daphne.http_protocol import WebRequest
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import include, path, reverse
from django.utils import timezone, translation
from django.views.decorators.csrf import csrf_exempt

from chatsite.serving.request_handler import RequestHandler
from conversations.screen import bundles

MEGABYTE = 1024 * 1024
BIG = 200 * MEGABYTE


class Shared:
    """State that tests and views share."""

    entered = threading.Semaphore(0)  # released by every view that begins to wait
    gate = threading.Event()  # what views wait for
    finished = threading.Semaphore(0)  # released by every view or stream that ends
    together = threading.Barrier(1)
    seen: list[Any] = []  # noqa: RUF012 (shared on purpose)

    @classmethod
    def reset(cls) -> None:
        """Reset all of it between tests."""
        cls.entered, cls.finished = threading.Semaphore(0), threading.Semaphore(0)
        cls.gate.clear()
        cls.seen.clear()


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Grüezi")


def headers(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(b"", headers={"X-Echo": request.headers.get("X-Ask", "")})
    response.set_cookie("first", "1")
    response.set_cookie("second", "two words", httponly=True)
    return response


def unsendable(request: HttpRequest) -> HttpResponse:
    response = HttpResponse()
    response.cookies["word"] = "ł"
    return response


@csrf_exempt
def mirror(request: HttpRequest) -> HttpResponse:
    uploads: dict[str, Any] = dict(request.FILES.items())
    Shared.seen += uploads.values()
    files = {name: [file.name, file.size, isinstance(file, TemporaryUploadedFile)] for name, file in uploads.items()}
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "path_info": request.path_info,
            "hello": reverse("hello"),
            "query": dict(request.GET.lists()),
            "form": dict(request.POST.lists()),
            "cookies": request.COOKIES,
            "files": files,
        }
    )


@csrf_exempt
def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


@csrf_exempt
def digest(request: HttpRequest) -> HttpResponse:
    """The hash of an upload, read in parts: of a form's file, or of the whole body."""
    source: Any = request.FILES["file"] if request.content_type == "multipart/form-data" else request
    found = hashlib.sha256()
    while part := source.read(MEGABYTE):
        found.update(part)
    return HttpResponse(found.hexdigest())


def crash(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("This view fails.")


def hold(request: HttpRequest) -> HttpResponse:
    """Waits for the gate."""
    Shared.entered.release()
    passed = Shared.gate.wait(30)
    Shared.finished.release()
    return HttpResponse("done" if passed else "too late")


def hold_stream(request: HttpRequest) -> HttpResponseBase:
    hold(request)
    return StreamingHttpResponse(iter([b"a", b"b"]))


def release(request: HttpRequest) -> HttpResponse:
    Shared.gate.set()
    return HttpResponse()


def together(request: HttpRequest) -> HttpResponse:
    """Fails unless as many requests as the barrier has parties are here at the same time."""
    Shared.together.wait(10)
    return HttpResponse()


def database(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    Shared.seen.append((threading.current_thread().name, connection.connection))
    return HttpResponse()


async def database_async(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(database)(request)


def german(request: HttpRequest) -> HttpResponse:
    before = [translation.get_language(), timezone.get_current_timezone_name()]
    translation.activate("de")
    timezone.activate("Europe/Zurich")
    return JsonResponse([before, translation.get_language(), timezone.get_current_timezone_name()], safe=False)


def german_stream(request: HttpRequest, kind: str) -> HttpResponseBase:
    translation.activate("de")

    def words() -> Iterator[str]:
        yield translation.get_language() or ""

    async def words_async() -> AsyncIterator[str]:
        yield translation.get_language() or ""

    return StreamingHttpResponse(words() if kind == "sync" else words_async())


def parts(request: HttpRequest, kind: str) -> HttpResponseBase:
    async def later() -> AsyncIterator[Any]:
        for part in ("eins ", b"", b"zwei ", "drei"):
            await asyncio.sleep(0)
            yield part

    if kind == "file":
        return FileResponse(BytesIO(b"eins zwei drei"))
    return StreamingHttpResponse(later() if kind == "async" else iter(("eins ", b"", b"zwei ", "drei")))


def endless(request: HttpRequest, kind: str) -> HttpResponseBase:
    """Streams until it is stopped."""

    def now() -> Iterator[bytes]:
        try:
            while True:
                yield b"tick"
        finally:
            Shared.finished.release()

    async def later() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"tick"
        finally:
            Shared.finished.release()

    async def silent() -> AsyncIterator[bytes]:
        try:
            yield b"tick"
            await asyncio.Event().wait()
        finally:
            Shared.finished.release()

    kinds: dict[str, Any] = {"sync": now, "async": later, "silent": silent}
    return StreamingHttpResponse(kinds[kind]())


def broken(request: HttpRequest, kind: str) -> HttpResponseBase:
    """A stream that fails after its first part."""

    def now() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("This stream fails.")

    async def later() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("This stream fails.")

    return StreamingHttpResponse(now() if kind == "sync" else later())


def rows(request: HttpRequest) -> HttpResponseBase:
    """A stream that reads the database as it goes."""

    def read() -> Iterator[str]:
        for number in range(3):
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s", [number])
                yield str(cursor.fetchone()[0])
        Shared.seen.append((threading.current_thread().name, connections[DEFAULT_DB_ALIAS]))

    return StreamingHttpResponse(read())


def big(request: HttpRequest, kind: str) -> HttpResponseBase:
    """BIG bytes, from a file or generated one megabyte at a time."""
    if kind == "stream":
        return StreamingHttpResponse(bytes(MEGABYTE) for _ in range(BIG // MEGABYTE))
    file = tempfile.TemporaryFile()
    file.truncate(BIG)
    return FileResponse(file)


def running_server() -> Any:
    from chatsite.serving.server import ChatsiteServer

    return next(found for found in gc.get_objects() if isinstance(found, ChatsiteServer))


def sabotage(request: HttpRequest, method: str) -> HttpResponse:
    """Let a method of all WebSockets and of all idle HTTP connections raise."""

    def fail(*_: Any) -> None:
        raise RuntimeError(f"{method} fails.")

    server = running_server()
    idle = [connection for connection in server.http_connections if not connection.requests]
    for protocol in [*server.connections, *idle]:
        if not isinstance(protocol, WebRequest):
            setattr(protocol, method, fail)
    return HttpResponse()


def counts(request: HttpRequest) -> JsonResponse:
    """How much the server keeps: open HTTP connections, requests and WebSockets, and bytes of uploads."""
    server = running_server()
    return JsonResponse(
        {
            "connections": len(server.http_connections),
            "requests": len(server.connections),
            "upload_bytes": server.upload_bytes.total,
        }
    )


def one_piece(request: HttpRequest) -> HttpResponse:
    return HttpResponse(bytes(8 * MEGABYTE))


urlpatterns = [
    path("", include(bundles.urls)),  # of error pages
    path("hello/", hello, name="hello"),
    path("headers/", headers),
    path("unsendable/", unsendable),
    path("mirror/", mirror),
    path("body/", body),
    path("digest/", digest),
    path("crash/", crash),
    path("hold/", hold),
    path("hold/stream/", hold_stream),
    path("inbox/list/", hold),
    path("inbox/commands/", crash),
    path("release/", release),
    path("together/", together),
    path("database/", database),
    path("database/async/", database_async),
    path("german/", german),
    path("german/<kind>/", german_stream),
    path("parts/<kind>/", parts),
    path("endless/<kind>/", endless),
    path("broken/<kind>/", broken),
    path("rows/", rows),
    path("big/<kind>/", big),
    path("one-piece/", one_piece),
    path("counts/", counts),
    path("sabotage/<method>/", sabotage),
]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket that sends back what it receives."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "fail":
            raise RuntimeError("This WebSocket fails.")
        await send({"type": "websocket.send", "text": message["text"]})


def application() -> Any:
    """HTTP for the views above, with four threads, and sockets that echo."""
    return ProtocolTypeRouter({"http": RequestHandler(4), "websocket": echo})
