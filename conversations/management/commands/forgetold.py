"""`manage.py forgetold`: delete what is older than its website keeps it, and files that no message has."""

from typing import Any

from django.core.management.base import BaseCommand

from conversations.actions import forget_files, forget_old
from conversations.models import Website


class Command(BaseCommand):
    """Delete the conversations that are older than their websites keep them; for a timer, once a day."""

    help = "Delete conversations that are older than their website keeps them. Run it once a day; it may run twice."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say how many."""
        for website in Website.objects.all():
            forgotten = forget_old(website=website)
            if forgotten:
                self.stdout.write(f"{website.name}: {forgotten} deleted.")
        if files := forget_files():
            self.stdout.write(f"{files} files that belong to no message deleted.")
