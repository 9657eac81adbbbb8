"""`manage.py addwebsite`: a website that customers chat on."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from conversations.models import Origin, Website
from conversations.models.website import normalize_origin


class Command(BaseCommand):
    """Add a website, or change an existing one."""

    help = (
        "Add a website and print the script tag for its pages; or, with the --key of an existing one, change it: "
        "its name, more origins, new secrets."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add NAME ORIGIN… [--key] [--accent] [--position] [--at] [--new-identity-secret] [--new-hmac-secret]."""
        parser.add_argument("name", help="customers read it above the chat")
        parser.add_argument("origins", nargs="*", help="whose pages may embed the chat, as in https://shop.example")
        parser.add_argument("--key", help="lower-case letters, digits and dashes; random by default")
        parser.add_argument("--accent", help="a colour such as #4a51c7")
        parser.add_argument("--position", choices=["right", "left"])
        parser.add_argument("--at", default="https://chat.example.com", help="the address of this Chatsite")
        parser.add_argument(
            "--new-identity-secret", action="store_true", help="print a new secret, with which your server signs tokens"
        )
        parser.add_argument(
            "--new-hmac-secret", action="store_true", help="accept the HMAC of user ids, and print a new secret for it"
        )

    @transaction.atomic
    def handle(self, *args: Any, name: str, origins: list[str], key: str | None, at: str, **options: Any) -> None:
        """Save the website. Raises CommandError, and changes nothing, if a value is invalid."""
        website = (key and Website.objects.by_key(key)) or Website(**({"key": key} if key else {}))
        website.name = name
        for field in ("accent", "position"):
            if options[field]:
                setattr(website, field, options[field])
        try:
            chatsite = normalize_origin(_with_scheme(at))
            website.accepts_hmac = website.accepts_hmac or options["new_hmac_secret"]
            website.full_clean()
            website.save()
            for text in origins:
                origin = Origin(website=website, origin=text)
                origin.full_clean(validate_unique=False, validate_constraints=False)  # it may exist already
                website.origins.get_or_create(origin=origin.origin)
            identity_secret = website.rotate_identity_secret() if options["new_identity_secret"] else ""
            hmac_secret = website.rotate_hmac_secret() if options["new_hmac_secret"] else ""
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f'<script src="{chatsite}/chat.js" data-website="{website.key}" async></script>')
        if identity_secret:
            self.stdout.write(f"Secret for signed tokens: {identity_secret}")
        if hmac_secret:
            self.stdout.write(f"Secret for the HMAC of user ids: {hmac_secret}")
        if not website.origins.exists():
            link = f"{chatsite}/chat/{website.key}/"
            self.stdout.write(f"No page may embed this chat before its origin is added. Until then, link to it: {link}")


def _with_scheme(address: str) -> str:
    """Return the address of Chatsite, or of its script, with https:// if it has no scheme."""
    address = address.strip().rstrip("/").removesuffix("/chat.js")
    return address if "://" in address else f"https://{address}"
