"""The API's calls for conversations, for agents."""

from typing import Literal

from django.http import Http404, HttpRequest
from ninja import Router

from conversations.actions import close, reopen, take
from conversations.api.authentication import BearerToken, SessionCookie, require_agent
from conversations.api.schemas import (
    ConversationOut,
    ConversationsOut,
    ErrorOut,
    Limit,
    Offset,
    ValidationErrorOut,
    WebsiteKey,
)
from conversations.models import Conversation

router = Router(auth=[BearerToken(), SessionCookie()])
CHANGE_RESPONSES = {200: ConversationOut, 401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 422: ValidationErrorOut}


@router.get("/", summary="List conversations", response={200: ConversationsOut, 401: ErrorOut, 422: ValidationErrorOut})
def list_conversations(
    request: HttpRequest,
    status: Literal["OPEN", "CLOSED"] | None = None,
    assigned: bool | None = None,
    assigned_to_me: bool = False,
    website: WebsiteKey | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, object]:
    """The conversations that you may see, newest first."""
    agent = require_agent(request)
    conversations = agent.visible_conversations().newest_started_first()
    if status is not None:
        conversations = conversations.open() if status == "OPEN" else conversations.closed()
    if assigned is not None:
        conversations = conversations.assigned() if assigned else conversations.unassigned()
    if assigned_to_me:
        conversations = conversations.assigned_to(agent)
    if website is not None:
        conversations = conversations.on_website(website)
    return {"items": list(conversations[offset : offset + limit]), "count": conversations.count()}


@router.patch("/{int:id}/close", summary="Close a conversation", response=CHANGE_RESPONSES)
def close_conversation(request: HttpRequest, id: int) -> Conversation:
    """Close it. It opens again when the customer writes."""
    return close(conversation=_get_conversation(request, id))


@router.patch("/{int:id}/open", summary="Open a closed conversation", response=CHANGE_RESPONSES)
def open_conversation(request: HttpRequest, id: int) -> Conversation:
    """Open it again."""
    return reopen(conversation=_get_conversation(request, id))


@router.patch("/{int:id}/take", summary="Take a conversation", response=CHANGE_RESPONSES)
def take_conversation(request: HttpRequest, id: int) -> Conversation:
    """Assign it to yourself."""
    return take(conversation=_get_conversation(request, id), by=require_agent(request))


def _get_conversation(request: HttpRequest, pk: int) -> Conversation:
    """The conversation. Raises Http404 for one that does not exist or that this agent may not see."""
    conversation = require_agent(request).visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404("There is no such conversation.")
    return conversation
