"""How much one address or one conversation may do in a while. The numbers are LIMITS in the settings."""

import hashlib
import ipaddress
import logging
import math
import time

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import ngettext

logger = logging.getLogger(__name__)


class TooMany(Exception):
    """A limit is reached. `retry_after` is how many seconds from now it is worth trying again."""

    def __init__(self, retry_after: int) -> None:
        """`retry_after` is in seconds."""
        self.retry_after = retry_after
        sentence = ngettext(
            "That was a bit much at once. Please try again in %(seconds)s second.",
            "That was a bit much at once. Please try again in %(seconds)s seconds.",
            retry_after,
        )
        super().__init__(sentence % {"seconds": retry_after})


def check(limit: str, who: str | int) -> None:
    """Raise TooMany if `who` has used up the limit of this name. Counts nothing."""
    if settings.RATE_LIMITS:
        most, seconds = settings.LIMITS[limit]
        if _count(limit, who, seconds, step=0) >= most:
            raise TooMany(_rest(seconds))


def count(limit: str, who: str | int) -> None:
    """Count one deed of `who` towards the limit of this name."""
    if settings.RATE_LIMITS:
        _count(limit, who, settings.LIMITS[limit][1], step=1)


def enforce(limit: str, who: str | int) -> None:
    """Count one deed, or raise TooMany if the limit is used up."""
    check(limit, who)
    count(limit, who)


def allow_message(request: HttpRequest, conversation_id: int | None) -> None:
    """Count one message of a customer, in this conversation or, with None, in a new one. Raises TooMany."""
    who = address(request)
    enforce("messages of one address", who)
    if conversation_id is None:
        enforce("conversations of one address", who)
    else:
        enforce("messages in one conversation", conversation_id)


def address(request: HttpRequest) -> str:
    """Where a request comes from: an IPv4 address, or the /64 network of an IPv6 one, which is one household.

    X-Forwarded-For is believed only as far as TRUSTED_PROXIES of ours have written it; the rest anybody can make up.
    """
    written: str = request.META.get("REMOTE_ADDR") or ""
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        written = hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES else written
    try:
        ip = ipaddress.ip_address(written)
    except ValueError:  # a Unix socket has no address
        return "unknown"
    if ip.version == 4 or ip.ipv4_mapped:
        return str(ip if ip.version == 4 else ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def _count(limit: str, who: str | int, seconds: int, step: int) -> int:
    window = int(time.time() // seconds)
    key = "limit-" + hashlib.sha256(f"{limit} {who} {window}".encode()).hexdigest()
    try:
        cache.add(key, 0, seconds + 1)
        return int(cache.incr(key, step))
    except Exception:  # whatever the cache's library raises: a message matters more than its counting
        logger.exception("The cache that counts for rate limits does not answer; nothing is limited meanwhile.")
        return 0


def _rest(seconds: int) -> int:
    """Seconds until the current window of so many seconds ends."""
    return math.ceil(seconds - time.time() % seconds) or 1
