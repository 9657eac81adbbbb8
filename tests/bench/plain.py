"""A plain implementation of a poll, a post, a conversation's page and the inbox, for comparison.

It follows the introductions of its libraries: ninja's pagination, ORM queries, templates, Django's own ASGI handler, a
database connection for each request. Middleware and tables are Chatsite's. daphne serves it unchanged:
`daphne tests.bench.plain:application`.
"""

# ruff: noqa: E402 (the settings must be changed before Django reads them)
import json
import os
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"

from django.conf import settings

settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
settings.ROOT_URLCONF = "tests.bench.plain"

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template import RequestContext, Template
from django.urls import path
from ninja import Field, NinjaAPI, Schema
from ninja.pagination import LimitOffsetPagination, paginate

from conversations.models import Author, Conversation, Message

api = NinjaAPI(urls_namespace="plain")

THREAD = Template(
    "<h1>{{ conversation }}</h1>{% for message in messages %}"
    '<p class="{{ message.author }}">{{ message.agent.first_name }} '
    "<time>{{ message.created_at }}</time>{{ message.content|linebreaks|urlize }}</p>{% endfor %}"
)
INBOX = Template(
    '{% for each in conversations %}<a href="/inbox/{{ each.pk }}/"><b>{{ each }}</b> {{ each.assignee.first_name }} '
    "<time>{{ each.last_message_at }}</time> {{ each.last_line }}</a>{% endfor %}"
)


class MessageOut(Schema):
    """A message."""

    conversation: UUID = Field(alias="conversation_uuid")
    id: int
    date: datetime = Field(alias="created_at")
    content: str
    author: str


class MessageIn(Schema):
    """A new message."""

    conversation: UUID
    content: str
    client_id: UUID


@api.get("/messages/{uuid}/", response=list[MessageOut])
@paginate(LimitOffsetPagination)
def messages(request: HttpRequest, uuid: UUID, since: int = 0, **page: Any) -> "QuerySet[Message]":
    """The messages of a conversation after `since`."""
    conversation = Conversation.objects.filter(uuid=uuid).first()
    if conversation is None:
        return Message.objects.none()
    found = Message.objects.filter(conversation=conversation, id__gt=since)
    return found.annotate(conversation_uuid=F("conversation__uuid")).order_by("id")


@api.post("/messages/", response=MessageOut)
@transaction.atomic
def post(request: HttpRequest, body: MessageIn) -> Message:
    """A customer writes a message."""
    conversation = get_object_or_404(Conversation.objects.select_for_update(), uuid=body.conversation)
    message = Message.objects.create(
        conversation=conversation, author=Author.CUSTOMER, content=body.content, client_id=body.client_id
    )
    conversation.last_message_id = message.pk
    conversation.last_message_at = message.created_at
    conversation.last_line = body.content[:120]
    conversation.save()
    message.conversation_uuid = conversation.uuid  # type: ignore[attr-defined]
    return message


@login_required
def thread(request: HttpRequest, pk: int) -> HttpResponse:
    """The messages of a conversation, for agents."""
    conversation = get_object_or_404(Conversation, pk=pk)
    found = conversation.messages.select_related("agent").order_by("-id")[:50]
    context = {"conversation": conversation, "messages": reversed(found)}
    return HttpResponse(THREAD.render(RequestContext(request, context)))


@login_required
def inbox(request: HttpRequest) -> HttpResponse:
    """The latest open conversations."""
    found = Conversation.objects.filter(status="OPEN").select_related("assignee").order_by("-last_message_id")[:50]
    return HttpResponse(INBOX.render(RequestContext(request, {"conversations": found})))


urlpatterns = [path("api/", api.urls), path("inbox/", inbox), path("inbox/<int:pk>/", thread)]

sockets: set[Any] = set()
"""The `send` of each open socket."""

rings = count(1)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve HTTP by Django. Accept every socket; a request of /ring/ sends one message to all of them."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send(ring(0))
        sockets.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        sockets.discard(send)
    elif scope["path"] == "/ring/":
        number = next(rings)
        for each in list(sockets):
            await each(ring(number))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await http(scope, receive, send)


def ring(last: int) -> dict[str, str]:
    """The message to a socket."""
    return {"type": "websocket.send", "text": json.dumps({"type": "messages", "last": last})}
