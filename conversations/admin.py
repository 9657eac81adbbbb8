"""What staff see in Django's admin. What happened is read there; it is changed where it belongs."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from conversations.models import Conversation, Message, Reading, Token

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Any]
else:
    Admin = admin.ModelAdmin


class ReadOnly(Admin):
    """Rows that are looked at, and only a superuser deletes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They come from the chat."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are changed in the inbox."""
        return False


@admin.register(Conversation)
class ConversationAdmin(ReadOnly):
    """Conversations, without the uuid: it is the customer's secret."""

    list_display = ("id", "customer_name", "customer_email", "status", "assignee", "last_message_at")
    list_filter = ("status",)
    search_fields = ("customer_name", "customer_email")
    exclude = ("uuid",)


@admin.register(Message)
class MessageAdmin(ReadOnly):
    """Messages."""

    list_display = ("id", "conversation", "author", "agent", "created_at")
    list_filter = ("author",)
    list_select_related = ("conversation", "agent")
    exclude = ("client_id",)


@admin.register(Reading)
class ReadingAdmin(ReadOnly):
    """How far agents have read."""

    list_display = ("conversation", "agent", "last_message_id")


@admin.register(Token)
class TokenAdmin(ReadOnly):
    """Tokens, to see and revoke; `manage.py createtoken` makes them."""

    list_display = ("name", "agent", "scope", "created_at")
    exclude = ("digest",)
