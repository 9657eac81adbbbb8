"""Nothing of a socket outlives it, also if it is closed while Redis hangs: no heartbeat, group or online agent."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator

from chatsite.asgi import application
from conversations.actions import post_message
from conversations.live import channel_layer, open_sockets, rounds
from conversations.models import Agent
from conversations.presence import agents
from tests.conftest import Page
from tests.services import Service, redis_server
from tests.test_doorbell import OURS, in_thread, ring_of, session

pytestmark = pytest.mark.django_db(transaction=True)

CUSTOMERS = 50
ONLINE = 2
"""Seconds that an agent counts as online after a heartbeat in these tests."""


@pytest.fixture
def redis(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A Redis for rings and for who is online, which a test may kill; heartbeats come quickly."""
    monkeypatch.setattr(rounds, "HEARTBEAT", 0.2)
    monkeypatch.setattr(agents, "SECONDS", ONLINE)
    monkeypatch.setattr(channel_layer, "MAX_DELAY", 0.3)
    with redis_server() as redis:
        settings.CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "conversations.live.channel_layer.RedisChannelLayer",
                "CONFIG": {"url": redis.url},
            }
        }
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis.url}}
        yield redis


async def opened(path: str, cookie: str) -> WebsocketCommunicator:
    """An open socket that has been rung once."""
    headers = [(b"host", b"testserver"), (b"origin", OURS), (b"cookie", cookie.encode())]
    bell = WebsocketCommunicator(application, path, headers=headers)
    assert (await bell.connect(timeout=10))[0]
    await ring_of(bell)
    return bell


async def close(bell: WebsocketCommunicator) -> None:
    """Leave, as a browser does."""
    await bell.disconnect(timeout=10)


async def cancel(bell: WebsocketCommunicator) -> None:
    """Be cancelled, as the server does with sockets that are slow to end."""
    bell.stop(exceptions=False)


@pytest.mark.parametrize("end", [close, cancel])
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_sockets_that_close_while_redis_is_away_leave_nothing_behind(
    redis: Service, bobs: Page, bob: Agent, end: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    inbox = await opened("/ws/inbox/", session(bobs))
    customers = []
    for _ in range(CUSTOMERS):
        talk = (await in_thread(post_message)(content="Hi")).conversation
        customers.append(await opened("/ws/chat/", f"chat={talk.uuid.hex}"))
    assert await in_thread(agents.online)([bob]) == [bob]
    getattr(redis, fault)()
    for bell in [inbox, *customers]:
        await end(bell)
    (redis.start if fault == "kill" else redis.thaw)()
    caplog.clear()
    caplog.set_level(logging.WARNING)
    await asyncio.sleep(ONLINE + 0.5)  # what is left would beat ten times, and keep the agent online
    assert await in_thread(agents.online)([bob]) == []
    assert not [record for record in caplog.records if record.name.endswith(("doorbell", "rounds"))]
    layer: Any = get_channel_layer()
    assert not layer.groups
    assert not open_sockets._open
    await layer.close()
    assert not [task for task in asyncio.all_tasks() - before if not task.done()]
