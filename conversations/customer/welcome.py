"""What a customer reads before writing: who is there, how long an answer usually takes, when somebody is back."""

import logging
from dataclasses import dataclass
from datetime import datetime

from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.models import Agent, Conversation, Website
from conversations.presence import agents
from conversations.screen.bubbles import Avatar

logger = logging.getLogger(__name__)

MAX_AVATARS = 3
"""Agents whose initials are shown."""

LEAST, MOST = 5, 50
"""The usual time until an answer is that of the newest answered conversations: at least and at most so many."""

UNKNOWN = -1
"""In the cache, where None is what is not there: too few answers to say anything."""

SECONDS = 60
"""How long the usual time is kept before it is computed again."""


@dataclass(frozen=True)
class Welcome:
    """What stands in the head of the chat and before its first message."""

    avatars: list[Avatar]
    reply: str  # how long an answer usually takes, or what the website says instead
    back: datetime | None  # when somebody is there again, or None while somebody is
    asks_email: bool  # because nobody is there to answer at once

    @classmethod
    def of(cls, website: Website, conversation: Conversation | None) -> "Welcome":
        """At this moment."""
        back = website.hours.next_opening(timezone.now())
        known = conversation is not None and (conversation.customer_email or conversation.contact_id)
        if back:
            return cls([], "", back, asks_email=not known)
        avatars = [
            Avatar.of(str(agent)) for agent in agents.online(Agent.objects.with_access_to(website))[:MAX_AVATARS]
        ]
        return cls(avatars, usual(website), None, asks_email=False)


def usual(website: Website) -> str:
    """How long an answer usually takes, from those that were given; the website's own words while there are few."""
    try:
        wait = cache.get_or_set(f"usual-{website.pk}", lambda: _wait(website), SECONDS) or 0
    except Exception:  # whatever the cache's library raises: the page comes all the same
        logger.exception("The cache that keeps usual times does not answer.")
        wait = _wait(website)
    return website.reply_time if wait == UNKNOWN else in_words(wait)


def _wait(website: Website) -> int:
    wait = Conversation.objects.of(website).usual_wait(LEAST, MOST)
    return UNKNOWN if wait is None else wait


def in_words(seconds: int) -> str:
    """A usual wait, rounded up as people would."""
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
