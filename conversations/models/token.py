"""Tokens with which bots and scripts speak as an agent."""

import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations.models.agent import Agent

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class TokenQuerySet(models.QuerySet["Token"]):
    """How tokens are made and found."""

    def mint(self, agent: "User", name: str, scope: str) -> str:
        """Make a token and return it. This is the only time that it is seen: the table keeps its hash."""
        secret = secrets.token_urlsafe(32)
        token = self.create(agent=agent, name=name, scope=scope, digest=digest(secret))
        return f"chat_{token.pk}_{secret}"

    def authenticate(self, written: str) -> "Token | None":
        """The token that a client presents, or None unless it is valid and its agent still is one."""
        prefix, _, rest = written.partition("_")
        number, _, secret = rest.partition("_")
        if prefix != "chat" or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        token = self.filter(pk=int(number), agent__in=Agent.objects.values("pk")).select_related("agent").first()
        if token is None or not constant_time_compare(token.digest, digest(secret)):
            return None
        if not token.agent.has_usable_password():  # it was taken away
            return None
        return token


class Token(models.Model):
    """A bearer token of an agent. It ends when it is deleted, when the agent's password changes or the agent goes."""

    class Scope(models.TextChoices):
        READ = "READ", gettext_lazy("read")
        WRITE = "WRITE", gettext_lazy("read and write")

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(
        max_length=80, help_text=gettext_lazy("What uses it, so that you know which one to revoke.")
    )
    scope = models.CharField(max_length=5, choices=Scope, default=Scope.WRITE)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TokenQuerySet.as_manager()

    def __str__(self) -> str:
        """Its name."""
        return self.name


def digest(secret: str) -> str:
    """What the table keeps."""
    return salted_hmac("conversations.token", secret, algorithm="sha256").hexdigest()


class RevokeTokensOnPasswordChange:
    """Hears of new passwords as one of Django's password validators: each ends all tokens of its agent."""

    def validate(self, password: str, user: Any = None) -> None:
        """Every password will do."""

    def password_changed(self, password: str, user: Any = None) -> None:
        """Whoever knew the old one may have made tokens with it. Not called when Django only hashes it anew."""
        Token.objects.filter(agent_id=user.pk).delete()

    def get_help_text(self) -> str:
        """What people read where they choose a password."""
        return _("A new password ends the tokens of your programs.")
