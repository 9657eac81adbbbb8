"""Lets in the sockets of our own pages, and those of widgets on the pages of websites that we chat for."""

from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from channels.security.websocket import WebsocketDenier
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from conversations.models import Origin
from conversations.threshold.origin import is_cross_origin

FOREIGN = "chatsite.foreign_origin"
"""Where a socket's scope has the origin of the page that opened it, if that is one of a website's and not ours."""

WIDGETS = "/ws/messages/"


class OriginCheck:
    """Refuses all other sockets at the handshake, with 403: a browser sends its cookies whoever's page opens one.

    What is ours is asked of the same function as for pages, so hosts, proxies and trusted origins mean the same here.
    The widgets' doorbell, where cookies mean nothing, is open to the origins of every website; whether a conversation
    is of that website it asks itself.
    """

    def __init__(self, inner: Any) -> None:
        """`inner` is the ASGI application behind the gate."""
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Let it in or refuse it."""
        if is_ours(scope):
            return await self.inner(scope, receive, send)
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin1")
        if scope["path"].startswith(WIDGETS) and await database_sync_to_async(Origin.objects.is_listed)(origin):
            return await self.inner({**scope, FOREIGN: origin}, receive, send)
        return await WebsocketDenier()(scope, receive, send)


def is_ours(scope: Any) -> bool:
    """Whether a handshake names an origin, as every browser does, and it is ours."""
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    request = ASGIRequest({**scope, "method": "GET", "scheme": scheme}, BytesIO())
    try:
        return "Origin" in request.headers and not is_cross_origin(request)
    except DisallowedHost:
        return False
