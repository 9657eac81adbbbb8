"""The panel beside a conversation: who the customer is, which page they are on, and their earlier conversations."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from zlib import crc32
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone, translation

from conversations.models import Agent, Author, Contact, Conversation, Website
from conversations.presence.visitor import Visitor
from conversations.screen.avatars import Avatar

if TYPE_CHECKING:
    from ua_parser import PartialResult

MOST_WITH_EMAIL = 10
"""Conversations with the same e-mail address that are shown."""

CHINESE = {"zh": "zh-hans"}  # Django names zh-hans and zh-hant, not zh
VARIANTS = {"Mobile", "iOS", "WebView", "UI/WKWebView"}
"""Words in ua-parser's names of browsers that repeat the system: it calls Chrome on an iPhone “Chrome Mobile iOS”."""

NAMES = {"IE": "Internet Explorer", "Mac OS X": "macOS", "Chrome OS": "ChromeOS"}
"""Current names for browsers and systems that ua-parser knows under older names."""


@dataclass(frozen=True)
class CustomerDetails:
    """The customer of a conversation, at this moment."""

    avatar: Avatar
    website: Website
    contact: Contact | None
    name_is_verified: bool
    email_is_verified: bool
    earlier: list[Conversation]
    same_email: list[Conversation]  # others with the same e-mail address, which nobody has verified
    visitor: Visitor | None
    browser: str
    language: str
    local_time: datetime | None  # without a time zone
    left_at: datetime | None  # when they left the page they were on last; None while they are on it

    @classmethod
    def of(cls, conversation: Conversation, seen: Visitor | None, agent: Agent) -> "CustomerDetails":
        """Collect the details of a conversation's customer for an agent; `seen` is what their browser has reported."""
        contact = conversation.contact
        by_token = contact is not None and contact.proof == Contact.Proof.TOKEN
        return cls(
            avatar=Avatar.of(str(conversation)),
            website=conversation.website,
            contact=contact,
            name_is_verified=contact is not None and contact.name == conversation.customer_name,
            email_is_verified=bool(by_token and contact and contact.email == conversation.customer_email),
            earlier=(earlier := conversation.earlier()),
            same_email=_with_same_email(conversation, {conversation.pk, *(each.pk for each in earlier)}, agent),
            visitor=seen,
            browser=browser_and_system(seen.browser) if seen else "",
            language=language_name(seen.language) if seen else "",
            local_time=local_time(seen.zone) if seen else None,
            left_at=datetime.fromisoformat(seen.left) if seen and seen.left else None,
        )


def _with_same_email(conversation: Conversation, known: set[int], agent: Agent) -> list[Conversation]:
    """Other conversations with the same e-mail address that the agent may see, without the `known` ones."""
    found = agent.visible_conversations().with_email(conversation.customer_email, MOST_WITH_EMAIL + len(known))
    return [each for each in found if each.pk not in known][:MOST_WITH_EMAIL]


def state_version(conversation: Conversation, seen: Visitor | None) -> str:
    """Return a string that differs when anything above or beside the messages has changed.

    `seen` is what the customer's browser has reported.
    """
    is_seen = conversation.is_seen and conversation.last_author == Author.AGENT
    receipt = f" {conversation.seen_id}" if is_seen else ""
    called = crc32("\n".join(conversation.names).encode())
    return f"{conversation.state} {conversation.contact_id or ''} {called:x} {seen.digest if seen else ''}{receipt}"


@lru_cache(maxsize=1000)
def browser_and_system(user_agent: str) -> str:
    """Summarize a User-Agent, as in “Firefox 128, Windows”; "" if nothing in it is known.

    Systems have no version: browsers no longer send the real one ("Windows NT 10.0" also means Windows 11).
    The time is quadratic in the length, so `visitor.MAX_LENGTH` bounds it: at most 4 ms, for 500 characters.
    """
    found = _user_agents()(user_agent)
    summary = []
    if found.user_agent:
        name = " ".join(word for word in found.user_agent.family.split() if word not in VARIANTS)
        summary.append(f"{NAMES.get(name, name)} {found.user_agent.major or ''}".strip())
    if found.os:
        summary.append(NAMES.get(found.os.family, found.os.family))
    return ", ".join(summary)


@cache
def _user_agents() -> "Callable[[str], PartialResult]":
    """Load ua-parser and its patterns. This takes 70 ms and 5 MB, so it is done when they are first needed."""
    from ua_parser import BasicResolver, Domain, Parser, load_lazy_builtins

    parser = Parser(BasicResolver(load_lazy_builtins()))
    return lambda user_agent: parser(user_agent, Domain.USER_AGENT | Domain.OS)


def language_name(code: str) -> str:
    """Return a language's name in the agent's language, or its code if Django has no name for it."""
    try:
        return str(translation.gettext(translation.get_language_info(CHINESE.get(code.lower(), code.lower()))["name"]))
    except KeyError:
        return code


def local_time(zone: str) -> datetime | None:
    """Return the time in a time zone such as Europe/Berlin, or None if there is no such zone."""
    try:
        # Naive, because templates would convert an aware one to the server's zone.
        return timezone.now().astimezone(ZoneInfo(zone)).replace(tzinfo=None) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
