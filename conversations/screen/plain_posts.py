"""Posts of customers that Django need not see: the event loop appends them to the message log (docs/performance.md).

Django answers the first one of a kind. What it has decided by the head of that request holds for all requests with the
same head, for as long as their website is remembered (models/recipients.py): so nothing of the middlewares and of the
checks of origins is written twice. Only what differs between two messages of the same page is looked at here: the body,
the secret, the rate limits, and whether the customer has their conversation open.
"""

import re
import time
from collections.abc import Mapping
from hashlib import blake2b
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils.http import http_date

from conversations.actions.post_plain import post_plain
from conversations.log_batches import Batches
from conversations.models import Conversation, Message, Website
from conversations.models.recipients import Recipient, recipients
from conversations.poll_cache import IGNORED_HEADERS, Answer, kept_once
from conversations.threshold import limits
from conversations.threshold.customer_secret import DAYS
from conversations.threshold.proxies import address_of_scope

CLIENT_ID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The usual form of a client_id; Django takes others, too."""

MAX_HEADS = 1000
"""Heads that are remembered. There are few, because neither who writes nor with which browser is a part of them."""

MAX_BODY = 64 * 1024
"""Bytes of a body that is read in the event loop. Parsing it takes less than a millisecond."""

VARYING = IGNORED_HEADERS | frozenset(
    [
        *(b"content-length", b"user-agent", b"accept", b"accept-encoding", b"referer", b"cache-control", b"pragma"),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"priority", b"dnt", b"sec-gpc"),
        *(b"x-forwarded-for", b"x-real-ip"),
    ]
)
"""Headers whose value changes nothing in the response to a message, only whether they are there. The client's address
is looked at for the rate limits, and the browser for what agents see of it."""

COOKIE = re.compile(b"(chat[a-z0-9-]*)=([0-9a-f]{32})")
"""The header Cookie of a browser that has nothing else than the secret of one chat."""

SECRET = re.compile(b"[0-9a-f]{32}")

EXPIRES = re.compile(b"expires=[^;]+")

SECRET_HERE, DATE_HERE, ID_HERE = b"\0secret", b"\0date", b"\0id"
"""What stands in the headers of a response for what differs. No header has a null character in it."""

Headers = tuple[tuple[bytes, bytes], ...]


class Key(NamedTuple):
    """By what a head is remembered."""

    digest: bytes
    secret: bytes = b""  # the customer's, in a cookie or header; empty for the API, where it is in the body


class Head(NamedTuple):
    """What Django has answered to a request with this head."""

    website: Website  # the very object that was remembered then
    status: int
    headers: Headers


class Heads:
    """The heads of requests that Django has answered as plain posts."""

    def __init__(self) -> None:
        """None."""
        self.known: dict[bytes, Head] = {}

    def find(self, key: Key, website: Website) -> Head | None:
        """What is known of a head, on this website; None if Django must answer."""
        found = self.known.get(key.digest)
        return found if found and found.website is website else None

    def keep(self, key: Key | None, response: Any, head: Mapping[str, Any]) -> None:
        """Remember the head of a request if its view says that it was a plain post: see `mark_plain`."""
        found: tuple[Website | None, Any] = getattr(response, "plain_post_on", (None, None))
        website, uuid = found
        if key is None or website is None or head["status"] not in (200, 204):
            return
        headers = []
        for name, value in head["headers"]:
            if name == b"X-Message":
                value = ID_HERE
            elif key.secret and key.secret == uuid.hex.encode():
                value = EXPIRES.sub(b"expires=" + DATE_HERE, value.replace(key.secret, SECRET_HERE))
            if name == b"Set-Cookie" and SECRET_HERE not in value:
                return
            if name != b"Content-Length":
                headers.append(kept_once(name, value))
        if len(self.known) >= MAX_HEADS:
            self.known.clear()
        self.known[key.digest] = Head(website, head["status"], tuple(headers))


heads = Heads()
batches = Batches(limits.of_messages)


def mark_plain(response: Any, conversation: Conversation | None) -> None:
    """Mark a response to a message, if the conversation that it was written to was remembered.

    Then nobody has proved who they are, and Django has looked at nothing but the head and the website.
    """
    if conversation and conversation.is_remembered:
        response.plain_post_on = conversation.website, conversation.uuid


def head_key(scope: Mapping[str, Any], *, has_secret: bool = False) -> Key | None:
    """The key of a head; None if it has a cookie or a token, which may say more than which chat it is.

    scope: that of the server. has_secret: whether the customer's secret is in the head.
    """
    lines, secret = [scope["scheme"].encode(), scope["raw_path"]], b""
    for name, value in scope["headers"]:
        if name in VARYING:
            value = b""
        elif name in (b"cookie", b"x-chat", b"authorization"):
            found = None
            if has_secret and not secret:
                found = COOKIE.fullmatch(value) if name == b"cookie" else name == b"x-chat" and SECRET.fullmatch(value)
            if not found:
                return None
            secret, value = value[-32:], value[:-32]
        lines.append(name + b":" + value)  # no header has a line break in it
    if has_secret:
        lines.append(scope["query_string"])
    if has_secret and not secret:
        return None
    return Key(blake2b(b"\n".join(lines), digest_size=16).digest(), secret)


def small_body(scope: Mapping[str, Any]) -> bytes | None:
    """The body that our server has received, if it is small; None if it is not, or was refused."""
    body = scope.get("chatsite.body")
    if not isinstance(body, BytesIO) or scope.get("chatsite.refusal"):
        return None
    content = body.getvalue()
    return content if len(content) <= min(MAX_BODY, settings.DATA_UPLOAD_MAX_MEMORY_SIZE) else None


class Open(NamedTuple):
    """A conversation that a customer has open, and what Django answers where they write."""

    uuid: UUID
    to: Recipient
    head: Head


def find_open(key: Key, uuid: UUID) -> Open | None:
    """The conversation with this secret; None if Django must handle the request."""
    remembered = recipients.look_up(uuid)
    head = heads.find(key, remembered[1]) if remembered else None
    return Open(uuid, remembered[0], head) if remembered and head else None


async def write(
    scope: Mapping[str, Any], to: Open, content: str, client_id: UUID, since: int | None = None
) -> Message | None:
    """Write a message, and return it; None if Django must handle the request.

    content: checked. since: the id of the last message that the customer has; None if the response has no messages.
    Raises SecretRenewed if the conversation must be read anew.
    """
    counters = limits.counters_of_message(address_of_scope(scope), to.to.pk)
    return await post_plain(
        batches, content=content, client_id=client_id, uuid=to.uuid, to=to.to, since=since, counters=counters
    )


def answer(to: Open, message: Message, content: bytes = b"") -> Answer:
    """The response."""
    headers = [(name, _filled(value, to.uuid, message) if b"\0" in value else value) for name, value in to.head.headers]
    return to.head.status, (*headers, (b"Content-Length", b"%d" % len(content))), content


def _filled(value: bytes, uuid: UUID, message: Message) -> bytes:
    date = http_date(time.time() + DAYS * 24 * 3600).encode()
    value = value.replace(SECRET_HERE, uuid.hex.encode()).replace(DATE_HERE, date)
    return value.replace(ID_HERE, b"%d" % message.pk)
