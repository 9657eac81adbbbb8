"""A small HTTP client that keeps its connections and costs little beside what it measures."""

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
    """The server answered something else than what is measured."""


@dataclass(frozen=True)
class Answer:
    """An answer's status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Some connections to a server on this machine, each with one request at a time."""

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
        """Send a request on a connection that is free, and return its answer."""
        reader, writer = connection = await self.idle.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.idle.put_nowait(connection)
        return Answer(int(head[9:12]), body)

    async def ask_all(self, requests: Iterable[bytes], expected: Callable[[Answer], bool]) -> float:
        """Send them over all connections at once and return how many seconds it took.

        Raises Unexpected for an answer that is not `expected`: an error may be quick, and would look like speed.
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
    """A GET as it goes over the wire. `headers` are whole lines, each with its line end."""
    cookies = f"Cookie: {cookie}\r\n" if cookie else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{cookies}{headers}\r\n".encode()


def post(path: str, kind: str, body: str, *, cookie: str = "", headers: str = "") -> bytes:
    """A POST as it goes over the wire; `kind` is its content type."""
    content = body.encode()
    cookies = f"Cookie: {cookie}\r\n" if cookie else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{cookies}{headers}"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def post_json(path: str, value: object) -> bytes:
    """A POST of JSON."""
    return post(path, "application/json", json.dumps(value))
