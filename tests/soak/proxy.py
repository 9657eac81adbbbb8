"""A TCP proxy that can lose responses, delay them and let connections go silent."""

import asyncio
import random
import threading
from contextlib import suppress


class Proxy:
    """Forwards connections to a port of this machine. Faults are switched on and off while it runs.

    `fault` happens to a `share` of the HTTP responses: "reset" and "truncated" pass a part on, "acknowledgement" loses
    the responses to POST requests. WebSockets are not affected.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self.fault = ""
        self.share = 0.3
        self.latency = 0.0  # seconds
        self.faults = 0  # how often the fault has happened
        self.cut_before = 0  # connections with lower numbers pass nothing on
        self.number = 0
        self.tasks: set[asyncio.Task[None] | None] = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self.run, args=(ready,), daemon=True).start()
        ready.wait()

    def run(self, ready: threading.Event) -> None:
        """Accept connections until the process ends."""
        server = self.loop.run_until_complete(asyncio.start_server(self.accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def cut(self) -> None:
        """Pass nothing on any more on the open connections, without closing them. New ones work."""
        self.cut_before = self.number

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on both directions."""
        task = asyncio.current_task()
        self.tasks.add(task)  # the event loop keeps only a weak reference
        self.number += 1
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self, self.number, writer, server_writer)
        await asyncio.gather(connection.pass_on(reader, server_writer), connection.answer(server_reader))
        self.tasks.discard(task)


class Connection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.number = number
        self.client = client
        self.server = server
        self.is_websocket = False
        self.is_post = False

    @property
    def is_cut(self) -> bool:
        return self.number <= self.proxy.cut_before

    async def pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on one direction until its end."""
        with suppress(OSError):
            while data := await source.read(65536):
                if self.proxy.latency:
                    await asyncio.sleep(self.proxy.latency)
                if self.is_cut:
                    continue
                if target is self.server:
                    self.is_post = data.startswith(b"POST ")
                elif self.fails(data):
                    self.client.transport.abort()
                    self.server.transport.abort()
                    return
                target.write(data)
                await target.drain()
        if not self.is_cut:
            with suppress(OSError):
                target.close()

    async def answer(self, source: asyncio.StreamReader) -> None:
        """Pass on what the server sends."""
        await self.pass_on(source, self.client)

    def fails(self, answer: bytes) -> bool:
        """Whether the fault happens to this response. The connection then ends."""
        proxy = self.proxy
        self.is_websocket |= answer.startswith(b"HTTP/1.1 101 ")
        lost = proxy.fault == "acknowledgement"
        if not proxy.fault or self.is_websocket or (lost and not self.is_post) or random.random() > proxy.share:
            return False
        proxy.faults += 1
        if not lost:
            self.client.write(answer[: len(answer) * (2 if proxy.fault == "truncated" else 1) // 3])
        if proxy.fault == "truncated":
            self.client.close()  # a normal end, too early
        return True
