"""The project's own checks, Sentry, and the garbage collector."""

import gc

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import Tags, register

from chatsite import sentry


class ChatsiteConfig(AppConfig):
    """Registers what `manage.py migrate` checks before it creates tables. It has no models."""

    name = "chatsite"

    def ready(self) -> None:
        """Register the checks, start Sentry, and turn on the garbage collector, which manage.py has turned off.

        Modules create many objects, of which hardly any is garbage: without `freeze` it would look at all of them again
        and again, and once more at the end of the process.
        """
        from chatsite.startup import check_encoding

        register(check_encoding, Tags.database)
        if settings.SENTRY_DSN:
            sentry.start(settings.SENTRY_DSN)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
