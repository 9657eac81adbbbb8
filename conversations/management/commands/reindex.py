"""`manage.py reindex`: make the search index anew."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from conversations.actions.reindex import add_missing, reindex
from conversations.models import SearchState

PAUSE = 2.0
"""How many times as long as a step has taken the command pauses after it, so that requests hardly notice."""


class Command(BaseCommand):
    """Make the search index anew, while `serve` runs."""

    help = "Make the search index anew, while `serve` runs. It may be interrupted; --continue goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--continue", action="store_true", help="Only add what is missing.")
        parser.add_argument("--fast", action="store_true", help="Without pauses, for example before `serve` starts.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, and say how far it is."""
        steps, total, shown = add_missing() if options["continue"] else reindex(), 0, time.monotonic()
        while True:
            began = time.monotonic()
            if (added := next(steps, None)) is None:
                break
            total += added
            if began > shown + 5:
                shown = began
                self.stdout.write(f"{total:,} messages and notes; those up to {SearchState.now().missing:,} are left.")
            if not options["fast"]:
                time.sleep(PAUSE * (time.monotonic() - began))
        self.stdout.write(f"{total:,} messages and notes are in the search index.")
