"""On whose authority an API call is made: nobody's in particular, a signed-in user's, or an agent's."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from conversations.models import Agent, Token
from conversations.threshold.origin import is_cross_origin

SAFE = {"GET", "HEAD", "OPTIONS"}


class WrongAuthority(Exception):
    """The call's authority does not suffice. `status` is 401 or 403."""

    def __init__(self, status: int, sentence: str) -> None:
        """`sentence` says what to do about it."""
        self.status = status
        super().__init__(sentence)


@dataclass(frozen=True)
class Caller:
    """Who calls: an agent, a signed-in user who is none, or (both None) a customer whom the uuid makes one."""

    user: User | None = None
    agent: Agent | None = None


def caller(request: HttpRequest, kind: str = "application/json") -> Caller:
    """Who makes this call. Raises WrongAuthority for a bad token, or a session without its CSRF token.

    A browser sends the session along whoever's page makes the call, so on unsafe calls the token must prove that it
    is ours: a foreign page must never speak as an agent. For the same reason it may not dodge the preflight that
    JSON needs by calling it text: `kind` is what the call takes.
    """
    scheme, _, written = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _bearer(request, written.strip())
    unsafe = request.method not in SAFE
    if unsafe and request.content_type != kind and is_cross_origin(request):
        raise WrongAuthority(403, f"Send this as {kind}.")
    user: Any = request.user
    if not user.is_authenticated:
        return Caller()
    if unsafe and check_csrf(request):
        raise WrongAuthority(403, "CSRF check failed: send the cookie csrftoken in the header X-CSRFToken.")
    return Caller(user, Agent.objects.for_user(user))


def _bearer(request: HttpRequest, written: str) -> Caller:
    token = Token.objects.authenticate(written)
    if token is None:
        raise WrongAuthority(401, "Unauthorized")
    if token.scope == Token.Scope.READ and request.method not in SAFE:
        raise WrongAuthority(403, "This token may only read.")
    agent = Agent.objects.for_user(token.agent)
    return Caller(agent, agent)


def agent_of(request: HttpRequest) -> Agent:
    """The agent who makes this call. Raises WrongAuthority for everybody else."""
    agent: Agent | None = getattr(request, "auth", None) or caller(request).agent
    if agent is None:
        raise WrongAuthority(401, "Unauthorized")
    return agent


class SessionOrToken(HttpBearer):
    """Lets agents in, by a bearer token or by their session. Everybody else gets 401."""

    def __call__(self, request: HttpRequest) -> Agent:
        """The agent who calls."""
        return agent_of(request)

    def authenticate(self, request: HttpRequest, token: str) -> Agent:
        """The same; ninja asks for a method of this name."""
        return agent_of(request)


class Session(APIKeyCookie):
    """Adds the session cookie to the API's description; SessionOrToken has decided by the time this is asked."""

    param_name = "sessionid"

    def __call__(self, request: HttpRequest) -> Agent:
        """The agent who calls."""
        return agent_of(request)

    def authenticate(self, request: HttpRequest, key: str | None) -> Agent:
        """The same; ninja asks for a method of this name."""
        return agent_of(request)
