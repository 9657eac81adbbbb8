"""The app."""

from http.cookies import Morsel
from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class ConversationsConfig(AppConfig):
    """Conversations between customers and agents."""

    name = "conversations"
    verbose_name = gettext_lazy("Conversations")

    def ready(self) -> None:
        """Teach Python the cookie attribute `Partitioned`, and other origins which of our calls they may make."""
        from corsheaders.signals import check_request_enabled

        from conversations.threshold.origin import is_widget

        known: Any = Morsel
        known._reserved.setdefault("partitioned", "Partitioned")  # noqa: SLF001 (Python has no other way)
        known._flags.add("partitioned")  # noqa: SLF001 (the same)
        check_request_enabled.connect(is_widget)
