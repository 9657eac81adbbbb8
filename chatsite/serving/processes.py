"""Several processes on one listening socket: the program that starts their supervisor, and a process of them."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from chatsite.serving import supervisor
from chatsite.serving.listening import UNIX, open_socket
from chatsite.serving.shutdown import END_TIMEOUT
from chatsite.serving.supervisor import LEAVE, READY, Plan

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


class Supervised:
    """What a server process has from its supervisor: the listening socket, and a link."""

    def __init__(self, listener: int, link: int) -> None:
        """Both are inherited file descriptors. The programs that this process starts do not inherit them."""
        self.listener, self.link = socket.socket(fileno=listener), socket.socket(fileno=link)
        for each in (self.listener, self.link):
            each.set_inheritable(False)

    def say_ready(self) -> None:
        """Tell the supervisor that this process serves."""
        self.link.send(READY)

    def obey(self, leave: Callable[[], None]) -> None:
        """Call `leave` in a thread when another process has taken the place of this one.

        If the supervisor has ended, however that was, this process stops as after SIGTERM: nobody would stop it later.
        """
        threading.Thread(target=self.listen, args=[leave], name="supervisor", daemon=True).start()

    def listen(self, leave: Callable[[], None]) -> None:
        """In the thread: read what the supervisor says."""
        try:
            while self.link.recv(len(LEAVE)) == LEAVE:
                leave()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
