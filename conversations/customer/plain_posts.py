"""Messages of customers' pages that Django need not see: see screen/plain_posts.py."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import SuspiciousOperation
from django.http import QueryDict

from conversations.customer.chat import visitor_of
from conversations.message_log import SecretRenewed
from conversations.models.validation import check_content
from conversations.poll_cache import Answer
from conversations.presence import visitor
from conversations.screen.plain_posts import CLIENT_ID, Key, answer, find_open, head_key, small_body, write

PATHS = re.compile(b"/chat/([a-z0-9-]+/)?messages/")

FORM = {b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded;charset=UTF-8"}
"""The content types of browsers' forms without files."""

FIELDS = {"content", "client_id", "state", "zone", "name", "email"}


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """The key of a request that may be a plain post; None for all others. `scope` is that of the server."""
    return head_key(scope, has_secret=True) if PATHS.fullmatch(scope["raw_path"]) else None


async def post(scope: Mapping[str, Any], key: Key) -> Answer | None:
    """Write the message of a request and return the response; None if Django must handle it.

    scope: that of the server; key: of its head.
    """
    to = find_open(key, UUID(key.secret.decode()))
    content = small_body(scope) if to else None
    form = _parse(scope, content) if content else None
    if to is None or form is None:
        return None
    shown = "".join(form.get("state", "").split(" ")[1:2])
    if shown not in {"", str(to.to.pk)}:
        return None
    seen = visitor_of(form, QueryDict(scope["query_string"]), _header(scope, b"accept-language"), _browser(scope))
    if not visitor.is_saved(to.to.pk, seen):
        return None
    try:
        text = check_content(form.get("content", "").replace("\r\n", "\n"))
    except ValueError:
        return None
    try:
        message = await write(scope, to, text, UUID(form.get("client_id")))
    except SecretRenewed:
        return None
    return answer(to, message) if message else None


def _parse(scope: Mapping[str, Any], content: bytes) -> QueryDict | None:
    """The fields of a form that has nothing else than a message with a client_id."""
    if _header(scope, b"content-type").encode() not in FORM:
        return None
    try:
        form = QueryDict(content)
    except (SuspiciousOperation, ValueError):
        return None
    if not set(form) <= FIELDS or form.get("name") or form.get("email"):
        return None
    return form if CLIENT_ID.fullmatch(form.get("client_id", "")) else None


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    """A header, as Django's requests have it."""
    return b",".join(value for each, value in scope["headers"] if each == name).decode("latin1")


def _browser(scope: Mapping[str, Any]) -> str:
    return _header(scope, b"user-agent")
