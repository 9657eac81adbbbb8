"""The URLs of the doorbells."""

from typing import Any

from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from conversations.live.doorbell import AgentDoorbell, CustomerDoorbell, WidgetDoorbell

urlpatterns: list[Any] = [
    path("ws/chat/", CustomerDoorbell.as_asgi()),
    path("ws/chat/<slug:key>/", CustomerDoorbell.as_asgi()),
    path("ws/messages/<str:uuid>/", WidgetDoorbell.as_asgi()),
    path("ws/inbox/", AgentDoorbell.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # 403 for all other paths, where Channels would raise
]
