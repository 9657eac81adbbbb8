"""The app."""

from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    """Conversations between customers and agents."""

    name = "conversations"
