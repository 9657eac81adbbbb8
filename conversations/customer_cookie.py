"""What makes a browser the customer: a cookie with the conversation's secret, given with the first message."""

import uuid
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpResponse

from conversations.models import Conversation
from conversations.models.conversation import as_uuid

NAME = "chat"
DAYS = 180


def read(cookies: Mapping[str, str]) -> uuid.UUID | None:
    """The secret that the browser holds, or None. Whether a conversation has it is for the reader to ask."""
    return as_uuid(cookies.get(NAME))


def give(response: HttpResponse, conversation: Conversation) -> None:
    """Let the browser hold the secret: no script can read it, and no other site's page can send it along."""
    response.set_cookie(
        NAME,
        conversation.uuid.hex,
        max_age=DAYS * 24 * 3600,
        httponly=True,
        secure=not settings.INSECURE_HTTP,
        samesite="Lax",
    )
