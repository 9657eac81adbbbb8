"""`manage.py serve`: the one process that serves pages, the API and sockets."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Serve Chatsite on HOST and PORT."""

    help = "Serve Chatsite on HOST and PORT."

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM or SIGINT."""
        from chatsite.serving.server import serve

        url = f"http://{settings.HOST}:{settings.PORT}"
        if settings.DEBUG:
            self.stdout.write(f"\n  Demo shop   {url}/")
        else:
            self.stdout.write("")
        self.stdout.write(f"  Chat        {url}/chat/\n  Inbox       {url}/inbox/\n  API         {url}/api/docs\n")
        self.stdout.write("  Stop with Ctrl-C.\n")
        self.stdout.flush()
        serve(settings.HOST, settings.PORT)
