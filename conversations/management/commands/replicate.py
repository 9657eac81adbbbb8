"""Copy the message log into SQL: manage.py replicate."""

import asyncio
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chatsite.databases import limit_requests
from chatsite.log_checks import find_log_problems
from conversations.actions.replicate import Replicator
from conversations.announce import use_running_loop


class Command(BaseCommand):
    """Copies what the message log has into SQL, until it is stopped."""

    help = "Copies messages from the message log (MESSAGE_LOG=redis) into SQL, until it is stopped."

    def handle(self, **_options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        if not settings.MESSAGE_LOG:
            raise CommandError("There is no message log: MESSAGE_LOG is not redis.")
        if problems := find_log_problems():
            raise CommandError("\n".join(problems))
        limit_requests()  # a database that hangs is given up, and tried again
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        loop = asyncio.new_event_loop()  # rings are sent in it
        loop.call_soon(use_running_loop)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        self.stdout.write("Copying messages from the log into the database.")
        Replicator(stopping.is_set).run()
