"""Copy the message log into SQL: manage.py replicate."""

import asyncio
import signal
import threading
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from chatsite.databases import limit_requests
from chatsite.log_checks import find_log_problems
from conversations.actions.replicate import Replicator
from conversations.actions.switch_log import CannotDrain, drain
from conversations.announce import use_running_loop


class Command(BaseCommand):
    """Copies what the message log has into SQL, until it is stopped."""

    help = "Copies messages from the message log (MESSAGE_LOG=redis) into SQL, until it is stopped. See docs/log.md."

    def add_arguments(self, parser: CommandParser) -> None:
        """What to do instead of copying until it is stopped."""
        choice = parser.add_mutually_exclusive_group()
        stop = "Stop all processes of Chatsite before."
        choice.add_argument("--drain", action="store_true", help=f"Copy everything, and switch the log off. {stop}")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what the options say. Raises CommandError with a sentence if it cannot."""
        if not settings.MESSAGE_LOG:
            raise CommandError("There is no message log: MESSAGE_LOG is not redis.")
        if problems := find_log_problems():
            raise CommandError("\n".join(problems))
        try:
            if options["drain"]:
                self.drain()
            else:
                self.replicate()
        except redis.RedisError as error:
            raise CommandError(f"Redis has not done this: {error} Nothing is lost. Try again.") from error

    def drain(self) -> None:
        """Empty the log and switch it off."""
        try:
            drain(self.stdout.write)
        except CannotDrain as error:
            raise CommandError(str(error)) from error
        self.stdout.write("The message log is empty and switched off. Set MESSAGE_LOG=sql, and start Chatsite.")

    def replicate(self) -> None:
        """Copy until SIGTERM or SIGINT."""
        limit_requests()  # a database that hangs is given up, and tried again
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        loop = asyncio.new_event_loop()  # rings are sent in it
        loop.call_soon(use_running_loop)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        self.stdout.write("Copying messages from the log into the database.")
        Replicator(stopping.is_set).run()
