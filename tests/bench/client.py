"""A small HTTP client: many persistent connections in one thread, which need little CPU time themselves."""

import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

CONNECTIONS = 16
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMEOUT = 60
"""Seconds without any response after which the server is taken for broken."""


class Unexpected(Exception):
    """The server has sent another response than expected, or none."""


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    at: float  # when all of it was received, by time.perf_counter()
    seconds: float  # since its request was sent

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """A persistent connection to a server on this machine, for one request at a time."""

    answer: Answer  # the latest

    def __init__(self, port: int) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.sent_at = 0.0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> Answer | None:
        """Receive once: the response, or None if that was only a part of it."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise Unexpected("The server has closed the connection.")
        self.received += data
        head, is_complete, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not is_complete or (length and len(body) < int(length[1])):
            return None
        self.received = b""
        now = time.perf_counter()
        self.answer = Answer(int(head[9:12]), body, now, now - self.sent_at)
        return self.answer

    def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its response."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer


@dataclass(frozen=True)
class Load:
    """How long many requests took."""

    seconds: float  # all together
    each: list[float]  # ms, in ascending order

    def percentile(self, percent: float) -> float:
        """The ms within which so many of a hundred requests were answered."""
        return self.each[int(percent / 100 * (len(self.each) - 1))]


def ask_all(
    ports: Sequence[int],
    requests: Iterable[bytes],
    expected: Callable[[Answer], bool],
    connections: int = CONNECTIONS,
) -> Load:
    """Send requests over so many connections at once, which are divided among the ports.

    Raises Unexpected for a response that is not `expected`: otherwise fast errors would look like a fast server.
    """
    waiting, each = iter(requests), list[float]()

    def send_next(connection: Connection) -> bool:
        if request := next(waiting, None):
            connection.send(request)
        return request is not None

    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        opened = [stack.enter_context(Connection(ports[number % len(ports)])) for number in range(connections)]
        for connection in opened:
            selector.register(connection, selectors.EVENT_READ)
        began = time.perf_counter()
        busy = sum(map(send_next, opened))
        while busy:
            ready = selector.select(TIMEOUT)
            if not ready:
                raise Unexpected(f"The server has not answered for {TIMEOUT} seconds.")
            for key, _ in ready:
                connection = cast(Connection, key.fileobj)
                if answer := connection.receive():
                    if not expected(answer):
                        raise Unexpected(f"The server has answered {answer.status}: {answer.body[:300]!r}")
                    each.append(1000 * answer.seconds)
                    busy += send_next(connection) - 1
        return Load(time.perf_counter() - began, sorted(each))


def get(path: str, *, cookie: str = "", headers: str = "") -> bytes:
    """The bytes of a GET request. `headers` are whole lines, each with its line end."""
    cookies = f"Cookie: {cookie}\r\n" if cookie else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{cookies}{headers}\r\n".encode()


def post(path: str, kind: str, body: str, *, cookie: str = "", headers: str = "") -> bytes:
    """The bytes of a POST request; `kind` is its content type."""
    content = body.encode()
    cookies = f"Cookie: {cookie}\r\n" if cookie else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{cookies}{headers}"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def post_json(path: str, value: object) -> bytes:
    """The bytes of a POST request with JSON."""
    return post(path, "application/json", json.dumps(value))
