"""The supervisor of `manage.py serve --processes N`: it starts N servers on one listening socket and watches them.

It runs as a program of its own, without Django: see `supervise`. Everything it imports is in Python's standard library.

The processes inherit the listening socket. So connections that wait in its backlog survive each process:
another one accepts them. With a socket for each process (SO_REUSEPORT) they would be reset.
"""

import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

# What is written to the links of processes, a line each. If a link is closed, the supervisor has ended, and so does the
# process.

READY = b"ready"
"""A process serves."""

LEAVE = b"leave"
"""Another one has taken the place of the process."""

TOTAL = b"total"
"""A process asks for the sum of the numbers of all, for `/metrics`. The answer is the same word, and JSON: see
`Numbers` and `Supervisor.total`."""

NUMBERS = b"numbers"
"""Asks a process for its numbers. The answer is the same word, and JSON. A process also says it when it ends."""

NUMBERS_TIMEOUT = 1
"""Seconds in which processes must say their numbers. The earlier ones of those that do not are counted."""

LONGEST_LINE = 1024**2
"""Bytes. The numbers of a process are 35 kB."""

START_TIMEOUT = 60
"""Seconds in which a process must be ready. Its checks take 10 at most: see chatsite/startup.py."""

SOON = 10
"""Seconds of life below which a process counts as one that dies at once."""

MAX_DELAY = 30
"""The most seconds until a process is started again that has died at once."""

LEAVE_TIMEOUT = 60
"""Seconds in which a process must end when another one has taken its place. It takes 40 at most."""

HANG_UP = 5
"""Seconds after the terminal was there for the last time, in which SIGHUP means that it was closed."""

MAX_FAILURES = 3
"""How many processes in a row may end before they are ready, while no other serves. Then the supervisor ends, too."""

FORMAT = "{asctime} [{process}] {levelname} {name}: {message}"
"""Log lines as in chatsite/settings.py for several processes."""

logger = logging.getLogger("chatsite.serving.supervisor")


class JsonFormatter(logging.Formatter):
    """JSON lines as those of chatsite/logs.py, of records without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record."""
        shown = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return json.dumps(shown)


def say(text: str) -> None:
    """Print a text. If that cannot be, because the disk is full for example, go on without it, and print no more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:  # so that what is left of it fails no second time, at the end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def has_terminal() -> bool:
    """Whether one of the standard streams is a terminal that is not closed."""
    return any(map(os.isatty, range(3)))


@dataclass
class Plan:
    """What is to be started: written by `manage.py serve` in JSON."""

    processes: int
    listener: int
    """The file descriptor of the listening socket."""
    unix_socket: str
    """The path of the listening socket, "" if it is a TCP port."""
    command: list[str]
    """What starts a server. The file descriptors of the listening socket and of the link are appended."""
    greeting: str
    """What is printed when all processes are ready for the first time."""
    end_timeout: float
    """Seconds after SIGTERM at which processes are killed."""
    log_format: str
    """line or json."""


Numbers = dict[str, dict[str, float]]
"""What a process has counted, by names: `counters` only grow, and `gauges` end with the process."""


@dataclass(eq=False)
class Process:
    """A process that serves. Its link is a pair of sockets: one in the supervisor, one in the process."""

    pid: int
    link: socket.socket
    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_leaving: bool = False
    unread: bytes = b""
    """The beginning of a line."""
    numbers: Numbers = field(default_factory=dict)
    """The latest that it has said."""
    is_asked: bool = False
    """Whether it has to say its numbers."""
    killed_at: float = field(default_factory=lambda: time.monotonic() + START_TIMEOUT)
    """When it is killed, unless it has become ready or has ended."""


def add(total: dict[str, float], numbers: dict[str, float]) -> None:
    """Add numbers to those with the same names.

    They are rounded to nanoseconds: 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 to the last bit, and
    Prometheus takes a counter that decreases at all for one that began anew.
    """
    for name, number in numbers.items():
        total[name] = round(total.get(name, 0) + number, 9)


class Supervisor:
    """Keeps the number of processes; ends with all of them, or when none can start."""

    def __init__(self, plan: Plan) -> None:
        """Nothing is started yet."""
        self.plan = plan
        self.processes: dict[int, Process] = {}
        self.outdated: list[Process] = []  # still to be replaced after SIGHUP
        self.signals: list[int] = []
        self.selector = selectors.DefaultSelector()
        self.failures = 0  # processes in a row that were not ready before they ended
        self.early_deaths = 0
        self.delay = self.start_after = 0.0
        self.terminal_seen = -inf
        self.stopped_at: float | None = None
        self.exit_code = 0
        self.greeting = plan.greeting
        self.counted: dict[str, float] = {}  # the counters of processes that have ended
        self.asking: list[Process] = []  # they wait for the sum of all numbers
        self.answered_at = inf

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT. Returns the exit code."""
        waker, woken = socket.socketpair()
        waker.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda number, _frame: self.signals.append(number))
        self.selector.register(woken, selectors.EVENT_READ)
        while self.stopped_at is None or self.processes:
            try:
                self.step()
                for key, _events in self.selector.select(0.2):
                    if key.data is None:
                        woken.recv(64)
                    else:
                        self.read(key.data)
            except Exception:
                logger.exception("The supervisor could not do this, and tries again.")
                time.sleep(1)
        return self.exit_code

    def step(self) -> None:
        """Do what signals, deaths and time ask for."""
        while self.signals:
            number = self.signals.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            elif number == signal.SIGHUP and self.is_hung_up():
                logger.info("The terminal is closed. Chatsite stops.")
                self.stop()
            elif number == signal.SIGHUP:
                self.replace_all()
        if has_terminal():
            self.terminal_seen = time.monotonic()
        self.bury()
        self.kill_late()
        self.answer()
        if self.stopped_at is None:
            self.fill()

    def read(self, process: Process) -> bool:
        """Read what a process says, as far as it is there. Returns whether there may be more."""
        try:
            said = process.link.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # it has ended without reading that it should leave
            said = b""
        if not said:
            if process.link in self.selector.get_map():
                self.selector.unregister(process.link)  # it ends, which SIGCHLD tells
            return False
        *lines, process.unread = (process.unread + said).split(b"\n")
        if len(process.unread) > LONGEST_LINE:
            process.unread = b""
        for line in lines:
            self.hear(process, line)
        return True

    def hear(self, process: Process, line: bytes) -> None:
        """Do what a process says."""
        word, _, content = line.partition(b" ")
        if word == READY and not process.is_ready and process.pid in self.processes:
            self.note_ready(process)
        elif word == NUMBERS:
            process.numbers, process.is_asked = json.loads(content), False
        elif word == TOTAL:
            self.ask_all(process)

    # Numbers ----------------------------------------------------------------------------------------------------------

    def ask_all(self, process: Process) -> None:
        """Ask all processes for their numbers, as this one needs the sum."""
        self.asking.append(process)
        self.answered_at = min(self.answered_at, time.monotonic() + NUMBERS_TIMEOUT)
        for each in self.processes.values():
            if each.is_ready and not each.is_asked:
                each.is_asked = self.say(each, NUMBERS)

    def answer(self) -> None:
        """Answer those that asked, when all have said their numbers or had the time for it."""
        is_complete = not any(process.is_asked for process in self.processes.values())
        if self.asking and (is_complete or time.monotonic() > self.answered_at):
            total = TOTAL + b" " + json.dumps(self.total()).encode()
            for process in self.asking:
                self.say(process, total)
            self.asking, self.answered_at = [], inf

    def total(self) -> dict[str, float]:
        """The sums of all numbers. Counters never decrease, as those of ended processes are kept."""
        total = dict(self.counted)
        for process in self.processes.values():
            for numbers in process.numbers.values():
                add(total, numbers)
        return total

    def say(self, process: Process, line: bytes) -> bool:
        """Say something to a process. Returns whether it can hear it."""
        try:
            process.link.settimeout(1)  # a link takes 200 kB at once, so this does not wait
            try:
                process.link.sendall(line + b"\n")
            finally:
                process.link.setblocking(False)
        except OSError:  # it has ended by itself, or hangs
            return False
        return True

    # Starting ---------------------------------------------------------------------------------------------------------

    def staying(self) -> list[Process]:
        """The processes that serve or will."""
        return [process for process in self.processes.values() if not process.is_leaving]

    def fill(self) -> None:
        """Start what is missing, or the successor of an outdated process. There are never more than N + 1."""
        if time.monotonic() < self.start_after:
            return
        for _ in range(self.plan.processes - len(self.staying())):
            if not self.start():
                return
        if self.outdated and len(self.processes) == self.plan.processes and all(p.is_ready for p in self.staying()):
            self.start()

    def start(self) -> bool:
        """Start a process, in a group of its own: Ctrl-C in a terminal is for the supervisor, which then stops it.

        Return whether it was started. If the system cannot start it, it is tried again later.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            command = [*self.plan.command, str(self.plan.listener), str(theirs.fileno())]
            handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
            try:
                pid = os.posix_spawn(command[0], command, os.environ, setpgroup=0, setsigdef=handled)
            except OSError as error:  # no memory, too many processes, or Python is just being replaced
                ours.close()
                self.wait_longer()
                self.say_not_started("A process", str(error))
                return False
        ours.setblocking(False)
        self.processes[pid] = Process(pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, self.processes[pid])
        return True

    def wait_longer(self) -> None:
        """Start the next process later, and the later the more have failed."""
        self.early_deaths += 1
        self.delay = min(MAX_DELAY, 2.0 ** (self.early_deaths - 2))
        self.start_after = time.monotonic() + self.delay

    def say_not_started(self, which: str, why: str) -> None:
        """Log it. The processes that serve are not replaced then."""
        if self.outdated:
            self.outdated = []
            logger.error("%s could not start (%s). The others are not replaced, and serve on.", which, why)
        else:
            logger.error("%s could not start (%s). The next try is in %.1f seconds.", which, why, self.delay)

    def note_ready(self, process: Process) -> None:
        """Greet, or let the one leave that this process replaces."""
        process.is_ready, process.killed_at = True, inf
        self.failures = 0
        if self.outdated and len(self.staying()) > self.plan.processes:
            old = self.outdated.pop(0)
            logger.info("Process %s serves in the place of process %s, which ends.", process.pid, old.pid)
            self.dismiss(old)
            if not self.outdated:
                logger.info("All processes are replaced.")
        if self.greeting and sum(each.is_ready for each in self.staying()) == self.plan.processes:
            say(self.greeting)
            self.greeting = ""

    # Replacing --------------------------------------------------------------------------------------------------------

    def replace_all(self) -> None:
        """SIGHUP: start new processes, with the code and the settings as they are now, in the place of these."""
        if self.stopped_at is None:
            self.outdated = self.staying()
            logger.info("SIGHUP: the processes are replaced, one after the other.")

    def dismiss(self, process: Process) -> None:
        """Let a process finish its requests and end."""
        process.is_leaving, process.killed_at = True, time.monotonic() + LEAVE_TIMEOUT
        self.say(process, LEAVE)

    def is_hung_up(self) -> bool:
        """Whether this SIGHUP says that the terminal was closed just now, which has always ended programs."""
        return not has_terminal() and time.monotonic() < self.terminal_seen + HANG_UP

    # Ends -------------------------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """Note which processes have ended. As the first process of a container, it has the children of others, too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            process = self.processes.pop(pid, None)
            if process is None:
                continue
            while self.read(process):  # its last words are its numbers
                pass
            add(self.counted, process.numbers.get("counters", {}))
            if process.link in self.selector.get_map():
                self.selector.unregister(process.link)
            process.link.close()
            self.note_end(process, os.waitstatus_to_exitcode(status))

    def note_end(self, process: Process, code: int) -> None:
        """Say why a process has ended, and when the next one is started."""
        if self.stopped_at is not None or process.is_leaving:
            self.exit_code |= self.stopped_at is not None and code not in (0, -signal.SIGTERM)
            return
        names = {int(number): number.name for number in signal.Signals}  # not of all: some real-time signals have none
        how = f"exit code {code}" if code >= 0 else names.get(-code, f"signal {-code}")
        if time.monotonic() - process.started < SOON or not process.is_ready:
            self.wait_longer()
        else:
            self.early_deaths, self.start_after = 0, 0.0
        if process in self.outdated:
            self.outdated.remove(process)
        if process.is_ready:
            logger.error("Process %s has ended (%s). Another one starts.", process.pid, how)
            return
        self.failures += 1
        if self.failures >= MAX_FAILURES and not self.staying():
            logger.critical("No process can start (the last one: %s). The reason is above. Chatsite stops.", how)
            self.exit_code = 1
            self.stop()
        else:
            self.say_not_started(f"Process {process.pid}", how)

    def stop(self) -> None:
        """SIGTERM and SIGINT: listen no more, and let all processes finish their requests."""
        if self.stopped_at is not None:
            return
        self.stopped_at = time.monotonic()
        for process in self.processes.values():
            os.kill(process.pid, signal.SIGTERM)
            process.killed_at = self.stopped_at + self.plan.end_timeout
        with suppress(OSError):
            os.close(self.plan.listener)
            if self.plan.unix_socket:
                os.unlink(self.plan.unix_socket)

    def kill_late(self) -> None:
        """Kill processes that do not get ready, and those that do not end."""
        for process in self.processes.values():
            if time.monotonic() > process.killed_at:
                process.killed_at = inf
                logger.error("Process %s is killed: it took too long.", process.pid)
                os.kill(process.pid, signal.SIGKILL)


def supervise(plan: int) -> int:
    """Read the plan from a file descriptor and follow it until the end. Returns the exit code.

    `manage.py serve` has checked everything, and replaces itself with this program, which keeps its process id but not
    the memory of Django.
    """
    with os.fdopen(plan) as file:
        contents = Plan(**json.load(file))
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if contents.log_format == "json" else logging.Formatter(FORMAT, style="{"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    return Supervisor(contents).run()


if __name__ == "__main__":
    # Not sys.exit, which would end with 120 if the terminal is closed or the disk full: everything is written already.
    os._exit(supervise(int(sys.argv[1])))
