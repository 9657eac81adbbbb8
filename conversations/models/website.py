"""A website that customers chat on: the settings of its chat, and the origins whose pages may embed it."""

import re
import secrets
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import available_timezones

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connection, models
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext_lazy as _

from conversations.models.conversation import AWAY
from conversations.models.office_hours import OfficeHours
from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT
from conversations.models.visible_text import one_line
from conversations.origins import serialize_origin

if TYPE_CHECKING:
    from conversations.models.agent import Agent

DEFAULT = "default"
"""The key of the website that always exists, for chats that name no website."""

ACCENT = "#4a51c7"
"""The default accent colour."""

RESERVED_KEYS = {"messages", "state", "known", "identify", "code", "enter", "resume", "here", "forget", "files"}
"""Keys that no website may have, because the URL `/chat/KEY/` is used for something else."""

SHARED_SECRET = _(
    "Tokens and HMAC share a secret. Switch off the kind that your server does not use; if it has ever used HMAC, "
    "make a new identity secret twice."
)
"""The warning for websites from before each kind of proof had its own secret. See docs/embedding.md."""

UNUSABLE_TIME_ZONES = {"Factory", "localtime"}
"""Names that zoneinfo accepts but that are no time zones: a placeholder, and the server's own setting."""

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether every database accepts this text in a query: none takes half of a character, PostgreSQL no NUL."""
    return UNSTORABLE.search(text) is None


def new_key() -> str:
    """Return a random key. It is public: every page of the website contains it."""
    return "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(10))


def check_key(key: str) -> None:
    """Raise ValidationError for a key that cannot be part of a URL."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,39}", key) or key in RESERVED_KEYS:
        raise ValidationError(_("A key has 2 to 40 lowercase letters, digits and hyphens. Some words are reserved."))


def check_hours(text: str) -> None:
    """Raise ValidationError for office hours that cannot be parsed."""
    try:
        OfficeHours.parse(text, "UTC")
    except ValueError as error:
        raise ValidationError(str(error)) from error


def usable_time_zones() -> list[str]:
    """Return the names of the time zones to choose from, such as Europe/Berlin. Others have names, too."""
    regions = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
    return [*sorted(name for name in available_timezones() if name.partition("/")[0] in regions), "UTC"]


def check_time_zone(name: str) -> None:
    """Raise ValidationError for a time zone that does not exist."""
    if name not in available_timezones() - UNUSABLE_TIME_ZONES:
        raise ValidationError(_("Unknown time zone. Example: Europe/Berlin"))


def check_languages(text: str) -> None:
    """Raise ValidationError for a language that Chatsite is not translated to."""
    known = dict(settings.LANGUAGES)
    unknown = [code for code in text.split() if code not in known]
    if unknown:
        raise ValidationError(
            _("Not available: %(unknown)s. Available languages: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(known)}
        )


def normalize_origin(text: str) -> str:
    """Return an origin as browsers serialize it. Raises ValidationError if `text` is not an origin."""
    try:
        return serialize_origin(text)
    except ValueError as error:
        raise ValidationError(
            _("“%(text)s” is not an origin. Example: https://shop.example") % {"text": text}
        ) from error


class WebsiteQuerySet(models.QuerySet["Website"]):
    """Queries for websites."""

    def by_key(self, key: str) -> "Website | None":
        """Return the website with this key, or None."""
        if not is_storable(key):
            return None
        try:
            found = prepared(self, "website by key", lambda: self.filter(key="?"), {"?": key}, kind=CONTENT)
        except AWAY:
            found = self.everyone()
            if not any(website.key == key for website in found):
                raise
        return next((website for website in found if website.key == key), None)

    def default(self) -> "Website":
        """Return the website of chats that name no website. It is created if it is missing, as in an empty database."""
        return self.by_key(DEFAULT) or self.get_or_create(key=DEFAULT, defaults={"name": "Chat with us"})[0]

    def by_id(self, pk: int) -> "Website":
        """Return the website with this primary key, which a foreign key guarantees to exist."""
        try:
            return next(iter(prepared(self, "website by id", lambda: self.filter(pk=-1), {-1: pk}, kind=CONTENT)))
        except AWAY:
            if found := next((website for website in self.everyone() if website.pk == pk), None):
                return found
            raise

    def everyone(self) -> "list[Website]":
        """Return all websites, by name. The replicator reads them often, so that all processes know them later."""
        return list(prepared(self, "websites", lambda: self.order_by("name", "pk"), {}, kind=CONTENT))

    def uses_accent(self, accent: str) -> bool:
        """Return whether a website has this accent colour, or it is the default one."""
        return accent == ACCENT or (is_storable(accent) and self.filter(accent__iexact=accent).exists())

    def with_origin(self, origin: str) -> "list[Website]":
        """Return the websites that list this origin."""
        if not is_storable(origin):
            return []
        return list(
            prepared(
                self, "websites with origin", lambda: self.filter(origins__origin="?"), {"?": origin}, kind=CONTENT
            )
        )

    def visible_to(self, agent: "Agent") -> "list[Website]":
        """Return the websites whose conversations the agent may see, by name."""
        mine = self.filter(agents=agent.pk) if agent.is_limited else self
        return mine.everyone()


class Website(models.Model):
    """A website that customers chat on."""

    class Ask(models.TextChoices):
        OFF = "OFF", _("not asked")
        OPTIONAL = "OPTIONAL", _("optional")
        REQUIRED = "REQUIRED", _("required before the first message")

    class Position(models.TextChoices):
        RIGHT = "right", _("right (left in right-to-left languages)")
        LEFT = "left", _("left (right in right-to-left languages)")

    name = models.CharField(_("name"), max_length=80, help_text=_("Customers read it above the chat."))
    key = models.CharField(
        _("key"), max_length=40, unique=True, default=new_key, validators=[check_key], help_text=_("It is no secret.")
    )
    accent = models.CharField(
        _("accent colour"),
        max_length=7,
        default=ACCENT,
        validators=[RegexValidator(r"^#[0-9a-fA-F]{6}$", _("A colour looks like #4a51c7."))],
    )
    position = models.CharField(_("position"), max_length=5, choices=Position, default=Position.RIGHT)
    greeting = models.CharField(
        _("greeting"), max_length=300, blank=True, help_text=_("Leave empty to use the default text.")
    )
    reply_time = models.CharField(
        _("reply time"),
        max_length=120,
        blank=True,
        help_text=_("Shown until there are enough replies to calculate the usual reply time."),
    )
    languages = models.CharField(
        _("languages"),
        max_length=120,
        blank=True,
        validators=[check_languages],
        help_text=_("Codes such as “en de pt”. Visitors who use none of them get the first one. Leave empty for all."),
    )
    office_hours = models.TextField(
        _("office hours"),
        blank=True,
        validators=[check_hours],
        help_text=_("One period per line, such as “Mon-Fri 9:00-17:30”. Leave empty if you are always open."),
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", validators=[check_time_zone])
    away_text = models.CharField(
        _("away text"),
        max_length=300,
        blank=True,
        help_text=_("Shown outside office hours. Leave empty to use the default text."),
    )
    ask_name = models.CharField(_("name of the customer"), max_length=8, choices=Ask, default=Ask.OPTIONAL)
    ask_email = models.CharField(_("e-mail of the customer"), max_length=8, choices=Ask, default=Ask.OPTIONAL)
    identity_required = models.BooleanField(
        _("identity required"),
        default=False,
        help_text=_("Only customers whose identity your server has confirmed can send messages."),
    )
    # How the website's server proves who a customer is: see threshold/identity.py. The previous secret of each kind
    # stays valid while the website's servers are being given the new one.
    accepts_tokens = models.BooleanField(_("signed tokens"), default=True, db_default=True)
    identity_secret = models.CharField(_("identity secret"), max_length=64, blank=True)
    identity_secret_before = models.CharField(_("previous identity secret"), max_length=64, blank=True)
    accepts_hmac = models.BooleanField(
        _("HMAC of the user id"),
        default=False,
        db_default=False,
        help_text=_("Less secure than signed tokens, because it never expires."),
    )
    hmac_secret = models.CharField(_("HMAC secret"), max_length=64, blank=True, default="", db_default="")
    hmac_secret_before = models.CharField(
        _("previous HMAC secret"), max_length=64, blank=True, default="", db_default=""
    )
    attachments = models.BooleanField(
        _("files"), default=True, db_default=True, help_text=_("Customers and agents can attach files.")
    )
    attachment_megabytes = models.PositiveSmallIntegerField(
        _("megabytes of a file"),
        default=10,
        db_default=10,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("The largest size of one file, 1 to 100 MB."),
    )
    receipts = models.BooleanField(
        _("read receipts"),
        default=False,
        db_default=False,
        help_text=_("Customers and agents see when the other side has seen their last message."),
    )
    peek = models.BooleanField(
        _("show what customers type"),
        default=False,
        db_default=False,
        help_text=_("Agents who have the conversation open see it before it is sent. The chat tells customers so."),
    )
    sounds = models.BooleanField(
        _("sound"),
        default=False,
        db_default=False,
        help_text=_("Customers hear a short sound when you answer while their chat is closed or hidden."),
    )
    retention_days = models.PositiveIntegerField(
        _("days that conversations are kept"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36500)],
        help_text=_("After their last message. `manage.py forgetold` deletes older ones. Leave empty to keep all."),
    )
    agents = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="websites",
        verbose_name=_("agents limited to it"),
        help_text=_("Agents selected on some websites see only these. Agents selected on none see all."),
    )

    objects = WebsiteQuerySet.as_manager()

    class Meta:
        verbose_name = _("website")
        verbose_name_plural = _("websites")

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def clean(self) -> None:
        """Clean the name. Raise ValidationError if nothing in it is visible, or if no customer could write."""
        self.name = one_line(self.name)
        if not self.name:
            raise ValidationError({"name": _("Enter a name that customers can read.")})
        if self.identity_required and not self.verifies_identity:
            sentence = _("Identity cannot be required while no kind of proof is switched on and has a secret.")
            raise ValidationError({"identity_required": sentence})

    @property
    def is_default(self) -> bool:
        """Whether this is the website of chats that name no website."""
        return self.key == DEFAULT

    @cached_property
    def hours(self) -> OfficeHours:
        """The parsed office hours."""
        return OfficeHours.parse(self.office_hours, self.time_zone)

    @property
    def token_secrets(self) -> list[str]:
        """The secrets with which signed tokens are valid; none if tokens are switched off."""
        secrets = (self.identity_secret, self.identity_secret_before) if self.accepts_tokens else ()
        return [secret for secret in secrets if secret]

    @property
    def hmac_secrets(self) -> list[str]:
        """The secrets with which an HMAC of the user id is valid; none if HMAC is switched off."""
        secrets = (self.hmac_secret, self.hmac_secret_before) if self.accepts_hmac else ()
        return [secret for secret in secrets if secret]

    @property
    def verifies_identity(self) -> bool:
        """Whether any proof can be valid."""
        return bool(self.token_secrets or self.hmac_secrets)

    @property
    def shares_secret(self) -> bool:
        """Whether one secret signs both tokens and user ids, so that one can be used as the other."""
        tokens, hmac = {self.identity_secret, self.identity_secret_before}, {self.hmac_secret, self.hmac_secret_before}
        return bool(tokens & hmac - {""})

    def rotate_identity_secret(self) -> str:
        """Make a new secret for tokens and return it. The current one stays valid until the next rotation."""
        self.identity_secret, self.identity_secret_before = secrets.token_hex(32), self.identity_secret
        self.save(update_fields=["identity_secret", "identity_secret_before"])
        return self.identity_secret

    def rotate_hmac_secret(self) -> str:
        """Make a new secret for HMAC and return it. The current one stays valid until the next rotation.

        A secret that also signs tokens becomes invalid for tokens: a user id that was signed with it may be a token for
        any customer. Raises ValidationError where tokens are switched on, because all of them would become invalid.
        """
        if self.shares_secret:
            if self.accepts_tokens:
                raise ValidationError(SHARED_SECRET)
            self.identity_secret = self.identity_secret_before = ""
        self.hmac_secret, self.hmac_secret_before = secrets.token_hex(32), self.hmac_secret
        names = ("identity_secret", "identity_secret_before", "hmac_secret", "hmac_secret_before")
        self.save(update_fields=names)
        return self.hmac_secret

    def listed_origins(self) -> list[str]:
        """Return the origins whose pages may embed the website's chat."""
        return Origin.objects.of(self.pk)

    def allows_origin(self, origin: str) -> bool:
        """Return whether pages of this origin may embed the website's chat."""
        return Origin.objects.is_allowed(origin, self.pk)


class OriginQuerySet(models.QuerySet["Origin"]):
    """Queries for origins."""

    def is_allowed(self, origin: str, website_id: int) -> bool:
        """Return whether the website lists the origin."""
        values = {-1: website_id}
        return self._contains(origin, "origin of website", partial(self.filter, origin="?", website_id=-1), values)

    def of(self, website_id: int) -> list[str]:
        """Return the origins that the website lists."""
        found = prepared(self, "origins", lambda: self.filter(website_id=-1), {-1: website_id}, kind=CONTENT)
        return [row.origin for row in found]

    def may_read(self, origin: str, uuid: UUID) -> bool:
        """Return whether the website of the conversation with this uuid lists the origin."""
        placeholder = UUID(int=0)
        to_database = apps.get_model("conversations", "Conversation")._meta.get_field("uuid").get_db_prep_value
        values = {to_database(placeholder, connection): to_database(uuid, connection)}
        query = partial(self.filter, origin="?", website__conversations__uuid=placeholder)
        return self._contains(origin, "origin of conversation", query, values)

    def is_listed(self, origin: str) -> bool:
        """Return whether any website lists the origin."""
        return self._contains(origin, "origin of any website", lambda: self.filter(origin="?")[:1], {})

    def _contains(
        self, origin: str, key: str, build: "Callable[[], models.QuerySet[Origin]]", values: dict[Any, Any]
    ) -> bool:
        """Return whether the query finds exactly this origin: some databases ignore case, accents and last spaces."""
        found = prepared(self, key, build, {**values, "?": origin}, kind=CONTENT) if is_storable(origin) else []
        return any(row.origin == origin for row in found)


class Origin(models.Model):
    """An origin whose pages may embed the website's chat, such as https://shop.example."""

    website = models.ForeignKey(Website, models.CASCADE, related_name="origins")
    origin = models.CharField(_("origin"), max_length=200, help_text=_("As in https://shop.example"))

    objects = OriginQuerySet.as_manager()

    class Meta:
        verbose_name = _("allowed origin")
        verbose_name_plural = _("allowed origins")
        constraints = (models.UniqueConstraint(fields=["origin", "website"], name="one_origin_each"),)

    def __str__(self) -> str:
        """Return the origin."""
        return self.origin

    def clean(self) -> None:
        """Normalize the origin. Raises ValidationError if it is not one."""
        self.origin = normalize_origin(self.origin)


def is_limited(agent_id: Any = "pk") -> Exists:
    """Return the expression for whether a query's agent is limited to some websites."""
    return Exists(Website.agents.through.objects.filter(user_id=OuterRef(agent_id)))
