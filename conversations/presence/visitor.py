"""Where a customer is right now and with what: told by their browser, kept in the cache, never in a table."""

import logging
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit
from zlib import crc32

from django.core.cache import cache
from django.utils import timezone
from django.utils.translation.trans_real import parse_accept_lang_header

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
    left: str = ""  # when they left that page, in ISO 8601, or "" while they are on it

    @property
    def digest(self) -> str:
        """A short word that differs where anything in it does."""
        return format(crc32(repr(self).encode(errors="replace")), "x")

    @property
    def link(self) -> str:
        """The page they are on, if it is one that can be opened."""
        return self.url if self.url and _site(self.url).startswith(("http://", "https://")) else ""


def _site(url: str) -> str:
    """Scheme and host of an address, as in "https://shop.example"; "" for what is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def preferred(accept_language: str) -> str:
    """The language that a browser likes best, as in "de-at", or ""; what it accepts is as in RFC 9110, 12.5.4."""
    return next((code for code, _ in parse_accept_lang_header(accept_language.lower()) if code != "*"), "")


def parse(said: object, browser: str) -> Visitor:
    """What a browser has said of itself, whatever that is: text under the names that we know, and no more of it."""
    known = said if isinstance(said, dict) else {}
    names = [field.name for field in fields(Visitor) if field.name not in {"browser", "left"}]
    words = {
        name: " ".join(known[name].split())[:LONGEST].encode(errors="replace").decode()
        for name in names
        if isinstance(known.get(name), str)
    }
    return Visitor(**{**words, "browser": browser[:LONGEST]})


def save(conversation_id: int, visitor: Visitor) -> bool:
    """Keep it for a while; returns whether it differs from what was known.

    What is not told anew stays as it was. So does another site that they came from, when they go on to another page of
    the one that they came to.
    """
    key = f"visitor-{conversation_id}"
    try:
        known = cache.get(key) or {}
        said = {name: word or known.get(name, "") for name, word in asdict(visitor).items()} | {"left": ""}
        inside, before = _site(visitor.url) == _site(visitor.referrer), known.get("referrer", "")
        if inside and before and _site(before) != _site(visitor.url):
            said["referrer"] = before
        cache.set(key, said, SECONDS)
    except Exception:  # whatever the cache's library raises
        logger.exception("The cache that knows where customers are does not answer.")
        return False
    return bool(said != known)


def mark_left(conversation_id: int, url: str) -> bool:
    """Note that they are not on this page any more; returns whether that is news.

    It is none where they are known to be on another: a page that is left and the next one speak at nearly the same
    time, and may be heard in either order.
    """
    key = f"visitor-{conversation_id}"
    try:
        known = cache.get(key) or {}
        if known.get("url") != url or known.get("left"):
            return False
        cache.set(key, {**known, "left": timezone.now().isoformat()}, SECONDS)
    except Exception:  # the same
        logger.exception("The cache that knows where customers are does not answer.")
        return False
    return True


def get(conversation_id: int) -> Visitor | None:
    """What is known of a conversation's customer, or None."""
    try:
        known = cache.get(f"visitor-{conversation_id}")
    except Exception:  # the same
        logger.exception("The cache that knows where customers are does not answer.")
        return None
    return Visitor(**known) if known else None
