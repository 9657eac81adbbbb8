"""Which agents have their inbox open. Kept in the cache for a while: it is gone when nobody says it again."""

import logging
from collections.abc import Iterable

from django.core.cache import cache

from conversations.models import Agent

logger = logging.getLogger(__name__)

SECONDS = 60
"""How long somebody counts as there: their inbox says so every 25 seconds."""


def mark_online(agent: Agent) -> None:
    """The agent's inbox is open."""
    try:
        cache.set(f"there-{agent.pk}", True, SECONDS)
    except Exception:  # whatever the cache's library raises: rings matter more than avatars
        logger.exception("The cache that knows who is there does not answer.")


def online(agents: Iterable[Agent]) -> list[Agent]:
    """Those of the agents whose inbox is open."""
    agents = list(agents)
    try:
        noted = cache.get_many([f"there-{agent.pk}" for agent in agents])
    except Exception:  # the same
        logger.exception("The cache that knows who is there does not answer.")
        return []
    return [agent for agent in agents if f"there-{agent.pk}" in noted]
