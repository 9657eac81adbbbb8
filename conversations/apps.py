"""The app's configuration."""

from http.cookies import Morsel
from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class ConversationsConfig(AppConfig):
    """The only app: conversations between customers and agents."""

    name = "conversations"
    verbose_name = gettext_lazy("Conversations")

    def ready(self) -> None:
        """Add the cookie attribute `Partitioned` to http.cookies, and let listed origins read responses of the API."""
        from corsheaders.signals import check_request_enabled

        from conversations.threshold.origin import may_read_cross_origin

        morsel: Any = Morsel
        morsel._reserved.setdefault("partitioned", "Partitioned")  # noqa: SLF001 (public from Python 3.14 on)
        morsel._flags.add("partitioned")  # noqa: SLF001
        check_request_enabled.connect(may_read_cross_origin)
