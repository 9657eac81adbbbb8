"""What makes a browser the customer: the conversation's secret, in a cookie or, where none is kept, in a header."""

import hashlib
import uuid
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpResponse

from conversations.models import Conversation
from conversations.models.conversation import as_uuid
from conversations.models.website import DEFAULT

HEADER = "X-Chat"
"""Our own script sends the secret in it where no cookie is kept. No other site's page can send it without our leave."""

DAYS = 180


def cookie_name(key: str, host: str) -> str:
    """The cookie of a website's chat, framed by the pages of an origin or, with "", on its own.

    Each has a cookie of its own: two sites that show the same chat never share a conversation, also where the browser
    would send them the same cookies.
    """
    ends = [] if key == DEFAULT else [key]
    if host:
        ends.append(hashlib.sha256(host.encode()).hexdigest()[:12])
    return "-".join(["chat", *ends])


def read(cookies: Mapping[str, str], name: str, header: str | None = None) -> uuid.UUID | None:
    """The secret that the browser shows, or None. Whether a conversation has it is for the reader to ask."""
    return as_uuid(header or cookies.get(name))


def fingerprint(secret: uuid.UUID | None) -> str:
    """A short word for a secret, "" for none: pages say with it whose messages they show. It tells no secret."""
    return hashlib.sha256(secret.bytes).hexdigest()[:8] if secret else ""


def set_cookie(response: HttpResponse, conversation: Conversation, name: str, host: str) -> None:
    """Let the browser hold the secret: no script can read it.

    On the chat's own page no other site's page can send it along. In the pages of a host it must be sent from within
    them, and `Partitioned` holds it there: under another site it is another cookie jar
    (https://developer.mozilla.org/docs/Web/Privacy/Guides/Privacy_sandbox/Partitioned_cookies).
    """
    secure = bool(host) or not settings.INSECURE_HTTP
    response.set_cookie(
        name,
        conversation.uuid.hex,
        max_age=DAYS * 24 * 3600,
        httponly=True,
        secure=secure,
        samesite="None" if host else "Lax",
    )
    _partition(response, name, host)


def delete_cookie(response: HttpResponse, name: str, host: str) -> None:
    """Let the browser forget the secret."""
    response.set_cookie(name, "", max_age=0, httponly=True, secure=bool(host), samesite="None" if host else "Lax")
    _partition(response, name, host)


def _partition(response: HttpResponse, name: str, host: str) -> None:
    if host:
        response.cookies[name]["partitioned"] = True  # see apps.py: Python knows of it from 3.14 on
