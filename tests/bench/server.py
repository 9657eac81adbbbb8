"""Servers for the benchmark, each in a separate process, on its own database."""

import os
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Size:
    """The resources of a process."""

    memory: float  # MB that are resident
    files: int
    threads: int
    connections: int

    def __str__(self) -> str:
        """On one line."""
        return (
            f"{self.memory:5.0f} MB, {self.files} open files, {self.threads} threads, "
            f"{self.connections} connections (the listening one among them)"
        )


def environment(database: Path) -> dict[str, str]:
    """Settings of production, but without https and rate limits."""
    return {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "DEBUG": "off",
        "SECRET_KEY": "for-measuring-only-" + "x" * 40,
        "ALLOWED_HOSTS": "127.0.0.1",
        "INSECURE_HTTP": "on",
        "RATE_LIMITS": "off",
        "DATABASE_URL": f"sqlite:///{database}",
        "REDIS_URL": "",
    }


def run(*command: str, database: Path) -> str:
    """Run a Python command and return its output."""
    words = [sys.executable, *command]
    done = subprocess.run(words, cwd=ROOT, env=environment(database), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server(AbstractContextManager["Server"]):
    """`manage.py serve`, or the plain design on daphne; a context manager."""

    def __init__(self, database: Path, *, plain: bool = False, cores: set[int] | None = None) -> None:
        """`cores` are those that it may run on, by default all."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["manage.py", "serve"]
        if plain:
            command = [
                "-m",
                "daphne",
                "-v",
                "0",
                "-b",
                "127.0.0.1",
                "-p",
                str(self.port),
                "tests.bench.plain:application",
            ]
        variables = {**environment(database), "HOST": "127.0.0.1", "PORT": str(self.port)}
        self.process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=variables, stdout=subprocess.DEVNULL)
        self.numbers = psutil.Process(self.process.pid)
        if cores:
            self.numbers.cpu_affinity(sorted(cores))
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.process.kill()
        raise RuntimeError("The server did not start.")

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def cpu(self) -> float:
        """CPU time in seconds that it has used so far, in user and kernel mode."""
        times = self.numbers.cpu_times()
        return float(times.user + times.system)

    def size(self) -> Size:
        """Its resources now."""
        of = self.numbers
        return Size(of.memory_info().rss / 1e6, of.num_fds(), of.num_threads(), len(of.net_connections()))
