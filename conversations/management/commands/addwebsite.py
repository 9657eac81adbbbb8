"""`manage.py addwebsite`: a website that customers chat on."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from conversations.models import Origin, Website
from conversations.models.website import normalize_origin


class Command(BaseCommand):
    """Add a website, or more origins to one that is there."""

    help = "Add a website and print the line for its pages; or, with the key of one that is there, add origins to it."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME ORIGIN… [--key] [--accent] [--position] [--at]."""
        parser.add_argument("name", help="customers read it above the chat")
        parser.add_argument("origins", nargs="*", help="whose pages may have the chat, as in https://shop.example")
        parser.add_argument("--key", help="small letters, digits and dashes; without it, one is made")
        parser.add_argument("--accent", help="a colour such as #4a51c7")
        parser.add_argument("--position", choices=["right", "left"])
        parser.add_argument("--at", default="https://chat.example.com", help="where this Chatsite is, for the line")

    @transaction.atomic
    def handle(self, *args: Any, name: str, origins: list[str], key: str | None, at: str, **options: Any) -> None:
        """Raises CommandError, and changes nothing, if anything will not do."""
        website = (key and Website.objects.by_key(key)) or Website(**({"key": key} if key else {}))
        website.name = name
        for field in ("accent", "position"):
            if options[field]:
                setattr(website, field, options[field])
        try:
            chatsite = normalize_origin(_whole(at))
            website.full_clean()
            website.save()
            for written in origins:
                origin = Origin(website=website, origin=written)
                origin.full_clean(validate_unique=False, validate_constraints=False)  # it may be there already
                website.origins.get_or_create(origin=origin.origin)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f'<script src="{chatsite}/chat.js" data-website="{website.key}" async></script>')
        if not website.origins.exists():
            link = f"{chatsite}/chat/{website.key}/"
            self.stdout.write(
                f"No page may have this chat before its origin is added. Until then there is its link: {link}"
            )


def _whole(address: str) -> str:
    """An address as people write it, of Chatsite or of its script, with the scheme that it will have."""
    address = address.strip().rstrip("/").removesuffix("/chat.js")
    return address if "://" in address else f"https://{address}"
