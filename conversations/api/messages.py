"""Messages over the API. A conversation's uuid is all the authority that its customer needs."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Router, Status
from ninja.decorators import decorate_view

from conversations import limits
from conversations.actions import AlreadySent, post_message
from conversations.api.authority import caller
from conversations.api.schemas import Invalid, Limit, MessageIn, MessagesOut, Offset, Problem, Since, iso
from conversations.models import Conversation, News
from conversations.models.conversation import as_uuid
from conversations.models.message import Message
from conversations.paging import LARGEST

router = Router()
Posted = {200: MessagesOut, 422: Invalid, **dict.fromkeys((400, 401, 403, 409, 413, 429), Problem)}


@router.post("", summary="Write a message", response=Posted)
def post(request: HttpRequest, body: MessageIn, since: Since = 0) -> Any:
    """Write a message. Answers all messages of the conversation, or those after `since`; the new one is the last.

    Agents (a member of the group `agent`, by session or token) write as AGE, everyone else as CUS.
    """
    who = caller(request)
    conversation = Conversation.objects.named(body.conversation)
    if who.agent is None:
        limits.allow_message(request, conversation.pk if conversation else None)
    try:
        message = post_message(
            content=body.content,
            conversation=conversation,
            agent=who.agent,
            customer=who.user,
            name=body.name or "",
            email=body.email or "",
            client_id=body.client_id,
        )
    except AlreadySent:
        return Status(409, {"detail": "This client_id was used for another message. Make a new one for each."})
    news = News.by_uuid(message.conversation.uuid, since, LARGEST)
    return _answer(news.messages if news else [], message.conversation.uuid)


def straight(run: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer a plain `?since=ID` before ninja reads and checks the parameters.

    Widgets ask this all day, mostly for nothing, and ninja's work was a sixth of the thread's time for it. Whatever
    else is asked, and whatever is wrong with it, is ninja's to answer.
    """

    @wraps(run)
    def answer(request: HttpRequest, uuid: str) -> HttpResponse:
        since = request.GET.get("since", "")
        if len(request.GET) == 1 and since.isascii() and since.isdigit() and len(since) < 19:
            return newer(request, uuid, int(since))
        return run(request, uuid=uuid)

    return answer


@router.get("{uuid}/", summary="Read messages", response={200: MessagesOut, 422: Invalid})
@decorate_view(straight)
def newer(request: HttpRequest, uuid: str, since: Since = 0, limit: Limit = 100, offset: Offset = 0) -> HttpResponse:
    """The conversation's messages, oldest first; with `since` only newer ones. For an unknown uuid there are none."""
    key = as_uuid(uuid)
    news = News.by_uuid(key, since, limit, offset)
    found = news.messages if news else []
    if offset or len(found) == limit:
        return _answer(found, key, Message.objects.of(key).after(since).count())
    return _answer(found, key)


def _answer(found: list[Message], key: UUID | None, count: int | None = None) -> HttpResponse:
    """The shape of MessagesOut, written straight away: passing it through pydantic would cost most of a poll."""
    items = [
        {
            "conversation": str(key),
            "id": message.pk,
            "date": iso(message.created_at),
            "content": message.content,
            "author": message.author,
        }
        for message in found
    ]
    body = json.dumps({"items": items, "count": len(items) if count is None else count}, ensure_ascii=False)
    return HttpResponse(body, content_type="application/json")
