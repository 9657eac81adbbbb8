"""The header of the chat: which agents are online, how long an answer usually takes, when the office opens."""

import logging
from dataclasses import dataclass
from datetime import datetime

from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.models import Agent, Conversation, Website
from conversations.models.agent import public_name
from conversations.models.agent_profile import picture_of
from conversations.models.conversation import AWAY
from conversations.presence import agents
from conversations.screen.avatars import Avatar

logger = logging.getLogger(__name__)

MAX_AVATARS = 3
"""How many agents' initials are shown."""

MIN_ANSWERS, MAX_ANSWERS = 5, 50
"""The usual reply time is the median of up to MAX_ANSWERS newest answered conversations. With fewer than
MIN_ANSWERS, it is unknown."""

UNKNOWN = -1
"""Too few answers. Cached as a number, because None means a missing entry in the cache."""

CACHE_SECONDS = 60
"""Seconds that the usual reply time is cached."""


@dataclass(frozen=True)
class Welcome:
    """What the header of the chat shows."""

    avatars: list[Avatar]
    reply: str  # how long an answer usually takes, or the website's own text
    back: datetime | None  # when the office hours begin again, or None within them
    asks_email: bool  # outside the office hours, unless the e-mail address is known

    @classmethod
    def of(cls, website: Website, conversation: Conversation | None) -> "Welcome":
        """Collect what the header shows now."""
        back = website.hours.next_opening(timezone.now())
        known = conversation is not None and (conversation.customer_email or conversation.contact_id)
        if back:
            return cls([], "", back, asks_email=not known)
        try:
            online = agents.online(Agent.objects.with_access_to(website))
            reply = usual_reply_time(website)
        except AWAY as error:  # what else the page shows may be known without the database
            logger.warning("The header of the chat does not show who is online: %r", error)
            online, reply = [], website.reply_time
        avatars = [Avatar.of(public_name(agent), picture_of(agent)) for agent in online[:MAX_AVATARS]]
        return cls(avatars, reply, None, asks_email=False)


def usual_reply_time(website: Website) -> str:
    """The usual reply time as a sentence, or the website's own text while there are too few answers."""
    try:
        wait = cache.get_or_set(f"usual-{website.pk}", lambda: _usual_wait(website), CACHE_SECONDS) or 0
    except Exception:  # any error of the cache's library: the page does not need it
        logger.exception("The cache does not answer: the usual reply time is computed again.")
        wait = _usual_wait(website)
    return website.reply_time if wait == UNKNOWN else duration_text(wait)


def _usual_wait(website: Website) -> int:
    wait = Conversation.objects.of(website).median_wait(MIN_ANSWERS, MAX_ANSWERS)
    return UNKNOWN if wait is None else wait


def duration_text(seconds: int) -> str:
    """A sentence for the usual reply time, rounded up to a common number such as 5 or 15 minutes."""
    minutes = -(-seconds // 60)
    if minutes <= 1:
        return _("Usually answers within a minute")
    for most in (2, 3, 5, 10, 15, 30, 45):
        if minutes <= most:
            return ngettext(
                "Usually answers within %(count)d minute", "Usually answers within %(count)d minutes", most
            ) % {"count": most}
    hours = -(-minutes // 60)
    if hours <= 24:
        return ngettext("Usually answers within %(count)d hour", "Usually answers within %(count)d hours", hours) % {
            "count": hours
        }
    days = -(-hours // 24)
    return ngettext("Usually answers within %(count)d day", "Usually answers within %(count)d days", days) % {
        "count": days
    }
