"""Two servers behind nginx, as docs/running.md describes, with a database and a Redis that may be killed or cut."""

import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymysql
import pytest
import redis

from tests.bare_machine import NGINX_CONF
from tests.browser.people import Row
from tests.conftest import PASSWORD, ROOT, Server, free_port
from tests.services import Chat, Service, mariadb, postgresql, program, redis_server
from tests.soak.proxy import Proxy

TABLE = "SELECT id, content FROM conversations_message WHERE conversation_id = {} ORDER BY id"


class Installation:
    """`database` and `redis` are None on SQLite. The servers reach them through proxies, which may cut connections."""

    database: Service
    redis: Service
    database_line: Proxy
    redis_line: Proxy

    def __init__(self, where: Path, engine: str, stack: ExitStack) -> None:
        self.where = where
        self.engine = engine
        (where / "data").mkdir()
        if engine == "small-disk":
            mount(where / "data", stack)
            engine = self.engine = "sqlite"
        self.database_url = f"sqlite:///{where}/data/db.sqlite3"
        variables = {"DJANGO_SETTINGS_MODULE": "tests.soak.settings", "TRUSTED_PROXIES": "1"}
        variables |= {"FILES": f"{where}/data/files", "STATIC_ROOT": f"{where}/static"}
        if engine != "sqlite":
            self.database = stack.enter_context({"postgresql": postgresql, "mariadb": mariadb}[engine]())
            self.redis = stack.enter_context(redis_server())
            self.database_line, self.redis_line = Proxy(self.database.port), Proxy(self.redis.port)
            self.database_url = through(self.database.url, self.database_line)
            variables["REDIS_URL"] = through(self.redis.url, self.redis_line)
        self.servers = [self.server(name, variables) for name in ("first", "second")[: 1 if engine == "sqlite" else 2]]
        first = self.servers[0]
        first.manage("migrate", "--verbosity", "0")
        first.manage("collectstatic", "--no-input", "--verbosity", "0")
        for name in ("bob", "carol"):
            first.manage("createagent", name, "--password", PASSWORD)
        for server in self.servers:
            server.start()
            stack.callback(end, server)
        self.nginx_port = free_port()
        self.start_nginx()
        stack.callback(lambda: self.end_nginx(signal.SIGTERM))
        self.internet = Proxy(self.nginx_port)
        self.entrance = Server({})
        self.entrance.url = f"http://127.0.0.1:{self.internet.port}"

    def server(self, name: str, variables: dict[str, str]) -> Chat:
        """A server with its own log."""
        (self.where / name).mkdir()
        server = Chat(self.where / name, {"DATABASE_URL": self.database_url, **variables})
        server.environment.update(variables)
        return server

    def start_nginx(self) -> None:
        """nginx with deploy/nginx.conf, without TLS."""
        text = (ROOT / "deploy/nginx.conf").read_text()
        servers = "\n".join(f"server 127.0.0.1:{server.port} max_fails=0;" for server in self.servers)
        text = re.sub(r"server 127\.0\.0\.1:8000 .*\n.*8001.*", servers, text)
        text = re.sub(r"^server \{\n    listen 80;.*?^\}", "", text, count=1, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"listen (443 ssl|\[::\]:443.*);", "", text)
        text = re.sub(r"\n *ssl_.*", "", text)
        text = text.replace("server_name chat.example.com;", f"listen 127.0.0.1:{self.nginx_port};")
        for folder in ("run", "var/log", "var/lib", "etc/nginx/conf.d"):
            (self.where / folder).mkdir(parents=True, exist_ok=True)
        (self.where / "etc/nginx/conf.d/chatsite.conf").write_text(text)
        main = self.where / "etc/nginx/nginx.conf"
        main.write_text("daemon off;" + NGINX_CONF.format(root=self.where, user="user root;"))
        command = [program("nginx"), "-e", str(self.where / "var/log/nginx-error.log"), "-c", str(main)]
        self.nginx = psutil.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(lambda: socket.create_connection(("127.0.0.1", self.nginx_port)).close())

    def end_nginx(self, how: signal.Signals) -> None:
        """End nginx and its workers with a signal."""
        for process in [self.nginx, *self.nginx.children()]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        self.nginx.wait(30)

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement on a direct connection to the database, without the proxy."""
        connection: Any
        if self.engine == "sqlite":
            connection = sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=30)
        elif self.engine == "postgresql":
            connection = psycopg.connect(self.database.url, autocommit=True, connect_timeout=5)
        else:
            port = self.database.port
            connection = pymysql.connect(
                host="127.0.0.1", port=port, user="root", database="chat", autocommit=True, charset="utf8mb4"
            )
        with closing(connection):
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def table(self, conversation: str) -> list[Row]:
        """The messages that the database has, in order, by the conversation's primary key."""
        return [(pk, text) for pk, text in self.execute(TABLE.format(int(conversation)))]

    def logs(self) -> str:
        """What all servers have logged."""
        return "".join(server.log for server in self.servers)


def through(url: str, line: Proxy) -> str:
    """The same URL with the port of the proxy."""
    return re.sub(r":\d+/", f":{line.port}/", url)


def end(server: Server | Service) -> None:
    """Kill the server if it runs."""
    if server.process and server.process.poll() is None:
        with suppress(ProcessLookupError):
            server.process.send_signal(signal.SIGCONT)
        server.kill()


def wait_for(works: Callable[[], object], seconds: float = 60) -> None:
    """Return when a call raises nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            works()
            return
        except (OSError, psycopg.Error, pymysql.Error, redis.RedisError):
            assert time.monotonic() < deadline, "The service is not back in time."
            time.sleep(0.05)


def mount(folder: Path, stack: ExitStack) -> None:
    """Mount a tmpfs of 16 MB. Skips the trial if this user may not mount."""
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root.")
    stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)


@contextmanager
def installation(engine: str) -> Iterator[Installation]:
    """An installation on postgresql, mariadb, or, with one server and no Redis, sqlite or sqlite on a small-disk."""
    with ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory(prefix="chatsite-soak-", ignore_cleanup_errors=True))
        yield Installation(Path(where), engine, stack)
