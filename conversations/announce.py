"""Rings the doorbell after commit. Only this module sends to the channel layer and names its groups.

A ring says that there are new messages, never what they say. Receivers fetch them over HTTP, where access is checked.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from conversations.models import Conversation
from conversations.poll_cache import poll_cache

logger = logging.getLogger(__name__)

Event = dict[str, Any]
"""What the sockets of a group are told: a ring, a recheck of their access, or who is typing or looking."""

AGENTS = "agents"
"""The inboxes of agents who see every website."""

TIMEOUT = 10
"""Seconds that the channel layer may take to send one event of a command to all of its groups."""

_loop: asyncio.AbstractEventLoop | None = None
_loop_thread = 0
_deferred: deque[tuple[list[str], Event]] = deque()
_thread = threading.local()


def website_group(website_id: int) -> str:
    """The inboxes of agents who are limited to some websites, this one among them."""
    return f"website-{website_id}"


def customer_group(conversation_id: int) -> str:
    """The customer's sockets of a conversation. Events that only agents may know of are never sent here."""
    return f"conversation-{conversation_id}-customer"


def desk_group(conversation_id: int) -> str:
    """The inboxes of agents who look at a conversation right now."""
    return f"conversation-{conversation_id}-desk"


def is_desk(group: str) -> bool:
    """Whether it is a `desk_group`."""
    return group.endswith("-desk")


def say(group: str, event: Event) -> None:
    """In the event loop, tell a group what is only true now, such as that somebody is typing."""
    _send_soon([([group], event)])


def announce(conversation: Conversation) -> None:
    """After commit, tell the customer and the agents that the conversation has changed."""
    _send_after_commit(
        conversation, [customer_group(conversation.pk), *_agent_groups(conversation)], _ring(conversation)
    )


def announce_appended(conversation: Conversation) -> None:
    """Tell everybody, at once, of a message in the message log. The list of conversations has it when it is settled.

    Nothing waits for a commit: the database may be away.
    """
    poll_cache.forget_here(conversation.pk)  # other processes were told by the log's own script
    for groups, event in (
        ([customer_group(conversation.pk)], _ring(conversation)),
        (_agent_groups(conversation), {**_ring(conversation), "beside": True}),
    ):
        try:
            _send_from_thread([(groups, event)])
        except Exception:
            logger.exception("A ring could not be sent; polling will find the message.")


def announce_settled(conversations: Iterable[Conversation]) -> None:
    """Tell the agents' lists that SQL now has what the message log had of these conversations."""
    rings = []
    for conversation in conversations:
        if conversation.has_new_header:
            poll_cache.forget(conversation.pk)
        rings.append((_agent_groups(conversation), _ring(conversation)))
    try:
        _send_from_thread(rings)
    except Exception:  # the messages are copied all the same
        logger.exception("Agents could not be rung; polling will find the messages.")


def announce_to_agents(conversation: Conversation) -> None:
    """After commit, tell only the agents, for example that a colleague has taken the conversation."""
    _send_after_commit(conversation, _agent_groups(conversation), _ring(conversation))


def announce_customer(conversation: Conversation) -> None:
    """After commit, tell the agents who have this conversation open that the customer has, for example, changed pages.

    `beside` in the ring means that nothing in the list of conversations has changed.
    """
    _send_after_commit(conversation, _agent_groups(conversation), {**_ring(conversation), "beside": True})


def announce_note(conversation: Conversation, mentioned: Sequence[int]) -> None:
    """After commit, tell the agents who have this conversation open of a note. The customer is told nothing.

    mentioned: the ids of the agents whom it mentions. `mentions` in the ring has them: their lists have changed.
    """
    event = {**_ring(conversation), "beside": True}
    if mentioned:
        event["mentions"] = tuple(mentioned)
    _send_after_commit(conversation, _agent_groups(conversation), event)


def announce_seen(conversation: Conversation) -> None:
    """After commit, tell the customer that an agent has seen their last message."""
    _send_after_commit(conversation, [customer_group(conversation.pk)], _ring(conversation))


def announce_renewed_secret(conversation: Conversation) -> None:
    """After commit, have each of the customer's sockets check its access again, and tell the agents.

    Sockets that were opened with the old uuid are closed with 4403; those with the new one are rung.
    """
    _send_after_commit(conversation, [customer_group(conversation.pk)], {"type": "recheck"})
    announce_to_agents(conversation)


def use_running_loop() -> None:
    """Remember the server's event loop, in which the sockets are."""
    global _loop, _loop_thread
    if _loop is None or not _loop.is_running():
        _loop, _loop_thread = asyncio.get_running_loop(), threading.get_ident()


def defer_rings() -> None:
    """Let rings of this thread wait for `send_deferred_rings`, so that one request wakes the event loop only once."""
    _thread.defers_rings = True


def send_deferred_rings() -> None:
    """In the event loop, send the rings that threads have deferred."""
    while _deferred:
        _send_soon([_deferred.popleft()])


async def send_last_rings() -> None:
    """In the event loop, which is about to end: send the rings that wait, and return when other processes have them.

    Threads may go on: the rings of these are sent without this event loop.
    """
    global _loop
    send_deferred_rings()
    layer: Any = get_channel_layer()
    await layer.flush()
    _loop = None


def _agent_groups(conversation: Conversation) -> list[str]:
    return [AGENTS, website_group(conversation.website_id)]


def _ring(conversation: Conversation) -> Event:
    return {"type": "ring", "conversation": conversation.pk, "last": conversation.last_message_id}


def _send_after_commit(conversation: Conversation, groups: list[str], event: Event) -> None:
    # robust=True: the request must not fail if a ring fails, because polling finds the messages too.
    # A lambda, not a partial: Django logs the failed function by its __qualname__, which a partial does not have.
    transaction.on_commit(lambda: poll_cache.forget(conversation.pk), robust=True)
    transaction.on_commit(lambda: _send_from_thread([(groups, event)]), robust=True)


def _send_from_thread(rings: list[tuple[list[str], Event]]) -> None:
    """Send events to groups. The event loop wakes once for all of them."""
    if _loop is None or not _loop.is_running():  # a management command or a shell
        async_to_sync(_send)(rings)
    elif getattr(_thread, "defers_rings", False):
        _deferred.extend(rings)
    elif threading.get_ident() == _loop_thread:
        _send_soon(rings)
    else:
        _loop.call_soon_threadsafe(_send_soon, rings)


def _send_soon(rings: list[tuple[list[str], Event]]) -> None:
    """Send events in the server's event loop. Nothing waits for them, and no task is needed."""
    layer: Any = get_channel_layer()
    for groups, event in rings:
        try:
            layer.send_soon(groups, event)
        except Exception:
            logger.exception("A ring could not be sent; polling will find the messages.")


async def _send(rings: list[tuple[list[str], Event]]) -> None:
    layer: Any = get_channel_layer()
    async with asyncio.timeout(TIMEOUT):  # concurrently, in one round trip
        await asyncio.gather(*(layer.group_send(group, event) for groups, event in rings for group in groups))
