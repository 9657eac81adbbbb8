"""Doorbells: WebSockets that say that there are new messages, never what they say. Clients fetch them over HTTP."""

import asyncio
import json
import logging
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from channels.auth import get_user
from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from conversations.announce import AGENTS, customer_group, website_group
from conversations.live.open_sockets import TooManySockets, counted
from conversations.live.origin_check import TOKEN_ONLY, WEBSITE_ORIGIN, bearer_token
from conversations.models import Agent, Conversation, Token, Website
from conversations.models.conversation import parse_uuid
from conversations.models.website import DEFAULT
from conversations.presence import agents
from conversations.threshold import customer_secret
from conversations.threshold.origin import speaks_for
from conversations.threshold.proxies import address_of_scope

logger = logging.getLogger(__name__)

HEARTBEAT = 25
"""Seconds between heartbeats. Each sends `last`, which makes up for a lost ring, and checks access again."""

TIMEOUT = 25
"""Seconds that the database and the channel layer together may take to open a socket, or for one heartbeat."""

Subscription = tuple[tuple[str, ...], int]
"""The groups that a socket joins, and the id of the last message in their conversations."""

PROTOCOL = "chat"
"""A page without a cookie offers two subprotocols: this one, and the conversation's secret or the agent's token."""

EVENTS = {"websocket.connect", "websocket.receive", "websocket.disconnect", "ring", "recheck"}
"""The types of events that sockets get: from their clients, and from the groups that they are in."""

# Close codes
TRY_AGAIN_LATER = 1013
REVOKED = 4403
NOT_FOUND = 4404


class Doorbell(AsyncWebsocketConsumer):
    """Checks access, rings at once and with every ring of its groups, and checks access again with every heartbeat."""

    heartbeat_task: "asyncio.Task[None] | None" = None
    channel_name: str | None = None  # Channels sets it
    joined: tuple[str, ...] = ()  # and not `groups`, which Channels itself joins and leaves
    subprotocol: str | None = None
    limited_per_conversation = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Channels makes one instance for each socket."""
        super().__init__(*args, **kwargs)
        self.counts = ExitStack()
        self.recheck_requested = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one socket. At its end, also after an error: stop counting it, end its heartbeat, leave its groups."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.counts.close()
            if self.heartbeat_task:
                self.heartbeat_task.cancel()
            if self.channel_name:
                self.channel_layer.remove_channel(self.channel_name)

    async def subscription(self) -> Subscription | None:
        """The groups that this client may join and the id of the last message there; None without access."""
        raise NotImplementedError

    async def connect(self) -> None:
        """Accept the socket. Close it with 1013 if there are too many, and with 4404 if it has access to nothing."""
        await self.accept(self.subprotocol)
        try:
            async with asyncio.timeout(TIMEOUT):
                self.counts.enter_context(counted("sockets of one address", address_of_scope(self.scope)))
                found = await self.subscription()
                if found is None:
                    return await self.close(NOT_FOUND)
                if self.limited_per_conversation:
                    self.counts.enter_context(counted("sockets of one conversation", found[0][0]))
                # Join before the first heartbeat reads `last`: a message in between rings twice, but is never missed.
                await self.join(found[0])
        except TooManySockets:
            return await self.close(TRY_AGAIN_LATER)
        self.heartbeat_task = asyncio.create_task(self.heartbeat())
        return None

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Call the method for this event. Channels would close old database connections first, in another thread.

        During an upgrade, processes of a later version may send events that this one does not know: they are ignored.
        """
        if message.get("type") in EVENTS:
            await getattr(self, get_handler_name(message))(message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore everything that a client sends."""

    async def heartbeat(self) -> None:
        """Ring now, then every 25 seconds and on `recheck`, until access is lost: then close with 4403."""
        while True:
            self.recheck_requested.clear()
            try:
                async with asyncio.timeout(TIMEOUT):
                    found = await self.subscription()
                    if found is None:
                        return await self.close(REVOKED)
                    await self.ring({"last": found[1]})
                    await self.join(found[0])
            except Exception:  # any error of the database or channel layer: the next heartbeat tries again
                logger.exception("The heartbeat of a doorbell failed; the next one is in %s seconds.", HEARTBEAT)
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self.recheck_requested.wait()

    async def join(self, groups: tuple[str, ...]) -> None:
        """Join these groups and leave all others.

        Repeated with every heartbeat, because access changes.
        """
        left, self.joined = set(self.joined) - set(groups), groups
        for group in left:
            await self.channel_layer.group_discard(group, self.channel_name)
        for group in groups:
            await self.channel_layer.group_add(group, self.channel_name)

    async def ring(self, event: dict[str, Any]) -> None:
        """Tell the client that there are messages up to `last`. Channels calls this for a group's "ring" events."""
        await self.send(json.dumps({"type": "messages", "last": event["last"]}))

    async def recheck(self, event: dict[str, Any]) -> None:
        """Check access at once. Channels calls this for a group's "recheck" events."""
        self.recheck_requested.set()


class CustomerDoorbell(Doorbell):
    """Rings on the customer's page, for the conversation of the secret in its cookie or its subprotocols."""

    secret: str | None = None

    async def connect(self) -> None:
        """Read the secret from the subprotocols: scripts cannot set any other header of a socket."""
        offered = self.scope["subprotocols"]
        if PROTOCOL in offered:
            self.subprotocol = PROTOCOL
            self.secret = next((protocol for protocol in offered if protocol != PROTOCOL), None)
        await super().connect()

    async def subscription(self) -> Subscription | None:
        """The conversation of the secret."""
        key = self.scope["url_route"]["kwargs"].get("key", DEFAULT)
        [host] = parse_qs(self.scope["query_string"].decode("latin1")).get("host", [""])[:1]
        name = customer_secret.cookie_name(key, host)
        return await _customer_subscription(customer_secret.read(self.scope["cookies"], name, self.secret))


class WidgetDoorbell(Doorbell):
    """Rings for third-party widgets, which know the conversation's uuid."""

    async def subscription(self) -> Subscription | None:
        """The conversation of the uuid, if the page that opens the socket is ours or of the conversation's website."""
        uuid = parse_uuid(self.scope["url_route"]["kwargs"]["uuid"])
        return await _customer_subscription(uuid, self.scope.get(WEBSITE_ORIGIN))


class AgentDoorbell(Doorbell):
    """Rings in an agent's inbox and in their programs, for all conversations that the agent may see."""

    limited_per_conversation = False
    token = ""

    async def connect(self) -> None:
        """Read a token from the header Authorization, or from the subprotocols: scripts of pages cannot set headers."""
        offered = self.scope["subprotocols"]
        self.token = bearer_token(self.scope)
        if PROTOCOL in offered:
            self.subprotocol = PROTOCOL
            self.token = self.token or next((protocol for protocol in offered if protocol != PROTOCOL), "")
        await super().connect()

    async def subscription(self) -> Subscription | None:
        """All conversations, or those of the agent's websites, while the session or the token is an agent's."""
        if self.token or TOKEN_ONLY in self.scope:
            return await _token_subscription(self.token)
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        return await _agent_subscription(await get_user({"session": session}))

    async def ring(self, event: dict[str, Any]) -> None:
        """Tell the inbox which conversation has changed; a heartbeat names none."""
        await self.send(json.dumps({**event, "type": "messages"}))


@database_sync_to_async
def _customer_subscription(uuid: Any, website_origin: str | None = None) -> Subscription | None:
    conversation = Conversation.objects.by_uuid(uuid)
    if conversation is None:
        return None
    if website_origin and not speaks_for(website_origin, Website.objects.by_id(conversation.website_id)):
        return None
    return (customer_group(conversation.pk),), conversation.last_message_id


@database_sync_to_async
def _agent_subscription(user: Any) -> Subscription | None:
    agent = Agent.objects.for_user(user)
    if agent is None:
        return None
    agents.mark_online(agent)
    return _visible_to(agent)


@database_sync_to_async
def _token_subscription(text: str) -> Subscription | None:
    token = Token.objects.authenticate(text)
    agent = Agent.objects.for_user(token.agent) if token else None
    if token is None or agent is None:
        return None
    if token.scope == Token.Scope.WRITE:  # a program that can answer; others only listen
        agents.mark_online(agent)
    return _visible_to(agent)


def _visible_to(agent: Agent) -> Subscription:
    groups: tuple[str, ...] = (AGENTS,)
    if agent.is_limited:
        groups = tuple(website_group(website.pk) for website in Website.objects.visible_to(agent))
    return groups, agent.visible_conversations().last_message_id()
