"""The customer's secret that the browser sends: in a cookie or, if cookies are blocked, in a header."""

import hashlib
import uuid
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpResponse

from conversations.models import Contact, Conversation, Website
from conversations.models.conversation import identified_uuid, parse_uuid
from conversations.models.website import DEFAULT
from conversations.threshold import identity

HEADER = "X-Chat"
"""The header in which our script sends the secret where cookies are blocked. CORS forbids it to other origins."""

DAYS = 180


def cookie_name(key: str, host: str) -> str:
    """The name of the cookie for a website's chat, embedded in pages of the origin `host` or, with "", on its own page.

    Two origins that embed the same chat never share a conversation, even if the browser sends them the same cookies.
    """
    parts = [] if key == DEFAULT else [key]
    if host:
        parts.append(hashlib.sha256(host.encode()).hexdigest()[:12])
    return "-".join(["chat", *parts])


def read(cookies: Mapping[str, str], name: str, header: str | None = None) -> uuid.UUID | None:
    """The secret that the browser sends, or None. Whether a conversation has it is not looked up."""
    return parse_uuid(header or cookies.get(name))


def find_identified(secret: uuid.UUID | None, proof: str | None) -> Conversation | None:
    """The conversation that had this secret until its customer was identified, if the proof is that customer's.

    Their browser sends the old secret while it does not have the response with the new one.
    """
    conversation = Conversation.objects.by_uuid(identified_uuid(secret)) if secret and proof else None
    if conversation is None:
        return None
    try:
        claim = identity.verify(Website.objects.by_id(conversation.website_id), proof)
    except identity.InvalidProof:
        return None
    return conversation if claim and Contact.objects.owns(claim, conversation) else None


def set_cookie(response: HttpResponse, conversation: Conversation, name: str, host: str) -> None:
    """Send the secret as a cookie that no script can read.

    On the chat's own page it is SameSite=Lax. Embedded in a host's page it must be sent in a cross-site frame, and
    `Partitioned` limits it to frames on this one site:
    https://developer.mozilla.org/docs/Web/Privacy/Guides/Privacy_sandbox/Partitioned_cookies
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
    """Delete the cookie."""
    response.set_cookie(name, "", max_age=0, httponly=True, secure=bool(host), samesite="None" if host else "Lax")
    _partition(response, name, host)


def _partition(response: HttpResponse, name: str, host: str) -> None:
    if host:
        response.cookies[name]["partitioned"] = True  # see apps.py: Python supports it from 3.14 on
