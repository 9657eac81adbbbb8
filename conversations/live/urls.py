"""The URLs of the doorbells."""

from typing import Any, cast

from django.urls import path, re_path

from conversations.live.doorbell import AgentDoorbell, CustomerDoorbell, WidgetDoorbell, served_by
from conversations.live.origin_check import refuse

urlpatterns: list[Any] = [
    path("ws/chat/", served_by(CustomerDoorbell)),
    path("ws/chat/<slug:key>/", served_by(CustomerDoorbell)),
    path("ws/messages/<str:uuid>/", served_by(WidgetDoorbell)),
    path("ws/inbox/", served_by(AgentDoorbell)),
    re_path("", cast(Any, refuse)),  # 403 for all other paths, where Channels would raise
]
