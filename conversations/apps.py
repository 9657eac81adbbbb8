"""The app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class ConversationsConfig(AppConfig):
    """Conversations between customers and agents."""

    name = "conversations"
    verbose_name = gettext_lazy("Conversations")
