"""A WebSocket connection: daphne's, with bounds on what one client can make the server do and keep."""

import asyncio
import logging
import os
import re
import struct
import sys
import time
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.types import ConnectionDeny
from autobahn.websocket.utf8validator import Utf8Validator
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

from chatsite.serving.usage import Usage
from chatsite.serving.writing import do_nothing, write_now
from conversations.threshold.proxies import client_address

MAX_QUEUED_MESSAGES = 16
"""Messages of one socket that may wait for the application; a client that sends faster is closed with 1008."""

MAX_FRAMES = 100
"""Frames of any kind that one socket may send in two seconds, and for one message. More are closed with 1008."""

FEW_FRAMES = 10
"""So many need no check of their own: they are counted until the one that is due anyway, for the next ping."""

MAX_REFUSED = 20
"""Sockets of one address that may be open beyond the limit until they are closed; further handshakes get 429."""

CLOSE_TIMEOUT = 10
"""Seconds that a client has to read what is buffered for it when its connection is closed."""

SUBPROTOCOLS = re.compile(r"[\w!#$&'*+.^`|~-]+(\s*,\s*[\w!#$&'*+.^`|~-]+){0,9}", re.ASCII)
"""Up to ten tokens (RFC 6455, 4.1), without "%": daphne decodes %63hat to chat, and autobahn does not."""

PING_HEAD, PONG_HEAD = b"\x89\x0c", b"\x8a\x8c"
"""How a ping with 12 bytes begins, and the masked pong that answers it."""

TEXT_HEAD, MAX_SHORT = 0x81, 125
"""How a text of one frame begins, and how many bytes it may have if its length takes no further bytes."""

HANDSHAKE = {
    *("_raw_query_string", "_transport_details", "_valid_events", "_results", "_wskey", "application_deferred"),
    *("clean_headers", "client_addr", "http_headers", "http_request_data", "http_request_host", "http_request_params"),
    *("http_request_path", "http_request_uri", "http_response_data", "http_status_line", "is_closed", "is_open"),
    *("path", "peer", "protocol_to_accept", "request", "root_path", "send_queue", "server_addr", "trafficStats"),
    *("utf8validator", "websocket_extensions", "websocket_extensions_in_use", "websocket_origin"),
    *("websocket_protocol_in_use", "websocket_protocols"),
}
"""What autobahn and daphne keep in each connection, and need only for the handshake or can make anew. See
`forget_handshake`."""

usage = Usage(settings.SOCKETS["sockets of one address"] + MAX_REFUSED, sys.maxsize)

logger = logging.getLogger(__name__)

# Close codes (https://www.iana.org/assignments/websocket)
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Messages:
    """What waits for the application of one socket. An asyncio.Queue for it takes 3 kB."""

    __slots__ = ("getter", "waiting")

    def __init__(self) -> None:
        """Nothing waits."""
        self.waiting: list[dict[str, Any]] = []
        self.getter: asyncio.Future[None] | None = None

    def put_nowait(self, message: dict[str, Any]) -> None:
        """Add a message."""
        self.waiting.append(message)
        if self.getter is not None and not self.getter.done():
            self.getter.set_result(None)

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self.waiting)

    async def get(self) -> dict[str, Any]:
        """The next message."""
        while not self.waiting:
            self.getter = asyncio.get_running_loop().create_future()
            await self.getter
        return self.waiting.pop(0)


def unmask(key: bytes, masked: bytes) -> bytes:
    """What a client has masked with a key of four bytes (RFC 6455, 5.3)."""
    size = len(masked)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(masked) ^ int.from_bytes(keys)).to_bytes(size)


@lru_cache(100)
def text_frame(text: str) -> bytes:
    """The bytes of a message from a server (RFC 6455, 5.2). Many sockets are sent the same, so they are kept."""
    payload = text.encode()
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def read_without_context(transport: Any) -> None:
    """Let Twisted read from a connection without a context for its log, which takes as long as a short text itself.

    After a pause of the transport, Twisted reads with it again.
    """
    reactor: Any = getattr(transport, "reactor", None)
    if isinstance(transport, Connection) and transport in getattr(reactor, "_readers", ()):
        asyncio.get_running_loop().add_reader(transport.fileno(), reactor._readOrWrite, transport, True)


@implementer(IPushProducer)
class WebSocketConnection(WebSocketProtocol):
    """One WebSocket.

    A client must read: Twisted's transport keeps at most 64 KiB for it. It must answer pings, even while it sends
    messages. It may send a few frames, which wait in a short queue.
    """

    autoPingRestartOnAnyTraffic = False  # noqa: N815  # an option of autobahn: only a pong proves that a client reads
    address: str | None = None  # if it is counted in `usage`
    listener: Callable[[str], None] | None = None  # takes texts at once; without it they are queued for the application
    frames = 0
    last_ping: float
    pinged_at = 0.0  # time.monotonic() of the last ping, or of the handshake
    due = 0.0  # when `check_timeouts` has something to do, likewise

    # What most connections have, so that none needs to keep it: see `forget_handshake`.
    _parsePOSTFormSubmission = triggered = inside_message = False  # noqa: N815
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = wasClean = False  # noqa: N815
    closedByMe = failedByMe = droppedByMe = wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = False  # noqa: N815
    wasCloseHandshakeTimeout = wasServingFlashSocketPolicyFile = False  # noqa: N815
    _perMessageCompress = trackedTimings = wasNotCleanReason = localCloseCode = localCloseReason = None  # noqa: N815
    remoteCloseCode = remoteCloseReason = openHandshakeTimeoutCall = closeHandshakeTimeoutCall = None  # noqa: N815
    autoPingTimeoutCall = autoPingPending = autoPingPendingCall = autoPingPendingSent = current_frame = None  # noqa: N815
    client_addr = path = None
    send_state = autoPingPendingSeq = 0  # noqa: N815
    websocket_version = 13
    data = b""
    send_queue = ()  # only autobahn's tests fill it
    trafficStats = TrafficStats()  # noqa: N815  # nobody reads it
    utf8validator = cached_property(lambda _self: Utf8Validator())
    is_closed: Any = cached_property(lambda _self: Deferred())

    @classmethod
    def with_options_of(cls, factory: Any) -> "type[WebSocketConnection]":
        """This class with a factory's options, which autobahn would copy into each connection, and format for a log."""
        options = {name: getattr(factory, name) for name in cls.CONFIG_ATTRS}
        options = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
        return type(cls.__name__, (cls,), {**options, "CONFIG_ATTRS": ()})

    def connectionMade(self) -> None:
        """Have the transport call `pauseProducing` of this connection and not of the HTTP request before it."""
        super().connectionMade()
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    # Handshake

    def onConnect(self, request: Any) -> Any:
        """Start the application. Refuse subprotocols that are not plain tokens (400) and too many sockets (429)."""
        offered = request.headers.get("sec-websocket-protocol")
        if offered is not None and not SUBPROTOCOLS.fullmatch(offered):
            raise ConnectionDeny(400, "Invalid Sec-WebSocket-Protocol")
        if settings.RATE_LIMITS:
            peer = getattr(self.transport.getPeer(), "host", None)
            address = client_address(peer, request.headers.get("x-forwarded-for"))
            if not usage.take(address, 1):
                raise ConnectionDeny(429, "Too Many Requests")
            self.address = address
        return super().onConnect(request)

    def serverAccept(self, subprotocol: str | None = None) -> None:
        """Complete the handshake."""
        super().serverAccept(subprotocol)
        if self.state == self.STATE_OPEN:
            self.pinged_at = time.monotonic()
            self.forget_handshake()
            read_without_context(self.transport)

    def forget_handshake(self) -> None:
        """Keep only what an open connection needs, which is a tenth: thousands may be open."""
        mine, common = vars(self), type(self)
        self.__dict__ = {
            name: value
            for name, value in mine.items()
            if name not in HANDSHAKE and getattr(common, name, mine) is not value
        }

    def onOpen(self) -> None:
        """Do nothing: daphne would only log."""

    def consumeData(self) -> None:
        """Parse what has been received. What follows a handshake waits until it is accepted."""
        if self.state != self.STATE_CONNECTING or not hasattr(self, "server"):
            super().consumeData()
        elif len(self.data) > self.maxFramePayloadSize:
            self.dropConnection(abort=True)

    # Frames

    def dataReceived(self, data: bytes) -> None:
        """Take what a client sends: mostly a pong or a short text, for which autobahn needs long."""
        if self.data or self.current_frame is not None or not (self.take_pong(data) or self.take_short_text(data)):
            super().dataReceived(data)

    def take_pong(self, data: bytes) -> bool:
        """Take the answer to a ping, if it is one."""
        pending = self.autoPingPending
        if pending is None or len(data) != 18 or data[:2] != PONG_HEAD or unmask(data[2:6], data[6:]) != pending:
            return False
        self.autoPingPending = None
        self.due = self.pinged_at + self.server.ping_interval
        return True

    def take_short_text(self, data: bytes) -> bool:
        """Take a text that is one whole frame, if it is one: somebody types. Whatever is wrong is left to autobahn."""
        size = len(data) - 6
        if not 0 < size <= MAX_SHORT or data[0] != TEXT_HEAD or data[1] != 0x80 | size:
            return False
        if self.state != self.STATE_OPEN or self.inside_message or self.frames >= MAX_FRAMES:
            return False
        payload = unmask(data[2:6], data[6:])
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return False
        self.frames += 1
        if self.frames > FEW_FRAMES:
            self.due = 0.0
        if self.listener is None:
            self.onMessage(payload, isBinary=False)
        else:
            self.pass_on(text, self.listener)
        return True

    def onFrameBegin(self) -> None:
        """Count a frame; close the socket, and disconnect a client that goes on, if there are too many."""
        self.frames += 1
        self.due = 0.0
        if self.frames > 2 * MAX_FRAMES:
            self.dropConnection(abort=True)
            return
        if self.frames > MAX_FRAMES:
            self.sendCloseFrame(code=POLICY_VIOLATION)
        super().onFrameBegin()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a text on to the listener, or queue a message for the application, unless too many wait already."""
        if self.state != self.STATE_OPEN:
            return
        if self.listener is not None and not isBinary:
            self.pass_on(payload.decode(), self.listener)
            return
        if self.application_queue.qsize() >= MAX_QUEUED_MESSAGES:
            self.sendCloseFrame(code=POLICY_VIOLATION)
            return
        super().onMessage(payload, isBinary)

    def pass_on(self, text: str, listener: Callable[[str], None]) -> None:
        """Pass a text on at once. The queue would wake a task in another iteration of the event loop."""
        try:
            listener(text)
        except Exception as error:
            logger.exception("A message of a socket could not be taken; the socket is closed.")
            self.handle_exception(error)

    def check_timeouts(self) -> None:
        """Ping, disconnect a client that does not answer, and reset the count of frames.

        The server calls this every two seconds, if it is due. daphne's method pings. It takes a client's messages for
        pings, and it goes by the system's clock, which may be set. So it is told when the last ping was.
        """
        since = time.monotonic() - self.pinged_at
        if self.state == self.STATE_OPEN and not self.inside_message:
            self.frames = 0
        is_unanswered = self.autoPingPending is not None
        if self.state == self.STATE_OPEN and is_unanswered:
            if since > self.server.ping_timeout:
                self.onAutoPingTimeout()
        else:
            self.last_ping = time.time() - since
            super().check_timeouts()
        if self.state == self.STATE_OPEN and not self.inside_message:
            limit = self.server.ping_timeout if self.autoPingPending is not None else self.server.ping_interval
            self.due = self.pinged_at + limit

    # Output

    def send_text(self, text: str, *, is_common: bool = True) -> None:
        """Write a message of at most 64 kB to the socket at once. Drop it if the connection is not open.

        is_common: whether many sockets may be sent the same. Its bytes are kept then, until others replace them.

        No extension is ever agreed on, so the message is not compressed.
        """
        if self.state == self.STATE_OPEN:
            self.write_at_once(text_frame(text) if is_common else text_frame.__wrapped__(text))

    def _sendAutoPing(self) -> None:
        """Ping at once: autobahn's method needs most of the CPU time of idle sockets. daphne calls this when due."""
        self.pinged_at, self.autoPingPending = time.monotonic(), os.urandom(12)
        self.write_at_once(PING_HEAD + self.autoPingPending)

    def write_at_once(self, frame: bytes) -> None:
        """Write a frame, without waiting until the socket is writable. It nearly always is."""
        transport = self.transport
        if not isinstance(transport, Connection):
            transport.write(frame)
            return
        transport.startWriting = do_nothing  # type: ignore[method-assign]
        try:
            transport.write(frame)
        finally:
            del transport.startWriting
            write_now(transport)

    def serverSend(self, content: Any, binary: bool = False) -> None:
        """Send a message. Drop it if the connection is closing, where autobahn raises."""
        if self.state == self.STATE_OPEN:
            super().serverSend(content, binary)

    def pauseProducing(self) -> None:
        """Disconnect a client that does not read. Twisted calls this when the transport's buffer is full."""
        self.transport.abortConnection()

    def resumeProducing(self) -> None:
        """Do nothing: the buffer has never been full."""

    def stopProducing(self) -> None:
        """Do nothing: the transport is closed."""

    # End

    def close_with(self, code: int) -> None:
        """Close with this code, unless it is closing already."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code)

    def serverClose(self, code: int | None = None) -> None:
        """Close with this code. daphne calls a method that refuses registered codes such as 1013."""
        self.sendCloseFrame(code=code or 1000)

    def handle_exception(self, exception: BaseException) -> None:
        """Close the connection of an application that has failed, in any state. This must never raise.

        daphne calls this from the loop that checks all connections.
        """
        if self.state != self.STATE_CONNECTING:
            self.sendCloseFrame(code=INTERNAL_ERROR)
        elif hasattr(self, "handshake_deferred"):
            super().handle_exception(exception)
            del self.handshake_deferred
        else:  # accepting it has failed
            self.dropConnection(abort=True)

    def _closeConnection(self, abort: bool = False) -> None:
        """Close the connection, after a time limit even if the client does not read what is buffered."""
        super()._closeConnection(abort)
        self.factory.reactor.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)

    def connectionLost(self, *reason: Any) -> None:
        """Stop counting the socket."""
        if self.address is not None:
            usage.give_back(self.address, 1)
            self.address = None
        super().connectionLost(*reason)

    def onClose(self, _was_clean: bool, code: int, _reason: str) -> None:
        """Tell the application. There is none if the handshake was refused before `onConnect`."""
        if hasattr(self, "server"):
            self.server.protocol_disconnected(self)
        if hasattr(self, "application_queue"):
            self.application_queue.put_nowait({"type": "websocket.disconnect", "code": code})
