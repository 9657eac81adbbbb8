"""Which agents have their inbox open. Kept in the cache, where it expires unless it is refreshed."""

import logging
from collections.abc import Iterable

from django.core.cache import cache

from conversations.models import Agent

logger = logging.getLogger(__name__)

SECONDS = 60
"""How long an agent counts as online; an open inbox refreshes it every 25 seconds."""


def mark_online(agent: Agent) -> None:
    """Store that the agent's inbox is open."""
    try:
        cache.set(f"online-{agent.pk}", True, SECONDS)
    except Exception:  # any error of the cache's library: the socket must still work
        logger.exception("The cache that knows which agents are online does not answer.")


def online(agents: Iterable[Agent]) -> list[Agent]:
    """The agents among these whose inbox is open."""
    agents = list(agents)
    try:
        found = cache.get_many([f"online-{agent.pk}" for agent in agents])
    except Exception:  # any error of the cache's library
        logger.exception("The cache that knows which agents are online does not answer.")
        return []
    return [agent for agent in agents if f"online-{agent.pk}" in found]
