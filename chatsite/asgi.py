"""Both protocols on one page: http goes to Django in one hop, sockets go to the doorbells."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import SessionMiddlewareStack
from django.conf import settings

from chatsite.one_hop import OneHop
from conversations.announce import let_rings_wait, ring_in_this_loop, ring_what_waits
from conversations.live.gate import OwnPagesOnly
from conversations.live.urls import urlpatterns

protocols: Any = ProtocolTypeRouter(
    {
        "http": OneHop(settings.THREADS, begins=let_rings_wait, delivered=ring_what_waits),
        "websocket": OwnPagesOnly(SessionMiddlewareStack(URLRouter(urlpatterns))),
    }
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    ring_in_this_loop()
    await protocols(scope, receive, send)
