"""Posts of customers that Django need not see: the event loop appends them to the message log (docs/performance.md).

Django answers the first one of a kind. What it has decided by the head of that request holds for all requests with the
same head, for as long as their website is remembered (models/recipients.py): so nothing of the middlewares and of the
checks of origins is written twice. Only what differs between two messages of the same page is looked at here: the body,
the rate limits, and whether the customer has their conversation open.
"""

from collections.abc import Mapping
from hashlib import blake2b
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from conversations.actions.post_plain import post_plain
from conversations.log_batches import Batches
from conversations.models import Message, Website
from conversations.models.recipients import recipients
from conversations.poll_cache import IGNORED_HEADERS, Answer, kept_once
from conversations.threshold import limits
from conversations.threshold.proxies import address_of_scope

MAX_HEADS = 1000
"""Heads that are remembered. There are few, because neither who writes nor with which browser is a part of them."""

MAX_BODY = 64 * 1024
"""Bytes of a body that is read in the event loop. Parsing it takes less than a millisecond."""

VARYING = IGNORED_HEADERS | frozenset(
    [
        *(b"content-length", b"user-agent", b"accept", b"accept-language", b"accept-encoding", b"referer"),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"priority", b"dnt", b"sec-gpc"),
        *(b"cache-control", b"pragma", b"x-forwarded-for", b"x-real-ip"),
    ]
)
"""Headers whose value changes nothing for a message of the API, only whether they are there. The client's address is
looked at for the rate limits."""

Headers = tuple[tuple[bytes, bytes], ...]


class Head(NamedTuple):
    """What Django has answered to a request with this head."""

    website: Website  # the very object that was remembered then
    headers: Headers  # of the response, without Content-Length


class Heads:
    """The heads of requests that Django has answered as plain posts."""

    def __init__(self) -> None:
        """None."""
        self.known: dict[bytes, Head] = {}

    def find(self, key: bytes, website: Website) -> Headers | None:
        """The headers of the response to a request with this head, on this website; None if Django must answer."""
        found = self.known.get(key)
        return found.headers if found and found.website is website else None

    def keep(self, key: bytes | None, response: Any, head: Mapping[str, Any]) -> None:
        """Remember the head of a request if its view says that it was a plain post: see `mark_plain`."""
        website = getattr(response, "plain_post_on", None)
        if key is None or website is None or response.cookies or head["status"] != 200:
            return
        if len(self.known) >= MAX_HEADS:
            self.known.clear()
        pairs = [(name, value) for name, value in head["headers"] if name.lower() != b"content-length"]
        self.known[key] = Head(website, tuple(kept_once(*pair) for pair in pairs))


heads = Heads()
batches = Batches(limits.of_messages)


def mark_plain(response: Any, website: Website) -> None:
    """Mark a response: an anonymous request has written to a remembered conversation of this website."""
    response.plain_post_on = website


def head_key(scope: Mapping[str, Any]) -> bytes | None:
    """The key of a head; None if it says who sends it, by a cookie or a token. `scope` is that of the server."""
    lines = [scope["scheme"].encode(), scope["raw_path"]]
    for name, value in scope["headers"]:
        if name in (b"cookie", b"authorization"):
            return None
        lines.append(name if name in VARYING else name + b":" + value)  # no header has a line break in it
    return blake2b(b"\n".join(lines), digest_size=16).digest()


def small_body(scope: Mapping[str, Any]) -> bytes | None:
    """The body that our server has received, if it is small; None if it is not, or was refused."""
    body = scope.get("chatsite.body")
    if not isinstance(body, BytesIO) or scope.get("chatsite.refusal"):
        return None
    content = body.getvalue()
    return content if len(content) <= min(MAX_BODY, settings.DATA_UPLOAD_MAX_MEMORY_SIZE) else None


async def write(
    scope: Mapping[str, Any], key: bytes, content: str, conversation: UUID, client_id: UUID, since: int
) -> tuple[Message, Headers] | None:
    """Write a message, and return it with the headers of the response; None if Django must handle the request.

    scope: that of the server; key: of its head. content: checked. since: the id of the last message that the customer
    has.
    """
    remembered = recipients.look_up(conversation)
    headers = heads.find(key, remembered[1]) if remembered else None
    if remembered is None or headers is None:
        return None
    to = remembered[0]
    counters = limits.counters_of_message(address_of_scope(scope), to.pk)
    message = await post_plain(
        batches, content=content, client_id=client_id, uuid=conversation, to=to, since=since, counters=counters
    )
    return (message, headers) if message else None


def answer(status: int, headers: Headers, content: bytes) -> Answer:
    """A response with these headers."""
    return status, (*headers, (b"Content-Length", b"%d" % len(content))), content
