"""A WebSocket connection: daphne's, with bounds on what one client can make the server do and keep."""

import re
import struct
import sys
from functools import lru_cache
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
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

MAX_REFUSED = 20
"""Sockets of one address that may be open beyond the limit until they are closed; further handshakes get 429."""

CLOSE_TIMEOUT = 10
"""Seconds that a client has to read what is buffered for it when its connection is closed."""

SUBPROTOCOLS = re.compile(r"[\w!#$&'*+.^`|~-]+(\s*,\s*[\w!#$&'*+.^`|~-]+){0,9}", re.ASCII)
"""Up to ten tokens (RFC 6455, 4.1), without "%": daphne decodes %63hat to chat, and autobahn does not."""

usage = Usage(settings.SOCKETS["sockets of one address"] + MAX_REFUSED, sys.maxsize)

# Close codes (https://www.iana.org/assignments/websocket)
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


@lru_cache(100)
def text_frame(text: str) -> bytes:
    """The bytes of a message from a server (RFC 6455, 5.2). Many sockets are sent the same, so they are kept."""
    payload = text.encode()
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


@implementer(IPushProducer)
class WebSocketConnection(WebSocketProtocol):
    """One WebSocket.

    A client must read: Twisted's transport keeps at most 64 KiB for it, and it must
    answer pings, even while it sends messages. It may send a few frames, which wait in a short queue.
    """

    autoPingRestartOnAnyTraffic = False  # noqa: N815  # an option of autobahn: only a pong proves that a client reads
    address: str | None = None  # if it is counted in `usage`
    frames = 0
    last_ping: float

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

    def consumeData(self) -> None:
        """Parse what has been received. What follows a handshake waits until it is accepted."""
        if self.state != self.STATE_CONNECTING or not hasattr(self, "server"):
            super().consumeData()
        elif len(self.data) > self.maxFramePayloadSize:
            self.dropConnection(abort=True)

    # Frames

    def onFrameBegin(self) -> None:
        """Count a frame; close the socket, and disconnect a client that goes on, if there are too many."""
        self.frames += 1
        if self.frames > 2 * MAX_FRAMES:
            self.dropConnection(abort=True)
            return
        if self.frames > MAX_FRAMES:
            self.sendCloseFrame(code=POLICY_VIOLATION)
        super().onFrameBegin()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a message for the application, unless too many wait already."""
        if self.state != self.STATE_OPEN:
            return
        if self.application_queue.qsize() >= MAX_QUEUED_MESSAGES:
            self.sendCloseFrame(code=POLICY_VIOLATION)
            return
        last_ping = self.last_ping
        super().onMessage(payload, isBinary)
        self.last_ping = last_ping  # daphne would not ping clients that send messages

    def check_timeouts(self) -> None:
        """Send pings and reset the count of frames. daphne calls this every two seconds."""
        if self.state == self.STATE_OPEN and not self.inside_message:
            self.frames = 0
        super().check_timeouts()

    # Output

    def send_text(self, text: str) -> None:
        """Write a message of at most 64 kB to the socket at once. Drop it if the connection is not open.

        No extension is ever agreed on, so the message is not compressed.
        """
        if self.state != self.STATE_OPEN:
            return
        transport = self.transport
        if not isinstance(transport, Connection):
            transport.write(text_frame(text))
            return
        transport.startWriting = do_nothing  # type: ignore[method-assign]
        try:
            transport.write(text_frame(text))
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

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        """Tell the application. There is none if the handshake was refused before `onConnect`."""
        if hasattr(self, "server"):
            super().onClose(wasClean, code, reason)
