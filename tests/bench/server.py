"""Servers for the benchmark, each in a separate process, on its own database."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Size:
    """The resources of a process."""

    memory: float  # MB that are resident
    own: float  # MB, of which pages shared by several processes count in part (PSS)
    files: int
    threads: int

    def __str__(self) -> str:
        """On one line."""
        return f"{self.memory:5.0f} MB (PSS {self.own:.0f}), {self.files} open files, {self.threads} threads"


def environment(url: str, redis: str = "") -> dict[str, str]:
    """Settings of production, but without https and rate limits. `url` is the DATABASE_URL, `redis` the REDIS_URL."""
    return {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "DEBUG": "off",
        "SECRET_KEY": "for-measuring-only-" + "x" * 40,
        "ALLOWED_HOSTS": "127.0.0.1",
        "INSECURE_HTTP": "on",
        "RATE_LIMITS": "off",
        "DATABASE_URL": url,
        "REDIS_URL": redis,
        "MESSAGE_LOG": "sql",
    }


def run(*command: str, url: str) -> str:
    """Run a Python command on a database and return its output."""
    words = [sys.executable, *command]
    done = subprocess.run(words, cwd=ROOT, env=environment(url), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def collect_static_files(url: str) -> None:
    """Run collectstatic, unless it has run since the last change of a static file. `url` is any DATABASE_URL."""
    manifest = ROOT / "build" / "static" / "staticfiles.json"
    sources = [path.stat().st_mtime for path in (ROOT / "static").rglob("*")]
    if not manifest.exists() or manifest.stat().st_mtime <= max(sources):
        run("manage.py", "collectstatic", "--noinput", url=url)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_time(pid: int) -> float:
    """The CPU time in seconds that a process has used so far, in user and kernel mode.

    Linux keeps a clock in nanoseconds for each process (clock_getcpuclockid in the C library's source); elsewhere
    psutil's is good for hundredths of a second.
    """
    if sys.platform == "linux":
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def cpu_times(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """The CPU times of these processes by their ids, without those that have ended."""
    times = {}
    for process in processes:
        with suppress(OSError, psutil.NoSuchProcess):
            times[process.pid] = cpu_time(process.pid)
    return times


class Server(AbstractContextManager["Server"]):
    """`manage.py serve`, or the plain design on daphne; a context manager."""

    def __init__(
        self, url: str, redis: str = "", *, plain: bool = False, cores: set[int] | None = None, **more: str
    ) -> None:
        """`url` and `redis` as in `environment`. `cores` are those that it may run on, by default all.

        `more` are further environment variables.
        """
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["manage.py", "serve"]
        if plain:
            command = ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port)]
            command.append("tests.bench.plain:application")
        variables = {**environment(url, redis), "HOST": "127.0.0.1", "PORT": str(self.port), **more}
        self.process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=variables, stdout=subprocess.DEVNULL)
        self.numbers = psutil.Process(self.process.pid)
        if cores:
            self.numbers.cpu_affinity(sorted(cores))
        self._wait()
        self.fresh = self.size()

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

    def children(self) -> set[int]:
        """The ids of the processes that serve, if it is their supervisor."""
        return {child.pid for child in self.numbers.children()}

    def cpu(self) -> float:
        """CPU time in seconds that it has used so far, in user and kernel mode."""
        return cpu_time(self.process.pid)

    def size(self) -> Size:
        """Its resources now."""
        of = self.numbers
        own = getattr(of.memory_full_info(), "pss", 0)  # only on Linux
        return Size(of.memory_info().rss / 1e6, own / 1e6, of.num_fds(), of.num_threads())
