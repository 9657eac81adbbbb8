"""Where the doorbells hang."""

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from conversations.live.doorbell import AgentBell, CustomerBell, WidgetBell

urlpatterns: list[Any] = [
    path("ws/chat/", CustomerBell.as_asgi()),
    path("ws/chat/<slug:key>/", CustomerBell.as_asgi()),
    path("ws/messages/<str:uuid>/", WidgetBell.as_asgi()),
    path("ws/inbox/", AgentBell.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # 403 for all else; Channels would fail, and leave a traceback
]
