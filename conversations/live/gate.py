"""Lets in the sockets of our own pages."""

from io import BytesIO
from typing import Any

from channels.security.websocket import WebsocketDenier
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from conversations.origin import from_elsewhere


class OwnPagesOnly:
    """Refuses all other sockets at the handshake, with 403: a browser sends its cookies whoever's page opens one.

    What is ours is asked of the same function as for pages, so hosts, proxies and trusted origins mean the same here.
    """

    def __init__(self, inner: Any) -> None:
        """`inner` is the ASGI application behind the gate."""
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Let it in or refuse it."""
        application = self.inner if is_ours(scope) else WebsocketDenier()
        return await application(scope, receive, send)


def is_ours(scope: Any) -> bool:
    """Whether a handshake names an origin, as every browser does, and it is ours."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    request = ASGIRequest({**scope, "method": "GET", "scheme": scheme}, BytesIO())
    try:
        return "Origin" in request.headers and not from_elsewhere(request)
    except DisallowedHost:
        return False
