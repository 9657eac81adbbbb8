"""WebSockets of a real server: odd handshakes, bounds for each socket, and how many sockets there may be."""

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from chatsite.serving.websocket import (
    CLOSE_TIMEOUT,
    FEW_FRAMES,
    HANDSHAKE,
    MAX_FRAMES,
    MAX_REFUSED,
    Messages,
    WebSocketConnection,
    read_without_context,
)
from conversations.live.doorbell import TYPES, Doorbell, stay_open
from tests.conftest import PASSWORD, Server, server_database
from tests.test_server import serving, until

RUNNER = """
import os, pathlib
PATIENT = pathlib.Path(os.environ["CONNECTION_COUNT"] + ".patient")
os.dup2(os.open(os.environ["ERROR_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
import django
django.setup()
from chatsite.serving import server, websocket
CLOSE_TIMEOUT = websocket.CLOSE_TIMEOUT

class ObservedServer(server.ChatsiteServer):
    def __init__(self, *args, **options):
        super().__init__(*args, **options, ping_interval=1, ping_timeout=2)

    def application_checker(self):
        self.ping_timeout, websocket.CLOSE_TIMEOUT = (600, 600) if PATIENT.exists() else (2, CLOSE_TIMEOUT)
        super().application_checker()
        pathlib.Path(os.environ["CONNECTION_COUNT"]).write_text(str(len(self.connections)))

server.ChatsiteServer = ObservedServer
server.serve("127.0.0.1", int(os.environ["PORT"]))
"""

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class ObservedServer(Server):
    """The product with quick pings and with limits; its housekeeping writes down how many connections there are."""

    command = ("-c", RUNNER)

    def connections(self) -> int | None:
        """How many connections the next round of the housekeeping counts, or None as long as there is none."""
        path = Path(self.environment["CONNECTION_COUNT"])
        number = path.read_text() if path.exists() else ""
        path.unlink(missing_ok=True)
        return int(number) if number else None

    @contextmanager
    def patience(self) -> Iterator[None]:
        """No client is disconnected because it answers nothing: this machine may be too busy to open many in time."""
        patient = Path(self.environment["CONNECTION_COUNT"] + ".patient")
        patient.touch()
        self.connections()
        until(lambda: self.connections() is not None, 60)  # a round has seen it
        yield
        patient.unlink()

    def forgets_all_connections(self) -> None:
        """Wait until the periodic checks have removed all connections; they must not have failed."""
        self.connections()  # the number of a round before
        until(lambda: self.connections() == 0, 60)
        assert self.errors() == []

    def errors(self) -> list[str]:
        """The lines that were logged since the last call and say that something has failed."""
        path = Path(self.environment["ERROR_LOG"])
        log = path.read_text()
        os.truncate(path, 0)  # the server appends
        return [line for line in log.splitlines() if "Error" in line or "ERROR" in line or "Exception" in line]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[ObservedServer]:
    """A server that writes down its connections, with an agent bob."""
    where = tmp_path_factory.mktemp("observed")
    with django_db_blocker.unblock():
        for url in server_database(where):
            environment = {
                "DJANGO_SETTINGS_MODULE": "chatsite.settings",
                "DEBUG": "on",
                "DATABASE_URL": url,
                "FILES": str(where),
                "TRUSTED_PROXIES": "1",
                "CONNECTION_COUNT": str(where / "connections"),
                "ERROR_LOG": str(where / "errors"),
            }
            server = ObservedServer(environment)
            server.environment["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
            server.manage("migrate", "--verbosity", "0")
            server.manage("createagent", "bob", "--password", PASSWORD)
            server.start()
            yield server
            server.kill()


def start_conversation(server: Server, address: str = "192.0.2.1") -> str:
    """Start a conversation over the API; returns its uuid."""
    body = json.dumps({"content": "Hi"}).encode()
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    with urlopen(Request(f"{server.url}/api/messages/", body, headers), timeout=30) as answer:
        return str(json.load(answer)["items"][0]["conversation"])


@pytest.fixture(scope="module")
def uuid(observed: ObservedServer) -> str:
    """The uuid of a conversation on that server."""
    return start_conversation(observed)


def frame(opcode: int, payload: bytes = b"", fin: bool = True, key: bytes = bytes(4)) -> bytes:
    """A masked frame as clients send it, of at most 64 kB."""
    payload = bytes(byte ^ key[number % 4] for number, byte in enumerate(payload))
    size = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
    return bytes([(0x80 if fin else 0) | opcode]) + size + key + payload


def handshake(port: int, path: str, *headers: bytes) -> socket.socket:
    """Send a handshake with more headers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16))
    lines = [
        b"GET " + path.encode() + b" HTTP/1.1",
        b"Host: 127.0.0.1:%d" % port,
        b"Origin: http://127.0.0.1:%d" % port,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *headers,
    ]
    client.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
    return client


def status(client: socket.socket) -> int:
    """The status of the response, without anything of what follows it."""
    head = b""
    while b"\r\n\r\n" not in head and (part := client.recv(1)):
        head += part
    return int(head.split()[1])


def received(client: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while part := client.recv(4096):
            data += part
    return data


def close_code(client: ClientConnection) -> int | None:
    """The code with which the server closes a socket, after any rings."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(20)
    return client.close_code


# Handshakes -----------------------------------------------------------------------------------------------------------

PATHS = ["/ws/chat/", "/ws/chat/shop/", "/ws/messages/{uuid}/", "/ws/inbox/", "/ws/nowhere/"]


@pytest.mark.parametrize(
    "offered",
    [
        b"%63hat",
        b"chat%2c 0123",
        b"%",
        b"\xe9",
        "日本".encode(),
        b"",
        b",",
        b"chat,",
        b"chat, chat",
        b"two words",
        b", ".join(b"word%d" % number for number in range(200)),
        b"chat\r\nSec-WebSocket-Protocol: chat",
        b"chat\r\nSec-WebSocket-Protocol: %63hat",
    ],
)
def test_invalid_subprotocols_are_refused_and_harm_nothing(observed: ObservedServer, uuid: str, offered: bytes) -> None:
    for path in PATHS:
        with handshake(observed.port, path.format(uuid=uuid), b"Sec-WebSocket-Protocol: " + offered) as client:
            assert status(client) in {400, 403}, path
    observed.forgets_all_connections()


@pytest.mark.parametrize(
    "headers",
    [
        [b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99"],
        [b"Sec-WebSocket-Extensions: \xff;;=,"],
        [b"Sec-WebSocket-Version: 12"],
        [b"Sec-WebSocket-Key: short"],
        [b"Host: [", b"X-Forwarded-For: ,,"],
        [b"Origin: http://127.0.0.1:99999999999"],
        [b"Origin: http://[::", b"Cookie: chat=\xff; sessionid=\xff"],
        [b'Cookie: sessionid="\\000\\000\\000\\000\\000\\000\\000\\000\\000"; chat="\\000"'],
        [b"Content-Length: 10"],
        [b"Transfer-Encoding: chunked"],
        [b"Upgrade: h2c", b"Connection: close"],
        [b"Cookie: " + b"a=b; " * 3000],
    ],
)
def test_odd_handshakes_leave_no_connection_behind(observed: ObservedServer, uuid: str, headers: list[bytes]) -> None:
    second = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n"
    for path in [*PATHS, "/ws/messages/%00/", "/ws/chat/%00/", "/ws/chat/?host=%00%ff&host=["]:
        for after in (b"", second, frame(TEXT, b"\xff")):
            with suppress(OSError), handshake(observed.port, path.format(uuid=uuid), *headers) as client:
                client.settimeout(0.2)  # some wait for a body
                client.recv(100)
                client.sendall(after)
    observed.forgets_all_connections()


def test_compression_that_browsers_offer_is_not_agreed_on(observed: ObservedServer, uuid: str) -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    with handshake(observed.port, f"/ws/messages/{uuid}/", offer) as client:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head.lower()
        assert client.recv(2)[:1] == b"\x81"  # a message that is not compressed


# Limits ---------------------------------------------------------------------------------------------------------------


def is_refused(client: socket.socket) -> bool:
    """Whether the server closes the socket with 1013 at once."""
    with client:
        assert status(client) == 101
        return client.recv(4)[2:] == struct.pack("!H", 1013)


def end_in_one_of_three_ways(number: int, client: socket.socket) -> None:
    """Close a socket, or only its connection, or reset that."""
    if number % 3 == 0:
        client.sendall(frame(CLOSE))
    elif number % 3 == 1:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_an_address_and_a_conversation_have_a_limit_of_open_sockets(observed: ObservedServer) -> None:
    uuids = [start_conversation(observed, f"198.51.100.{number}") for number in range(5)]

    def opened(path: str, address: str) -> socket.socket:
        return handshake(observed.port, path, b"X-Forwarded-For: 192.0.2.9, " + address.encode())

    for _ in range(2):
        with observed.patience():
            paths = [f"/ws/messages/{uuid}/" for uuid in uuids]
            clients = [opened(path, "203.0.113.1") for path in paths[:4] for _ in range(25)]
            clients += [opened(paths[0], "203.0.113.2") for _ in range(5)]
            assert all(status(client) == 101 and client.recv(1) == b"\x81" for client in clients)  # the first ring
            for path in (paths[4], "/ws/inbox/", "/ws/chat/"):
                assert is_refused(opened(path, "203.0.113.1"))
            refused = [opened(paths[4], "203.0.113.1") for _ in range(MAX_REFUSED)]
            assert all(status(client) == 101 for client in refused)
            assert status(opened(paths[4], "203.0.113.1")) == 429  # while those are not closed
            assert is_refused(opened(paths[0], "203.0.113.3"))
            assert not is_refused(opened(paths[4], "203.0.113.3"))
            for number, client in enumerate(clients + refused):
                end_in_one_of_three_ways(number, client)
        observed.forgets_all_connections()


# One socket -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(PING, b""), (PING, b"x" * 125), (PONG, b"x"), (TEXT, b""), (TEXT, b"{}"), (BINARY, b"x")],
)
def test_too_many_frames_close_the_socket(observed: ObservedServer, uuid: str, opcode: int, payload: bytes) -> None:
    with handshake(observed.port, f"/ws/messages/{uuid}/") as client:
        assert status(client) == 101
        with suppress(ConnectionError):
            client.sendall(frame(opcode, payload) * 20_000)
        received(client)
    observed.forgets_all_connections()


def test_a_message_of_too_many_frames_closes_the_socket(observed: ObservedServer, uuid: str) -> None:
    with handshake(observed.port, f"/ws/messages/{uuid}/") as client:
        assert status(client) == 101
        client.sendall(frame(TEXT, fin=False))
        sent = 0
        with suppress(ConnectionError):
            while sent < 2000:  # slower than the limit for frames of any kind
                client.sendall(frame(CONTINUATION, fin=False))
                sent += 1
                time.sleep(0.03)
        assert MAX_FRAMES // 2 < sent < 2000


def test_a_client_that_never_answers_pings_is_disconnected_even_if_it_sends_messages(
    observed: ObservedServer, uuid: str
) -> None:
    with handshake(observed.port, f"/ws/messages/{uuid}/") as client, pytest.raises(ConnectionError):  # noqa: PT012 (at some frame)
        assert status(client) == 101
        for _ in range(200):
            client.sendall(frame(TEXT, b"{}") + frame(PONG, b"guess") + frame(PING))
            time.sleep(0.1)


def test_a_client_that_answers_pings_stays_connected(observed: ObservedServer, uuid: str) -> None:
    address = f"ws://127.0.0.1:{observed.port}/ws/messages/{uuid}/"
    with connect(address, origin=Origin(observed.url), compression=None, ping_interval=None) as client:
        assert json.loads(client.recv(10))["type"] == "messages"
        with pytest.raises(TimeoutError):
            client.recv(8)  # several times the pings' time limit


def test_a_client_that_does_not_read_fills_no_memory(tmp_path: Path) -> None:
    with serving(tmp_path) as echo, echo.bounded_memory():
        with handshake(echo.port, "/") as client, suppress(ConnectionError):
            assert status(client) == 101
            for _ in range(1000):
                client.sendall(frame(TEXT, b"x" * 65_000))
                time.sleep(0.03)
            raise AssertionError("It was not disconnected.")
        assert not echo.logged_errors()


@pytest.fixture
def connection() -> Any:
    """A connection without a server, whose clock a test can advance."""
    factory = WebSocketFactory(None)
    factory.setProtocolOptions(failByDrop=False)
    factory.protocol = WebSocketConnection.with_options_of(factory)
    factory.reactor = Clock()
    connection, transport = factory.buildProtocol(None), StringTransport()  # type: ignore[no-untyped-call]
    transport.producer = connection  # as the HTTP request that is upgraded
    connection.makeConnection(transport)
    return connection


def test_an_open_connection_keeps_little_and_still_does_all_that_clients_may_ask_of_it(connection: Any) -> None:
    before = set(vars(connection))
    connection.state, connection.application_queue = connection.STATE_OPEN, Messages()
    connection.server = SimpleNamespace(protocol_disconnected=lambda _protocol: None)
    connection.forget_handshake()
    assert len(vars(connection)) < 12
    assert {name for name in before if not hasattr(connection, name)} <= HANDSHAKE
    sent = frame(TEXT, "é".encode()[:1], fin=False) + frame(PING, b"x") + frame(CONTINUATION, "é".encode()[1:])
    for data in (sent[:9], sent[9:], frame(TEXT, b"two") + frame(BINARY, b"\xff")):
        connection.dataReceived(data)
    connection.send_text("x" * 200)
    connection._sendAutoPing()
    ping = connection.autoPingPending
    connection.dataReceived(frame(PONG, bytes(12)))
    assert connection.autoPingPending == ping
    key = os.urandom(4)
    masked = bytes(byte ^ key[number % 4] for number, byte in enumerate(ping))
    connection.server.ping_interval = 20
    connection.dataReceived(bytes([0x80 | PONG, 0x80 | 12]) + key + masked)
    assert connection.autoPingPending is None
    assert connection.due == connection.pinged_at + 20
    connection.dataReceived(frame(TEXT, b"\xff"))
    connection.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    received = [message.get("text") or message.get("bytes") for message in connection.application_queue.waiting]
    assert received == ["é", "two", b"\xff", None]
    pong, message = b"\x8a\x01x", b"\x81\x7e\x00\xc8" + b"x" * 200
    invalid = struct.pack("!H", 1007)
    assert connection.transport.value().startswith(pong + message + b"\x89\x0c" + ping + b"\x88")
    assert invalid in connection.transport.value()


def test_short_texts_are_taken_without_autobahn_and_the_others_with_it(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.state, connection.application_queue = connection.STATE_OPEN, Messages()
    texts = ["x", '{"type": "peek", "text": "é"}', "x" * 125, "", "x" * 126, "x" * 300]
    by_autobahn: list[bytes] = []
    process = connection.processData

    def process_data() -> bool:
        by_autobahn.append(connection.data)
        return bool(process())

    monkeypatch.setattr(connection, "processData", process_data)
    for text in texts:
        by_autobahn.clear()
        connection.dataReceived(frame(TEXT, text.encode(), key=os.urandom(4)))
        assert bool(by_autobahn) is (text in texts[3:])
    assert [message["text"] for message in connection.application_queue.waiting] == texts
    assert connection.frames == len(texts)
    half = frame(TEXT, b"whole")
    connection.dataReceived(half[:3])
    connection.dataReceived(half[3:])
    connection.dataReceived(frame(TEXT, b"begun", fin=False))
    connection.dataReceived(frame(TEXT, b"not yet"))
    assert connection.application_queue.waiting[len(texts) :] == [{"type": "websocket.receive", "text": "whole"}]
    assert struct.pack("!H", 1002) in connection.transport.value()


async def test_what_a_customer_types_is_taken_at_once_and_not_queued(connection: Any) -> None:
    connection.state, connection.application_queue = connection.STATE_OPEN, Messages()
    heard: list[str] = []
    kind = type("Bell", (Doorbell,), {"take": lambda _self, text: heard.append(text)})
    staying = asyncio.ensure_future(stay_open(kind({}, connection), connection.application_queue.get))
    await asyncio.sleep(0)
    texts = ["x", "x" * 125, "é" * 100]
    for text in texts:
        connection.dataReceived(frame(TEXT, text.encode(), key=os.urandom(4)))
    assert heard == texts
    assert not connection.application_queue.waiting
    connection.application_queue.put_nowait({"type": "websocket.disconnect"})
    await staying
    assert connection.listener is None


async def test_an_open_socket_is_read_without_a_context_for_a_log() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard: list[Any] = []
        reactor = SimpleNamespace(_readers={}, _readOrWrite=lambda *read: heard.append(read))
        transport = Connection(ours, None, reactor)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        read_without_context(transport)  # it is paused
        assert not loop.remove_reader(ours.fileno())
        reactor._readers = {transport: ours.fileno()}
        loop.add_reader(ours.fileno(), heard.append, "with a context")
        read_without_context(transport)
        theirs.send(b"x")
        while not heard:
            await asyncio.sleep(0)
        assert heard[0] == (transport, True)
        loop.remove_reader(ours.fileno())


@pytest.mark.parametrize("text", TYPES)
def test_what_is_said_most_often_means_what_it_says(text: str) -> None:
    assert TYPES[text] == json.loads(text)


def test_a_text_that_cannot_be_taken_closes_its_socket(connection: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_text: str) -> None:
        raise RuntimeError("This listener fails.")

    connection.state, connection.listener = connection.STATE_OPEN, fail
    connection.dataReceived(frame(TEXT, b"x"))
    assert struct.pack("!H", 1011) in connection.transport.value()
    assert "This listener fails." in caplog.text


def test_a_few_texts_need_no_check_and_many_do(connection: Any) -> None:
    connection.state, connection.listener, connection.due = connection.STATE_OPEN, lambda _text: None, 5.0
    for _ in range(FEW_FRAMES):
        connection.dataReceived(frame(TEXT, b"x"))
    assert (connection.frames, connection.due) == (FEW_FRAMES, 5.0)
    connection.dataReceived(frame(TEXT, b"x"))
    assert connection.due == 0.0


@pytest.mark.parametrize("hours", [-1, 1])
def test_pings_do_not_depend_on_the_clock_of_the_system(
    connection: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    now, clock = [1000.0], [1.8e9]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.time", lambda: clock[0])
    connection.state, connection.application_queue = connection.STATE_OPEN, Messages()
    connection.server = SimpleNamespace(ping_interval=20, ping_timeout=30, websocket_timeout=86400)
    connection.server.protocol_disconnected = lambda _protocol: None
    connection.socket_opened, connection.pinged_at = clock[0], now[0]
    clock[0] += 3600 * hours  # it is set, and no time passes
    connection.check_timeouts()
    assert connection.autoPingPending is None
    now[0] += 21
    connection.check_timeouts()
    assert connection.autoPingPending is not None
    clock[0] -= 7200 * hours
    connection.check_timeouts()
    assert not connection.transport.disconnecting
    now[0] += 31
    connection.check_timeouts()
    assert connection.transport.disconnecting or connection.transport.disconnected


async def test_messages_of_a_socket_wait_for_its_application() -> None:
    messages = Messages()
    messages.put_nowait({"type": "one"})
    assert messages.qsize() == 1
    assert await messages.get() == {"type": "one"}
    waiting = asyncio.ensure_future(messages.get())
    await asyncio.sleep(0)
    messages.put_nowait({"type": "two"})
    messages.put_nowait({"type": "three"})
    assert await waiting == {"type": "two"}
    waiting = asyncio.ensure_future(messages.get())
    assert await waiting == {"type": "three"}
    cancelled = asyncio.ensure_future(messages.get())
    await asyncio.sleep(0)
    cancelled.cancel()
    messages.put_nowait({"type": "four"})
    assert await messages.get() == {"type": "four"}


def test_a_closed_connection_does_not_wait_for_ever_for_its_client_to_read(connection: Any) -> None:
    connection.dropConnection()
    assert not connection.transport.disconnected
    connection.factory.reactor.advance(CLOSE_TIMEOUT)
    assert connection.transport.disconnected


def test_a_ring_for_a_socket_that_is_closing_is_dropped(connection: Any) -> None:
    connection.dropConnection()
    connection.serverSend("too late")
    assert connection.transport.value() == b""


@pytest.mark.parametrize("state", ["CONNECTING", "OPEN", "CLOSING", "CLOSED"])
def test_a_failed_application_ends_its_connection_in_any_state(connection: Any, state: str) -> None:
    connection.state = getattr(connection, f"STATE_{state}")
    connection.handle_exception(RuntimeError())
    assert connection.state in {connection.STATE_CLOSING, connection.STATE_CLOSED}
