"""HTTP connections as those of browsers, which notice that a server has closed them."""

import asyncio
import time
from dataclasses import dataclass

from tests.bench.client import LENGTH, Answer, Unexpected

KEPT = 4
"""Seconds since its last use within which the server must not close a connection. It may after 5: see server.py."""


@dataclass
class Connection:
    """A connection that is kept alive, and opened again after the server has closed it."""

    port: int
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    used: float = 0
    opened: int = 0
    sent_again: int = 0

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and return its response. Raises Unexpected if that is not 200.

        If the server closes a connection just then that has been idle for long, the request is sent again on a new one,
        as browsers do. Raises OSError or EOFError if the server closes it at any other moment, or refuses it.
        """
        began = time.perf_counter()
        if self.streams is not None and self.streams[0].at_eof():
            self.close()
        if self.streams is not None:
            try:
                return await self.exchange(request, began)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b"") or began - self.used < KEPT:
                    raise
                self.sent_again += 1
                self.close()
        self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened += 1
        return await self.exchange(request, began)

    async def exchange(self, request: bytes, began: float) -> Answer:
        """Send a request on the open connection, and return its response."""
        assert self.streams is not None
        reader, writer = self.streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        self.used = time.perf_counter()
        answer = Answer(int(head[9:12]), body, self.used, self.used - began)
        if answer.status != 200:
            raise Unexpected(f"{answer.status}: {answer.body[:300]!r}")
        return answer

    def close(self) -> None:
        """Close it, if it is open."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


class Client:
    """A pool of connections to a port of this machine, and how long each request on them took."""

    def __init__(self, port: int, connections: int) -> None:
        """They are opened when they are used."""
        self.connections = [Connection(port) for _ in range(connections)]
        self.idle: asyncio.Queue[Connection] = asyncio.Queue()
        self.seconds = list[float]()
        for connection in self.connections:
            self.idle.put_nowait(connection)

    async def ask(self, request: bytes) -> Answer:
        """Send a request on an idle connection, and return its response. Raises as Connection does."""
        connection = await self.idle.get()
        try:
            answer = await connection.ask(request)
        finally:
            self.idle.put_nowait(connection)
        self.seconds.append(answer.seconds)
        return answer

    def close(self) -> None:
        """Close all connections."""
        for connection in self.connections:
            connection.close()
