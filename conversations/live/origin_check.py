"""Refuses WebSockets that pages of unknown origins open."""

from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from channels.security.websocket import WebsocketDenier
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from conversations.threshold.origin import explain_mismatch, is_cross_origin, is_listed

WEBSITE_ORIGIN = "chatsite.website_origin"
"""The key in a socket's scope for the origin of a website's page that has opened it; not set for our own pages."""

WIDGETS = "/ws/messages/"


class OriginCheck:
    """Refuses cross-origin sockets at the handshake, with 403: browsers send cookies whichever page opens a socket.

    `is_cross_origin` decides, as it does for pages, so that hosts, proxies and trusted origins are treated alike. The
    doorbell of widgets, which reads no cookies, also accepts the origins of all websites, and checks by itself whether
    the conversation belongs to that website.
    """

    def __init__(self, inner: Any) -> None:
        """`inner` is the ASGI application for sockets that are not refused."""
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Pass the socket on or refuse it."""
        if is_same_origin(scope):
            return await self.inner(scope, receive, send)
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin1")
        if scope["path"].startswith(WIDGETS) and await database_sync_to_async(is_listed)(origin):
            return await self.inner({**scope, WEBSITE_ORIGIN: origin}, receive, send)
        return await WebsocketDenier()(scope, receive, send)


def is_same_origin(scope: Any) -> bool:
    """Whether the handshake has an Origin header, as every browser's has, and the origin is ours."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    request = ASGIRequest({**scope, "method": "GET", "scheme": scheme}, BytesIO())
    try:
        if "Origin" not in request.headers:
            return False
        if is_cross_origin(request):
            explain_mismatch(request)
            return False
        return True
    except DisallowedHost:
        return False
