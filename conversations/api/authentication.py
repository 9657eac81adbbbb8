"""Authentication of API calls: who calls, by a bearer token, by a session, or as a customer who needs neither."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.errors import AuthenticationError, HttpError
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from conversations.models import Agent, Token
from conversations.threshold.origin import is_cross_origin

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True)
class Caller:
    """Who makes a call: an agent, a signed-in user who is no agent, or (both None) an anonymous customer."""

    user: User | None = None
    agent: Agent | None = None


def authenticate(request: HttpRequest, content_type: str = "application/json") -> Caller:
    """Who makes this call. Raises HttpError: 401 for an invalid token, 403 for a session without its CSRF token.

    `content_type` is what the call takes. A page of another origin may not send JSON as text/plain: that would avoid
    the preflight request (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _authenticate_token(request, token.strip())
    is_unsafe = request.method not in SAFE_METHODS
    if is_unsafe and request.content_type != content_type and is_cross_origin(request):
        raise HttpError(403, f"Send this as {content_type}.")
    user: Any = request.user
    if not user.is_authenticated:
        return Caller()
    if is_unsafe and check_csrf(request):
        raise HttpError(403, "CSRF check failed: send the cookie csrftoken in the header X-CSRFToken.")
    return Caller(user, Agent.objects.for_user(user))


def _authenticate_token(request: HttpRequest, text: str) -> Caller:
    token = Token.objects.authenticate(text)
    if token is None:
        raise AuthenticationError
    if token.scope == Token.Scope.READ and request.method not in SAFE_METHODS:
        raise HttpError(403, "This token may only read.")
    agent = Agent.objects.for_user(token.agent)
    return Caller(agent, agent)


def require_agent(request: HttpRequest) -> Agent:
    """The agent who makes this call. Raises AuthenticationError (401) for everybody else."""
    agent: Agent | None = getattr(request, "auth", None) or authenticate(request).agent
    if agent is None:
        raise AuthenticationError
    return agent


class BearerToken(HttpBearer):
    """Authenticates agents by a token in the header Authorization."""

    def authenticate(self, request: HttpRequest, token: str) -> Agent:
        """The agent who calls."""
        return require_agent(request)


class SessionCookie(APIKeyCookie):
    """Authenticates agents by their session."""

    param_name = "sessionid"

    def __init__(self) -> None:
        """Leave the CSRF check to `authenticate`: ninja's would answer 403 where nobody is signed in."""
        super().__init__(csrf=False)

    def authenticate(self, request: HttpRequest, key: str | None) -> Agent:
        """The agent who calls."""
        return require_agent(request)
