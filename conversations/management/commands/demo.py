"""`manage.py demo`: example data for an empty database."""

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from conversations.actions import close, post_message, take
from conversations.models import Agent, Website

CONVERSATIONS: list[tuple[str, str, list[str]]] = [
    (
        "Ines Okafor",
        "ines@example.com",
        [
            "> Hi! My tall terracotta arrived with a hairline crack near the rim. Can I send a photo?",
            "< Oh no, I'm sorry about that. A photo would help, but I can already send you a new one today.",
            "> That is very kind. It's order 2041.",
            "< Found it. A new one leaves this afternoon, and you can keep the cracked one for cuttings 🌱",
            "> Brilliant, thank you!",
        ],
    ),
    ("Tomasz", "", ["> Do you deliver to Gdańsk?", "> And is the moss glaze food safe?"]),
    (
        "Mei Tanaka",
        "mei@example.com",
        [
            "> Is the blue ash planter back in stock soon?",
            "< Yes: the kiln opens on Thursday. https://example.com/blue-ash has a list you can join.",
        ],
    ),
    ("", "", ["> Hello? I can't find where to change my address."]),
]


class Command(BaseCommand):
    """Fill an empty database with an agent and some conversations, in debug mode only.

    The demo shop may have the chat in any case.
    """

    help = (
        "In debug mode, list the demo shop's origin, and fill an empty database with an agent and some conversations."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the option --migrate."""
        parser.add_argument("--migrate", action="store_true", help="migrate first: faster than two commands")

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, if that is asked for, in any mode. In debug mode make the examples and print how to sign in."""
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        if settings.DEBUG:
            self.make_examples()

    @transaction.atomic
    def make_examples(self) -> None:
        """Make what is missing."""
        website = Website.objects.default()
        for host in ("localhost", "127.0.0.1"):  # also if an earlier demo was on another port
            website.origins.get_or_create(origin=f"http://{host}:{settings.PORT}")
        if User.objects.exists():
            return
        password = secrets.token_urlsafe(9)
        user = User.objects.create_superuser("bob", "bob@example.com", password, first_name="Bob")
        agent = Agent.objects.promote(user)
        for name, email, lines in CONVERSATIONS:
            conversation = None
            for line in lines:
                author = agent if line.startswith("<") else None
                message = post_message(
                    content=line[2:],
                    conversation=conversation,
                    agent=author,
                    name="" if author else name,
                    email=email,
                )
                conversation = message.conversation
            if conversation and len(lines) == 5:
                take(conversation=conversation, by=agent)
            if conversation and len(lines) == 2 and email:
                close(conversation=conversation)
        self.stdout.write(
            "\n  A demo has been made, this once. "
            f"Sign in to the inbox and the settings as  bob  with the password  {password}\n"
            "  (Another password: .venv/bin/python manage.py changepassword bob)"
        )
