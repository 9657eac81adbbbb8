"""Doorbells: sockets that say that there is news, never what. Whoever hears one fetches the news through their door."""

import asyncio
import json
import logging
from importlib import import_module
from typing import Any

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error

from conversations import customer_cookie
from conversations.announce import AGENTS, customer_group
from conversations.models import Agent, Conversation
from conversations.models.conversation import as_uuid

logger = logging.getLogger(__name__)

HEARTBEAT = 25
"""Seconds between heartbeats. Each says `last`, so that a ring that was lost heals, and asks who may still listen."""

NOT_FOUND = 4404
REVOKED = 4403


class Doorbell(AsyncWebsocketConsumer):
    """What every doorbell does: ask who listens, ring at once and with every ring of its group, and keep asking."""

    heart: "asyncio.Task[None] | None" = None
    group = ""

    async def listener(self) -> tuple[str, int] | None:
        """The group that whoever connects may listen to and the id of its last message, or None: asked ever again."""
        raise NotImplementedError

    async def connect(self) -> None:
        """Accept the socket, and close it with 4404 unless there is something that it may listen to."""
        await self.accept()
        found = await self.listener()
        if found is None:
            return await self.close(NOT_FOUND)
        self.group, _ = found
        # First listen, then look: news that come between the two ring twice, where the other order would miss them.
        await self.channel_layer.group_add(self.group, self.channel_name)
        self.heart = asyncio.create_task(self.beat())
        return None

    async def disconnect(self, code: int) -> None:
        """Stop listening."""
        if self.heart:
            self.heart.cancel()
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Whatever a listener says is ignored: a doorbell has nothing to be told."""

    async def beat(self) -> None:
        """Ring now and every 25 seconds, until whoever listens may no longer: then close with 4403."""
        while True:
            try:
                found = await self.listener()
            except Error:
                logger.exception("A doorbell could not ask who listens; it asks again in %s seconds.", HEARTBEAT)
            else:
                if found is None:
                    return await self.close(REVOKED)
                await self.join_again()
                await self.ring({"last": found[1]})
            await asyncio.sleep(HEARTBEAT)

    async def join_again(self) -> None:
        """Again and again, because a layer forgets whoever did not take a ring in time."""
        try:
            await self.channel_layer.group_add(self.group, self.channel_name)
        except Exception:  # whatever the layer's library raises: the heart must not stop for it
            logger.exception("A doorbell could not join its group; the next heartbeat tries again.")

    async def ring(self, event: dict[str, Any]) -> None:
        """Say that there are messages up to `last`. Channels calls this for every ring of the group."""
        await self.send(json.dumps({"type": "messages", "last": event["last"]}))


class CustomerBell(Doorbell):
    """Rings on the customer's page, for the conversation of its cookie."""

    async def listener(self) -> tuple[str, int] | None:
        """The conversation of the cookie."""
        return await _customer(customer_cookie.read(self.scope["cookies"]))


class WidgetBell(Doorbell):
    """Rings for third-party widgets, which hold the conversation's uuid."""

    async def listener(self) -> tuple[str, int] | None:
        """The conversation of the uuid."""
        return await _customer(as_uuid(self.scope["url_route"]["kwargs"]["uuid"]))


class AgentBell(Doorbell):
    """Rings in an agent's inbox, for every conversation on the desk; a ring names the conversation."""

    async def listener(self) -> tuple[str, int] | None:
        """All agents', if the session is an agent's still: signed in, active, in the group."""
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        last = await _desk(await get_user({"session": session}))
        return None if last is None else (AGENTS, last)

    async def ring(self, event: dict[str, Any]) -> None:
        """Say which conversation has news; a heartbeat names none."""
        await self.send(json.dumps({"type": "messages", **{k: v for k, v in event.items() if k != "type"}}))


@database_sync_to_async
def _customer(uuid: Any) -> tuple[str, int] | None:
    conversation = Conversation.objects.named(uuid)
    return (customer_group(conversation.pk), conversation.last_message_id) if conversation else None


@database_sync_to_async
def _desk(user: Any) -> int | None:
    agent = Agent.objects.behind(user)
    return agent.desk().last_message_id() if agent else None
