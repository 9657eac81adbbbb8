"""Messages of widgets that Django need not see: see screen/plain_posts.py."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from conversations.api.message_list import only
from conversations.message_log import SecretRenewed
from conversations.models.conversation import parse_uuid
from conversations.models.message import MAX_LENGTH
from conversations.models.recipients import recipients
from conversations.models.validation import check_content
from conversations.poll_cache import Answer
from conversations.screen.plain_posts import CLIENT_ID, Key, answer, find_open, head_key, small_body, write

PATHS = {b"/api/messages/", b"/api/messages"}

SINCE = re.compile(rb"since=([0-9]{1,15})")


def key_of(scope: Mapping[str, Any]) -> Key | None:
    """The key of a request that may be a plain post; None for all others. `scope` is that of the server."""
    return head_key(scope) if scope["raw_path"] in PATHS else None


async def post(scope: Mapping[str, Any], key: Key) -> Answer | None:
    """Write the message of a request and return the response; None if Django must handle it.

    scope: that of the server; key: of its head.
    """
    since = SINCE.fullmatch(scope["query_string"])
    content = small_body(scope) if since else None
    found = _parse(content) if content else None
    if since is None or found is None:
        return None
    text, uuid, client_id = found
    to = find_open(key, uuid)
    try:
        message = await write(scope, to, text, client_id, int(since[1])) if to else None
    except SecretRenewed:
        recipients.forget(uuid)  # so Django need not find out the same
        return None
    return answer(to, message, only(message, uuid).content) if to and message else None


def _parse(content: bytes) -> tuple[str, UUID, UUID] | None:
    """The text, the conversation's uuid and the client_id of a body, if it is valid and has nothing else in it.

    Whatever else MessageIn takes or refuses is left to it.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or any(body.get(name) is not None for name in ("website", "identity")):
        return None
    if any(body.get(name) not in (None, "") for name in ("name", "email")):
        return None
    text, client_id, conversation = body.get("content"), body.get("client_id"), parse_uuid(body.get("conversation"))
    if not isinstance(text, str) or len(text) > MAX_LENGTH or conversation is None:
        return None
    if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
        return None
    try:
        return check_content(text), conversation, UUID(client_id)
    except ValueError:
        return None
