"""Several processes on one listening socket: the program that starts their supervisor, and a process of them."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from chatsite.serving import supervisor
from chatsite.serving.listening import UNIX, open_socket
from chatsite.serving.shutdown import END_TIMEOUT
from chatsite.serving.supervisor import LEAVE, NUMBERS, READY, TOTAL, Numbers, Plan

KILL_TIMEOUT = END_TIMEOUT + 0.3
"""Seconds after SIGTERM at which the supervisor kills the processes that have not ended by themselves."""


def become_supervisor(
    processes: int,
    host: str,
    port: int,
    command: list[str],
    environment: dict[str, str],
    greeting: str,
    log_format: str,
) -> NoReturn:
    """Listen, and replace this program with the supervisor of `processes` servers. Raises CannotListen if it cannot.

    `command` starts a server. `environment` is without `.env`, which each server reads anew. `greeting` is printed when
    all are ready. `log_format` is the setting.
    """
    listener = open_socket(host, port)
    listener.set_inheritable(True)
    path = host.removeprefix(UNIX) if host.startswith(UNIX) else ""
    plan = Plan(processes, listener.fileno(), path, command, greeting, KILL_TIMEOUT, log_format)
    reader, writer = os.pipe()
    os.write(writer, json.dumps(asdict(plan)).encode())  # much less than a pipe takes without a reader
    os.close(writer)
    os.set_inheritable(reader, True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the supervisor replaces processes by it
    # -I -S: without site-packages, which it does not need.
    program = [sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve()), str(reader)]
    os.execve(sys.executable, program, environment)  # noqa: S606 (no shell is needed)


TOTAL_TIMEOUT = 3
"""Seconds in which the supervisor must say the sum of all numbers."""


class Supervised:
    """What a server process has from its supervisor: the listening socket, and a link."""

    def __init__(self, listener: int, link: int) -> None:
        """Both are inherited file descriptors. The programs that this process starts do not inherit them."""
        self.listener, self.link = socket.socket(fileno=listener), socket.socket(fileno=link)
        for each in (self.listener, self.link):
            each.set_inheritable(False)
        self.answer: asyncio.Future[dict[str, float]] | None = None

    def say(self, word: bytes, content: Numbers | None = None) -> None:
        """Say something to the supervisor. If it has ended, this process ends soon, too."""
        with suppress(OSError):
            self.link.sendall(word + (b"" if content is None else b" " + json.dumps(content).encode()) + b"\n")

    def say_ready(self) -> None:
        """Tell the supervisor that this process serves."""
        self.say(READY)

    def say_numbers(self, numbers: Numbers) -> None:
        """Tell the supervisor what this process has counted: when it asks, and at the end."""
        self.say(NUMBERS, numbers)

    async def total(self) -> dict[str, float]:
        """The sum of the numbers of all processes. Raises TimeoutError if the supervisor does not know it in time."""
        if self.answer is None:
            self.answer = asyncio.get_running_loop().create_future()
            self.say(TOTAL)
        try:
            return await asyncio.wait_for(asyncio.shield(self.answer), TOTAL_TIMEOUT)
        except TimeoutError:
            self.answer = None
            raise

    def note_total(self, total: dict[str, float]) -> None:
        """The sum has arrived."""
        if self.answer is not None:
            self.answer.set_result(total)
            self.answer = None

    def obey(self, leave: Callable[[], None], count: Callable[[], Numbers], call: Callable[..., None]) -> None:
        """Do what the supervisor says, in the event loop by `call`.

        `leave` is called when another process has taken the place of this one, `count` when it asks for the numbers.
        If the supervisor has ended, however that was, this process stops as after SIGTERM: nobody would stop it later.
        """

        def listen() -> None:
            try:
                for line in self.link.makefile("rb"):
                    word, _, content = line.rstrip().partition(b" ")
                    if word == LEAVE:
                        call(leave)
                    elif word == NUMBERS:
                        call(lambda: self.say_numbers(count()))
                    elif word == TOTAL:
                        call(self.note_total, json.loads(content))
            except ConnectionResetError:  # it was killed
                pass
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=listen, name="supervisor", daemon=True).start()
