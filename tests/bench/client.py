"""A small HTTP client with persistent connections, which uses little CPU time itself."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

CONNECTIONS = 16
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Unexpected(Exception):
    """The server has sent another response than expected."""


@dataclass(frozen=True)
class Answer:
    """A response's status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """A pool of connections to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self) -> "Client":
        for _ in range(CONNECTIONS):
            self.idle.put_nowait(await asyncio.open_connection("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        while not self.idle.empty():
            _, writer = self.idle.get_nowait()
            writer.close()
            await writer.wait_closed()

    async def ask(self, request: bytes) -> Answer:
        """Send a request on an idle connection, and return its response."""
        reader, writer = connection = await self.idle.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.idle.put_nowait(connection)
        return Answer(int(head[9:12]), body)

    async def ask_all(self, requests: Iterable[bytes], expected: Callable[[Answer], bool]) -> float:
        """Send the requests over all connections at once, and return the seconds that it took.

        Raises Unexpected for a response that is not `expected`: otherwise fast errors would look like a fast server.
        """
        waiting = iter(requests)

        async def work() -> None:
            for request in waiting:
                answer = await self.ask(request)
                if not expected(answer):
                    raise Unexpected(f"{request!r} was answered {answer.status}: {answer.body[:300]!r}")

        began = time.perf_counter()
        await asyncio.gather(*[work() for _ in range(CONNECTIONS)])
        return time.perf_counter() - began


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
