"""Authentication of API calls: by a bearer token or a session. Customers need neither."""

import re
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.errors import AuthenticationError, HttpError
from ninja.security import APIKeyCookie, HttpBearer

from conversations.models import Agent, Token
from conversations.models.token import PREFIX
from conversations.threshold.csrf import lacks_csrf_token
from conversations.threshold.origin import explain_origins, is_cross_origin

JSON = "application/json"
MULTIPART = "multipart/form-data"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
TOKEN = re.compile(rf"{PREFIX}[0-9]+_")


@dataclass(frozen=True)
class Caller:
    """Who makes a call: an agent, a signed-in user who is not an agent, or (both None) an anonymous customer."""

    user: User | None = None
    agent: Agent | None = None
    by_session: bool = False
    by_read_only_token: bool = False


def authenticate(request: HttpRequest, content_type: str = JSON) -> Caller:
    """Return who makes this call. `content_type` is the Content-Type that the call takes.

    Raises HttpError: 401 for an invalid token, 403 for a read-only token or a session without its CSRF token.
    """
    caller = identify(request, content_type)
    require_csrf_token(request, caller)
    return caller


def identify(request: HttpRequest, content_type: str = JSON) -> Caller:
    """Like `authenticate`, but without the CSRF check, which would parse a form of any size.

    A page of another origin may not POST JSON as text/plain, which needs no preflight request
    (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). Other unsafe methods always need one.
    """
    authorization = request.headers.get("Authorization", "")
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _identify_by_token(request, text.strip())
    if _has_token(authorization):  # without the word Bearer: not to write as the customer
        raise AuthenticationError
    if request.method == "POST" and request.content_type != content_type and is_cross_origin(request):
        raise HttpError(403, f"Send this as {content_type}.")
    user: Any = request.user
    return Caller(user, Agent.objects.for_user(user), by_session=True) if user.is_authenticated else Caller()


def _has_token(authorization: str) -> bool:
    """Whether a token is anywhere in a header, also as the name or the password of HTTP Basic authentication."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            authorization += b64decode(encoded).decode("latin1")
    return TOKEN.search(authorization) is not None


def _identify_by_token(request: HttpRequest, text: str) -> Caller:
    token = Token.objects.authenticate(text)
    if token is None:
        raise AuthenticationError
    is_read_only = token.scope == Token.Scope.READ
    if is_read_only and request.method not in SAFE_METHODS:
        raise HttpError(403, "This token may only read.")
    agent = Agent.objects.for_user(token.agent)
    return Caller(agent, agent, by_read_only_token=is_read_only)


def require_csrf_token(request: HttpRequest, caller: Caller) -> None:
    """Raise HttpError (403) for an unsafe call by a session that lacks the CSRF token."""
    if caller.by_session and request.method not in SAFE_METHODS and lacks_csrf_token(request):
        raise HttpError(403, explain_csrf(request))


def explain_csrf(request: HttpRequest) -> str:
    """A sentence for the author of a program that sends a session cookie without the CSRF token."""
    sentence = (
        "CSRF check failed: a session needs the value of the cookie csrftoken in the header X-CSRFToken "
        "(GET /inbox/ sets the cookie). A program needs neither with a token: Authorization: Bearer TOKEN."
    )
    if not is_cross_origin(request):
        return sentence
    remedy = "list the page's origin in CSRF_TRUSTED_ORIGINS in .env if it is yours"
    return f"{sentence} {explain_origins(request, remedy)}"


def require_agent(caller: Caller) -> Agent:
    """The agent who makes the call. Raises AuthenticationError (401) for any other caller."""
    if caller.agent is None:
        raise AuthenticationError
    return caller.agent


def agent_of(request: HttpRequest) -> Agent:
    """The agent who makes a call that AgentToken or AgentSession has authenticated."""
    caller: Caller = request.auth  # type: ignore[attr-defined]  # set by ninja
    return require_agent(caller)


def authenticate_agent(request: HttpRequest) -> Caller:
    """Like `authenticate`, but raises AuthenticationError (401) for callers who are not agents."""
    caller = identify(request)
    require_agent(caller)
    require_csrf_token(request, caller)
    return caller


class AgentToken(HttpBearer):
    """Authenticates agents by a token in the header Authorization."""

    def __init__(self, authenticate: Callable[[HttpRequest], Caller] = authenticate_agent) -> None:
        """`authenticate` finds the caller, by token and by session."""
        super().__init__()
        self.authenticate_caller = authenticate

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        """The caller."""
        return self.authenticate_caller(request)


class AgentSession(APIKeyCookie):
    """Authenticates agents by their session cookie."""

    param_name = "sessionid"

    def __init__(self, authenticate: Callable[[HttpRequest], Caller] = authenticate_agent) -> None:
        """`authenticate` finds the caller, by token and by session, and checks the CSRF token."""
        super().__init__(csrf=False)
        self.authenticate_caller = authenticate

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller:
        """The caller."""
        return self.authenticate_caller(request)
