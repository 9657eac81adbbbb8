"""Databases and Redis servers that a test starts, and may freeze, stop or disconnect, and a Chatsite that uses them."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psutil
import psycopg
import pymysql
import pytest
import redis
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conftest import Server, free_port

SOON = 9
"""Seconds within which a request ends on a slow machine. The time limits for the database allow 4 seconds."""

Answer = tuple[int, float, dict[str, str], bytes]
"""Status, seconds, headers and content."""

SERVE = "import sys; sys.argv = ['manage.py', 'serve']; exec(open('manage.py').read())"

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def program(name: str) -> str:
    """Where a program is; without it the test is skipped, though never in CI."""
    found = shutil.which(name) or next((str(where / name) for where in reversed(DEBIAN) if (where / name).exists()), "")
    if not found and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test, and there is no {name} here.")
    if not found:
        pytest.skip(f"This test needs {name}, and there is none here.")
    return found


class Service:
    """A server process that listens on its own port."""

    def __init__(self, arguments: list[str], port: int, url: str, **options: Any) -> None:
        """`options` are those of Popen."""
        self.arguments = arguments
        self.port = port
        self.url = url
        self.options = options
        self.start()

    def start(self) -> None:
        """Start the process; it may not accept connections yet."""
        self.process = psutil.Popen(
            self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.options
        )

    def end(self, how: signal.Signals) -> None:
        """End the process with a signal, and wait for its end."""
        self.process.send_signal(how)
        self.process.wait(60)

    def kill(self) -> None:
        """kill -9."""
        self.end(signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """The process and its children."""
        return [self.process, *self.process.children(recursive=True)]

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections, but the process does not answer."""
        for process in self.processes():
            process.suspend()

    def thaw(self) -> None:
        """SIGCONT."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Execute a statement as the administrator. `database` is that of PostgreSQL."""
        connection: Any
        if self.url.startswith("postgres"):
            connection = psycopg.connect(self.url.replace("/chat", f"/{database}"), autocommit=True)
        else:
            connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)
        with closing(connection):
            connection.cursor().execute(statement)


@contextmanager
def running(arguments: list[str], port: int, url: str, ready: Callable[[], object], **more: Any) -> Iterator[Service]:
    """Start a service, wait until `ready` raises nothing, and kill it at the end."""
    service = Service(arguments, port, url, **more)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ready()
                break
            except Exception:
                assert service.process.poll() is None, f"{arguments[0]} has ended."
                assert time.monotonic() < deadline, f"{arguments[0]} is not ready after 60 seconds."
                time.sleep(0.05)
        yield service
    finally:
        with suppress(psutil.NoSuchProcess):
            for each in reversed(service.processes()):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        service.process.wait()


@contextmanager
def postgresql(durable: bool = False) -> Iterator[Service]:
    """An own PostgreSQL with a database `chat`. It does not run as root, so it then runs as the user postgres.

    Only with `durable` does a commit wait for the disk.
    """
    initdb, postgres, port = program("initdb"), program("postgres"), free_port()
    more: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="chatsite-postgresql-", ignore_cleanup_errors=True) as where:
        if more:
            shutil.chown(where, "postgres", "postgres")
        data = f"{where}/data"
        command = [initdb, "-D", data, "--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "-E", "UTF8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=where, **more)
        url = f"postgres://postgres@127.0.0.1:{port}/chat"

        def ready() -> None:
            with psycopg.connect(f"postgres://postgres@127.0.0.1:{port}/postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE chat")

        arguments = [postgres, "-D", data, "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        arguments += [] if durable else ["-F"]
        with running(arguments, port, url, ready, cwd=where, **more) as service:
            yield service


@contextmanager
def replica(of: Service) -> Iterator[Service]:
    """A PostgreSQL that follows another one of `postgresql` (streaming replication), and answers only reads."""
    copy, postgres, port = program("pg_basebackup"), program("postgres"), free_port()
    more: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="chatsite-replica-", ignore_cleanup_errors=True) as where:
        if more:
            shutil.chown(where, "postgres", "postgres")
        data = f"{where}/data"
        source = f"host=127.0.0.1 port={of.port} user=postgres"
        command = [copy, "-D", data, "-d", source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=where, **more)
        url = f"postgres://postgres@127.0.0.1:{port}/chat"
        arguments = [postgres, "-D", data, "-p", str(port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-F"]
        with running(arguments, port, url, lambda: psycopg.connect(url).close(), cwd=where, **more) as service:
            yield service


@contextmanager
def mariadb(durable: bool = False) -> Iterator[Service]:
    """An own MariaDB with a database `chat`. Only with `durable` does a commit wait for the disk."""
    install, server, port = program("mariadb-install-db"), program("mariadbd"), free_port()
    more = ["--user=root"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="chatsite-mariadb-", ignore_cleanup_errors=True) as where:
        data = f"--datadir={where}/data"
        normal = "--auth-root-authentication-method=normal"
        command = [install, "--no-defaults", data, normal, "--skip-test-db", *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ready() -> None:
            with pymysql.connect(host="127.0.0.1", port=port, user="root", connect_timeout=1) as connection:
                connection.cursor().execute("CREATE DATABASE chat CHARACTER SET utf8mb4")

        arguments = [server, "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1", *more]
        arguments += [
            f"--socket={where}/socket",
            f"--pid-file={where}/pid",
            f"--innodb-flush-log-at-trx-commit={1 if durable else 2}",
        ]
        with running(arguments, port, f"mysql://root@127.0.0.1:{port}/chat", ready) as service:
            yield service


@contextmanager
def redis_server(keeps_in: Path | None = None) -> Iterator[Service]:
    """An own Redis. `keeps_in`: the directory in which it keeps every write at once, as the message log needs it."""
    server, port = program("redis-server"), free_port()
    url = f"redis://127.0.0.1:{port}"
    arguments = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly"]
    arguments += ["yes", "--appendfsync", "always", "--dir", str(keeps_in)] if keeps_in else ["no"]
    with running(arguments, port, url, lambda: redis.Redis.from_url(url).ping()) as service:
        yield service


def follow(copy: Service, of: Service) -> None:
    """Make one Redis the copy of another, and wait until it is."""
    with redis.Redis.from_url(copy.url) as client, redis.Redis.from_url(of.url) as original:
        original.config_set("repl-diskless-sync-delay", 0)
        client.replicaof("127.0.0.1", str(of.port))
        deadline = time.monotonic() + 20
        while client.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def follow_nobody(copy: Service) -> None:
    """Make a copy the one that is written to."""
    with redis.Redis.from_url(copy.url) as client:
        client.replicaof("NO", "ONE")


class Line:
    """A TCP proxy in front of a service. Its open connections can go silent without being closed."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.cut_before = 0  # connections with lower numbers pass nothing on
        self.number = 0
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Pass on both directions of each connection."""
        with suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                try:
                    server = socket.create_connection(("127.0.0.1", self.to))
                except ConnectionRefusedError:  # the service does not run
                    client.close()
                    continue
                self.sockets += [client, server]
                self.number += 1
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self.pass_on, args=(*pair, self.number), daemon=True).start()

    def pass_on(self, source: socket.socket, target: socket.socket, number: int) -> None:
        """Pass on one direction, until the connection is closed or cut."""
        try:
            while data := source.recv(65536):
                if number <= self.cut_before:
                    return
                target.sendall(data)
        except OSError:  # reset: then both directions end
            if number > self.cut_before:
                with suppress(OSError):
                    source.shutdown(socket.SHUT_RDWR)
        if number > self.cut_before:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Pass nothing on any more on the open connections, without closing them. New ones work."""
        self.cut_before = self.number

    def close(self) -> None:
        """Close everything."""
        for each in [self.listener, *self.sockets]:
            each.close()


class Chat(Server):
    """A server whose log is kept, with shortcuts."""

    def __init__(self, where: Path, environment: dict[str, str]) -> None:
        fixed = {"DEBUG": "off", "SECRET_KEY": "0123456789" * 5, "ALLOWED_HOSTS": "127.0.0.1", "INSECURE_HTTP": "on"}
        super().__init__({**fixed, "FILES": str(where / "files"), **environment})
        self.environment["DJANGO_SETTINGS_MODULE"] = "tests.outage_settings"
        self.log_file = where / "log"
        self.command = ("-c", f"import os; os.dup2(os.open({str(self.log_file)!r}, 1089), 2); {SERVE}")

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self.log_file.read_text()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request, with JSON if there is a body, or with a form that is bytes."""
        started = time.monotonic()
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        is_form = isinstance(body, bytes)
        headers = {"Content-Type": f"application/{'x-www-form-urlencoded' if is_form else 'json'}", **headers}
        client.request(method, path, body if body is None or is_form else json.dumps(body), headers)
        response = client.getresponse()
        content = response.read()
        client.close()
        found: dict[str, str] = {}
        for name, value in response.getheaders():  # several cookies are joined
            found[name] = f"{found[name]}, {value}" if name in found else value
        return response.status, time.monotonic() - started, found, content

    def begin(self) -> str:
        """Begin a conversation and return its uuid."""
        status, _, _, content = self.ask("POST", "/api/messages/", {"content": "Hello"})
        assert status == 200, content
        return str(json.loads(content)["items"][0]["conversation"])

    def post(self, conversation: str) -> Answer:
        """Post a message."""
        return self.ask("POST", "/api/messages/", {"content": "Hello", "conversation": conversation})

    def poll(self, conversation: str) -> Answer:
        """Read the messages."""
        return self.ask("GET", f"/api/messages/{conversation}/")

    def rings(self, conversation: str) -> None:
        """Open a WebSocket, and return when it has rung."""
        url = f"ws://127.0.0.1:{self.port}/ws/messages/{conversation}/"
        with connect(url, origin=Origin(self.url)) as bell:
            assert json.loads(bell.recv(30))["type"] == "messages"

    def forgets(self, email: str) -> None:
        """Ask for a new password by mail."""
        status, _, headers, _ = self.ask("GET", "/inbox/forgotten/")
        cookie = headers["Set-Cookie"].partition(";")[0]
        form = urlencode({"email": email, "csrfmiddlewaretoken": cookie.partition("=")[2]})
        request = Request(f"{self.url}/inbox/forgotten/", form.encode(), {"Cookie": cookie})
        with urlopen(request, timeout=60) as response:
            assert status == response.status == 200

    def at_once(self, number: int, method: str, *arguments: Any) -> list[Answer]:
        """Call a method in as many threads at the same time."""
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(getattr(self, method)(*arguments))) for _ in range(number)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == number
        return answers

    def heals(self, conversation: str, seconds: float = SOON) -> float:
        """The seconds until posts succeed on every thread."""
        started = time.monotonic()
        while {answer[0] for answer in self.at_once(8, "post", conversation)} != {200}:
            assert time.monotonic() - started < seconds, self.log
            time.sleep(0.1)
        return time.monotonic() - started
