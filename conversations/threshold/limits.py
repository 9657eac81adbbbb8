"""Rate limits per client address, conversation or account. The numbers are LIMITS in the settings."""

import hashlib
import ipaddress
import math
import re
import time
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import ngettext

from conversations.threshold.sliding_window import MemoryStore, RedisStore

ADDRESS = re.compile(r"\[([^\[\]]+)\](?::\d+)?|([\d.]+)(?::\d+)?|([^\[\]]+)")
"""An IP address as proxies write it: `[IPv6]`, `[IPv6]:port`, `IPv4`, `IPv4:port` or a bare IPv6 address."""


class RateLimitExceeded(Exception):
    """A limit is used up. Another use is allowed in `retry_after` seconds."""

    def __init__(self, limit: str, retry_after: int) -> None:
        """`limit` is its name in the settings."""
        self.limit = limit
        self.retry_after = retry_after
        sentence = ngettext(
            "That was a bit much at once. Please try again in %(seconds)s second.",
            "That was a bit much at once. Please try again in %(seconds)s seconds.",
            retry_after,
        )
        super().__init__(sentence % {"seconds": retry_after})


class Use(NamedTuple):
    """One use that was counted."""

    counter: str
    time: float


@cache
def store() -> MemoryStore | RedisStore:
    """Return the store in which uses are counted."""
    return RedisStore(settings.REDIS_URL) if settings.REDIS_URL else MemoryStore()


def enforce(limit: str, who: str | int) -> Use:
    """Count one use of a limit by `who` and return it, for `give_back`. Raises RateLimitExceeded if it is used up."""
    use = Use(hashlib.blake2b(f"{limit} {who}".encode(), digest_size=12).hexdigest(), time.time())
    if settings.RATE_LIMITS:
        most, seconds = settings.LIMITS[limit]
        if wait := store().use(use.counter, most, seconds, use.time):
            raise RateLimitExceeded(limit, math.ceil(wait))
    return use


def reserve(*limits: tuple[str, str | int]) -> list[Use]:
    """Count one use of each of these limits, or of none: raise RateLimitExceeded if any is used up."""
    uses: list[Use] = []
    try:
        for limit, who in limits:
            uses.append(enforce(limit, who))
    except RateLimitExceeded:
        give_back(*uses)
        raise
    return uses


def give_back(*uses: Use) -> None:
    """Take back uses that `enforce` or `reserve` has counted."""
    if settings.RATE_LIMITS:
        for use in uses:
            store().give_back(use.counter, use.time)


def enforce_message(request: HttpRequest, conversation_id: int | None) -> None:
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
    as far as our own TRUSTED_PROXIES have written it; a client can forge the rest. Returns "unknown" without
    an address, as on a Unix socket.
    """
    written = peer or ""
    if settings.TRUSTED_PROXIES and forwarded_for:
        hops = forwarded_for.split(",")
        written = hops[-settings.TRUSTED_PROXIES] if len(hops) >= settings.TRUSTED_PROXIES else written
    return network(written.strip())


@lru_cache(1000)
def network(written: str) -> str:
    """Return `client_address` for the address of a client as it is written."""
    match = ADDRESS.fullmatch(written)
    try:
        ip = ipaddress.ip_address((match[1] or match[2] or match[3]) if match else "")
    except ValueError:
        return "unknown"
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))
