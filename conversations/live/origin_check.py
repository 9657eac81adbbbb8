"""Refuses WebSockets that pages of unknown origins open."""

from contextlib import suppress
from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from conversations.threshold.origin import (
    explain_mismatch,
    is_agent_origin,
    is_cross_origin,
    is_listed,
    log_refusal,
)

WEBSITE_ORIGIN = "chatsite.website_origin"
"""The key in a socket's scope for the origin of a website's page that has opened it; not set for our own pages."""

TOKEN_ONLY = "chatsite.token_only"  # noqa: S105 (no password)
"""The key in a socket's scope that is set if an agent's token may open it, but no cookie."""

WIDGETS = "/ws/messages/"
INBOX = "/ws/inbox/"


class OriginCheck:
    """Refuses cross-origin sockets at the handshake, with 403: browsers send cookies whichever page opens a socket.

    `is_cross_origin` decides, as it does for pages, so that hosts, proxies and trusted origins are treated alike. The
    doorbell of widgets, which reads no cookies, also accepts the origins of all websites, and checks by itself whether
    the conversation belongs to that website. The doorbell of agents accepts programs and pages of AGENT_ORIGINS that
    send a token.
    """

    def __init__(self, inner: Any) -> None:
        """`inner` is the ASGI application for sockets that are not refused."""
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Pass the socket on or refuse it."""
        if is_same_origin(handshake(scope)):
            return await self.inner(scope, receive, send)
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin1")
        # No script of a page can set the header Authorization of a socket, so this is a program.
        if scope["path"] == INBOX and (bearer_token(scope) or is_agent_origin(origin)):
            return await self.inner({**scope, TOKEN_ONLY: True}, receive, send)
        if scope["path"].startswith(WIDGETS) and await database_sync_to_async(is_listed)(origin):
            return await self.inner({**scope, WEBSITE_ORIGIN: origin}, receive, send)
        reason = "AGENT_ORIGINS does not list it." if scope["path"] == INBOX else "no website lists it."
        if not scope["path"].startswith((INBOX, WIDGETS)):
            reason = "only pages of Chatsite itself may open it."
        log_refusal(origin, scope["path"], reason)
        with suppress(DisallowedHost):
            explain_mismatch(handshake(scope))
        return await refuse(scope, receive, send)


async def refuse(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (an ASGI application)
    """Refuse a socket at the handshake, with 403."""
    await receive()
    await send({"type": "websocket.close"})


def bearer_token(scope: Any) -> str:
    """The token in the header Authorization of a socket, or ""."""
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").decode("latin1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def handshake(scope: Any) -> HttpRequest:
    """The request that opens a socket."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    return ASGIRequest({**scope, "method": "GET", "scheme": scheme}, BytesIO())


def is_same_origin(request: HttpRequest) -> bool:
    """Whether the handshake has an Origin header, as every browser's has, and the origin is ours."""
    try:
        return "Origin" in request.headers and not is_cross_origin(request)
    except DisallowedHost:
        return False
