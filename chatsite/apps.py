"""The project's own checks, and the garbage collector."""

import gc

from django.apps import AppConfig
from django.core.checks import Tags, register


class ChatsiteConfig(AppConfig):
    """Registers what `manage.py migrate` checks before it creates tables. It has no models."""

    name = "chatsite"

    def ready(self) -> None:
        """Register the checks. Turn on the garbage collector, which manage.py has turned off.

        Modules create many objects, of which hardly any is garbage: without `freeze` it would look at all of them again
        and again, and once more at the end of the process.
        """
        from chatsite.startup import check_encoding

        register(check_encoding, Tags.database)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
