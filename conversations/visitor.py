"""Where a customer is right now and with what: told by their browser, kept in the cache, never in a table."""

import logging
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit
from zlib import crc32

from django.core.cache import cache

logger = logging.getLogger(__name__)

SECONDS = 30 * 60
"""How long it is kept after the browser last told it."""

LONGEST = 500
"""Characters of anything that a browser tells; the rest is left out."""


@dataclass(frozen=True)
class Visitor:
    """What a browser has told. All of it is the customer's word, and none of it proves anything."""

    url: str = ""
    title: str = ""
    referrer: str = ""
    language: str = ""
    zone: str = ""  # their time zone, as in Europe/Berlin
    browser: str = ""

    @property
    def digest(self) -> str:
        """A short word that differs where anything in it does."""
        return format(crc32(repr(self).encode(errors="replace")), "x")

    @property
    def link(self) -> str:
        """The page they are on, if it is one that can be opened."""
        try:
            return self.url if urlsplit(self.url).scheme in {"http", "https"} else ""
        except ValueError:
            return ""


def told(said: object, browser: str) -> Visitor:
    """What a browser has said of itself, whatever that is: text under the names that we know, and no more of it."""
    known = said if isinstance(said, dict) else {}
    names = [field.name for field in fields(Visitor)]
    words = {
        name: " ".join(known[name].split())[:LONGEST].encode(errors="replace").decode()
        for name in names
        if isinstance(known.get(name), str)
    }
    return Visitor(**{**words, "browser": browser[:LONGEST]})


def note(conversation_id: int, visitor: Visitor) -> bool:
    """Keep it for a while; returns whether it differs from what was known."""
    key = f"visitor-{conversation_id}"
    try:
        known = cache.get(key)
        said = {name: word or (known or {}).get(name, "") for name, word in asdict(visitor).items()}
        cache.set(key, said, SECONDS)
    except Exception:  # whatever the cache's library raises
        logger.exception("The cache that knows where customers are does not answer.")
        return False
    return bool(said != known)


def of(conversation_id: int) -> Visitor | None:
    """What is known of a conversation's customer, or None."""
    try:
        known = cache.get(f"visitor-{conversation_id}")
    except Exception:  # the same
        logger.exception("The cache that knows where customers are does not answer.")
        return None
    return Visitor(**known) if known else None
