"""`manage.py doctor`: say what is wrong with this installation."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from chatsite.doctor import OK, PROBLEM, WARNING, findings
from chatsite.doctor.machine import CHECKS
from conversations.counted import counted


class Command(BaseCommand):
    """Check the installation, and print a line for each finding. Exits with 1 if there is a problem."""

    help = "Say what is wrong with this installation and what to do. Changes nothing. Exit code 1: there are problems."

    requires_system_checks = ()  # these report as they like

    def add_arguments(self, parser: CommandParser) -> None:
        """The address to check."""
        parser.add_argument("--url", help="how browsers reach Chatsite, as in https://chat.example.com")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check."""
        checks = list(CHECKS)
        if options["url"]:
            from chatsite.doctor.public import public_checks

            checks += public_checks(options["url"])
        count = dict.fromkeys((OK, WARNING, PROBLEM), 0)
        for name, finding in findings(checks):
            count[finding.level] += 1
            self.stdout.write(f"{finding.level:8} {name}: {' '.join(finding.sentence.split())}")
            self.stdout.flush()
        if not options["url"]:
            self.stdout.write("The proxy was not checked. Add --url and the address of your chat.")
        self.stdout.write(f"{counted(count[PROBLEM], 'problem')}, {counted(count[WARNING], 'warning')}.")
        if count[PROBLEM]:
            sys.exit(1)
