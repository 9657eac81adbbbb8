"""`manage.py addwebsite`: a website that customers chat on."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from conversations.models import Origin, Website


class Command(BaseCommand):
    """Add a website, or more origins to one that is there."""

    help = "Add a website and print the line for its pages; or, with the key of one that is there, add origins to it."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME ORIGIN… [--key] [--accent] [--position]."""
        parser.add_argument("name", help="customers read it above the chat")
        parser.add_argument("origins", nargs="*", help="whose pages may have the chat, as in https://shop.example")
        parser.add_argument("--key", help="small letters, digits and dashes; without it, one is made")
        parser.add_argument("--accent", help="a colour such as #4a51c7")
        parser.add_argument("--position", choices=["right", "left"])
        parser.add_argument("--at", default="https://chat.example.com", help="where this Chatsite is, for the line")

    @transaction.atomic
    def handle(self, *args: Any, name: str, origins: list[str], key: str | None, at: str, **options: Any) -> None:
        """Raises CommandError, and changes nothing, if anything will not do."""
        website = (key and Website.objects.keyed(key)) or Website(**({"key": key} if key else {}))
        website.name = name
        for field in ("accent", "position"):
            if options[field]:
                setattr(website, field, options[field])
        try:
            website.full_clean()
            website.save()
            for written in origins:
                origin = Origin(website=website, origin=written)
                origin.clean()
                website.origins.get_or_create(origin=origin.origin)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f'<script src="{at.rstrip("/")}/chat.js" data-website="{website.key}" async></script>')
