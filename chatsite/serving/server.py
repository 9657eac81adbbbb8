"""The process that serves Chatsite: daphne, with its request bodies, slow readers and good-byes seen to."""

import asyncio
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from daphne.http_protocol import WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from twisted.web.http import NO_BODY_CODES
from zope.interface import implementer

from chatsite.asgi import application
from chatsite.serving.websocket import WebSocketConnection

LARGEST_FRAME = 64 * 1024
"""Bytes of the largest socket frame; a larger one closes the socket with 1009 before it is in memory."""

GRACE = 8
"""Seconds that requests have to finish when the server is told to stop: Docker and others kill after ten."""

GOING_AWAY = 1012
"""Service restart (https://www.iana.org/assignments/websocket): clients come back, each after a time of its own."""


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    endpoints = build_endpoint_description_strings(host=host, port=port)
    ChatsiteServer(
        application,
        endpoints=endpoints,
        websocket_max_frame_size=LARGEST_FRAME,
        websocket_max_message_size=LARGEST_FRAME,
        server_name="",
    ).run()


@implementer(IPushProducer)
class Backpressure:
    """Lets a response flow as fast as its reader reads: Twisted turns it off when the reader's buffer is full."""

    def __init__(self) -> None:
        """Open at first."""
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:
        """The buffer is full."""
        self.open.clear()

    def resumeProducing(self) -> None:
        """There is room again."""
        self.open.set()

    def stopProducing(self) -> None:
        """The reader is gone; nobody must wait for room any more."""
        self.open.set()


def nothing() -> None:
    """Wait for nothing: see `write_now`."""


def write_now(transport: Any) -> None:
    """Send what a connection has to send, and wait for room only for the rest.

    Twisted would first ask the system whether there is room, in another round of the event loop and with two more
    system calls, for each answer; there nearly always is.
    """
    if transport.connected and (transport.doWrite() is not None or transport.dataBuffer or transport.disconnecting):
        transport.startWriting()


class ChatsiteServer(Server):
    """daphne's server, which holds no large body in memory in either direction and says good-bye to sockets."""

    def listen_success(self, port: Any) -> Any:
        """Remember the port, which is to be closed in the end, and let sockets be told why they are closed."""
        super().listen_success(port)
        self.http_factory.log = lambda _request: None  # it would write a line for every request, and throw it away
        # A client that sends too much is told so, and has the time to read it while its frame is still on the way.
        self.ws_factory.protocol = WebSocketConnection
        # No origin at all (null, a file) is refused by the gate like every other, and not by autobahn as a bad request.
        self.ws_factory.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=10, allowNullOrigin=True)
        return port

    def protocol_connected(self, protocol: Any) -> None:
        """Keep Twisted from reading and parsing forms, all of them in memory: Django does that, with limits."""
        protocol._parsePOSTFormSubmission = False
        super().protocol_connected(protocol)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Leave a request's body in the file where it was received, which is on disk if it is large.

        daphne would copy it into the application's queue, all of it at once. And it would believe whoever says where
        the application is mounted (Daphne-Root-Path), and so by which paths a proxy's rules can be passed.
        """
        scope["root_path"] = ""
        if not isinstance(protocol, WebRequest):
            return super().create_application(protocol, scope)
        scope["chatsite.body"], protocol.content = protocol.content, io.BytesIO()
        queue = super().create_application(protocol, scope)
        self.connections[protocol]["application_instance"].add_done_callback(partial(self.cut_off, protocol))
        return queue

    def cut_off(self, protocol: Any, _task: "asyncio.Task[None]") -> None:
        """Abort the connection of an answer that failed half-way, so that nobody takes it for the whole.

        daphne would try to send an error page after it, fail, and never again look after its connections.
        """
        if protocol._response_started and not protocol.finished and protocol.channel is not None:
            protocol.transport.abortConnection()
            self.protocol_disconnected(protocol)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Send a part of an answer; return when there is room for the next."""
        tap = None
        if message["type"] == "http.response.body" and not protocol.finished and protocol.channel is not None:
            tap = self.tap(protocol, message.get("more_body", False))
            if protocol.method == b"HEAD" or protocol.code in NO_BODY_CODES:
                # Twisted would leave it out, but daphne goes past that, and it would look like the next answer.
                message = {**message, "body": b""}
        transport: Any = protocol.transport
        if message["type"] == "http.response.body" and isinstance(transport, Connection):
            transport.startWriting = nothing  # type: ignore[method-assign]  # until it is written
            try:
                await super().handle_reply(protocol, message)
            finally:
                del transport.startWriting
                write_now(transport)
        else:
            await super().handle_reply(protocol, message)
        if tap is not None:
            await tap.open.wait()

    def tap(self, protocol: Any, more: bool) -> Backpressure | None:
        """The tap of an answer that comes in parts, until its last."""
        if more and protocol.producer is None:
            protocol.registerProducer(Backpressure(), True)
        elif not more and protocol.producer is not None:
            protocol.unregisterProducer()
        return protocol.producer

    def kill_all_applications(self) -> "Deferred[None]":
        """Close sockets with 1012 and let requests finish before the process ends."""
        return Deferred.fromFuture(asyncio.ensure_future(self.good_bye()))

    async def good_bye(self) -> None:
        """Everything that is to be done before the end."""
        for listener in self.listeners:
            listener.addCallback(lambda port: port and port.stopListening())
        for protocol in self.connections:
            if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_OPEN:
                protocol.sendCloseFrame(code=GOING_AWAY, isReply=False)
        deadline = time.monotonic() + GRACE
        # An answer is sent when the application has made it and the socket has taken all of it.
        writers: Callable[[], list[Any]] = reactor.getWriters  # type: ignore[misc]
        while (self.unfinished(WebRequest) or writers()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if tasks := self.unfinished(object):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)

    def unfinished(self, kind: type) -> list["asyncio.Task[None]"]:
        """The applications that still run for protocols of this kind."""
        tasks = [
            details.get("application_instance")
            for protocol, details in self.connections.items()
            if isinstance(protocol, kind)
        ]
        return [task for task in tasks if task is not None and not task.done()]
