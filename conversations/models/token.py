"""API tokens, with which bots and scripts act as an agent."""

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

PREFIX = "chat_"
"""How every token begins."""


class TokenQuerySet(models.QuerySet["Token"]):
    """Queries for tokens."""

    def issue(self, agent: "User", name: str, scope: str) -> str:
        """Create a token and return its plain text, this once: the table has only its hash."""
        secret = secrets.token_urlsafe(32)
        token = self.create(agent=agent, name=name, scope=scope, digest=_digest(secret))
        return f"{PREFIX}{token.pk}_{secret}"

    def authenticate(self, plain: str) -> "Token | None":
        """Return the token with this plain text, or None if it is invalid or its agent is no longer an agent."""
        number, _, secret = plain.removeprefix(PREFIX).partition("_")
        if not plain.startswith(PREFIX) or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        token = self.filter(pk=int(number), agent__in=Agent.objects.values("pk")).select_related("agent").first()
        if token is None or not constant_time_compare(token.digest, _digest(secret)):
            return None
        if not token.agent.has_usable_password():  # an administrator took it away
            return None
        return token


class Token(models.Model):
    """A bearer token of an agent. It is valid until it is deleted or the agent's password changes."""

    class Scope(models.TextChoices):
        READ = "READ", gettext_lazy("read")
        WRITE = "WRITE", gettext_lazy("read and write")

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(
        max_length=80,
        help_text=gettext_lazy("The program that uses this token, so that you find the right one when you revoke it."),
    )
    scope = models.CharField(max_length=5, choices=Scope, default=Scope.WRITE)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TokenQuerySet.as_manager()

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def _digest(secret: str) -> str:
    return salted_hmac("conversations.token", secret, algorithm="sha256").hexdigest()


class RevokeTokensOnPasswordChange:
    """A password validator that accepts every password, and deletes a user's tokens when their password changes."""

    def validate(self, password: str, user: Any = None) -> None:
        """Accept the password."""

    def password_changed(self, password: str, user: Any = None) -> None:
        """Delete the tokens: somebody who knew the old password may have made them. Not called when Django rehashes."""
        Token.objects.filter(agent_id=user.pk).delete()

    def get_help_text(self) -> str:
        """Return the text for forms where a password is chosen."""
        return _("When you change your password, all your API tokens are revoked.")
