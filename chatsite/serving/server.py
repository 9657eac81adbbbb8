"""The server: daphne, with request bodies kept on disk, backpressure for slow clients, and a graceful shutdown."""

import asyncio
import io
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from daphne.http_protocol import WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from twisted.logger import globalLogPublisher
from twisted.web.http import NO_BODY_CODES
from zope.interface import implementer

from chatsite import metrics
from chatsite.asgi import application
from chatsite.databases import limit_requests
from chatsite.private_files import hide_from_others
from chatsite.serving.database_file import DatabaseFile, watched_file
from chatsite.serving.http_connection import MAX_UPLOAD_BYTES, MAX_UPLOAD_BYTES_OF_ADDRESS, HttpConnection
from chatsite.serving.inherited_port import adopt
from chatsite.serving.listening import CannotListen, endpoint, explain
from chatsite.serving.processes import Supervised
from chatsite.serving.shutdown import end_in_time
from chatsite.serving.twisted_log import TwistedLog
from chatsite.serving.usage import Usage
from chatsite.serving.websocket import Messages, WebSocketConnection
from chatsite.serving.writing import do_nothing, write_now
from conversations.announce import send_last_rings

LARGEST_FRAME = 64 * 1024
"""Bytes of the largest socket frame; a larger one closes the socket with 1009 before it is in memory."""

HANDSHAKE_TIMEOUT = 30
"""Seconds in which a socket must be accepted. Long, because thousands may reconnect at once."""

SHUTDOWN_TIMEOUT = 8
"""Seconds that requests have to finish after SIGTERM. The process ends soon after: see END_TIMEOUT in shutdown.py."""

IDLE_TIMEOUT = 5
"""Seconds in which connections that are kept alive may send a last request, when another process has taken over."""

LEAVE_TIMEOUT = 30
"""Seconds in which requests must be received and answered then."""

GOING_AWAY = 1012
"""Close code “service restart” (https://www.iana.org/assignments/websocket): clients reconnect after a random delay."""

CHECK_INTERVAL = 2
"""Seconds between two checks whether clients take too long."""

MAX_REFUSED = 20
"""Connections of one address beyond CONNECTIONS that may linger: see LINGER in http_connection.py."""

MAX_UNSENT = 128 * 1024**2
"""Bytes of all responses that wait in memory until their clients read. Beyond it the largest are dropped."""

logger = logging.getLogger(__name__)
call_later: Callable[..., Any] = reactor.callLater


def serve(host: str, port: int, ready: Callable[[], None] = lambda: None, supervised: Supervised | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Calls `ready` when it listens; raises CannotListen if it cannot.

    Raises DatabaseLost if it has stopped because the database's file is not there any more.

    `host` is an address, or "unix:" and the path of a Unix socket. One of several processes is `supervised`: it listens
    on the socket that it has inherited, and leaves when it is told to.
    """
    limit_requests()
    allow_open_files()
    hide_from_others()
    server = ChatsiteServer(
        application,
        endpoints=[""] if supervised else [endpoint(host, port)],
        websocket_max_frame_size=LARGEST_FRAME,
        websocket_max_message_size=LARGEST_FRAME,
        websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
        websocket_connect_timeout=HANDSHAKE_TIMEOUT,
        server_name="",
    )
    if supervised is not None:
        server.endpoints.clear()  # not before, as daphne logs an error where there are none
        server.ready_callable = partial(server.adopt, supervised)
    server.ready = ready
    server.database_file = database_file = watched_file(settings.DATABASES["default"])
    server.run()
    if supervised is not None:
        supervised.say_numbers(metrics.own_numbers())
    if server.listen_failure is not None:
        raise CannotListen(explain(server.listen_failure, host, port))
    if database_file is not None and server.is_database_lost:
        raise database_file.save()


def allow_open_files() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard limit: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # the system does not allow it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@implementer(IPushProducer)
class Backpressure:
    """Sends a response as fast as its client reads: Twisted pauses it while the transport's buffer is full."""

    def __init__(self) -> None:
        """Writable at first."""
        self.writable = asyncio.Event()
        self.writable.set()

    def pauseProducing(self) -> None:
        """The buffer is full."""
        self.writable.clear()

    def resumeProducing(self) -> None:
        """The buffer is empty again."""
        self.writable.set()

    def stopProducing(self) -> None:
        """The client has disconnected: nothing may wait for it any more."""
        self.writable.set()


class ChatsiteServer(Server):
    """daphne's server, which keeps no large body in memory in either direction and shuts down gracefully."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Takes daphne's options."""
        super().__init__(*args, **options)
        self.ready: Callable[[], None] = lambda: None
        self.listen_failure: BaseException | None = None
        self.database_file: DatabaseFile | None = None
        self.is_database_lost = False
        self.is_leaving = False
        self.http_connections: set[HttpConnection] = set()
        self.unchecked: set[Any] = set()
        self.clients = Usage(settings.CONNECTIONS + MAX_REFUSED, sys.maxsize)
        self.upload_bytes = Usage(MAX_UPLOAD_BYTES_OF_ADDRESS, MAX_UPLOAD_BYTES)

    def listen_error(self, failure: Any) -> None:
        """Stop, and keep the reason for `serve`."""
        self.listen_failure = failure.value
        self.stop()

    def listen_success(self, port: Any) -> Any:
        """Return the port, so that a shutdown can close it, and set up how sockets are opened and closed."""
        super().listen_success(port)
        globalLogPublisher.addObserver(TwistedLog(self.pause_accepting))  # type: ignore[arg-type]
        self.http_factory.log = lambda _request: None  # it would format an access log line and drop it
        self.http_factory.protocol = HttpConnection
        # With failByDrop a client that sends too large a frame would be disconnected without a close code.
        # OriginCheck refuses the origin null with 403 like any other; autobahn would answer 400. `check_timeouts`
        # disconnects clients that do not answer pings, without a timer for each.
        self.ws_factory.setProtocolOptions(
            failByDrop=False, closeHandshakeTimeout=10, allowNullOrigin=True, autoPingTimeout=0
        )
        self.ws_factory.protocol = WebSocketConnection.with_options_of(self.ws_factory)
        call_later(0, self.ready)  # once SIGTERM is handled: who reads that it serves may end it at once
        return port

    def adopt(self, supervised: Supervised) -> None:
        """Listen on the inherited socket; leave when the supervisor says so. daphne calls this before it serves."""
        port = adopt(supervised.listener, self.http_factory)
        self.listeners.append(succeed(port))
        self.listen_success(port)
        supervised.obey(self.leave, metrics.own_numbers, reactor.callFromThread)
        metrics.ask_total = supervised.total

    def pause_accepting(self) -> None:
        """Accept no connections for a second: Twisted would try at once, and again, as long as one waits."""
        for listener in self.listeners:
            port = getattr(listener, "result", None)
            if port is not None and port.connected:
                port.stopReading()
                call_later(1, lambda port=port: port.connected and port.startReading())

    def protocol_connected(self, protocol: Any) -> None:
        """Do not let Twisted parse forms, whole and in memory: Django does that, within limits."""
        protocol._parsePOSTFormSubmission = False
        super().protocol_connected(protocol)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Start the application. Pass it the file that the request's body was received in, which is on disk if large.

        daphne would read the whole body into the application's queue. It would also take the header Daphne-Root-Path
        from any client, which could bypass a proxy's rules for paths.
        """
        scope["root_path"] = ""
        if not isinstance(protocol, WebRequest):
            return self.create_socket_application(protocol, scope)
        scope["chatsite.body"], protocol.content = protocol.content, io.BytesIO()
        scope["chatsite.refusal"] = protocol.refusal
        scope["chatsite.disconnected"] = protocol.is_disconnected
        queue = super().create_application(protocol, scope)
        self.connections[protocol]["application_instance"].add_done_callback(partial(self.end_request, protocol))
        return queue

    def create_socket_application(self, protocol: Any, scope: dict[str, Any]) -> Messages:
        """Start the application of a socket, which may write to the connection itself. Returns its messages."""
        scope |= {"asgi": {"version": "3.0"}, "chatsite.socket": protocol}
        messages = Messages()
        application = self.application(scope=scope, receive=messages.get, send=partial(self.handle_reply, protocol))
        self.connections[protocol]["application_instance"] = task = asyncio.ensure_future(application)
        task.add_done_callback(lambda _task: self.unchecked.add(protocol))
        return messages

    def end_request(self, protocol: Any, task: "asyncio.Task[None]") -> None:
        """Forget a request that is answered: in a second, thousands may come, and each keeps several kB.

        Abort the connection of a response that failed half-way, so that the client does not take it for complete.
        """
        if protocol.finished and not task.cancelled() and task.exception() is None:
            self.connections.pop(protocol, None)
            self.unchecked.discard(protocol)
            return
        self.unchecked.add(protocol)
        if protocol._response_started and not protocol.finished and protocol.channel is not None:
            self.abort(protocol)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Send an ASGI message; return when the client is ready for the next."""
        backpressure = None
        if message["type"] == "http.response.body" and not protocol.finished and protocol.channel is not None:
            backpressure = self.backpressure(protocol, message.get("more_body", False))
            if protocol.method == b"HEAD" or protocol.code in NO_BODY_CODES:
                # daphne bypasses the check of Twisted, and the client would take the body for the next response.
                message = {**message, "body": b""}
        transport: Any = protocol.transport
        if message["type"] == "http.response.body" and isinstance(transport, Connection):
            transport.startWriting = do_nothing  # type: ignore[method-assign]
            try:
                await super().handle_reply(protocol, message)
            finally:
                del transport.startWriting
                write_now(transport)
        else:
            await super().handle_reply(protocol, message)
        if backpressure is not None:
            await backpressure.writable.wait()

    def backpressure(self, protocol: Any, more: bool) -> Backpressure | None:
        """The Backpressure of a response that is sent in parts, until its last."""
        if more and protocol.producer is None:
            protocol.registerProducer(Backpressure(), True)
        elif not more and protocol.producer is not None:
            protocol.unregisterProducer()
        return protocol.producer

    # Checks of all connections. An exception of one connection closes that one and ends no loop. ----------------------

    def application_checker(self) -> None:
        """Every second: forget finished applications, close failed ones and cancel those without a client.

        Only connections where something has ended since the last check are looked at: thousands of sockets are idle.
        """
        call_later(1, self.application_checker)
        now = time.time()
        unchecked, self.unchecked = self.unchecked, set()
        for protocol in unchecked & self.connections.keys():
            self.guard(protocol, partial(self.check_application, protocol, now))

    def check_application(self, protocol: Any, now: float) -> None:
        """What `application_checker` does for one connection. `now` is time.time()."""
        details = self.connections[protocol]
        task, disconnected = details.get("application_instance"), details.get("disconnected")
        if task is not None and task.done():
            del details["application_instance"]
            error = None if task.cancelled() else task.exception()
            if error is not None:
                logger.error("Exception inside application: %s", error, exc_info=error)
                if not disconnected:
                    protocol.handle_exception(error)
        elif task is not None and disconnected and now - disconnected > self.application_close_timeout:
            task.cancel()
        if disconnected and "application_instance" not in details:
            del self.connections[protocol]
        elif disconnected:
            self.unchecked.add(protocol)

    def timeout_checker(self) -> None:
        """Every few seconds: ping WebSockets, and disconnect clients that take too long or keep too much in memory."""
        call_later(CHECK_INTERVAL, self.timeout_checker)
        now = time.monotonic()
        for protocol in list(self.connections):
            if isinstance(protocol, WebSocketConnection) and protocol.due <= now:
                self.guard(protocol, protocol.check_timeouts)
        for connection in list(self.http_connections):
            self.guard(connection, partial(connection.check_pace, now))
        self.check_database_file()
        excess = sum(map(HttpConnection.unsent, self.http_connections)) - MAX_UNSENT
        if excess > 0:
            for connection in sorted(self.http_connections, key=HttpConnection.unsent, reverse=True):
                excess -= connection.unsent()
                self.abort(connection)
                if excess <= 0:
                    break

    def check_database_file(self) -> None:
        """Stop if the database's file was deleted, moved or replaced."""
        if self.database_file is not None and not self.is_database_lost and self.database_file.is_lost():
            self.is_database_lost = True
            logger.critical("The database %s was deleted, moved or replaced. Chatsite stops.", self.database_file.path)
            call_later(0, reactor.stop)  # type: ignore[misc]  # the stubs take it for a method

    def guard(self, protocol: Any, check: Callable[[], Any]) -> None:
        """Do a check of one connection; if it raises an exception, log it and close this connection."""
        try:
            check()
        except Exception as error:
            logger.exception("A check of a connection failed; the connection is closed: %s", error)
            self.abort(protocol)

    def abort(self, protocol: Any) -> None:
        """Close a connection at once, in any state."""
        self.protocol_disconnected(protocol)
        with suppress(Exception):
            protocol.transport.abortConnection()

    def protocol_disconnected(self, protocol: Any) -> None:
        """Store when a connection was closed. daphne's method raises KeyError for a removed one."""
        if protocol in self.connections:
            self.unchecked.add(protocol)
            super().protocol_disconnected(protocol)

    # Shutdown ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the process ends within END_TIMEOUT seconds, whatever is open."""
        reactor.callWhenRunning(end_in_time, self.describe_open)
        super().run()

    def describe_open(self) -> str:
        """How many requests and sockets are open. May be called in any thread."""
        sockets = sum(isinstance(protocol, WebSocketProtocol) for protocol in list(self.connections))
        return f"{len(self.running_tasks(WebRequest))} requests, {sockets} sockets"

    def kill_all_applications(self) -> "Deferred[None]":
        """Close sockets with 1012 and let requests finish before the process ends."""
        return Deferred.fromFuture(asyncio.ensure_future(self.shut_down()))

    def leave(self) -> None:
        """Stop listening and close sockets, as another process serves; end when HTTP connections are closed, too.

        The next response on each of them says `Connection: close`. So no request is sent that would not be answered;
        at the end of a process, an idle connection may be closed just when its client sends one.
        """
        if not self.is_leaving:
            self.is_leaving = True
            self.say_goodbye()
            self.end_without_connections(time.monotonic())

    def end_without_connections(self, since: float) -> None:
        """End this process when all HTTP connections are closed, or have taken too long since this time."""
        waited = time.monotonic() - since
        is_waiting = waited < IDLE_TIMEOUT or any(connection.is_busy() for connection in self.http_connections)
        if self.http_connections and is_waiting and waited < LEAVE_TIMEOUT:
            call_later(0.05, self.end_without_connections, since)
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    def say_goodbye(self) -> None:
        """Stop listening and close sockets."""
        for listener in self.listeners:
            listener.addCallback(lambda port: port and port.stopListening())
        for protocol in list(self.connections):
            if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_OPEN:
                self.guard(protocol, partial(protocol.sendCloseFrame, code=GOING_AWAY, isReply=False))

    async def shut_down(self) -> None:
        """Stop listening, close sockets, wait for requests and their clients, then cancel what is left.

        Last, other processes are told what these requests have changed.
        """
        self.say_goodbye()
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        # A response is sent once the application has returned it and the socket has accepted all of it.
        writers: Callable[[], list[Any]] = reactor.getWriters  # type: ignore[misc]
        while (self.running_tasks(WebRequest) or writers()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if cut_off := len(self.running_tasks(WebRequest)):
            logger.warning("%s requests were not finished after %s s and are cut off.", cut_off, SHUTDOWN_TIMEOUT)
        if tasks := self.running_tasks(object):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
        await send_last_rings()

    def running_tasks(self, kind: type) -> list["asyncio.Task[None]"]:
        """The application tasks that are not done, of connections of this class."""
        tasks = [
            details.get("application_instance")
            for protocol, details in list(self.connections.items())
            if isinstance(protocol, kind)
        ]
        return [task for task in tasks if task is not None and not task.done()]
