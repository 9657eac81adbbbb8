"""Doorbells: sockets that say that there is news, never what. Whoever hears one fetches the news through their door."""

import asyncio
import json
import logging
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error

from conversations.announce import AGENTS, customer_group, website_group
from conversations.live.origin_check import FOREIGN
from conversations.models import Agent, Conversation, Origin, Website
from conversations.models.conversation import as_uuid
from conversations.models.website import DEFAULT
from conversations.presence import agents
from conversations.threshold import customer_secret

logger = logging.getLogger(__name__)

HEARTBEAT = 25
"""Seconds between heartbeats. Each says `last`, so that a ring that was lost heals, and asks who may still listen."""

Listener = tuple[tuple[str, ...], int]
"""The groups that somebody may listen to, and the id of the last message there."""

PROTOCOL = "chat"
"""A page that has no cookie to show offers two protocols of this socket: this one, and the conversation's secret."""

NOT_FOUND = 4404
REVOKED = 4403


class Doorbell(AsyncWebsocketConsumer):
    """What every doorbell does: ask who listens, ring at once and with every ring of its group, and keep asking."""

    heart: "asyncio.Task[None] | None" = None
    groups: tuple[str, ...] = ()
    subprotocol: str | None = None

    async def listener(self) -> Listener | None:
        """The groups that whoever connects may listen to and the id of its last message, or None: asked ever again."""
        raise NotImplementedError

    async def connect(self) -> None:
        """Accept the socket, and close it with 4404 unless there is something that it may listen to."""
        await self.accept(self.subprotocol)
        found = await self.listener()
        if found is None:
            return await self.close(NOT_FOUND)
        self.groups, _ = found
        # First listen, then look: news that come between the two ring twice, where the other order would miss them.
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        self.heart = asyncio.create_task(self.beat())
        return None

    async def disconnect(self, code: int) -> None:
        """Stop listening."""
        if self.heart:
            self.heart.cancel()
            for group in self.groups:
                await self.channel_layer.group_discard(group, self.channel_name)

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
                await self.join_again(found[0])
                await self.ring({"last": found[1]})
            await asyncio.sleep(HEARTBEAT)

    async def join_again(self, groups: tuple[str, ...]) -> None:
        """Again and again, because a layer forgets who did not take a ring in time, and what one may hear changes."""
        try:
            for group in set(self.groups) - set(groups):
                await self.channel_layer.group_discard(group, self.channel_name)
            self.groups = groups
            for group in self.groups:
                await self.channel_layer.group_add(group, self.channel_name)
        except Exception:  # whatever the layer's library raises: the heart must not stop for it
            logger.exception("A doorbell could not join its group; the next heartbeat tries again.")

    async def ring(self, event: dict[str, Any]) -> None:
        """Say that there are messages up to `last`. Channels calls this for every ring of the group."""
        await self.send(json.dumps({"type": "messages", "last": event["last"]}))


class CustomerDoorbell(Doorbell):
    """Rings on the customer's page, for the conversation of its cookie."""

    header: str | None = None

    async def connect(self) -> None:
        """Hear the secret where a script keeps it: a socket can send no header of ours, but protocols of our choice."""
        offered = self.scope["subprotocols"]
        if PROTOCOL in offered:
            self.subprotocol = PROTOCOL
            self.header = next((word for word in offered if word != PROTOCOL), None)
        await super().connect()

    async def listener(self) -> Listener | None:
        """The conversation of the cookie, or of the secret that was offered as a protocol."""
        key = self.scope["url_route"]["kwargs"].get("key", DEFAULT)
        [host] = parse_qs(self.scope["query_string"].decode("latin1")).get("host", [""])[:1]
        name = customer_secret.cookie_name(key, host)
        return await _customer(customer_secret.read(self.scope["cookies"], name, self.header))


class WidgetDoorbell(Doorbell):
    """Rings for third-party widgets, which hold the conversation's uuid."""

    async def listener(self) -> Listener | None:
        """The conversation of the uuid, if the page that asks is ours or one of its website's."""
        return await _customer(as_uuid(self.scope["url_route"]["kwargs"]["uuid"]), self.scope.get(FOREIGN))


class AgentDoorbell(Doorbell):
    """Rings in an agent's inbox, for every conversation on the desk; a ring names the conversation."""

    async def listener(self) -> Listener | None:
        """All agents', or those of their websites, if the session is an agent's still: signed in and in the group."""
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        return await _desk(await get_user({"session": session}))

    async def ring(self, event: dict[str, Any]) -> None:
        """Say which conversation has news; a heartbeat names none."""
        await self.send(json.dumps({"type": "messages", **{k: v for k, v in event.items() if k != "type"}}))


@database_sync_to_async
def _customer(uuid: Any, foreign_origin: str | None = None) -> Listener | None:
    conversation = Conversation.objects.by_uuid(uuid)
    if conversation is None or (
        foreign_origin and not Origin.objects.is_allowed(foreign_origin, conversation.website_id)
    ):
        return None
    return (customer_group(conversation.pk),), conversation.last_message_id


@database_sync_to_async
def _desk(user: Any) -> Listener | None:
    agent = Agent.objects.for_user(user)
    if agent is None:
        return None
    agents.mark_online(agent)
    groups: tuple[str, ...] = (AGENTS,)
    if agent.is_limited:
        groups = tuple(website_group(website.pk) for website in Website.objects.visible_to(agent))
    return groups, agent.visible_conversations().last_message_id()
