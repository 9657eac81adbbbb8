"""What an agent sees of the customer beside a conversation: who they are, where they are, what they wrote before."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone, translation

from conversations.models import Contact, Conversation, Website
from conversations.presence import visitor
from conversations.presence.visitor import Visitor
from conversations.screen.bubbles import Avatar

BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Version", "Safari"))
CHINESE = {"zh": "zh-hans"}  # Django has names for its kinds only
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "CrOS", "Linux")


@dataclass(frozen=True)
class CustomerDetails:
    """The details of a conversation's customer."""

    avatar: Avatar
    website: Website
    contact: Contact | None
    email_is_verified: bool
    earlier: list[Conversation]
    visitor: Visitor | None
    browser: str
    language: str
    clock: datetime | None  # what the customer's clock says
    left: datetime | None  # when they left the page that they were on last

    @classmethod
    def of(cls, conversation: Conversation) -> "CustomerDetails":
        """At this moment."""
        contact, seen = conversation.contact, visitor.get(conversation.pk)
        by_token = contact is not None and contact.proof == Contact.Proof.TOKEN
        return cls(
            avatar=Avatar.of(str(conversation)),
            website=Website.objects.by_id(conversation.website_id),
            contact=contact,
            email_is_verified=bool(by_token and contact and contact.email == conversation.customer_email),
            earlier=conversation.earlier(),
            visitor=seen,
            browser=in_short(seen.browser) if seen else "",
            language=spoken(seen.language) if seen else "",
            clock=clock(seen.zone) if seen else None,
            left=datetime.fromisoformat(seen.left) if seen and seen.left else None,
        )


def state(conversation: Conversation) -> str:
    """Everything that stands beside and above the messages, in a word, to see whether it has changed."""
    seen = visitor.get(conversation.pk)
    return f"{conversation.state} {conversation.contact_id or ''} {seen.digest if seen else ''}"


def in_short(user_agent: str) -> str:
    """A browser and a system, as in “Firefox 128, Windows”, as far as the User-Agent tells."""
    found: list[Any] = [
        f"{name} {version[1]}" for word, name in BROWSERS if (version := re.search(rf"{word}\w*/(\d+)", user_agent))
    ]
    system = next((name for name in SYSTEMS if name in user_agent), "")
    return ", ".join(filter(None, [*found[:1], system.replace("Mac OS X", "macOS").replace("CrOS", "ChromeOS")]))


def spoken(code: str) -> str:
    """A language's name in the agent's own words, or its code where nobody has a name for it."""
    try:
        return str(translation.gettext(translation.get_language_info(CHINESE.get(code.lower(), code.lower()))["name"]))
    except KeyError:
        return code


def clock(zone: str) -> datetime | None:
    """What time it is in a time zone, or None if there is no such zone."""
    try:
        # Without its zone: templates would turn it to the server's.
        return timezone.now().astimezone(ZoneInfo(zone)).replace(tzinfo=None) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
