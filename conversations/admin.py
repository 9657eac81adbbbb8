"""Django's admin: staff set up websites here. Conversations and all that belongs to them can only be read."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db.models import ManyToManyField, QuerySet
from django.forms import ModelForm, Textarea
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from conversations.models import (
    Agent,
    Attachment,
    Contact,
    Conversation,
    DeskEntry,
    Label,
    Message,
    Origin,
    Reading,
    SavedView,
    Token,
    Website,
)
from conversations.models.visible_text import one_line
from conversations.models.website import SHARED_SECRET, normalize_origin
from conversations.screen.forms import EmailField

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    Inline = admin.TabularInline[Any, Any]
    OriginModelForm = ModelForm[Origin]
    LabelModelForm = ModelForm[Label]
    DjangoUserAdmin = auth_admin.UserAdmin[User]
    UserModelForm = UserChangeForm[User]
else:
    ModelAdmin = admin.ModelAdmin
    Inline = admin.TabularInline
    OriginModelForm = ModelForm
    LabelModelForm = ModelForm
    DjangoUserAdmin = auth_admin.UserAdmin
    UserModelForm = UserChangeForm


class ListFiltersOnly(ModelAdmin):
    """A ModelAdmin whose list can be filtered by the fields of `list_filter` and no others.

    Django lets a query string filter by each field of the model, shown or not: `?uuid__startswith=1` would reveal a
    secret digit by digit.
    """

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Return whether a filter of the list's sidebar makes this lookup. Django answers 400 to any other."""
        filters = self.list_filter if request is None else self.get_list_filter(request)
        field, _sep, rest = lookup.partition("__")
        return field in filters and rest in {"exact", "id__exact", "isnull"}


class ReadOnly(ListFiltersOnly):
    """Rows that staff can read, and that only those with the permission can delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows are made in the chat."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are changed in the inbox."""
        return False


class OriginForm(OriginModelForm):
    """A form that normalizes an origin before it is checked for duplicates."""

    def clean_origin(self) -> str:
        """Return the origin as browsers serialize it. Raises ValidationError for anything else."""
        return normalize_origin(self.cleaned_data["origin"])


class LabelForm(LabelModelForm):
    """A form of a label."""

    def clean_name(self) -> str:
        """Return the name on one line. Raises ValidationError if another label has it, in upper or lower case."""
        name = one_line(self.cleaned_data["name"])
        other = Label.objects.by_name(name)
        if not name or (other and other != self.instance):
            raise ValidationError(_("There is a label with this name already.") if name else _("A label needs a name."))
        return name


class OriginInline(Inline):
    """The origins of a website."""

    model = Origin
    form = OriginForm
    extra = 1


SECRETS = ("identity_secret", "identity_secret_before", "hmac_secret", "hmac_secret_before")
"""Fields of a website that only staff who may change it see: with a secret, anybody can act as any customer."""


@admin.register(Website)
class WebsiteAdmin(ListFiltersOnly):
    """Websites, with the script tag for the pages of each."""

    list_display = ("name", "key", "position", "identity_required", "proofs")
    inlines = (OriginInline,)
    actions = ("rotate_identity_secret", "rotate_hmac_secret")
    filter_horizontal = ("agents",)
    readonly_fields = ("snippet", *SECRETS)
    fieldsets = (
        (None, {"fields": ("name", "key", "snippet")}),
        (_("Appearance"), {"fields": ("accent", "position", "languages")}),
        (_("Texts"), {"fields": ("greeting", "reply_time", "away_text")}),
        (_("Office hours"), {"fields": ("office_hours", "time_zone")}),
        (_("Customers"), {"fields": ("ask_name", "ask_email", "receipts", "peek", "sounds", "retention_days")}),
        (_("Files"), {"fields": ("attachments", "attachment_megabytes")}),
        (
            _("Identity"),
            {"fields": ("identity_required", "accepts_tokens", *SECRETS[:2], "accepts_hmac", *SECRETS[2:])},
        ),
        (_("Agents"), {"fields": ("agents",)}),
    )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, and store the URL of this Chatsite for the script tag."""
        self.address = request.build_absolute_uri("/chat.js")
        kwargs["widgets"] = {"office_hours": Textarea(attrs={"rows": 4, "placeholder": "Mon-Fri 9:00-17:30"})}
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_manytomany(
        self, db_field: "ManyToManyField[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Offer agents only, not all users."""
        if db_field.name == "agents":
            kwargs["queryset"] = User.objects.filter(pk__in=Agent.objects.values("pk"))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Make the key read-only once it is saved: the website's pages contain it."""
        return (*self.readonly_fields, "key") if obj else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave the secrets out for staff who may only view websites, and warn if both proofs share a secret."""
        hidden = SECRETS if obj and not self.has_change_permission(request, obj) else ()
        return [
            (
                title,
                {
                    "fields": tuple(field for field in options["fields"] if field not in hidden),
                    "description": SHARED_SECRET if "accepts_hmac" in options["fields"] and is_at_risk(obj) else None,
                },
            )
            for title, options in self.fieldsets
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forbid deleting the default website: chats that name no website belong to it."""
        return super().has_delete_permission(request, obj) and not (obj and obj.is_default)

    @admin.display(description=_("code for its pages"))
    def snippet(self, website: Website) -> str:
        """Return the script tag for the website's pages."""
        if website.pk is None:
            return "-"
        tag = '<script src="{}" data-website="{}" async></script>'
        return format_html("<code>{}</code>", tag.format(getattr(self, "address", "/chat.js"), website.key))

    @admin.display(description=_("accepted proofs of identity"))
    def proofs(self, website: Website) -> str:
        """Return the kinds of proof that can be valid, with a warning sign where they share a secret."""
        kinds = {_("signed tokens"): website.token_secrets, _("HMAC of the user id"): website.hmac_secrets}
        names = ", ".join(str(kind) for kind, secrets in kinds.items() if secrets)
        return ("⚠ " if is_at_risk(website) else "") + (names or "-")

    @admin.action(permissions=["change"], description=_("Create a new identity secret (the previous one stays valid)"))
    def rotate_identity_secret(self, request: HttpRequest, queryset: "QuerySet[Website]") -> None:
        """Make new secrets for signed tokens."""
        for website in queryset:
            website.rotate_identity_secret()
            self.log_change(request, website, [{"changed": {"fields": ["identity secret"]}}])

    @admin.action(permissions=["change"], description=_("Create a new HMAC secret (the previous one stays valid)"))
    def rotate_hmac_secret(self, request: HttpRequest, queryset: "QuerySet[Website]") -> None:
        """Make new secrets for the HMAC of user ids."""
        for website in queryset:
            try:
                website.rotate_hmac_secret()
            except ValidationError as error:
                self.message_user(request, f"{website}: {error.messages[0]}", messages.ERROR)
            else:
                self.log_change(request, website, [{"changed": {"fields": ["HMAC secret"]}}])


def is_at_risk(website: Website | None) -> bool:
    """Return whether the website accepts both kinds of proof with a common secret."""
    return bool(website and website.token_secrets and website.hmac_secrets and website.shares_secret)


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
    """Messages, without the client_id: with that of the first message, a retry returns the conversation's secret."""

    list_display = ("id", "conversation", "author", "agent", "created_at")
    list_filter = ("author",)
    list_select_related = ("conversation", "agent")
    exclude = ("client_id",)


@admin.register(DeskEntry)
class DeskEntryAdmin(ReadOnly):
    """Notes and activities, which only agents see."""

    list_display = ("id", "conversation", "kind", "agent", "created_at")
    list_filter = ("kind",)
    list_select_related = ("conversation", "agent")
    exclude = ("client_id",)


@admin.register(Attachment)
class AttachmentAdmin(ReadOnly):
    """Files; the inbox opens them."""

    list_display = ("name", "kind", "size", "message")
    exclude = ("uuid", "file", "thumbnail", "original")


@admin.register(Label)
class LabelAdmin(ListFiltersOnly):
    """Labels; agents make them in the inbox."""

    list_display = ("name", "colour")
    search_fields = ("name",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form; it refuses a name that another label has in upper or lower case."""
        return super().get_form(request, obj, change, form=LabelForm, **kwargs)


@admin.register(SavedView)
class SavedViewAdmin(ReadOnly):
    """Views of the inbox that agents have saved; those without an owner are the team's."""

    list_display = ("name", "owner", "query")
    list_select_related = ("owner",)


@admin.register(Reading)
class ReadingAdmin(ReadOnly):
    """How far agents have read."""

    list_display = ("conversation", "agent", "last_message_id")


@admin.register(Token)
class TokenAdmin(ReadOnly):
    """API tokens, to see and revoke; `manage.py createtoken` makes them."""

    list_display = ("name", "agent", "scope", "created_at")
    exclude = ("digest",)


# Django's own admin classes for these allow filters by any field: see ListFiltersOnly.
admin.site.unregister([User, Group])


class UserForm(UserModelForm):
    """A user. The e-mail address is checked by `check_email`: Django's validator refuses some addresses that exist."""

    email = EmailField(label=_("e-mail"), required=False)

    def _get_validation_exclusions(self) -> set[str]:
        return {*super()._get_validation_exclusions(), "email"}  # type: ignore[misc]  # Django's stubs lack it


@admin.register(User)
class UserAdmin(ListFiltersOnly, DjangoUserAdmin):
    """Users."""

    form = UserForm


@admin.register(Group)
class GroupAdmin(ListFiltersOnly, auth_admin.GroupAdmin):
    """Groups."""
