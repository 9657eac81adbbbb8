"""A plain implementation of the empty poll, for comparison.

It follows the introductions of its libraries: ninja's pagination, three ORM queries (the conversation, its new
messages, their number), Django's own ASGI handler, a database connection for each request. Middleware, tables and the
response are Chatsite's. daphne serves it unchanged: `daphne tests.bench.plain:application`.
"""

# ruff: noqa: E402 (the settings must be changed before Django reads them)
import os
from datetime import datetime
from typing import Any
from uuid import UUID

os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"

from django.conf import settings

settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
settings.ROOT_URLCONF = "tests.bench.plain"

from django.core.asgi import get_asgi_application

application = get_asgi_application()

from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import path
from ninja import Field, NinjaAPI, Schema
from ninja.pagination import LimitOffsetPagination, paginate

from conversations.models import Conversation, Message

api = NinjaAPI(urls_namespace="plain")


class MessageOut(Schema):
    """A message."""

    conversation: UUID = Field(alias="conversation_uuid")
    id: int
    date: datetime = Field(alias="created_at")
    content: str
    author: str


@api.get("/messages/{uuid}/", response=list[MessageOut])
@paginate(LimitOffsetPagination)
def messages(request: HttpRequest, uuid: UUID, since: int = 0, **page: Any) -> "QuerySet[Message]":
    """The messages of a conversation after `since`."""
    conversation = Conversation.objects.filter(uuid=uuid).first()
    if conversation is None:
        return Message.objects.none()
    found = Message.objects.filter(conversation=conversation, id__gt=since)
    return found.annotate(conversation_uuid=F("conversation__uuid")).order_by("id")


urlpatterns = [path("api/", api.urls)]
