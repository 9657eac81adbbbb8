"""An HTTP connection: Twisted's and daphne's, with bounds on the memory, disk and time that a client may take."""

import fcntl
import json
import logging
import re
import struct
import termios
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from io import BytesIO
from operator import attrgetter
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

from daphne.http_protocol import WebRequest
from django.conf import settings
from twisted.web.http import RESPONSES, HTTPChannel

from chatsite.metrics import refused_connections
from chatsite.serving.usage import Usage
from conversations.threshold.proxies import client_address

TIMEOUT = 60
"""Seconds in which a client must send the head of a request, counted from the end of the last response, and in which it
must send or read MIN_PACE times as many bytes of a body."""

MIN_PACE = 1000
"""Bytes in a second, on average over TIMEOUT. A slower client is disconnected."""

LINGER = 5
"""Seconds in which a client may read why its request was refused, while the rest of its body is read and dropped.
Closed at once, the connection would be reset before it has read anything (RFC 9112, section 9.6)."""

FORM_OVERHEAD = 64 * 1024
"""Bytes of a form beside its fields and files, such as the boundaries and headers of its parts."""

MAX_FORM = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + FORM_OVERHEAD
"""The most bytes of a request's body at URLs that take no files."""

MAX_IN_MEMORY = 100_000
"""Bytes of a body that is kept in memory; a longer one is kept in a temporary file."""

MAX_UPLOAD_BYTES_OF_ADDRESS = 1024**3
"""Bytes of bodies with files that one address may have in temporary files at the same time."""

MAX_UPLOAD_BYTES = 2 * 1024**3
"""Bytes of all bodies with files that are in temporary files at the same time."""

logger = logging.getLogger(__name__)

RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus})  # Twisted does not know 422
SAFE_METHODS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}
TOO_MANY_CONNECTIONS = "There are too many connections from your address. Please try again in a few seconds."
RETRY_AFTER = 10


def max_body(method: bytes, path: bytes) -> int:
    """The largest body in bytes that this URL takes: with files where messages are written, else a form or JSON."""
    if method in SAFE_METHODS:
        return 0
    is_upload = method == b"POST" and re.fullmatch(settings.UPLOAD_PATHS, path.partition(b"?")[0].decode("latin1"))
    return settings.MAX_UPLOAD + MAX_FORM if is_upload else MAX_FORM


class UploadedBody(SpooledTemporaryFile[bytes]):
    """A body with files. Until it is closed, its bytes count towards the maxima of uploads."""

    def __init__(self, usage: Usage, address: str) -> None:
        """`address` is the client's."""
        super().__init__(MAX_IN_MEMORY, "w+b")
        self.usage, self.address, self.size = usage, address, 0

    def reserve(self, number: int) -> bool:
        """Count the bytes that will be written. False if there are too many uploads."""
        is_free = self.usage.take(self.address, number)
        self.size += number * is_free
        return is_free

    def close(self) -> None:
        """Delete the file."""
        self.usage.give_back(self.address, self.size)
        self.size = 0
        super().close()


class HttpRequest(WebRequest):
    """A request, with a bound on its body."""

    received = 0
    refusal: int | None = None

    def is_handshake(self) -> bool:
        """Whether daphne will open a WebSocket. It would read all of a body into memory."""
        return bool(self.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0].lower() == b"websocket")

    def gotLength(self, length: int | None) -> None:
        """Open the file that the body will be received in. `length` is None for a chunked body."""
        if self.max_body > MAX_FORM and self.refusal is None:
            self.content: Any = UploadedBody(self.channel.server.upload_bytes, self.channel.client_address())
        elif length is not None and length < MAX_IN_MEMORY:
            self.content = BytesIO()
        else:
            self.content = SpooledTemporaryFile(MAX_IN_MEMORY, "w+b")  # noqa: SIM115 (closed with the request)

    def handleContentChunk(self, data: bytes) -> None:
        """Write a part of the body, or refuse the request if it is too large."""
        if self.refusal is not None:
            return
        self.received += len(data)
        if self.received > self.max_body:
            self.channel.refuse(413)
        elif self.max_body > MAX_FORM and not self.reserve(len(data)):
            self.channel.refuse(503)
        else:
            self.store(partial(self.content.write, data))

    def store(self, write: Callable[[], Any]) -> None:
        """Write to the body's file; refuse the request if there is no room for it."""
        try:
            write()
        except OSError as error:
            logger.error("The body of a request cannot be stored in %s: %s", gettempdir(), error)
            self.channel.refuse(507)

    def requestReceived(self, *line: bytes) -> None:
        """Handle the request, once all of its body is in the file. `line` is its first line."""
        if self.refusal is None:
            self.store(self.content.flush)
        super().requestReceived(*line)

    def reserve(self, number: int) -> bool:
        """Count the bytes of an upload. If all uploads have too many, drop larger ones: see `drop_larger_upload`."""
        while not self.content.reserve(number):
            if not self.channel.drop_larger_upload(number):
                return False
        return True

    def process(self) -> Any:
        """Start the application, but not before the client has read most of the responses to earlier requests."""
        channel = self.channel
        if channel._waitingForTransport:
            channel.delayed = self.process
            return None
        if not all(value.isascii() for value in self.requestHeaders.getRawHeaders(b"Sec-WebSocket-Protocol", ())):
            return self.basic_error(400, b"Bad Request", "Invalid Sec-WebSocket-Protocol")
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")  # daphne answers 500 where it is not ASCII
        self.remove_backslashes()
        processing = super().process()
        if channel.transport is not None and channel.transport.protocol is not channel:
            channel.release()  # it is a WebSocket now
        return processing

    def remove_backslashes(self) -> None:
        """Remove the backslashes from the cookies. Ours have none.

        The time that Python before 3.11.10 and 3.12.6 takes to interpret them is quadratic (CVE-2024-7592).
        """
        cookies = self.requestHeaders.getRawHeaders(b"Cookie", ())
        if any(b"\\" in cookie for cookie in cookies):
            self.requestHeaders.setRawHeaders(b"Cookie", [cookie.replace(b"\\", b"") for cookie in cookies])

    def is_disconnected(self) -> bool:
        """Whether the client has disconnected. May be called in any thread."""
        return bool(self._disconnected)


class HttpConnection(HTTPChannel):
    """A connection, with bounds on its requests and on the time that its client may take."""

    transport: Any
    factory: Any
    address: str | None = None
    delayed: Callable[[], Any] | None = None
    is_refusing = False
    is_lingering = False
    responses = 0
    drained = 0  # how often the transport's buffer has been full and then empty
    step: Hashable = None
    done = 0
    since = 0.0

    def connectionMade(self) -> None:
        """Count the connection, and close it if its address has too many."""
        self.requestFactory = HttpRequest  # daphne sets its own after the class is instantiated
        self.timeOut = None  # no timer of Twisted's, which every byte resets: see `check_pace`
        super().connectionMade()
        self.server = self.factory.server
        self.server.http_connections.add(self)
        self.since = time.monotonic()
        if not settings.TRUSTED_PROXIES and not self.enter():
            self.refuse_connection()

    def connectionLost(self, reason: Any = None) -> None:
        """Forget the connection."""
        self.release()
        super().connectionLost(reason)

    def release(self) -> None:
        """Stop counting the connection: it is closed, or has become a WebSocket."""
        self.server.http_connections.discard(self)
        self.delayed = None
        self.leave()

    # Connections of one address ---------------------------------------------------------------------------------------

    def enter(self) -> bool:
        """Count the connection, or the request if it comes through a proxy. False if its address has too many."""
        if not settings.RATE_LIMITS:
            return True
        address = self.client_address()
        if self.server.clients.take(address, 1):
            self.address = address
            if self.server.clients.of[address] <= settings.CONNECTIONS or self.close_idle():
                return True
        refused_connections.inc()
        return False

    def close_idle(self) -> bool:
        """Close the connection of this address that has been idle for longest. False if none is idle."""
        idle = [other for other in self.server.http_connections if other.address == self.address and other.is_idle()]
        if not idle:
            return False
        oldest = min(idle, key=attrgetter("since"))
        oldest.leave()
        oldest.loseConnection()
        return True

    def is_idle(self) -> bool:
        """Whether it is kept alive between two requests, as browsers keep several that they may not need."""
        return bool(self.responses and not self.requests and not self._buffer and not self.unsent())

    def is_busy(self) -> bool:
        """Whether a request is being received or answered."""
        return bool(self.requests or self._buffer or self.unsent())

    def leave(self) -> None:
        """Stop counting the connection or request."""
        if self.address is not None:
            self.server.clients.give_back(self.address, 1)
            self.address = None

    def client_address(self) -> str:
        """The client's address, as in rate limits."""
        forwarded = self.requests[-1].requestHeaders.getRawHeaders(b"X-Forwarded-For", ()) if self.requests else ()
        return client_address(getattr(self.transport.getPeer(), "host", None), b",".join(forwarded).decode("latin1"))

    def refuse_connection(self) -> None:
        """Answer 429 before any request, and close the connection: at once if many are being refused already."""
        self.is_lingering = self.address is None
        content = json.dumps({"detail": TOO_MANY_CONNECTIONS}).encode()
        self.write_error(b"429 Too Many Requests", b"Retry-After: %d\r\n" % RETRY_AFTER, content)

    # Bodies -----------------------------------------------------------------------------------------------------------

    def headerReceived(self, line: bytes) -> bool:
        """Parse a header. Answer 400 where Twisted raises: a Content-Length of more digits than `int` takes."""
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        """Refuse a body that is too large, before it is sent if the client expects 100 Continue."""
        request: Any = self.requests[-1]
        path: Any = self._path
        request.max_body = 0 if request.is_handshake() else max_body(self._command, path)
        if settings.TRUSTED_PROXIES and not self.enter():
            self.refuse(429)
        elif self.length is not None:
            if self.length > request.max_body:
                self.refuse(413)
            request.max_body = self.length  # a form where files are taken costs no more than elsewhere
        if request.refusal is not None:
            self.length, self._transferDecoder = 0, None
            request.requestHeaders.removeHeader(b"Expect")
        is_last = self.server.is_leaving and not request.is_handshake()
        if is_last:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        super().allHeadersReceived()
        if is_last or request.refusal is not None:
            self.persistent = 0

    def refuse(self, status: int) -> None:
        """Let Django answer the request with this status, drop the rest of its body and close the connection."""
        request = self.requests[-1]
        request.refusal = status
        if request.content is not None:
            with suppress(OSError):  # what it had not written yet does not fit either
                request.content.close()
            request.content = BytesIO()
        request.requestHeaders.removeHeader(b"Upgrade")
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self.persistent = 0
        self.is_refusing = True

    def drop_larger_upload(self, number: int) -> bool:
        """Make room for `number` bytes: disconnect the largest upload of the address whose uploads have the most bytes.

        So a few clients that send slowly cannot keep all others from uploading. False if there is room already, or if
        this address itself has the most.
        """
        usage, address = self.server.upload_bytes, self.client_address()
        most = usage.largest()
        if usage.total + number <= usage.max_of_all or usage.of[most] <= usage.of[address]:
            return False
        bodies = {other.requests[-1].content: other for other in self.server.http_connections if other.requests}
        uploads = [body for body in bodies if isinstance(body, UploadedBody) and body.address == most and body.size]
        if not uploads:
            return False
        largest = max(uploads, key=attrgetter("size"))
        largest.close()
        bodies[largest].transport.abortConnection()
        return True

    def rawDataReceived(self, data: bytes) -> None:
        """Receive a part of a body, or of the requests behind the one that is being handled."""
        if self.is_refusing:
            return
        if self._handlingRequest and self._dataBuffer:
            data = b"".join([*self._dataBuffer, data])  # one piece: Twisted adds up the lengths of all each time
            self._dataBuffer = []
        super().rawDataReceived(data)
        if self.is_refusing and not self._handlingRequest:
            self.allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Wait for the next request."""
        self.responses += 1
        if settings.TRUSTED_PROXIES:
            self.leave()
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Close the connection once its client has read everything; see LINGER where a request was refused."""
        if self.is_refusing and not self.is_lingering:
            self.is_lingering = True
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            super().loseConnection()

    def write_error(self, status: bytes, headers: bytes = b"", content: bytes = b"") -> None:
        """Answer with an error that belongs to no request, and close."""
        head = b"HTTP/1.1 %s\r\n%sConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.is_refusing = True
        self.setRawMode()
        self.transport.write(head % (status, headers, len(content)) + content)
        self.loseConnection()

    # Time -------------------------------------------------------------------------------------------------------------

    def resumeProducing(self) -> None:
        """The client has read all that the transport had buffered: go on."""
        self.drained += 1
        super().resumeProducing()
        if self.delayed is not None:
            process, self.delayed = self.delayed, None
            process()

    def unsent(self) -> int:
        """Bytes of responses that wait in memory until their client reads."""
        transport = self.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen

    def current_step(self) -> tuple[Hashable, int]:
        """What the client has to do now, and how many bytes of it are done. None while it waits for us."""
        if unsent := self.unsent():
            return ("read", self.responses, self.drained), -unsent - in_send_queue(self.transport)
        if self.is_lingering:
            return "leave", 0
        if self._handlingRequest:
            return None, 0
        if self.requests and self.requests[-1].content is not None:
            return ("send", self.responses), self.requests[-1].received
        return ("ask", self.responses), 0

    def check_pace(self, now: float) -> None:
        """Disconnect a client that takes too long. Called every few seconds; `now` is time.monotonic()."""
        step, done = self.current_step()
        if step is None or step != self.step or done - self.done >= MIN_PACE * TIMEOUT:
            self.step, self.done, self.since = step, done, now
        elif now - self.since > (LINGER if step == "leave" else TIMEOUT):
            self.give_up()

    def give_up(self) -> None:
        """Disconnect the client, with 408 if it has begun a request."""
        if self.unsent() or self.is_lingering:
            self.transport.abortConnection()
        elif self.requests or self._buffer:
            self.write_error(b"408 Request Timeout")
        else:
            self.loseConnection()


def in_send_queue(transport: Any) -> int:
    """Bytes in the system's send queue, which the client has not acknowledged; 0 if the system does not tell."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:
        return 0
