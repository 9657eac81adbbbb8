"""`manage.py forgetold`: delete what `serve` otherwise deletes once a day by itself (CLEANING)."""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand

from conversations.actions import CLEANING


class Command(BaseCommand):
    """Delete the conversations that are older than their websites keep them, and everything else in CLEANING."""

    help = "Delete conversations that are older than their website keeps them, as `serve` does unless CLEANING=off."

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, and print how many."""
        for delete in CLEANING:
            deleted: Counter[str] = Counter()
            for more in delete():
                deleted += more
            for what, number in deleted.items():
                self.stdout.write(f"{what}: {number} deleted.")
