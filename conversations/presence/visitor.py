"""Which page a customer is on, and with which browser: kept in the cache for a while, and never in a table."""

import logging
import time
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit
from zlib import crc32

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from django.utils.translation.trans_real import parse_accept_lang_header

logger = logging.getLogger(__name__)

CACHE_SECONDS = 30 * 60
"""How long it is kept after the browser last reported it."""

MAX_LENGTH = 500
"""Characters of each field; the rest is cut off."""


SAVED_SECONDS = 60
"""How long what a customer's messages say of their browser need not be saved again."""

MAX_SAVED = 10_000
"""Conversations of which this process knows what it has saved, about 2 MB."""


@dataclass(frozen=True)
class Visitor:
    """What a customer's browser has reported. None of it is verified."""

    url: str = ""
    title: str = ""
    referrer: str = ""
    language: str = ""
    zone: str = ""  # the time zone, as in Europe/Berlin
    browser: str = ""
    left: str = ""  # when the customer left the page, in ISO 8601, or "" while they are on it

    @property
    def digest(self) -> str:
        """A short checksum of all fields, to see whether anything has changed."""
        return format(crc32(repr(self).encode(errors="replace")), "x")

    @property
    def link(self) -> str:
        """The page's address if it is http or https, and so safe to open; otherwise ""."""
        return self.url if self.url and _origin(self.url).startswith(("http://", "https://")) else ""


_saved: dict[int, tuple[float, int]] = {}
"""By conversation: when this process has saved it last (time.monotonic()), and a hash of what: that may be long."""


def _origin(url: str) -> str:
    """Scheme and host of a URL, as in "https://shop.example"; "" if it cannot be parsed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def preferred_language(accept_language: str) -> str:
    """The first choice of an Accept-Language header (RFC 9110, 12.5.4), as in "de-at", or ""."""
    return next((code for code, _ in parse_accept_lang_header(accept_language.lower()) if code != "*"), "")


def parse(data: object, browser: str) -> Visitor:
    """Make a visitor from the JSON that a browser has sent. Unknown names and values that are not text are ignored."""
    known = data if isinstance(data, dict) else {}
    names = [field.name for field in fields(Visitor) if field.name not in {"browser", "left"}]
    values = {
        name: " ".join(known[name].split())[:MAX_LENGTH].encode(errors="replace").decode()
        for name in names
        if isinstance(known.get(name), str)
    }
    return Visitor(**{**values, "browser": browser[:MAX_LENGTH]})


def save(conversation_id: int, visitor: Visitor) -> bool:
    """Store the visitor of a conversation; return whether anything has changed.

    Empty fields keep their old value. A referrer on another site is kept while the customer moves between pages of the
    same site.
    """
    key = f"visitor-{conversation_id}"
    try:
        old = cache.get(key) or {}
        new = {name: value or old.get(name, "") for name, value in asdict(visitor).items()} | {"left": ""}
        within_site, referrer = _origin(visitor.url) == _origin(visitor.referrer), old.get("referrer", "")
        if within_site and referrer and _origin(referrer) != _origin(visitor.url):
            new["referrer"] = referrer
        cache.set(key, new, CACHE_SECONDS)
    except Exception:  # any error of the cache's library
        logger.exception("The cache that knows where customers are does not answer.")
        return False
    if settings.MESSAGE_LOG:
        if len(_saved) >= MAX_SAVED:
            _saved.clear()
        _saved[conversation_id] = time.monotonic(), hash(visitor)
    return bool(new != old)


def is_saved(conversation_id: int, visitor: Visitor) -> bool:
    """Whether this process has saved the same for a conversation within SAVED_SECONDS: it need not be saved again."""
    at, saved = _saved.get(conversation_id, (0.0, None))
    return saved == hash(visitor) and time.monotonic() < at + SAVED_SECONDS


def mark_left(conversation_id: int, url: str) -> bool:
    """Store that the customer has left this page; return whether anything has changed.

    Nothing changes if they are on another page already: the page that they leave and the next one report at nearly the
    same time, in either order.
    """
    key = f"visitor-{conversation_id}"
    try:
        known = cache.get(key) or {}
        if known.get("url") != url or known.get("left"):
            return False
        _saved.pop(conversation_id, None)
        cache.set(key, {**known, "left": timezone.now().isoformat()}, CACHE_SECONDS)
    except Exception:  # any error of the cache's library
        logger.exception("The cache that knows where customers are does not answer.")
        return False
    return True


def get(conversation_id: int) -> Visitor | None:
    """The visitor of a conversation, or None."""
    try:
        known = cache.get(f"visitor-{conversation_id}")
    except Exception:  # any error of the cache's library
        logger.exception("The cache that knows where customers are does not answer.")
        return None
    return Visitor(**known) if known else None
