"""`manage.py serve`: serves pages, the API and sockets, in one process or in several."""

import sys
import threading
from argparse import SUPPRESS, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from chatsite import startup
from chatsite.log_checks import find_log_problems
from chatsite.serving.supervisor import say
from conversations.actions.switch_log import prepare_ids
from conversations.management.in_use import InUse, used


class Command(BaseCommand):
    """Serve Chatsite on HOST and PORT."""

    help = "Serve Chatsite on HOST and PORT."

    def add_arguments(self, parser: CommandParser) -> None:
        """How many processes; the other arguments are for the processes of a supervisor."""
        parser.add_argument("--processes", type=process_number, default=settings.PROCESSES, metavar="N",
                            help="How many processes serve: the setting PROCESSES by default.")  # fmt: skip
        parser.add_argument("--supervised", type=int, nargs=2, help=SUPPRESS)
        parser.add_argument("--started-with", choices=("redis", "sql"), help=SUPPRESS)  # MESSAGE_LOG of the supervisor

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM or SIGINT. Exits with 1 and a sentence for each problem if it cannot."""
        processes, supervised = options["processes"], options["supervised"]
        problems = [*startup.find_process_problems(processes), *startup.find_problems(), *find_log_problems()]
        problems += startup.find_reload_problems(options["started_with"])
        if not supervised:
            for warning in startup.find_warnings():
                self.stderr.write(f"Warning: {warning}")
        if problems:
            refuse(problems)
        from chatsite.serving.cleaning import Cleaner
        from chatsite.serving.database_file import DatabaseLost
        from chatsite.serving.listening import CannotListen
        from chatsite.serving.replicating import Replicating

        if supervised or processes == 1:
            prepare_ids()
            connection.close()
        self.cleaner = Cleaner()
        self.replicating = Replicating()
        try:
            with used():
                if supervised:
                    self.serve_supervised(*supervised)
                elif processes > 1:
                    self.supervise(processes)
                else:
                    self.serve()
        except InUse:
            refuse(["`manage.py restore` is running. Start Chatsite when it has ended."])
        except CannotListen as error:
            refuse([str(error)])
        except DatabaseLost as error:
            sys.exit(str(error))
        finally:
            self.cleaner.stop()
            self.replicating.stop()

    def serve(self) -> None:
        """Serve in this process."""
        from chatsite.serving.server import serve

        serve(settings.HOST, settings.PORT, self.ready)

    def supervise(self, processes: int) -> None:
        """Let a supervisor start the processes."""
        from chatsite.serving.processes import become_supervisor
        from chatsite.settings import env

        program, started_with = Path(sys.argv[0]).absolute(), "redis" if settings.MESSAGE_LOG else "sql"
        command = [sys.executable, str(program), "serve", "--started-with", started_with, "--supervised"]
        environment = {**env.given, "PROCESSES": str(processes)}
        become_supervisor(
            processes, settings.HOST, settings.PORT, command, environment, addresses(), settings.LOG_FORMAT
        )

    def serve_supervised(self, listener: int, link: int) -> None:
        """Serve as one of several processes, with these file descriptors.

        It listens once it is prepared: until then, the others answer sooner.
        """
        from chatsite.serving.processes import Supervised
        from chatsite.serving.server import serve
        from chatsite.serving.warm_up import warm_up

        supervised = Supervised(listener, link)

        def ready() -> None:
            supervised.say_ready()
            self.start_threads()

        warm_up()
        serve(settings.HOST, settings.PORT, ready, supervised)

    def ready(self) -> None:
        """Prepare for requests in a thread, as it listens already."""
        from chatsite.serving.warm_up import warm_up

        self.say_addresses()
        self.start_threads()
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()

    def start_threads(self) -> None:
        """Start what this process does beside serving. Called in the event loop."""
        from conversations.announce import use_running_loop

        if settings.CLEANING:
            self.cleaner.start()
        if settings.MESSAGE_LOG and settings.REPLICATING:
            use_running_loop()  # it may have to ring before the first request
            self.replicating.start()

    def say_addresses(self) -> None:
        """Print where it listens, and the addresses as people reach them."""
        say(addresses())


def process_number(text: str) -> int:
    """The value of --processes, like the setting. Raises ArgumentTypeError."""
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= settings.MAX_PROCESSES:
        return int(text)
    raise ArgumentTypeError(f"{text} is no whole number from 1 to {settings.MAX_PROCESSES}")


def addresses() -> str:
    """Where Chatsite listens, and the addresses as people reach them."""
    import chatsite

    url = public_url()
    version = getattr(chatsite, "__version__", "")
    return (
        f"\n  Chatsite {version}".rstrip()
        + f" listens on {listening_address()}\n"
        + (f"  Demo shop   {url}/\n" if settings.DEBUG else "")
        + f"  Chat        {url}/chat/\n  Inbox       {url}/inbox/\n  API         {url}/api/docs\n"
        + f"  Settings    {url}/admin/ (for superusers; `manage.py createsuperuser` makes one)\n"
        + "  Stop with Ctrl-C.\n"
    )


def refuse(problems: list[str]) -> None:
    """End the process with 1 and say why."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    sys.exit(f"Chatsite cannot start:\n{lines}")


def listening_address() -> str:
    """Where the server listens: an address with its port, or a Unix socket."""
    if settings.HOST.startswith("unix:"):
        return str(settings.HOST)
    host = settings.HOST.strip("[]")
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def public_url() -> str:
    """The beginning of URLs as people reach Chatsite, as far as the settings tell: a proxy may have another port."""
    host = next((host.lstrip(".") for host in settings.ALLOWED_HOSTS), "localhost")
    if not settings.INSECURE_HTTP:
        return f"https://{host}"
    if settings.TRUSTED_PROXIES or settings.HOST.startswith("unix:"):
        return f"http://{host}"
    is_anywhere = settings.HOST.strip("[]") in {"0.0.0.0", "::"}  # noqa: S104 (compares only)
    return f"http://{host}:{settings.PORT}" if is_anywhere else listening_address()
