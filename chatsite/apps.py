"""The project's own checks."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class ChatsiteConfig(AppConfig):
    """Registers what `manage.py migrate` checks before it creates tables. It has no models."""

    name = "chatsite"

    def ready(self) -> None:
        """Register the checks."""
        from chatsite.startup import check_encoding

        register(check_encoding, Tags.database)
