"""`manage.py forgetold`: delete expired conversations, and files that belong to no message."""

from typing import Any

from django.core.management.base import BaseCommand

from conversations.actions import delete_expired_conversations, delete_orphaned_files
from conversations.models import Website


class Command(BaseCommand):
    """Delete the conversations that are older than their websites keep them, and orphaned files."""

    help = "Delete conversations that are older than their website keeps them. Run it once a day; it may run twice."

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, and print how many."""
        for website in Website.objects.all():
            if deleted := delete_expired_conversations(website=website):
                self.stdout.write(f"{website.name}: {deleted} deleted.")
        if files := delete_orphaned_files():
            self.stdout.write(f"{files} files that belong to no message deleted.")
