"""`manage.py serve --processes 2`: two processes on one port, and what clients notice when one of them ends."""

import fcntl
import http.client
import json
import logging
import os
import pty
import re
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from chatsite import __version__
from chatsite.environment import Environment
from chatsite.logs import JsonFormatter
from chatsite.serving import processes, supervisor
from chatsite.serving.server import IDLE_TIMEOUT
from chatsite.startup import find_reload_problems
from conversations.management.commands.serve import Command
from tests.conftest import ROOT
from tests.services import SERVE, Chat, Service, postgresql, redis_server
from tests.test_metrics import samples_of
from tests.test_serve import ask, refusal, serving

NEWER = "INSERT INTO django_migrations (app, name, applied) VALUES ('conversations', '9999_later', now())"
OLDER = "DELETE FROM django_migrations WHERE name = '9999_later'"


def until(condition: Callable[[], object], message: Callable[[], str] = str, seconds: float = 60) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message()
        time.sleep(0.05)


class Processes(Chat):
    """Two processes and their supervisor."""

    def __init__(self, where: Path, environment: dict[str, str]) -> None:
        super().__init__(where, {"RATE_LIMITS": "off", "PROCESSES": "2", "PYTHONWARNINGS": "ignore", **environment})
        self.output = where / "output"
        keep = f"os.dup2(os.open({str(self.output)!r}, 1089), 1); os.dup2(os.open({str(self.log_file)!r}, 1089), 2)"
        self.command = ("-c", f"import os; {keep}; {SERVE}")

    def start(self) -> None:
        """Start, and return when both are ready."""
        command = [sys.executable, *self.command]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment)
        until(lambda: "Stop with" in self.said or self.supervisor.poll() is not None, lambda: self.log)
        assert self.supervisor.poll() is None, self.log

    @property
    def supervisor(self) -> "subprocess.Popen[bytes]":
        """The process that was started."""
        assert self.process is not None
        return self.process

    @property
    def said(self) -> str:
        """What was printed."""
        return self.output.read_text() if self.output.exists() else ""

    def pids(self) -> set[int]:
        """The processes that serve."""
        return {child.pid for child in psutil.Process(self.supervisor.pid).children()}

    def listens(self) -> bool:
        """Whether the port can be connected to."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.supervisor.send_signal(number)

    def reload(self) -> None:
        """SIGHUP; returns when both processes are others."""
        before = self.pids()
        self.send_signal(signal.SIGHUP)
        until(lambda: len(self.pids()) == 2 and not self.pids() & before, lambda: self.log)

    def server_of(self, client: socket.socket) -> int:
        """The process that has accepted this connection."""
        port, found = client.getsockname()[1], list[int]()

        def is_accepted() -> bool:
            connections = {pid: psutil.Process(pid).net_connections("tcp") for pid in self.pids()}
            found[:] = [pid for pid, all_ in connections.items() if any(c.raddr and c.raddr.port == port for c in all_)]
            return bool(found)

        until(is_accepted)  # until then it is the kernel's
        return found[0]

    def connections_to_both(self) -> dict[int, http.client.HTTPConnection]:
        """A connection that is kept alive to each process."""
        found: dict[int, http.client.HTTPConnection] = {}
        for _ in range(500):
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            client.request("GET", "/healthz")
            assert client.getresponse().read() == b"ok\n"
            found.setdefault(self.server_of(client.sock), client)
            if len(found) == 2:
                return found
        raise AssertionError("One process has accepted 500 connections, and the other none.")

    @contextmanager
    def bell(self, conversation: str) -> Iterator[ClientConnection]:
        """A WebSocket that has rung once."""
        url = f"ws://127.0.0.1:{self.port}/ws/messages/{conversation}/"
        with connect(url, origin=Origin(self.url), open_timeout=60) as bell:
            assert json.loads(bell.recv(30))["type"] == "messages"
            yield bell


def close_code(bell: ClientConnection) -> int | None:
    """The code that the server closes a socket with, after any rings."""
    try:
        while True:
            bell.recv(60)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


@pytest.fixture(scope="module")
def database() -> Iterator[Service]:
    with postgresql() as service:
        yield service


@pytest.fixture(scope="module")
def redis() -> Iterator[Service]:
    with redis_server() as service:
        yield service


@pytest.fixture(scope="module")
def migrated_database(database: Service, redis: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a migrated database, and of Redis."""
    found = {"DATABASE_URL": database.url, "REDIS_URL": redis.url}
    Processes(tmp_path_factory.mktemp("migrate"), found).manage("migrate", "--verbosity", "0")
    return found


@pytest.fixture
def stopped(migrated_database: dict[str, str], tmp_path: Path) -> Iterator[Processes]:
    """Processes that a test starts; all are killed at its end."""
    chat = Processes(tmp_path, migrated_database)
    yield chat
    if chat.process is not None:
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(chat.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        chat.kill()


@pytest.fixture
def chat(stopped: Processes) -> Processes:
    stopped.start()
    return stopped


class Customers:
    """Customers who write all the time: some on a connection that is kept alive, some on a new one each time."""

    def __init__(self, chat: Processes) -> None:
        self.chat, self.errors, self.written = chat, [""][:0], 0
        self.done = threading.Event()
        conversations = [chat.begin() for _ in range(4)]
        self.threads = [
            threading.Thread(target=self.write, args=(uuid, number % 2 == 0))
            for number, uuid in enumerate(conversations)
        ]

    def write(self, conversation: str, keeps_alive: bool) -> None:
        """Write messages, one after the other."""
        client, last = http.client.HTTPConnection("127.0.0.1", self.chat.port, timeout=60), time.monotonic()
        while not self.done.wait(0.01):
            if time.monotonic() > last + IDLE_TIMEOUT / 2:  # a process that leaves may be closing it at this moment
                client.close()
            body = json.dumps({"content": "Hello", "conversation": conversation, "client_id": str(uuid.uuid4())})
            try:
                client.request("POST", "/api/messages/", body, {"Content-Type": "application/json"})
                response = client.getresponse()
                content = response.read()
                if response.status != 200:
                    self.errors.append(f"{response.status} {content[:200]!r}")
                self.written += 1
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{error!r}, {keeps_alive=}")
                client.close()
            last = time.monotonic()
            if not keeps_alive:
                client.close()
        client.close()

    def __enter__(self) -> "Customers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()


# Starting -------------------------------------------------------------------------------------------------------------


def test_several_processes_without_redis_or_on_sqlite_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "serve", "--processes", "2")
    assert "PROCESSES is 2, and several processes need Redis, to tell each other of changes. Set REDIS_URL" in said
    assert "PROCESSES is 2, but on SQLite only one process writes in order. Set DATABASE_URL" in said
    assert "several processes need Redis" in refusal(tmp_path, PROCESSES="3")
    assert "PROCESSES" not in refusal(tmp_path)


@pytest.mark.parametrize("number", ["0", "-1", "two", "257", "1.5"])
def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path, number: str) -> None:
    assert "PROCESSES is “" in refusal(tmp_path, PROCESSES=number)


def test_one_process_has_no_supervisor(tmp_path: Path, migrated: Path) -> None:
    before = set(psutil.Process().children())
    with serving(tmp_path, migrated, PROCESSES="1"):
        [process] = set(psutil.Process().children()) - before
        assert process.cmdline()[1:] == ["manage.py", "serve"]
        assert process.children() == []


def test_a_port_that_is_taken_is_one_sentence(stopped: Processes) -> None:
    with socket.create_server(("127.0.0.1", stopped.port)):
        command = [sys.executable, "manage.py", "serve"]
        done = subprocess.run(command, cwd=ROOT, env=stopped.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is in use, perhaps by another Chatsite" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_two_processes_answer_on_one_port_and_ring_each_others_sockets(chat: Processes) -> None:
    assert len(chat.pids()) == 2
    assert chat.said.count("listens on") == chat.said.count("Stop with") == 1
    assert psutil.Process(chat.supervisor.pid).memory_info().rss < 30_000_000  # it has forgotten Django
    conversation = chat.begin()
    with chat.bell(conversation) as bell:
        [other] = [
            client for pid, client in chat.connections_to_both().items() if pid != chat.server_of(bell.socket)
        ]  # fmt: skip
        body = json.dumps({"content": "Hello", "conversation": conversation})
        other.request("POST", "/api/messages/", body, {"Content-Type": "application/json"})
        assert other.getresponse().status == 200
        assert json.loads(bell.recv(30))["type"] == "messages"
    assert chat.ask("GET", "/readyz")[0] == 200
    assert chat.ask("GET", "/chat/", Host="evil.example")[0] == 400
    assert set(map(int, re.findall(r"^\S+ \S+ \[(\d+)\] [A-Z]+ ", chat.log, re.M))) <= chat.pids()
    assert len(re.findall(r"^\S+ \S+ \[\d+\] ERROR .*evil\.example", chat.log, re.M)) == 1
    assert chat.stop() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_it_serves_without_standard_streams_and_on_a_full_disk(
    stopped: Processes, processes: str, streams: str
) -> None:
    stopped.environment["PROCESSES"] = processes
    command = ["sh", "-c", f'exec "$0" manage.py serve {streams}', sys.executable]
    stopped.process = subprocess.Popen(command, cwd=ROOT, env=stopped.environment)
    until(lambda: stopped.listens() or stopped.supervisor.poll() is not None)
    assert stopped.ask("GET", "/healthz")[0] == 200
    assert stopped.stop() == 0


def test_processes_share_a_unix_socket(stopped: Processes, tmp_path: Path) -> None:
    path = tmp_path / "chatsite.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    stopped.environment |= {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1"}
    stopped.start()
    for number in range(40):
        if number == 20:
            stopped.reload()
        assert path.stat().st_mode & 0o777 == 0o660
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        assert ask(client, "/healthz", "127.0.0.1").endswith("\r\n\r\nok\n")
    assert stopped.stop() == 0
    assert not path.exists()


def test_new_processes_read_the_file_with_the_settings_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATSITE_COLOUR", raising=False)
    (tmp_path / ".env").write_text("CHATSITE_COLOUR=blue\n")
    try:
        env = Environment(tmp_path / ".env")
        assert env.text("CHATSITE_COLOUR") == "blue"
        assert "CHATSITE_COLOUR" not in env.given
        assert env.given["PATH"] == os.environ["PATH"]
    finally:
        os.environ.pop("CHATSITE_COLOUR", None)


# Numbers --------------------------------------------------------------------------------------------------------------

SUMMED = ["chatsite_messages_total{author=customer}", "chatsite_rings_total", "process_cpu_seconds_total",
          "chatsite_http_request_duration_seconds_bucket{handler=widget_api,le=+Inf}"]  # fmt: skip


def numbers(client: http.client.HTTPConnection) -> dict[str, float]:
    """All numbers of /metrics, in the format that checks the most."""
    client.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    response = client.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return samples_of(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_metrics_are_the_sums_of_all_processes(chat: Processes) -> None:
    conversation = chat.begin()
    with chat.bell(conversation), chat.bell(conversation):
        both = chat.connections_to_both()
        before, again = map(numbers, both.values())
        for client, messages in zip(both.values(), (2, 3), strict=True):
            for _ in range(messages):
                body = json.dumps({"content": "Hello", "conversation": conversation})
                client.request("POST", "/api/messages/", body, {"Content-Type": "application/json"})
                assert client.getresponse().read()
        for found in map(numbers, both.values()):
            assert found["chatsite_messages_total{author=customer}"] == 1 + 5
            assert found["chatsite_http_requests_total{code=200,handler=widget_api}"] == 1 + 5
            assert found["chatsite_websockets_open"] == 2
            assert found["chatsite_processes"] == 2
            memory = sum(psutil.Process(pid).memory_info().rss for pid in chat.pids())
            assert 0.8 < found["process_resident_memory_bytes"] / memory < 1.2
            assert [name for name in found if name.startswith("chatsite_info")] == [
                f"chatsite_info{{version={__version__}}}"
            ]
    assert before.keys() == again.keys()


def test_counters_do_not_decrease_when_processes_end(chat: Processes) -> None:
    conversation = chat.begin()
    chat.rings(conversation)
    for _ in range(10):
        assert chat.post(conversation)[0] == 200
    client = http.client.HTTPConnection("127.0.0.1", chat.port, timeout=30)
    first = numbers(client)
    client.close()
    assert chat.post(conversation)[0] == 200
    chat.reload()
    [client, _other] = chat.connections_to_both().values()
    second = numbers(client)
    written = second["chatsite_messages_total{author=customer}"]
    assert written == 1 + 10 + 1  # also what was counted after the first look
    pid = chat.server_of(client.sock)
    [other] = chat.pids() - {pid}
    os.kill(other, signal.SIGKILL)
    until(lambda: f"Process {other} has ended" in chat.log)
    third = numbers(client)
    for name in SUMMED:
        assert 0 < first[name] <= second[name] <= third[name], name
    assert chat.stop() == 0


def test_sums_are_the_same_in_whichever_order_processes_end() -> None:
    for order in permutations([0.1, 0.2, 0.3]):
        total: dict[str, float] = {}
        for seconds in order:
            supervisor.add(total, {"process_cpu_seconds_total": seconds})
        assert total == {"process_cpu_seconds_total": 0.6}


def test_a_process_that_hangs_counts_with_its_latest_numbers(chat: Processes) -> None:
    both = chat.connections_to_both()
    conversation = chat.begin()
    client, _other = both.values()
    before = numbers(client)
    [hanging] = both.keys() - {chat.server_of(client.sock)}
    os.kill(hanging, signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = numbers(client)
        assert time.monotonic() - began < supervisor.NUMBERS_TIMEOUT + 2
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert chat.post(conversation)[0] == 200
    for name in SUMMED:
        assert before[name] <= found[name] <= numbers(client)[name], name


def test_metrics_of_a_supervisor_that_hangs_are_refused(chat: Processes) -> None:
    chat.send_signal(signal.SIGSTOP)
    try:
        status, _seconds, _headers, content = chat.ask("GET", "/metrics")
        assert status == 503
        assert content == b"The processes have not said their numbers in time.\n"
        assert chat.ask("GET", "/healthz")[0] == 200
    finally:
        chat.send_signal(signal.SIGCONT)
    until(lambda: chat.ask("GET", "/metrics")[0] == 200)


def test_the_last_words_of_a_process_count_but_it_does_not_serve_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = supervisor.Supervisor(supervisor.Plan(1, 0, "", ["program"], "", 1, "line"))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    watching.processes[4711] = supervisor.Process(4711, ours)
    watching.selector.register(ours, selectors.EVENT_READ, watching.processes[4711])
    theirs.sendall(b'ready\nnumbers {"counters": {"messages": 2}, "gauges": {"sockets": 3}}\nnumbers {"coun')
    theirs.close()
    ended = iter([(4711, 0), (0, 0)])
    monkeypatch.setattr(os, "waitpid", lambda *_: next(ended))
    watching.bury()
    assert watching.failures == 1
    assert watching.total() == {"messages": 2}
    assert watching.processes == {}


# Ends -----------------------------------------------------------------------------------------------------------------


def test_a_killed_process_is_replaced_while_the_other_answers(chat: Processes) -> None:
    both = chat.connections_to_both()
    killed, survivor = both
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in chat.pids())
    for _ in range(50):
        assert chat.ask("GET", "/chat/")[0] == 200
    both[survivor].request("GET", "/healthz")
    assert both[survivor].getresponse().status == 200
    until(lambda: len(chat.pids()) == 2)
    assert survivor in chat.pids()
    assert killed not in chat.pids()
    assert f"Process {killed} has ended (SIGKILL). Another one starts." in chat.log
    assert chat.connections_to_both().keys() == chat.pids()
    assert chat.stop() == 0
    assert chat.said.count("Stop with") == 1


def test_a_reload_loses_no_request_and_sockets_reconnect(chat: Processes) -> None:
    before = chat.pids()
    conversation = chat.begin()
    body = json.dumps({"content": "Half", "conversation": conversation}).encode()
    slow = socket.create_connection(("127.0.0.1", chat.port))
    head = "POST /api/messages/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
    server = chat.server_of(slow)
    with ExitStack() as sockets, Customers(chat) as customers:
        bells = [sockets.enter_context(chat.bell(conversation)) for _ in range(4)]
        until(lambda: customers.written > 20)
        chat.send_signal(signal.SIGHUP)
        until(lambda: f"in the place of process {server}, which ends." in chat.log, lambda: chat.log)
        slow.settimeout(30)
        slow.sendall(body[10:])  # it has waited for the rest of the request
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        slow.close()
        for bell in bells:
            assert close_code(bell) == 1012
            with chat.bell(conversation):
                pass  # it can reconnect at once
        until(lambda: not chat.pids() & before, lambda: chat.log)
        written = customers.written
        until(lambda: customers.written > written + 20)
    assert customers.errors == []
    assert len(chat.pids()) == 2
    assert "All processes are replaced." in chat.log
    assert " ERROR " not in chat.log
    assert chat.stop() == 0
    assert chat.said.count("Stop with") == 1


def test_new_code_that_cannot_start_replaces_nothing(chat: Processes, database: Service) -> None:
    before = chat.pids()
    conversation = chat.begin()
    database.sql(NEWER, "chat")
    try:
        with ExitStack() as sockets:
            bells = [sockets.enter_context(chat.bell(conversation)) for _ in range(4)]
            chat.send_signal(signal.SIGHUP)
            until(lambda: "The others are not replaced, and serve on." in chat.log, lambda: chat.log)
            assert chat.post(conversation)[0] == 200
            assert {json.loads(bell.recv(30))["type"] for bell in bells} == {"messages"}
        assert chat.pids() == before
        assert "The database is newer than this code" in chat.log
        assert chat.ask("GET", "/chat/")[0] == 200
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert chat.supervisor.wait(60) == 1
    finally:
        database.sql(OLDER, "chat")
    assert "No process can start (the last one: exit code 1). The reason is above. Chatsite stops." in chat.log


@pytest.mark.parametrize(("started_with", "now"), [("sql", True), ("redis", False)])
def test_a_reload_does_not_switch_the_message_log(settings: Any, started_with: str, now: bool) -> None:
    settings.MESSAGE_LOG = now
    [problem] = find_reload_problems(started_with)
    assert "Stop all processes of Chatsite" in problem
    settings.MESSAGE_LOG = not now
    assert find_reload_problems(started_with) == find_reload_problems(None) == []


def test_a_new_process_is_told_with_which_message_log_the_others_were_started(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    monkeypatch.setattr(processes, "become_supervisor", lambda *arguments: plans.append(arguments))
    settings.MESSAGE_LOG = False
    Command().supervise(2)
    command = plans[0][3]
    assert command[2:] == ["serve", "--started-with", "sql", "--supervised"]
    settings.MESSAGE_LOG = True
    with pytest.raises(SystemExit, match="MESSAGE_LOG was sql when the others were started, and is redis now"):
        call_command("serve", *command[3:], "3", "4")


def test_sigterm_ends_all_and_finishes_their_requests(chat: Processes) -> None:
    conversation = chat.begin()
    children = [psutil.Process(pid) for pid in chat.pids()]
    with ExitStack() as sockets:
        bells = [sockets.enter_context(chat.bell(conversation)) for _ in range(4)]
        began = time.monotonic()
        chat.send_signal(signal.SIGTERM)
        assert [close_code(bell) for bell in bells] == [1012] * 4
    assert chat.supervisor.wait(30) == 0
    assert time.monotonic() - began < 9
    assert not any(child.is_running() for child in children)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", chat.port))
    assert " ERROR " not in chat.log


def test_a_killed_supervisor_leaves_no_process_behind(chat: Processes) -> None:
    children = [psutil.Process(pid) for pid in chat.pids()]
    chat.kill()
    _gone, alive = psutil.wait_procs(children, 20)
    assert alive == []
    assert " ERROR " not in chat.log


def test_a_process_that_hangs_is_killed_in_time(chat: Processes) -> None:
    [hanging, _other] = chat.pids()
    os.kill(hanging, signal.SIGSTOP)
    began = time.monotonic()
    assert chat.stop() == 1
    assert time.monotonic() - began < 13
    assert not psutil.pid_exists(hanging)


# The supervisor alone -------------------------------------------------------------------------------------------------


def supervised(
    where: Path, program: str | None, popen: dict[str, Any] | None = None, **plan: Any
) -> tuple["subprocess.Popen[str]", Path]:
    """A supervisor of processes that run this Python program. Returns it, and the program's path."""
    path = where / "program"
    if program is not None:
        path.write_text(program)
        path.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = os.pipe()
        defaults = {"processes": 2, "listener": listener.fileno(), "unix_socket": "", "command": [str(path)],
                    "greeting": "All are ready.\n", "end_timeout": 5, "log_format": "line"}  # fmt: skip
        os.write(writer, json.dumps({**defaults, **plan}).encode())
        os.close(writer)
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(reader)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: subprocess.Popen[str] = subprocess.Popen(
            command, pass_fds=[listener.fileno(), reader], text=True, **{**pipes, **(popen or {})}
        )
        os.close(reader)
    return process, path


SERVES = f"#!{sys.executable} -S\nimport os, sys, time\nos.write(int(sys.argv[2]), b'ready\\n')\ntime.sleep(60)\n"


def test_the_supervisor_survives_what_it_cannot_do(tmp_path: Path) -> None:
    process, path = supervised(tmp_path, None)
    with process:
        assert process.stdout
        assert process.stderr
        assert "A process could not start ([Errno 2] No such file" in process.stderr.readline()
        assert "The next try is in 1.0 seconds." in process.stderr.readline()
        (tmp_path / "new").write_text(SERVES)
        (tmp_path / "new").chmod(0o700)
        (tmp_path / "new").rename(path)
        assert process.stdout.readline() == "All are ready.\n"
        process.terminate()
        assert process.wait(20) == 0


def test_the_supervisor_listens_to_its_processes_while_it_cannot_start_another(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = supervisor.Supervisor(supervisor.Plan(2, 0, "", ["program"], "", 1, "line"))
    spawned = iter([4711])

    def spawn(*_arguments: Any, **_more: Any) -> int:
        for pid in spawned:
            return pid
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", spawn)
    watching.fill()
    watching.fill()  # not yet again
    assert list(watching.processes) == [4711]
    assert watching.early_deaths == 1
    assert watching.start_after > time.monotonic()
    watching.processes[4711].link.close()


def test_a_program_that_is_missing_during_a_reload_replaces_nothing(tmp_path: Path) -> None:
    process, path = supervised(tmp_path, SERVES)
    with process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "All are ready.\n"
        before = psutil.Process(process.pid).children()
        path.unlink()
        process.send_signal(signal.SIGHUP)
        assert "SIGHUP" in process.stderr.readline()
        assert "The others are not replaced, and serve on." in process.stderr.readline()
        assert psutil.Process(process.pid).children() == before
        process.terminate()
        assert process.wait(20) == 0


def test_a_process_that_ends_without_reading_that_it_should_leave_is_no_error(tmp_path: Path) -> None:
    process, _path = supervised(tmp_path, SERVES, processes=1)
    with process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "All are ready.\n"
        [first] = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGHUP)
        assert "SIGHUP" in process.stderr.readline()
        assert "in the place of" in process.stderr.readline()
        first.kill()
        until(lambda: not first.is_running())
        process.send_signal(signal.SIGHUP)
        lines = [process.stderr.readline() for _ in range(3)]
        assert [next(word for word in ("SIGHUP", "in the place of", "replaced") if word in line) for line in lines] == [
            "replaced",
            "SIGHUP",
            "in the place of",
        ]
        process.terminate()
        assert process.wait(20) == 0


@contextmanager
def supervised_in_terminal(where: Path, **streams: Any) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A supervisor in the foreground of a terminal of its own, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    process, _path = supervised(
        where, SERVES, popen={"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True,
                              "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **streams}
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.terminate()
        process.wait(20)


def test_the_supervisor_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    with supervised_in_terminal(tmp_path) as (process, terminal):
        assert os.read(terminal, 100) == b"All are ready.\r\n"
        children = psutil.Process(process.pid).children()
        os.close(terminal)
        assert process.wait(20) == 0
        assert not any(child.is_running() for child in children)


def test_sighup_in_a_terminal_replaces_the_processes(tmp_path: Path) -> None:
    with supervised_in_terminal(tmp_path) as (process, terminal):
        assert os.read(terminal, 100) == b"All are ready.\r\n"
        process.send_signal(signal.SIGHUP)
        said = b""
        while b"in the place of" not in said:
            said += os.read(terminal, 1000)
        assert process.poll() is None
        os.close(terminal)


def test_sighup_without_a_terminal_that_was_closed_long_ago_replaces_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching = supervisor.Supervisor(supervisor.Plan(0, -1, "", [], "", 1, "line"))
    monkeypatch.setattr(supervisor, "has_terminal", lambda: False)
    assert not watching.is_hung_up()
    watching.terminal_seen = time.monotonic() - 60
    assert not watching.is_hung_up()
    watching.terminal_seen = time.monotonic()
    assert watching.is_hung_up()


def test_a_signal_without_a_name_is_logged_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    watching = supervisor.Supervisor(supervisor.Plan(1, -1, "", [], "", 1, "line"))
    with socket.socket() as link:
        watching.note_end(supervisor.Process(4711, link, is_ready=True), -(signal.SIGRTMIN + 6))
    assert "Process 4711 has ended (signal 40). Another one starts." in caplog.text


def test_the_supervisor_ends_if_no_process_can_start_and_tries_less_and_less_often(tmp_path: Path) -> None:
    began = time.monotonic()
    process, _path = supervised(tmp_path, f"#!{sys.executable} -S\nimport sys\nsys.exit(3)\n", processes=1)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - began > 1.5
    assert [float(delay) for delay in re.findall(r"The next try is in ([\d.]+) seconds", errors)] == [0.5, 1]
    assert errors.splitlines()[-1].endswith(
        "No process can start (the last one: exit code 3). The reason is above. Chatsite stops."
    )
    assert said == ""


def test_the_supervisor_logs_json_as_the_processes_do(tmp_path: Path) -> None:
    process, _path = supervised(tmp_path, f"#!{sys.executable} -S\nimport sys\nsys.exit(3)\n", log_format="json")
    _said, errors = process.communicate(timeout=60)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["process"] for line in lines} == {process.pid}
    assert lines[-1]["level"] == "CRITICAL"


def test_json_lines_of_several_processes_say_which_it_was(settings: Any) -> None:
    record = logging.LogRecord("chatsite", logging.ERROR, "", 1, "Hello", (), None)
    assert "process" not in json.loads(JsonFormatter().format(record))
    settings.PROCESSES = 2
    assert json.loads(JsonFormatter().format(record))["process"] == os.getpid()


def test_a_process_that_never_gets_ready_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started = supervisor.Process(os.getpid(), socket.socket())
    plan = supervisor.Plan(1, 0, "", [], "", 1, "line")
    watching = supervisor.Supervisor(plan)
    watching.processes[started.pid] = started
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    watching.kill_late()
    assert killed == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + supervisor.START_TIMEOUT + 1)
    watching.kill_late()
    watching.kill_late()
    assert killed == [(started.pid, signal.SIGKILL)]
    started.link.close()
