"""Who is typing: said to the other side while it is true, and kept nowhere. It ends by itself after 10 seconds.

An event is what sockets are told (live/doorbell.py). That somebody types is said again every few seconds, so a page
that is opened meanwhile soon shows it.
"""

from typing import Any

MAX_PEEK = 2000
"""Characters of what a customer has typed and not sent. It reaches only agents who look at the conversation."""


def for_customer(name: str, *, on: bool) -> dict[str, Any]:
    """An agent is typing, or no more. `name` is the one that customers see."""
    return {"type": "typing", "name": name, "on": on}


def by_agent(conversation: int, agent: int, name: str, *, on: bool) -> dict[str, Any]:
    """What colleagues are told of an agent who is writing an answer. `name` is the one that colleagues see."""
    return {"type": "typing", "conversation": conversation, "who": name, "agent": agent, **_end(on)}


def by_customer(conversation: int, *, on: bool, text: str | None = None) -> dict[str, Any]:
    """What agents are told of a customer who is typing; `text` is what they have typed, if they were told of that."""
    event = {"type": "typing", "conversation": conversation, "who": "customer", **_end(on)}
    return event if text is None else {**event, "text": text}


def _end(on: bool) -> dict[str, Any]:
    return {} if on else {"on": False}
