"""Rate limits per client address, conversation or account. The numbers are LIMITS in the settings."""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import ngettext

from conversations.metrics import rate_limited
from conversations.models import Conversation
from conversations.threshold.proxies import client_address
from conversations.threshold.sliding_window import MemoryStore, RedisStore, key_of


class RateLimitExceeded(Exception):
    """A limit is used up. Another use is allowed in `retry_after` seconds."""

    def __init__(self, limit: str, retry_after: int) -> None:
        """`limit` is its name in the settings."""
        self.limit = limit
        self.retry_after = retry_after
        sentence = ngettext(
            "Too many requests. Please try again in %(seconds)s second.",
            "Too many requests. Please try again in %(seconds)s seconds.",
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
    use = Use(counter_of(limit, who), time.time())
    if settings.RATE_LIMITS:
        most, seconds = settings.LIMITS[limit]
        if wait := store().use(use.counter, most, seconds, use.time):
            rate_limited.labels(limit).inc()
            raise RateLimitExceeded(limit, math.ceil(wait))
    return use


def counter_of(limit: str, who: str | int) -> str:
    """The name of the counter of a limit's uses by `who`."""
    return hashlib.blake2b(f"{limit} {who}".encode(), digest_size=12).hexdigest()


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


@contextmanager
def counted_message(request: HttpRequest, conversation: Conversation | None) -> Iterator[None]:
    """As `enforce_message`, for a message that is written in this context.

    It does not count if the conversation was remembered and must be read again: then it is counted again.
    """
    uses = enforce_message(request, conversation.pk if conversation else None)
    try:
        yield
    except Conversation.DoesNotExist:
        if conversation and conversation.is_remembered:
            give_back(*uses)
        raise


def enforce_message(request: HttpRequest, conversation_id: int | None) -> list[Use]:
    """Count one message of a customer, in this conversation or, with None, in a new one; return the uses.

    Raises RateLimitExceeded.
    """
    who = address(request)
    uses = [enforce("messages of one address", who)]
    if conversation_id is None:
        return [*uses, enforce("conversations of one address", who)]
    return [*uses, enforce("messages in one conversation", conversation_id)]


def counters_of_message(who: str, conversation_id: int) -> tuple[str, str]:
    """The keys in Redis of what `enforce_message` counts: by `who`, an address, and in a conversation.

    Empty if there are no limits.
    """
    if not settings.RATE_LIMITS:
        return "", ""
    address = counter_of("messages of one address", who)
    return key_of(address), key_of(counter_of("messages in one conversation", conversation_id))


def of_messages() -> list[float]:
    """The most uses of these two, and in how many seconds each."""
    return [*settings.LIMITS["messages of one address"], *settings.LIMITS["messages in one conversation"]]


def address(request: HttpRequest) -> str:
    """Return the client's address, for rate limits: see proxies.py."""
    return client_address(request.META.get("REMOTE_ADDR"), request.META.get("HTTP_X_FORWARDED_FOR"))
