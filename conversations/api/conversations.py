"""Conversations over the API, for agents."""

from typing import Literal

from django.http import Http404, HttpRequest
from ninja import Router

from conversations.actions import close, reopen, take
from conversations.api.authentication import Session, SessionOrToken, agent_of
from conversations.api.schemas import ConversationOut, ConversationsOut, Invalid, Key, Limit, Offset, Problem
from conversations.models import Conversation

router = Router(auth=[SessionOrToken(), Session()])
Changed = {200: ConversationOut, 401: Problem, 403: Problem, 404: Problem, 422: Invalid}


@router.get("/", summary="List conversations", response={200: ConversationsOut, 401: Problem, 422: Invalid})
def visible_conversations(
    request: HttpRequest,
    status: Literal["OPEN", "CLOSED"] | None = None,
    assigned: bool | None = None,
    assigned_to_me: bool = False,
    website: Key | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, object]:
    """The conversations that you may see, those that began last first."""
    agent = agent_of(request)
    found = agent.visible_conversations().newest_started_first()
    if status is not None:
        found = found.open() if status == "OPEN" else found.closed()
    if assigned is not None:
        found = found.taken() if assigned else found.unassigned()
    if assigned_to_me:
        found = found.assigned_to(agent)
    if website is not None:
        found = found.on(website)
    return {"items": list(found[offset : offset + limit]), "count": found.count()}


@router.patch("/{int:id}/close", summary="Close a conversation", response=Changed)
def close_one(request: HttpRequest, id: int) -> Conversation:
    """Close it. The customer opens it again by writing."""
    return close(conversation=_find(request, id))


@router.patch("/{int:id}/open", summary="Open a closed conversation", response=Changed)
def open_one(request: HttpRequest, id: int) -> Conversation:
    """Open a closed one again."""
    return reopen(conversation=_find(request, id))


@router.patch("/{int:id}/take", summary="Take a conversation", response=Changed)
def take_one(request: HttpRequest, id: int) -> Conversation:
    """Assign it to yourself."""
    return take(conversation=_find(request, id), by=agent_of(request))


def _find(request: HttpRequest, pk: int) -> Conversation:
    """The conversation, if this agent may see it. Raises Http404 for all others alike."""
    conversation = agent_of(request).visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404("There is no such conversation.")
    return conversation
