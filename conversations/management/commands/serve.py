"""`manage.py serve`: the one process that serves pages, the API and sockets."""

import sys
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from chatsite import startup


class Command(BaseCommand):
    """Serve Chatsite on HOST and PORT."""

    help = "Serve Chatsite on HOST and PORT."

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM or SIGINT. Exits with 1 and a sentence for each problem if it cannot."""
        problems = startup.find_problems()
        for warning in startup.find_warnings():
            self.stderr.write(f"Warning: {warning}")
        if problems:
            refuse(problems)
        from chatsite.serving.cleaning import Cleaner
        from chatsite.serving.database_file import DatabaseLost
        from chatsite.serving.listening import CannotListen
        from chatsite.serving.server import serve

        self.cleaner = Cleaner()
        try:
            serve(settings.HOST, settings.PORT, self.ready)
        except CannotListen as error:
            refuse([str(error)])
        except DatabaseLost as error:
            sys.exit(str(error))
        finally:
            self.cleaner.stop()

    def ready(self) -> None:
        """Prepare for requests in a thread, as it listens already."""
        from chatsite.serving.warm_up import warm_up

        self.say_addresses()
        if settings.CLEANING:
            self.cleaner.start()
        threading.Thread(target=warm_up, name="warm-up", daemon=True).start()

    def say_addresses(self) -> None:
        """Print where it listens, and the addresses as people reach them."""
        import chatsite

        url = public_url()
        version = getattr(chatsite, "__version__", "")
        self.stdout.write(f"\n  Chatsite {version}".rstrip() + f" listens on {listening_address()}\n")
        if settings.DEBUG:
            self.stdout.write(f"  Demo shop   {url}/")
        self.stdout.write(f"  Chat        {url}/chat/\n  Inbox       {url}/inbox/\n  API         {url}/api/docs\n")
        self.stdout.write(f"  Settings    {url}/admin/ (for superusers; `manage.py createsuperuser` makes one)\n")
        self.stdout.write("  Stop with Ctrl-C.\n")
        self.stdout.flush()


def refuse(problems: list[str]) -> None:
    """End the process with 1 and say why."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    sys.exit(f"Chatsite cannot start:\n{lines}")


def listening_address() -> str:
    """Where the server listens: an address with its port, or a Unix socket."""
    if settings.HOST.startswith("unix:"):
        return str(settings.HOST)
    host = settings.HOST.strip("[]")
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def public_url() -> str:
    """The beginning of URLs as people reach Chatsite, as far as the settings tell: a proxy may have another port."""
    host = next((host.lstrip(".") for host in settings.ALLOWED_HOSTS), "localhost")
    if not settings.INSECURE_HTTP:
        return f"https://{host}"
    if settings.TRUSTED_PROXIES or settings.HOST.startswith("unix:"):
        return f"http://{host}"
    is_anywhere = settings.HOST.strip("[]") in {"0.0.0.0", "::"}  # noqa: S104 (compares only)
    return f"http://{host}:{settings.PORT}" if is_anywhere else listening_address()
