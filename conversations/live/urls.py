"""Where the doorbells hang."""

from typing import Any

from django.urls import path

from conversations.live.doorbell import AgentBell, CustomerBell, WidgetBell

urlpatterns: list[Any] = [
    path("ws/chat/", CustomerBell.as_asgi()),
    path("ws/chat/<slug:key>/", CustomerBell.as_asgi()),
    path("ws/messages/<str:uuid>/", WidgetBell.as_asgi()),
    path("ws/inbox/", AgentBell.as_asgi()),
]
