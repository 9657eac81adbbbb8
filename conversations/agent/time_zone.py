"""The time zone that an agent's times are in."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import QueryDict
from django.utils import timezone

from conversations.models import Agent


def zone_of(agent: Agent, values: QueryDict) -> ZoneInfo:
    """The time zone that the agent has chosen, else that of their browser (`zone`); without scripts, the server's."""
    if agent.preferences.zone:
        return agent.preferences.zone
    try:
        return ZoneInfo(values.get("zone", "")[:60] or timezone.get_current_timezone_name())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
