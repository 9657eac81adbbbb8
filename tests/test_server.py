"""The server in a separate process: large bodies, slow clients, WebSockets, and a graceful shutdown."""

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from django.conf import settings as django_settings
from django.urls import reverse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from chatsite.serving.http_connection import max_body
from chatsite.serving.twisted_log import TwistedLog
from tests.conftest import ROOT, Server, free_port
from tests.request_handler_urls import BIG, MEGABYTE

RUNNER = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background processes ignore it
from django.conf import settings
settings.ROOT_URLCONF, settings.UPLOAD_PATHS = "tests.request_handler_urls", "/digest/"
vars(settings._wrapped).update(json.loads(sys.argv[3]))
settings.LOGGING["handlers"]["console"]["filters"] = []  # also what repeats
from chatsite.serving import http_connection, server, shutdown
from tests.request_handler_urls import application
server.application = application()
for name, value in json.loads(sys.argv[2]).items():
    for module in (http_connection, server, shutdown):
        if hasattr(module, name):
            setattr(module, name, value)
server.serve("127.0.0.1", int(sys.argv[1]))
"""


HOST = "Host: localhost\r\n"
EXPECT = f"{HOST}Connection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
CHUNK = "10000\r\n" + "x" * 0x10000 + "\r\n"


class Running:
    """A server of the views in request_handler_urls.py, in a separate process."""

    def __init__(self, where: Path, settings: dict[str, Any] | None = None, **constants: float) -> None:
        """`constants` of server.py and http_connection.py get other values, such as shorter times."""
        self.port = free_port()
        self.errors = where / "stderr"
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"sqlite:///{where / 'db.sqlite3'}",
            "TMPDIR": str(where),
        }
        arguments = [{"SHUTDOWN_TIMEOUT": 20} | constants, settings or {}]
        with self.errors.open("wb") as errors:
            self.process = psutil.Popen(
                [sys.executable, "-c", RUNNER, str(self.port), *map(json.dumps, arguments)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        until(self.listens, seconds=60)
        assert self.get("/hello/") == (200, "Grüezi".encode())

    def listens(self) -> bool:
        """Whether it accepts connections."""
        assert self.process.poll() is None, self.errors.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and content of a page."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request("GET", path)
        answer = client.getresponse()
        content = answer.read()
        client.close()
        return answer.status, content

    def post(self, path: str, parts: Iterator[bytes], length: int, kind: str) -> bytes:
        """Send a body in parts, and return the content of the response."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request("POST", path, parts, {"Content-Length": str(length), "Content-Type": kind})
        answer = client.getresponse().read()
        client.close()
        return answer

    def send(self, text: str) -> socket.socket:
        """A connection that has sent this text, with a small receive buffer."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        client.sendall(text.encode("latin1"))
        return client

    def counts(self) -> dict[str, int]:
        """How many connections and requests the server keeps, and bytes of uploads."""
        return dict(json.loads(self.get("/counts/")[1]))

    @contextmanager
    def socket(self) -> Iterator[ClientConnection]:
        """An open WebSocket."""
        with connect(f"ws://127.0.0.1:{self.port}/") as client:
            client.send("hello")
            assert client.recv(10) == "hello"
            yield client

    def logged_errors(self, since: int = 0) -> str:
        """The log from this character on, if it has errors in it."""
        log = self.errors.read_text()[since:]
        return log if any(word in log for word in ("Exception", "Traceback", "ERROR", "destroyed")) else ""

    @contextmanager
    def bounded_memory(self) -> Iterator[None]:
        """Fail if the process's memory grows by 40 MB meanwhile."""
        before, most, done = self.process.memory_info().rss, [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                most[0] = max(most[0], self.process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        assert most[0] - before < 40 * MEGABYTE, f"It grew by {(most[0] - before) // MEGABYTE} MB."


def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Return when the condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"It did not come true within {seconds} s."
        time.sleep(0.02)


def read_all(client: socket.socket) -> bytes:
    """All that is received until the server closes the connection."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def status(answer: bytes) -> int:
    """The status of a raw response."""
    return int(answer.split()[1])


def close_code(client: ClientConnection) -> int | None:
    """The code with which the server closes a WebSocket."""
    with pytest.raises(ConnectionClosed):
        client.recv(10)
    return client.close_code


@contextmanager
def serving(where: Path, settings: dict[str, Any] | None = None, **constants: float) -> Iterator[Running]:
    """A server that is killed afterwards."""
    running = Running(where, settings, **constants)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that leave it running."""
    with serving(tmp_path_factory.mktemp("running")) as running:
        yield running


@pytest.fixture
def running(shared: Running) -> Iterator[Running]:
    """The shared server, which must log no error meanwhile."""
    before = len(shared.errors.read_text())
    yield shared
    assert not shared.logged_errors(before)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """A server for one test, which may stop it."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Running]:
    """A server that gives requests only 0.2 s to finish when it shuts down."""
    with serving(tmp_path, SHUTDOWN_TIMEOUT=0.2) as running:
        yield running


# Bodies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [True, False], ids=["form", "plain"])
def test_a_large_upload_is_not_held_in_memory(running: Running, form: bool) -> None:
    expected = hashlib.sha256(bytes(BIG)).hexdigest()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' if form else b""
    tail = b"\r\n--x--\r\n" if form else b""

    def parts() -> Iterator[bytes]:
        yield head
        for _ in range(BIG // MEGABYTE):
            yield bytes(MEGABYTE)
        yield tail

    kind = "multipart/form-data; boundary=x" if form else "application/octet-stream"
    with running.bounded_memory():
        answer = running.post("/digest/", parts(), len(head) + BIG + len(tail), kind)
    assert answer.decode() == expected


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_large_download_waits_for_a_slow_client(running: Running, kind: str) -> None:
    with running.bounded_memory():
        client = running.send(f"GET /big/{kind}/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
        received = 0
        while part := client.recv(16384):
            received += len(part)
            if received < 2 * MEGABYTE:
                # Others are served meanwhile.
                assert running.get("/hello/")[0] == 200
        client.close()
    assert BIG <= received < BIG + 1000


def test_a_disconnect_during_a_download_frees_files_and_threads(running: Running) -> None:
    files, threads = running.process.num_fds(), running.process.num_threads()
    clients = [running.send(f"GET /big/{kind}/ HTTP/1.1\r\nHost: localhost\r\n\r\n") for kind in ["file", "stream"] * 8]
    for client in clients:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert running.process.num_fds() > files + 16
    until(lambda: running.process.num_threads() >= threads + 8)
    for client in clients:
        client.close()
    until(lambda: running.process.num_fds() <= files)
    until(lambda: running.process.num_threads() < threads + 8)


def test_a_disconnect_during_an_upload_frees_its_file(running: Running) -> None:
    files = running.process.num_fds()
    client = running.send("POST /digest/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\n\r\n" + "x" * 1000)
    until(lambda: running.process.num_fds() > files)
    client.close()
    until(lambda: running.process.num_fds() <= files)


def test_a_malformed_form_is_answered_with_an_error_page(shared: Running) -> None:
    body = b"this is no form"
    assert b"<h1>" in shared.post("/digest/", iter([body]), len(body), "multipart/form-data; boundary=x")


def test_a_chunked_body_has_the_same_limit(shared: Running) -> None:
    head = f"POST /body/ HTTP/1.1\r\n{HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = [read_all(shared.send(f"{head}{CHUNK * count}0\r\n\r\n")) for count in (1, 6)]
    assert [status(answer) for answer in answers] == [200, 413]


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_chunked_form_is_parsed(running: Running, kind: str) -> None:
    body, form = "a=1&b=2", "application/x-www-form-urlencoded"
    if kind == "multipart":
        part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        body, form = part.format("a", 1) + part.format("b", 2) + "--x--\r\n", "multipart/form-data; boundary=x"
    head = f"POST /mirror/ HTTP/1.1\r\n{HOST}Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: {form}"
    answer = read_all(running.send(f"{head}\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"))
    assert b'"form": {"a": ["1"], "b": ["2"]}' in answer


def test_a_chunked_upload_is_received(running: Running) -> None:
    head = f"POST /digest/ HTTP/1.1\r\n{HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = read_all(running.send(f"{head}{CHUNK * 16}0\r\n\r\n"))
    assert answer.endswith(hashlib.sha256(b"x" * MEGABYTE).hexdigest().encode())


@pytest.mark.parametrize(
    ("request_line", "length"),
    [
        ("POST /digest/", 10**12),
        ("POST /hello/", 400_000),
        ("POST /nowhere/", 10**12),
        ("PUT /digest/", 400_000),
        ("POST /digest/../hello/", 400_000),
        ("GET /hello/", 1),
        ("HEAD /hello/", 1),
        ("OPTIONS /hello/", 1),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(shared: Running, request_line: str, length: int) -> None:
    head = f"{request_line} HTTP/1.1\r\n{HOST}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    answer = read_all(shared.send(head))
    assert status(answer) == 413
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("length", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
def test_a_handshake_takes_no_body(running: Running, length: str) -> None:
    head = f"POST /digest/ HTTP/1.1\r\n{HOST}Upgrade: WebSocket\r\nConnection: Upgrade\r\n{length}\r\n\r\n"
    client = running.send(head + CHUNK)
    assert status(read_all(client)) == 413


def test_a_content_length_without_end_is_400(running: Running) -> None:
    answer = read_all(running.send(f"POST /digest/ HTTP/1.1\r\n{HOST}Content-Length: {'9' * 5000}\r\n\r\n"))
    assert status(answer) == 400


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
def test_files_are_taken_where_messages_are_written_and_nowhere_else(method: bytes) -> None:
    uuid = "00000000-0000-0000-0000-000000000000"
    takes_files = [
        reverse("customer:messages"),
        reverse("website:messages", args=["shop"]),
        reverse("agent:messages", args=[1]),
        f"/api/messages/{uuid}/files/",
        f"/api/messages/{uuid}/files",
        "/api/conversation/1/files/",
    ]
    others = [
        "/",
        "/admin/",
        "/inbox/1/read/",
        "/api/messages/",
        f"/api/messages/{uuid}/",
        reverse("customer:identify"),
    ]
    others += ["/x/chat/messages/", "/chat/a/b/messages/", "/inbox/x/messages/", "/chat/messages/x"]
    for paths, takes in ((takes_files, method == b"POST"), (others, False)):
        for path in paths:
            assert (max_body(method, f"{path}?since=1".encode()) > 500 * MEGABYTE) == takes, path
            assert max_body(method, path.encode()) >= django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_an_error_under_api_is_json_for_bodies_too(shared: Running) -> None:
    answer = read_all(shared.send(f"POST /api/messages/ HTTP/1.1\r\n{HOST}Content-Length: 999999\r\n\r\n"))
    assert status(answer) == 413
    assert "detail" in json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_client_that_sends_its_large_body_anyway_can_read_the_refusal(shared: Running) -> None:
    files = shared.process.num_fds()
    with shared.bounded_memory():
        client = shared.send(f"POST /hello/ HTTP/1.1\r\n{HOST}Content-Length: {BIG}\r\n\r\n")
        for _ in range(50):
            client.sendall(bytes(MEGABYTE))
        assert status(read_all(client)) == 413
    until(lambda: shared.process.num_fds() <= files)


def test_a_client_that_expects_100_continue_gets_it(running: Running) -> None:
    client = running.send(f"POST /body/ HTTP/1.0\r\n{HOST}\r\n".replace("1.0", "1.1").replace(HOST, EXPECT))
    assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"abc")
    assert read_all(client).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("maximum", ["MAX_UPLOAD_BYTES_OF_ADDRESS", "MAX_UPLOAD_BYTES"])
def test_uploads_that_are_on_their_way_are_bounded(tmp_path: Path, maximum: str) -> None:
    head = f"POST /digest/ HTTP/1.1\r\n{HOST}Content-Length: 1500000\r\n\r\n"
    with serving(tmp_path, None, **{maximum: 2_000_000}) as server:
        first = server.send(head + "x" * 1_000_000)
        until(lambda: server.counts()["upload_bytes"] == 1_000_000)
        refused = read_all(server.send(head + "x" * 1_500_000))
        assert status(refused) == 503
        assert b"\r\nRetry-After: 10\r\n" in refused
        first.sendall(b"x" * 500_000)
        assert first.recv(1000).startswith(b"HTTP/1.1 200")
        until(lambda: server.counts()["upload_bytes"] == 0)
        assert server.send(head + "x" * 1_500_000).recv(1000).startswith(b"HTTP/1.1 200")


def test_one_address_cannot_keep_others_from_uploading(tmp_path: Path) -> None:
    head = f"POST /digest/ HTTP/1.1\r\n{HOST}Content-Length: 1500000\r\nX-Forwarded-For: "
    with serving(tmp_path, {"TRUSTED_PROXIES": 1}, MAX_UPLOAD_BYTES=2_000_000) as server:
        large = server.send(f"{head}192.0.2.1\r\n\r\n" + "x" * 1_300_000)
        small = server.send(f"{head}192.0.2.2\r\n\r\n" + "x" * 500_000)
        until(lambda: server.counts()["upload_bytes"] == 1_800_000)
        another = server.send(f"{head}192.0.2.3\r\n\r\n" + "x" * 1_500_000)
        assert another.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionResetError):
            large.recv(1000)
        small.sendall(b"x" * 1_000_000)
        assert small.recv(1000).startswith(b"HTTP/1.1 200")
        until(lambda: server.counts()["upload_bytes"] == 0)


# Connections ---------------------------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests(running: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    client.connect()
    connection = client.sock
    for path in ("/hello/", "/parts/sync/", "/parts/file/", "/nowhere/", "/parts/async/", "/hello/"):
        client.request("GET", path)
        client.getresponse().read()
        assert client.sock is connection
    client.request("HEAD", "/parts/sync/")
    assert client.getresponse().read() == b""
    client.request("GET", "/hello/")
    assert client.getresponse().read().decode() == "Grüezi"
    client.close()


def test_an_answered_request_is_forgotten_at_once(own: Running) -> None:
    for path in ("/hello/", "/nowhere/", "/one-piece/", "/mirror/", "/hello/"):
        own.get(path)
        assert own.counts()["requests"] == 1, path  # that which asks


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    paths = ["/parts/sync/", "/mirror/?a=1", "/one-piece/", "/mirror/?a=2", "/parts/async/"]
    lines = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" for path in paths]
    answers = read_all(running.send("\r\n".join(lines) + "Connection: close\r\n\r\n"))
    marks = [b"eins", b'"query": {"a": ["1"]}', bytes(1000), b'"query": {"a": ["2"]}', b"drei"]
    places = [answers.rfind(mark) if mark == b"drei" else answers.find(mark) for mark in marks]
    assert answers.count(b"HTTP/1.1 200 OK") == 5
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("target", ["/hello/\xff", "/hello/?\xff", "/hello/?a=%FF"])
def test_a_url_that_is_not_ascii_is_answered(running: Running, target: str) -> None:
    answer = read_all(running.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    assert int(answer.split()[1]) in {200, 400}
    assert running.get("/hello/")[0] == 200


def test_cookies_with_backslashes_cost_no_time(running: Running) -> None:
    cookie = 'x=1; a="' + r"\101" * 3_500 + '"'
    head = f"GET /mirror/ HTTP/1.1\r\n{HOST}Connection: close\r\nCookie: "
    answer = read_all(running.send(f"{head}{cookie}\r\n\r\n"))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["cookies"] == {"x": "1", "a": "101" * 3_500}


def test_a_response_that_fails_half_way_is_aborted_and_the_server_goes_on(own: Running) -> None:
    for kind in ("sync", "async"):
        client = own.send(f"GET /broken/{kind}/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_all(client)
    until(lambda: own.errors.read_text().count("RuntimeError: This stream fails.") == 2)
    # The loop that checks applications goes on: a failed one is answered.
    assert own.get("/unsendable/")[0] == 500
    assert "already been started" not in own.errors.read_text()


def test_a_connection_that_cannot_be_checked_does_not_end_the_checks(own: Running) -> None:
    def has_failed(method: str) -> bool:
        return f"the connection is closed: {method} fails." in own.errors.read_text()

    for method in ("check_pace", "check_timeouts", "handle_exception"):
        idle = own.send("")
        with own.socket() as client:
            own.get(f"/sabotage/{method}/")
            client.send("fail" if method == "handle_exception" else "hello")
            until(partial(has_failed, method))
        idle.close()
    for _ in range(100):
        assert own.get("/hello/")[0] == 200
    until(lambda: own.counts()["requests"] <= 2)
    assert own.counts()["connections"] == 1
    assert own.get("/unsendable/")[0] == 500


def test_handshakes_with_odd_headers_leave_nothing_behind(own: Running) -> None:
    odd = [
        "\xff",
        "",
        ",",
        "%00",
        "a" * 9000,
        "\u0663".encode().decode("latin1"),
        "-1",
        "1e9",
        "permessage-deflate; x=\xe9",
    ]
    names = ["Version", "Key", "Extensions", "Protocol"]
    valid = {"Version": "13", "Key": "YWFhYWFhYWFhYWFhYWFhYQ=="}
    for name in [*names, "Host", "Origin", "Content-Length"]:
        for value in odd:
            headers = {**valid, name: value}
            lines = "".join(f"{'Sec-WebSocket-' * (n in names)}{n}: {v}\r\n" for n, v in headers.items())
            head = f"GET /hello/ HTTP/1.1\r\n{HOST * (name != 'Host')}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            client = own.send(f"{head}{lines}\r\n")
            client.settimeout(5)
            with suppress(ConnectionError):
                assert client.recv(1000)[:9] in (b"HTTP/1.1 ", b""), headers
            client.close()
    until(lambda: own.counts()["requests"] <= 2)
    assert own.counts()["connections"] == 1


def test_a_subprotocol_that_is_not_ascii_is_400(running: Running) -> None:
    lines = f"{HOST}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: \xe9\r\n"
    client = running.send(f"GET / HTTP/1.1\r\n{lines}\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 400 Bad Request")
    client.close()


# Slow clients ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose clients must be fast."""
    where = tmp_path_factory.mktemp("strict")
    with serving(where, TIMEOUT=0.7, MIN_PACE=100_000, LINGER=0.7, CHECK_INTERVAL=0.1) as running:
        yield running


@pytest.mark.parametrize("path", ["/one-piece/", "/big/file/", "/big/stream/"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_does_not_read_is_disconnected(strict: Running, path: str, version: str) -> None:
    until(lambda: strict.counts()["connections"] == 1)
    files, threads = strict.process.num_fds(), strict.process.num_threads()
    clients = [strict.send(f"GET {path} HTTP/{version}\r\n{HOST}\r\n") for _ in range(5)]
    until(lambda: strict.counts()["connections"] == 6)
    until(lambda: strict.counts()["connections"] == 1)
    until(lambda: strict.process.num_fds() <= files)
    until(lambda: strict.process.num_threads() <= threads + 4)
    for client in clients:
        client.close()


def test_a_client_that_reads_steadily_is_not_disconnected(strict: Running) -> None:
    client = strict.send(f"GET /one-piece/ HTTP/1.0\r\n{HOST}\r\n")
    received = 0
    while part := client.recv(65536):
        received += len(part)
        time.sleep(0.01)
    assert received > 8 * MEGABYTE


@pytest.mark.parametrize(
    "start",
    [
        "",
        "GET /hello/ HT",
        f"GET /hello/ HTTP/1.1\r\n{HOST}X: ",
        f"POST /body/ HTTP/1.1\r\n{HOST}Content-Length: 99\r\n\r\n",
    ],
    ids=["nothing", "request line", "headers", "body"],
)
def test_a_request_that_is_sent_too_slowly_is_ended(strict: Running, start: str) -> None:
    client = strict.send(start)
    client.settimeout(0.1)
    answer = b""
    with suppress(ConnectionError):
        for _ in range(200):
            with suppress(TimeoutError):
                part = client.recv(1000)
                answer += part
                if not part:
                    break
            if start and not answer:
                client.sendall(b"x")
        else:
            pytest.fail("It was not ended.")
    client.close()
    assert answer.startswith(b"HTTP/1.1 408 ") if start else not answer


def test_a_client_that_sends_many_requests_and_reads_nothing_fills_no_memory(running: Running) -> None:
    with running.bounded_memory():
        client = running.send(f"GET /one-piece/ HTTP/1.1\r\n{HOST}\r\n" * 200)
        assert running.get("/hello/")[0] == 200
        time.sleep(0.5)
    received = 0
    while received < 24 * MEGABYTE:  # they are answered when the client reads
        received += len(client.recv(65536))
    client.close()


def test_responses_that_wait_for_their_clients_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, MAX_UNSENT=20 * MEGABYTE, CHECK_INTERVAL=0.1) as server:
        clients = [server.send(f"GET /one-piece/ HTTP/1.1\r\n{HOST}\r\n") for _ in range(8)]
        until(lambda: server.counts()["connections"] <= 4)
        for client in clients:
            client.close()


# Many clients ---------------------------------------------------------------------------------------------------------


def test_connections_of_one_address_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, {"RATE_LIMITS": True, "CONNECTIONS": 5}, LINGER=0.5, CHECK_INTERVAL=0.1) as server:
        until(lambda: server.counts()["connections"] == 1)
        clients = [server.send("") for _ in range(5)]
        until(lambda: len(server.process.net_connections()) == 6)
        refused = server.send(f"GET /hello/ HTTP/1.1\r\n{HOST}\r\n")
        answer = read_all(refused)
        assert status(answer) == 429
        assert b"\r\nRetry-After: 10\r\n" in answer
        flood = [server.send("") for _ in range(100)]
        until(lambda: len(server.process.net_connections()) <= 26)
        for client in [*flood, *clients]:
            client.close()
        until(lambda: server.get("/hello/")[0] == 200)


def test_an_idle_connection_makes_room_for_another_of_its_address(tmp_path: Path) -> None:
    with serving(tmp_path, {"RATE_LIMITS": True, "CONNECTIONS": 3}) as server:
        until(lambda: server.counts()["connections"] == 1)
        ask = f"GET /hello/ HTTP/1.1\r\n{HOST}\r\n"
        unused, used = server.send("GET "), server.send(ask)
        for _ in range(20):
            another = server.send(ask)
            assert another.recv(1000).startswith(b"HTTP/1.1 200")
        assert used.recv(1000).startswith(b"HTTP/1.1 200")
        assert used.recv(1000) == b""
        unused.sendall(ask.removeprefix("GET ").encode())
        assert unused.recv(1000).startswith(b"HTTP/1.1 200")


def test_requests_of_one_address_behind_a_proxy_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, {"RATE_LIMITS": True, "CONNECTIONS": 3, "TRUSTED_PROXIES": 1}) as server:
        head = f"GET /hold/ HTTP/1.1\r\n{HOST}X-Forwarded-For: 192.0.2."
        clients = [server.send(f"{head}1\r\n\r\n") for _ in range(3)]
        until(lambda: server.counts()["requests"] >= 4)
        assert status(read_all(server.send(f"{head}1\r\n\r\n".replace("/hold/", "/hello/")))) == 429
        assert server.send(f"{head}2\r\n\r\n".replace("/hold/", "/hello/")).recv(100).startswith(b"HTTP/1.1 200")
        server.get("/release/")
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.send(f"{head}1\r\n\r\n".replace("/hold/", "/hello/")).recv(100).startswith(b"HTTP/1.1 200")


def test_websockets_are_not_counted_as_http_connections(running: Running) -> None:
    before = running.counts()["connections"]
    with running.socket(), running.socket():
        assert running.counts()["connections"] <= before


# WebSockets ----------------------------------------------------------------------------------------------------------


def test_a_giant_frame_closes_its_socket_and_no_other(running: Running) -> None:
    with running.bounded_memory(), running.socket() as other, running.socket() as giant:
        with suppress(ConnectionClosed):
            giant.send("x" * (50 * MEGABYTE))
        assert close_code(giant) == 1009
        other.send("still here")
        assert other.recv(10) == "still here"


# Graceful shutdown ---------------------------------------------------------------------------------------------------


def test_a_shutdown_finishes_requests_and_closes_sockets_with_1012(own: Running) -> None:
    slow = own.send("GET /hold/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    idle = http.client.HTTPConnection("127.0.0.1", own.port, timeout=30)
    idle.request("GET", "/hello/")
    idle.getresponse().read()
    with ExitStack() as sockets:
        clients = [sockets.enter_context(own.socket()) for _ in range(3)]
        own.process.terminate()
        assert [close_code(client) for client in clients] == [1012] * 3
    until(lambda: not own.listens())
    # Open connections are served to the end, however many requests they send.
    for path in ["/hello/"] * 200 + ["/release/"]:
        idle.request("GET", path)
        assert idle.getresponse().read() is not None
    idle.close()
    assert read_all(slow).endswith(b"done")
    assert own.process.wait(20) == 0
    assert not own.logged_errors()


def test_a_shutdown_waits_until_responses_are_read(own: Running) -> None:
    slow = own.send("GET /one-piece/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
    start = slow.recv(1)
    own.process.send_signal(signal.SIGINT)
    until(lambda: not own.listens())
    assert len((start + read_all(slow)).partition(b"\r\n\r\n")[2]) == 8 * MEGABYTE
    assert own.process.wait(20) == 0
    assert not own.logged_errors()


def test_a_shutdown_does_not_wait_for_ever(impatient: Running) -> None:
    streams = [
        impatient.send(f"GET /endless/{kind}/ HTTP/1.1\r\nHost: localhost\r\n\r\n") for kind in ("sync", "silent")
    ]
    assert all(stream.recv(100) for stream in streams)
    with impatient.socket() as client:
        impatient.process.terminate()
        assert close_code(client) == 1012
    assert impatient.process.wait(20) == 0
    for stream in streams:
        stream.close()
    assert not impatient.logged_errors()


def test_a_shutdown_ends_in_time_although_a_thread_hangs_and_says_what_was_cut_off(tmp_path: Path) -> None:
    with serving(tmp_path, SHUTDOWN_TIMEOUT=0.2, END_TIMEOUT=1.5) as server, ExitStack() as sockets:
        held = server.send(f"GET /hold/ HTTP/1.1\r\n{HOST}\r\n")
        for _ in range(30):
            sockets.enter_context(server.socket())
        until(lambda: server.counts()["requests"] >= 2)
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 1
        assert 1 < time.monotonic() - began < 5
        held.close()
    log = server.errors.read_text()
    assert "1 requests were not finished after 0.2 s" in log
    assert "The process ends 1.5 s after it was told to stop. Cut off: " in log
    assert "and the threads request" in log
    assert not server.logged_errors()


# Too many open files --------------------------------------------------------------------------------------------------


def test_a_server_without_file_descriptors_says_so_once_serves_on_and_recovers(own: Running) -> None:
    with own.socket() as client:
        own.process.rlimit(psutil.RLIMIT_NOFILE, (own.process.num_fds() + 20,) * 2)
        clients = [own.send("") for _ in range(200)]
        until(lambda: "No file descriptors left" in own.errors.read_text())
        client.send("still here")
        assert client.recv(10) == "still here"
        assert own.process.cpu_percent(1) < 50
        for each in clients:
            each.close()
        until(lambda: own.counts()["connections"] <= 2)
        assert own.get("/hello/")[0] == 200
    assert own.errors.read_text().count(" ERROR ") == 1
    assert "LimitNOFILE" in own.errors.read_text()


def test_accepting_pauses_where_connections_wait_that_cannot_be_accepted() -> None:
    paused = []
    log = TwistedLog(lambda: paused.append(1))
    for _ in range(3):
        log({"log_format": "Could not accept new connection ({acceptError})", "acceptError": "ENFILE"})
        log({"log_format": "Unhandled"})
    assert paused == [1] * 3


# The product itself --------------------------------------------------------------------------------------------------


def write(server: Server, content: str) -> str:
    """Start a conversation over the API; returns its uuid."""
    body = json.dumps({"content": content}).encode()
    request = Request(f"{server.url}/api/messages/", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["items"][0]["conversation"])


def test_a_socket_that_sends_too_fast_is_closed_and_fills_no_memory(server: Server) -> None:
    assert server.process
    process = psutil.Process(server.process.pid)
    address = f"{server.url.replace('http', 'ws')}/ws/messages/{write(server, 'Hi')}/"
    before = process.memory_info().rss
    with connect(address, origin=Origin(server.url), compression=None) as mallory:
        with pytest.raises(ConnectionClosed):  # noqa: PT012 (at some frame, not at a certain one)
            for _ in range(5000):
                mallory.send("x" * 60_000)
        # 1006: a connection that is closed while more is on its way is reset, and the close frame may be lost.
        assert mallory.protocol.close_code in {1006, 1008}
    assert process.memory_info().rss - before < 60 * MEGABYTE
    with connect(address, origin=Origin(server.url)) as alice:
        assert json.loads(alice.recv(10))["type"] == "messages"


def test_a_head_request_leaves_the_connection_usable(server: Server) -> None:
    path = f"/api/messages/{write(server, 'Hi')}/"
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for method in ("HEAD", "GET", "HEAD"):
        client.request(method, path)
        answer = client.getresponse()
        content = answer.read()
        assert answer.status == 200
        assert len(content) == (0 if method == "HEAD" else int(answer.headers["Content-Length"]))
    client.close()


def handshake(server: Server, path: str, origin: str) -> int:
    """The status with which the server refuses a socket."""
    with pytest.raises(InvalidStatus) as refusal:
        connect(server.url.replace("http", "ws") + path, origin=Origin(origin)).close()
    return int(refusal.value.response.status_code)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "chrome-extension://evil"])
def test_an_opaque_origin_is_refused_with_403(server: Server, origin: str) -> None:
    uuid = write(server, "Hi")
    for path in ("/ws/chat/", "/ws/inbox/", f"/ws/messages/{uuid}/"):
        assert handshake(server, path, origin) == 403


def test_a_socket_to_an_unknown_path_is_refused(server: Server) -> None:
    uuid = write(server, "Hi")
    for path in (f"/ws/messages/{uuid}", f"/ws/messages/{uuid}/more/", "/ws/nowhere/", "/ws/", "/", "/inbox/"):
        assert handshake(server, path, server.url) == 403
        assert handshake(server, path, "https://evil.example") == 403


def test_a_client_cannot_set_the_root_path(server: Server) -> None:
    for path in ("/x/admin/", "/static/inbox/", "/x/inbox/"):
        request = Request(server.url + path, headers={"Daphne-Root-Path": "/" + path.split("/")[1]})
        with pytest.raises(HTTPError) as refusal:
            urlopen(request, timeout=30)
        assert refusal.value.code == 404
    with urlopen(Request(f"{server.url}/inbox/", headers={"Daphne-Root-Path": "/\xe9"}), timeout=30) as answer:
        assert answer.status == 200


def test_runserver_serves_pages_and_sockets_too(server: Server) -> None:
    port = free_port()
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        developer = Server({})
        developer.url = f"http://127.0.0.1:{port}"

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        address = f"ws://127.0.0.1:{port}/ws/messages/{write(developer, 'Hi')}/"
        with connect(address, origin=Origin(developer.url)) as alice:
            assert json.loads(alice.recv(10))["type"] == "messages"
        with urlopen(f"{developer.url}/static/css/chatsite.css", timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.kill()
        process.wait()


def test_every_status_has_its_name() -> None:
    from twisted.web.http import RESPONSES

    assert RESPONSES[422] == b"Unprocessable Entity"
