"""Rings the doorbell after commit. The only sender to the channel layer, and the place that names every group.

A ring says that there is news, never what: whoever hears it fetches, through the door that checks what they may see.
"""

import asyncio
import logging
import threading
from collections import deque
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from conversations.models import Conversation

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""A ring, as the channel layer passes it on."""

AGENTS = "agents"
"""The inboxes of agents who see every website."""

_loop: asyncio.AbstractEventLoop | None = None
_on_their_way: "set[asyncio.Future[None]]" = set()
_waiting: deque[tuple[list[str], Event]] = deque()
_thread = threading.local()


def website_group(website_id: int) -> str:
    """The inboxes of agents who are limited to some websites, this one among them."""
    return f"website-{website_id}"


def customer_group(conversation_id: int) -> str:
    """The customer's side of a conversation. What only agents may know never rings here."""
    return f"conversation-{conversation_id}-customer"


def announce(conversation: Conversation) -> None:
    """Once the transaction is committed, tell both sides that the conversation has news."""
    _after_commit([customer_group(conversation.pk), *_agents(conversation)], conversation)


def announce_to_agents(conversation: Conversation) -> None:
    """The same for news that are the agents' alone, such as who has taken the conversation."""
    _after_commit(_agents(conversation), conversation)


def announce_customer(conversation: Conversation) -> None:
    """The same for what only concerns whoever has the conversation open, such as the page that the customer is on."""
    _after_commit(_agents(conversation), conversation, beside=True)


def use_running_loop() -> None:
    """Remember the server's event loop. Queues of the channel layer belong to the loop of those who listen to them."""
    global _loop
    if _loop is None or not _loop.is_running():
        _loop = asyncio.get_running_loop()


def defer_rings() -> None:
    """In a thread whose work the event loop comes for: rings wait until then, to wake it once and not twice."""
    _thread.rings_wait = True


def send_deferred_rings() -> None:
    """In the event loop: ring what the threads have left for it."""
    while _waiting:
        _start(*_waiting.popleft())


def _agents(conversation: Conversation) -> list[str]:
    return [AGENTS, website_group(conversation.website_id)]


def _after_commit(groups: list[str], conversation: Conversation, beside: bool = False) -> None:
    event: Event = {"type": "ring", "conversation": conversation.pk, "last": conversation.last_message_id}
    if beside:
        event["beside"] = True
    # Robust: a ring that fails never fails the write, and the screens' slow polls find the news all the same.
    # A lambda and no partial: Django logs the failed function by a name that a partial does not have.
    transaction.on_commit(lambda: _ring(groups, event), robust=True)


def _ring(groups: list[str], event: Event) -> None:
    if _loop is not None and _loop.is_running():
        if getattr(_thread, "rings_wait", False):
            _waiting.append((groups, event))
        else:
            _loop.call_soon_threadsafe(_start, groups, event)
    else:  # a command or a shell, which has no loop of its own
        async_to_sync(_send)(groups, event)


def _start(groups: list[str], event: Event) -> None:
    ringing = asyncio.ensure_future(_send(groups, event))
    _on_their_way.add(ringing)  # the loop alone would not keep it
    ringing.add_done_callback(_arrived)


async def _send(groups: list[str], event: Event) -> None:
    layer: Any = get_channel_layer()
    for group in groups:
        await layer.group_send(group, event)


def _arrived(ringing: "asyncio.Future[None]") -> None:
    _on_their_way.discard(ringing)
    if not ringing.cancelled() and (error := ringing.exception()):
        logger.error("The doorbell could not ring; polling will bring the news.", exc_info=error)
