"""The ASGI application: HTTP goes to the request handler, WebSockets go to the doorbells."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings

from chatsite.doctor.mirror import answer_socket, is_doctor
from chatsite.serving.early_responses import early_response, send_response
from chatsite.serving.plain_posts import answer_plain_post
from chatsite.serving.request_handler import RequestHandler
from conversations.announce import defer_rings, send_deferred_rings, use_running_loop
from conversations.live.doorbell import stay_open
from conversations.live.origin_check import OriginCheck
from conversations.live.urls import urlpatterns
from conversations.metrics import numbers
from conversations.poll_cache import poll_cache, poll_key, send_answer
from conversations.threshold.proxies import resolve

protocols: Any = ProtocolTypeRouter(
    {
        "http": RequestHandler(settings.THREADS, initializer=defer_rings, after_results=send_deferred_rings),
        "websocket": OriginCheck(URLRouter(urlpatterns)),
    }
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    use_running_loop()
    is_http = scope["type"] == "http"
    if settings.POLL_CACHE and is_http and (key := poll_key(scope)):
        answer, began = await poll_cache.look_up(key)
        if answer:
            numbers.polls_from_memory += 1
            await send_answer(answer, send)
            return
        scope["chatsite.poll"] = (key, began) if began else None
    if is_http and (written := await answer_plain_post(scope)):
        await send_answer(written, send)
        return
    scope = resolve(scope)
    if is_http and (response := await early_response(scope)):
        await send_response(response, send)
    elif not is_http and is_doctor(scope):
        await answer_socket(scope, receive, send)
    else:
        doorbell = await protocols(scope, receive, send)
        if doorbell is not None:  # a socket is open, and this function keeps nothing of its handshake
            del scope
            await stay_open(doorbell, receive)
