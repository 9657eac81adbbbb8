"""Rate limits per client address, conversation or account. The numbers are LIMITS in the settings."""

import hashlib
import ipaddress
import logging
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import ngettext

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"\[([^\[\]]+)\](?::\d+)?|([\d.]+)(?::\d+)?|([^\[\]]+)")
"""An IP address as proxies write it: `[IPv6]`, `[IPv6]:port`, `IPv4`, `IPv4:port` or a bare IPv6 address."""


class RateLimitExceeded(Exception):
    """A limit is used up. `retry_after` is in how many seconds there is room again."""

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
    """Raise RateLimitExceeded if `who` has used up the limit of this name. Counts nothing."""
    if settings.RATE_LIMITS:
        most, seconds = settings.LIMITS[limit]
        if _count(limit, who, seconds, step=0) >= most:
            raise RateLimitExceeded(_rest(seconds))


def count(limit: str, who: str | int) -> None:
    """Count one deed of `who` towards the limit of this name."""
    if settings.RATE_LIMITS:
        _count(limit, who, settings.LIMITS[limit][1], step=1)


def enforce(limit: str, who: str | int) -> None:
    """Count one deed, or raise RateLimitExceeded if the limit is used up."""
    check(limit, who)
    count(limit, who)


def allow_message(request: HttpRequest, conversation_id: int | None) -> None:
    """Count one message of a customer, in this conversation or, with None, in a new one. Raises RateLimitExceeded."""
    who = address(request)
    enforce("messages of one address", who)
    if conversation_id is None:
        enforce("conversations of one address", who)
    else:
        enforce("messages in one conversation", conversation_id)


def address(request: HttpRequest) -> str:
    """Return the client's address, for rate limits: see `client_address`."""
    return client_address(request.META.get("REMOTE_ADDR"), request.META.get("HTTP_X_FORWARDED_FOR"))


def address_of_scope(scope: Mapping[str, Any]) -> str:
    """Return the client's address of an ASGI scope, http or websocket: see `client_address`."""
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return client_address((scope.get("client") or [None])[0], b",".join(forwarded).decode("latin1"))


def client_address(peer: str | None, forwarded_for: str | None) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address, which is usually one household.

    `peer` is the address of the TCP connection, `forwarded_for` the X-Forwarded-For header. The header is trusted only
    as far as our own TRUSTED_PROXIES have written it; a client can make up the rest. Returns "unknown" where there is
    no address, as on a Unix socket.
    """
    written = peer or ""
    if settings.TRUSTED_PROXIES and forwarded_for:
        hops = forwarded_for.split(",")
        written = hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES else written
    match = ADDRESS.fullmatch(written.strip())
    try:
        ip = ipaddress.ip_address((match[1] or match[2] or match[3]) if match else "")
    except ValueError:
        return "unknown"
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))


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
