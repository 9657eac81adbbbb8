"""Copy the message log into SQL: manage.py replicate."""

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from chatsite.databases import limit_requests
from chatsite.log_checks import find_log_problems
from conversations.actions import dead_letters
from conversations.actions.replicate import Replicator
from conversations.actions.switch_log import CannotDrain, drain
from conversations.announce import send_last_rings, use_running_loop
from conversations.management.day_files import FolderInUse, write_day_files
from conversations.management.in_use import InUse, used

REDIS_SECONDS = 5
"""Seconds that Redis may take to answer the writer of day files, which reads much at once."""

RINGS_SECONDS = 5
"""Seconds that the last rings may take at the end."""


class Command(BaseCommand):
    """Copies what the message log has into SQL, until it is stopped."""

    help = "Copies messages from the message log (MESSAGE_LOG=redis) into SQL, until it is stopped. See docs/log.md."

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do instead of copying until it is stopped."""
        choice = parser.add_mutually_exclusive_group()
        stop = "Stop all processes of Chatsite before."
        choice.add_argument("--to", type=Path, metavar="FOLDER", help="Write all messages to files: docs/analysis.md.")
        choice.add_argument("--dead", action="store_true", help="List the messages that the database has refused.")
        choice.add_argument("--retry-dead", action="store_true", help="Write these messages again, as new ones.")
        choice.add_argument("--forget-dead", type=int, nargs="+", metavar="ID", help="Delete some of them for good.")
        choice.add_argument("--drain", action="store_true", help=f"Copy everything, and switch the log off. {stop}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what the options say. Raises CommandError with a sentence if it cannot."""
        if not settings.MESSAGE_LOG:
            raise CommandError("There is no message log: MESSAGE_LOG is not redis.")
        copies = not any(options[name] for name in ("drain", "dead", "retry_dead", "forget_dead"))
        if (problems := find_log_problems()) and (copies or not settings.REDIS_URL):
            raise CommandError("\n".join(problems))
        try:
            if options["drain"]:
                self.drain()
            elif options["dead"]:
                self.list_dead()
            elif options["retry_dead"]:
                self.retry_dead()
            elif options["forget_dead"]:
                self.forget_dead(options["forget_dead"])
            elif options["to"]:
                self.write_files(options["to"])
            else:
                self.replicate()
        except redis.RedisError as error:
            raise CommandError(f"Redis has not done this: {error} Nothing is lost. Try again.") from error

    def drain(self) -> None:
        """Empty the log and switch it off."""
        try:
            with used(alone=True):
                drain(self.stdout.write)
        except CannotDrain as error:
            raise CommandError(str(error)) from error
        except InUse as error:
            raise CommandError(
                "`manage.py serve`, `replicate` or `restore` is running. Stop all processes of Chatsite, and try again."
            ) from error
        self.stdout.write(
            "The message log is empty and switched off. Set MESSAGE_LOG=sql, and start Chatsite. "
            "If it starts with MESSAGE_LOG=redis, after a restore for example, the log is switched on again."
        )

    def list_dead(self) -> None:
        """Print a line for each dead letter, to stdout; that there is none, to stderr."""
        letters = list(dead_letters.dead_letters())
        for letter in letters:
            self.stdout.write(str(letter))
        if not letters:
            self.stderr.write("The database has refused no message.")

    def retry_dead(self) -> None:
        """Write all dead letters again. Raises CommandError if some of them are refused again."""
        refused = []
        # Those with which a conversation begins come first.
        for letter in sorted(dead_letters.dead_letters(), key=lambda letter: "new" not in letter.values):
            try:
                message = dead_letters.retry(letter)
                self.stdout.write(f"{letter.id} is message {message.pk} now.")
            except dead_letters.CannotRetry as error:
                refused.append(f"{letter.id} could not be written: {error}.")
        if refused:
            raise CommandError("\n".join(refused))

    def forget_dead(self, ids: list[int]) -> None:
        """Delete the dead letters with these ids. Raises CommandError if there is no such one."""
        unknown = [str(pk) for pk in ids if not dead_letters.forget(pk)]
        if unknown:
            raise CommandError(f"There is no dead letter {', '.join(unknown)}.")

    def write_files(self, folder: Path) -> None:
        """Write day files until SIGTERM or SIGINT."""
        limits: dict[str, Any] = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
        client = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True, **limits)
        stopped = until_signal()
        self.stdout.write(f"Writing messages from the log to {folder}.")
        try:
            write_day_files(client, folder, stopped=stopped)
        except FolderInUse as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error}") from error

    def replicate(self) -> None:
        """Copy until SIGTERM or SIGINT."""
        limit_requests()  # a database that hangs is given up, and tried again
        stopped = until_signal()
        loop = asyncio.new_event_loop()  # rings are sent in it
        loop.call_soon(use_running_loop)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        self.stdout.write("Copying messages from the log into the database.")
        try:
            with used():
                Replicator(stopped).run()
        except InUse as error:
            raise CommandError("`manage.py restore` is running. Start this when it has ended.") from error
        asyncio.run_coroutine_threadsafe(send_last_rings(), loop).result(RINGS_SECONDS)


def until_signal() -> Callable[[], bool]:
    """A function that returns whether SIGTERM or SIGINT has come. They do not end the process any more."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping.is_set
