"""What staff see in Django's admin: websites are set up there; what happened is read there, and changed elsewhere."""

import secrets
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import ManyToManyField, QuerySet
from django.forms import ModelForm, Textarea
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from conversations.models import Agent, Attachment, Contact, Conversation, Message, Origin, Reading, Token, Website
from conversations.models.website import normalize_origin

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Any]
    Inline = admin.TabularInline[Any, Any]
    OriginModelForm = ModelForm[Origin]
else:
    Admin = admin.ModelAdmin
    Inline = admin.TabularInline
    OriginModelForm = ModelForm


class ReadOnly(Admin):
    """Rows that are looked at, and only a superuser deletes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They come from the chat."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are changed in the inbox."""
        return False


SECRETS = ("identity_secret", "identity_secret_before")


class OriginForm(OriginModelForm):
    """An origin, as browsers write it before it is compared with the others."""

    def clean_origin(self) -> str:
        """Raises ValidationError for what is none."""
        return normalize_origin(self.cleaned_data["origin"])


class OriginInline(Inline):
    """The origins of a website."""

    model = Origin
    form = OriginForm
    extra = 1


@admin.register(Website)
class WebsiteAdmin(Admin):
    """Websites, and the line that each has in its pages."""

    list_display = ("name", "key", "position", "identity_required")
    inlines = (OriginInline,)
    actions = ("new_secret",)
    filter_horizontal = ("agents",)
    readonly_fields = ("snippet", *SECRETS)
    fieldsets = (
        (None, {"fields": ("name", "key", "snippet")}),
        (_("Looks"), {"fields": ("accent", "position", "languages")}),
        (_("Words"), {"fields": ("greeting", "reply_time", "away_text")}),
        (_("Hours"), {"fields": ("office_hours", "time_zone")}),
        (_("Customers"), {"fields": ("ask_name", "ask_email", "retention_days")}),
        (_("Files"), {"fields": ("attachments", "attachment_megabytes")}),
        (_("Identity"), {"fields": ("identity_required", *SECRETS)}),
        (_("Agents"), {"fields": ("agents",)}),
    )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form, with a line that has this Chatsite's own address in it."""
        self.address = request.build_absolute_uri("/chat.js")
        kwargs["widgets"] = {"office_hours": Textarea(attrs={"rows": 4, "placeholder": "Mon-Fri 9:00-17:30"})}
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_manytomany(
        self, db_field: "ManyToManyField[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Of all users, the agents."""
        if db_field.name == "agents":
            kwargs["queryset"] = User.objects.filter(pk__in=Agent.objects.values("pk"))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The key stands on the website's pages: once saved, it stays."""
        return (*self.readonly_fields, "key") if obj else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The secrets are for those who may make new ones: whoever has one can be any customer."""
        if not obj or self.has_change_permission(request, obj):
            return self.fieldsets
        return [
            (title, {"fields": tuple(field for field in fields["fields"] if field not in SECRETS)})
            for title, fields in self.fieldsets
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """All but the default one, which chats that name none belong to."""
        return super().has_delete_permission(request, obj) and not (obj and obj.is_default)

    @admin.display(description=_("for its pages"))
    def snippet(self, website: Website) -> str:
        """The line for the website's pages."""
        if website.pk is None:
            return "-"
        line = '<script src="{}" data-website="{}" async></script>'
        return format_html("<code>{}</code>", line.format(getattr(self, "address", "/chat.js"), website.key))

    @admin.action(permissions=["change"], description=_("Make a new identity secret; the one before it still holds"))
    def new_secret(self, request: HttpRequest, queryset: "QuerySet[Website]") -> None:
        """A new secret. Until the next one, the old one holds too."""
        for website in queryset:
            website.identity_secret_before = website.identity_secret
            website.identity_secret = secrets.token_hex(32)
            website.save(update_fields=["identity_secret", "identity_secret_before"])


@admin.register(Contact)
class ContactAdmin(ReadOnly):
    """Verified customers."""

    list_display = ("sub", "name", "email", "website", "proof")
    list_filter = ("website",)
    search_fields = ("sub", "name", "email")


@admin.register(Conversation)
class ConversationAdmin(ReadOnly):
    """Conversations, without the uuid: it is the customer's secret."""

    list_display = ("id", "website", "customer_name", "customer_email", "status", "assignee", "last_message_at")
    list_filter = ("status", "website")
    list_select_related = ("website", "assignee")
    search_fields = ("customer_name", "customer_email")
    exclude = ("uuid",)


@admin.register(Message)
class MessageAdmin(ReadOnly):
    """Messages."""

    list_display = ("id", "conversation", "author", "agent", "created_at")
    list_filter = ("author",)
    list_select_related = ("conversation", "agent")
    exclude = ("client_id",)


@admin.register(Attachment)
class AttachmentAdmin(ReadOnly):
    """Files; they are opened in the inbox."""

    list_display = ("name", "kind", "size", "message")
    exclude = ("file", "small")


@admin.register(Reading)
class ReadingAdmin(ReadOnly):
    """How far agents have read."""

    list_display = ("conversation", "agent", "last_message_id")


@admin.register(Token)
class TokenAdmin(ReadOnly):
    """Tokens, to see and revoke; `manage.py createtoken` makes them."""

    list_display = ("name", "agent", "scope", "created_at")
    exclude = ("digest",)
