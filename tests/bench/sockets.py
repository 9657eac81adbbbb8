"""What WebSockets cost: rings to many of them, and many that are idle."""

import json
import resource
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import mean, median
from typing import cast

from tests.bench.client import CONNECTIONS, TIMEOUT, Connection, Unexpected, get
from tests.bench.data import Talk
from tests.bench.rounds import fixed_loop
from tests.bench.scenarios import LOOP, api_poll, api_post
from tests.bench.server import Server

OPENING = 32
"""Sockets that are opened at the same time."""

HEARTBEAT = 25
"""Seconds between two heartbeats of a socket (conversations/live/rounds.py): so long, idle ones are watched."""

TEXT, PING = 1, 9
"""Kinds of frames (RFC 6455, 5.2)."""


class Bell:
    """A widget's WebSocket. It reads only what it must, so that a thousand of them need little CPU time."""

    def __init__(self, port: int, path: str) -> None:
        """Connect and ask for the upgrade."""
        self.path = path
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.received = b""
        self.is_open = False
        self.last = -1  # the newest message that it knows of
        self.rung_at = 0.0  # when it got to know of it, by time.perf_counter()
        host = f"127.0.0.1:{port}"
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
        more = "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        self.socket.sendall((head + more).encode())

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def receive(self) -> bool:
        """Receive once. Returns whether the server rang for a message that is new; a heartbeat rings for known ones."""
        data, now = self.socket.recv(1 << 16), time.perf_counter()
        if not data:
            raise Unexpected("The server has disconnected a socket.")
        self.received += data
        if not self.is_open:
            head, is_complete, rest = self.received.partition(b"\r\n\r\n")
            if not is_complete:
                return False
            if b" 101 " not in head[:20]:
                raise Unexpected(f"The server has refused a socket: {head!r}")
            self.is_open, self.received = True, rest
        before = self.last
        while len(self.received) > 1 and len(self.received) >= (end := 2 + self.received[1]):
            self.read(self.received[0] & 15, self.received[2:end])
            self.received = self.received[end:]
        if self.last > before:
            self.rung_at = now
        return self.last > before

    def read(self, kind: int, content: bytes) -> None:
        """Read a frame."""
        if kind == PING:  # the answer is masked with zeros
            self.socket.sendall(bytes([0x8A, 0x80 | len(content), 0, 0, 0, 0]) + content)
        elif kind == TEXT and len(content) < 126:
            self.last = max(self.last, json.loads(content)["last"])
        else:
            raise Unexpected(f"The server has sent a frame of kind {kind} to a socket: {content!r}")


class Bells(AbstractContextManager["Bells"]):
    """Many sockets and some HTTP connections to one server, in one thread."""

    def __init__(self, server: Server) -> None:
        """Nothing is open."""
        self.port = server.port
        self.selector = selectors.DefaultSelector()
        self.bells: list[Bell] = []
        self.connections: list[Connection] = []

    def __exit__(self, *error: object) -> None:
        self.selector.close()
        for bell in self.bells:
            bell.socket.close()
        for connection in self.connections:
            connection.socket.close()

    def events(self, seconds: float = TIMEOUT) -> Iterator[Bell | Connection]:
        """Wait up to so many seconds for bells that ring and connections with a response.

        Raises Unexpected if nothing comes within TIMEOUT, or a response with an error.
        """
        ready = self.selector.select(seconds)
        if not ready and seconds >= TIMEOUT:
            raise Unexpected(f"Nothing has come for {TIMEOUT} seconds.")
        for key, _ in ready:
            each = cast(Bell | Connection, key.fileobj)
            if each.receive():
                if isinstance(each, Connection) and each.answer.status not in (200, 204):
                    raise Unexpected(f"The server has answered {each.answer.status}: {each.answer.body[:300]!r}")
                yield each

    def open(self, paths: Iterable[str]) -> None:
        """Open a socket for each path. Returns when all are open and have rung once."""
        waiting = iter(paths)

        def open_next() -> bool:
            if (path := next(waiting, None)) is None:
                return False
            bell = Bell(self.port, path)
            self.bells.append(bell)
            self.selector.register(bell, selectors.EVENT_READ)
            return True

        opening = sum(open_next() for _ in range(OPENING))
        while opening:
            for _ in self.events():
                opening += open_next() - 1

    def connect(self, number: int) -> None:
        """Open HTTP connections. Not before the sockets are open: the server closes connections that are idle."""
        for _ in range(number):
            connection = Connection(self.port)
            self.connections.append(connection)
            self.selector.register(connection, selectors.EVENT_READ)

    def idle(self, seconds: float) -> None:
        """Do nothing but answer pings."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for _ in self.events(left):
                pass


@dataclass(frozen=True)
class Result:
    """One figure."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    loop: float | None = None  # ms of the fixed loop at that time, if the unit is ms of CPU time
    plain: float | None = None  # the same with bare sockets of daphne

    def __str__(self) -> str:
        """On one line."""
        line = f"{self.name:66}{self.value:9,.{3 if self.loop else 1}f} {self.unit:9}"
        if self.loop:
            line += f"{100 * self.value / self.loop:6.2f} % of the loop"
        if self.goal:
            line += f"  goal {self.goal:g}" + (f", {100 * self.goal / LOOP:.2f} %" if self.loop else "")
        return line + (f"  bare socket {self.plain:.{3 if self.loop else 1}f}" if self.plain else "")


def doorbell(talk: Talk) -> str:
    """The path of a widget's socket."""
    return f"/ws/messages/{talk.uuid}/"


def percentile(values: list[float], percent: float) -> float:
    """The value that so many of a hundred do not exceed."""
    return sorted(values)[int(percent / 100 * (len(values) - 1))]


def rings(server: Server, plain: Server | None, talks: list[Talk], sockets: int, number: int) -> list[Result]:
    """Rings to many sockets of one conversation; then again while another visitor polls."""
    room, visitor = talks[:2]
    with Bells(server) as bells:
        bells.open([doorbell(room)] * sockets)
        bells.connect(2)
        first = bells.bells[0]
        before, cpu = fixed_loop(), server.cpu()
        delays = [ring(bells, api_post(room, first.last)) for _ in range(number)]
        cpu, loop = server.cpu() - cpu, mean([before, fixed_loop()])
        polls: list[float] = []
        for _ in range(number):
            ring(bells, api_post(room, first.last), api_poll(visitor), polls)
    bare = bare_ring(plain, sockets, number) if plain else None
    name = f"sockets, a ring to {sockets:,} of a conversation:"
    return [
        Result(f"{name} CPU each", 1000 * cpu / number / sockets, "ms", 0.12, loop, bare),
        Result(f"{name} the last, p50", 1000 * median(delays), "ms", 120),
        Result(f"{name} the last, worst", 1000 * max(delays), "ms", 250),
        Result(f"{name} another's poll, p99", 1000 * percentile(polls, 99), "ms", 50),
    ]


def ring(bells: Bells, post: bytes, poll: bytes = b"", polls: list[float] | None = None) -> float:
    """Post a message; return the seconds from the response to the ring of the last bell.

    With `poll`, another visitor polls meanwhile; the seconds of each poll are appended to `polls`.
    """
    writer, visitor = bells.connections
    writer.send(post)
    if poll:
        visitor.send(poll)
    silent, is_posting, is_polling = len(bells.bells), True, bool(poll)
    last = 0.0
    while silent or is_posting or is_polling:
        for each in bells.events():
            if isinstance(each, Bell):
                silent, last = silent - 1, each.rung_at
            elif each is writer:
                is_posting = False
            else:
                cast(list[float], polls).append(visitor.answer.seconds)
                is_polling = silent > 0
                if is_polling:
                    visitor.send(poll)
    return max(last - writer.answer.at, 0)


def bare_ring(plain: Server, sockets: int, number: int) -> float:
    """The CPU time in ms of a ring for each bare socket of daphne."""
    with Bells(plain) as bells:
        bells.open(["/bare/"] * sockets)
        bells.connect(2)
        cpu = plain.cpu()
        for _ in range(number):
            ring(bells, get("/ring/"))
        return 1000 * (plain.cpu() - cpu) / number / sockets


def posts(server: Server, talks: list[Talk], rounds: int) -> list[Result]:
    """Many conversations with one socket each: one message in each of them, at full speed."""
    delays, rates = [], []
    with Bells(server) as bells:
        bells.open(map(doorbell, talks))
        bells.connect(CONNECTIONS)
        bell_of = {bell.path: bell for bell in bells.bells}
        for _ in range(rounds):
            began = time.perf_counter()
            answered = post_to_all(bells, talks)
            rates.append(len(talks) / (max(answered.values()) - began))
            delays += [max(bell_of[path].rung_at - at, 0) for path, at in answered.items()]
    name = f"sockets, posts to {len(talks):,} conversations with one each:"
    return [
        Result(f"{name} a ring, p50", 1000 * percentile(delays, 50), "ms", 25),
        Result(f"{name} a ring, p99", 1000 * percentile(delays, 99), "ms", 80),
        Result(f"{name} posts", median(rates), "a second"),
    ]


def post_to_all(bells: Bells, talks: list[Talk]) -> dict[str, float]:
    """Post a message in each conversation, and wait for all rings. Returns when each was answered, by its doorbell."""
    waiting, posting, answered = iter(talks), dict[Connection, Talk](), dict[str, float]()
    last = {bell.path: bell.last for bell in bells.bells}

    def post_next(connection: Connection) -> None:
        if talk := next(waiting, None):
            posting[connection] = talk
            connection.send(api_post(talk, last[doorbell(talk)]))

    for connection in bells.connections:
        post_next(connection)
    silent = len(bells.bells)
    while silent or len(answered) < len(talks):
        for each in bells.events():
            if isinstance(each, Bell):
                silent -= 1
            else:
                answered[doorbell(posting[each])] = each.answer.at
                post_next(each)
    return answered


def idle(server: Server, plain: Server | None, talks: list[Talk], seconds: float = HEARTBEAT) -> list[Result]:
    """Many sockets of different conversations, which nothing rings."""
    name, some = f"sockets, {len(talks):,} idle:", len(talks) // 10
    with Bells(server) as bells:
        bells.open([doorbell(talks[0])] * 50)  # the first ones load modules, for example
        empty = server.size().memory
        first = opening(f"{name} opening the first {some}", server, bells, talks[:some])
        bells.open(map(doorbell, talks[some:-some]))
        last = opening(f"{name} opening the last {some}", server, bells, talks[-some:])
        memory = (server.size().memory - empty) * 1e6 / 1024 / len(talks)
        bells.idle(min(3, seconds))
        cpu = server.cpu()
        bells.idle(seconds)
        share = 100 * (server.cpu() - cpu) / seconds
    bare = bare_memory(plain, len(talks) // 5) if plain else None
    return [
        Result(f"{name} memory each", memory, "KiB", 20, plain=bare),
        Result(f"{name} CPU of all", share, "% of a core", 3),
        *first,
        *last,
    ]


def opening(name: str, server: Server, bells: Bells, talks: list[Talk]) -> list[Result]:
    """Open sockets, at full speed."""
    loop, cpu, began = fixed_loop(), server.cpu(), time.perf_counter()
    bells.open(map(doorbell, talks))
    seconds, cpu = time.perf_counter() - began, server.cpu() - cpu
    return [
        Result(f"{name}, CPU each", 1000 * cpu / len(talks), "ms", 1000 / 400, mean([loop, fixed_loop()])),
        Result(f"{name}", len(talks) / seconds, "a second", 400),
    ]


def bare_memory(plain: Server, sockets: int) -> float:
    """The KiB of each bare socket of daphne."""
    with Bells(plain) as bells:
        bells.open(["/bare/"] * 50)
        empty = plain.size().memory
        bells.open(["/bare/"] * sockets)
        return (plain.size().memory - empty) * 1e6 / 1024 / sockets


def allow_open_files() -> None:
    """Raise this process's soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
