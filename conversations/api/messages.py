"""Messages over the API. A conversation's uuid is all the authority that its customer needs."""

import json
from collections.abc import Callable
from functools import wraps
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from ninja import File, Form, Router, Status
from ninja.decorators import decorate_view
from ninja.files import UploadedFile

from conversations.actions import AlreadySent, post_message
from conversations.api.authentication import WrongAuthority, caller
from conversations.api.schemas import (
    FilesIn,
    Invalid,
    Limit,
    MessageIn,
    MessagesOut,
    Offset,
    Problem,
    Since,
    iso,
    unfit,
)
from conversations.models import Attachment, Contact, Conversation, News, Origin, Website
from conversations.models.attachment import PLAIN
from conversations.models.contact import Claim
from conversations.models.conversation import as_uuid
from conversations.models.message import Message
from conversations.screen.files import Refused, check_size, receive, serve
from conversations.screen.paging import LARGEST
from conversations.threshold import identity, limits
from conversations.threshold.origin import is_cross_origin, may_write

PAGE = 100
"""Messages that are in memory at once for an answer."""

LARGE = 1_000_000
"""Bytes from which on an answer of several pages is on disk until it is sent."""

Answer = HttpResponse | FileResponse

router = Router()
UNLISTED = "This website does not list the origin of your page."
TWICE = "This client_id was used for another message. Make a new one for each."
Posted = {200: MessagesOut, 422: Invalid, **dict.fromkeys((400, 401, 403, 409, 413, 429), Problem)}


@router.post("", summary="Write a message", response=Posted)
def post(request: HttpRequest, body: MessageIn, since: Since = 0) -> Any:
    """Write a message. Answers all messages of the conversation, or those after `since`; the new one is the last.

    Agents (a member of the group `agent`, by session or token) write as AGE, everyone else as CUS.
    """
    who = caller(request)
    seen = who.agent.visible_conversations() if who.agent else Conversation.objects.all()
    conversation = seen.by_uuid(body.conversation)
    website = Website.objects.by_id(conversation.website_id) if conversation else _website(body.website)
    if not may_write(request, website):
        raise WrongAuthority(403, UNLISTED)
    is_hidden = who.agent and not conversation and website not in Website.objects.visible_to(who.agent)
    if is_hidden:
        raise unfit("website", "There is no website with this key.")
    claim = None
    if who.agent is None:
        claim = _claim(website, body.identity)
        if conversation and claim and not Contact.objects.may_continue(claim, conversation):
            conversation = None
        if conversation is None and claim is None:
            _ask(website, body)
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
            website=website,
            claim=claim,
        )
    except AlreadySent:
        return Status(409, {"detail": TWICE})
    return _answer(message.conversation.uuid, since, LARGEST)


def _website(key: str | None) -> Website:
    website = Website.objects.by_key(key) if key else Website.objects.default()
    if website is None:
        raise unfit("website", "There is no website with this key.")
    return website


def _claim(website: Website, proof: str | None) -> Claim | None:
    try:
        return identity.verify_or_anonymous(website, proof)
    except identity.InvalidProof as error:
        raise WrongAuthority(401, str(error)) from error


def _ask(website: Website, body: MessageIn) -> None:
    """What the website wants to know with the first message."""
    for name, ask, said in (("name", website.ask_name, body.name), ("email", website.ask_email, body.email)):
        if ask == Website.Ask.REQUIRED and not said:
            raise unfit(name, f"This website asks for the customer's {name} with the first message.")


def may_come(request: HttpRequest) -> bool:
    """Refuse what nobody may send, and what is larger than any message, before the form is parsed.

    Raises Http404, WrongAuthority and RequestDataTooBig. Who sends it is asked later: a CSRF token may be in the form.
    """
    place: Any = request.resolver_match
    conversation = Conversation.objects.by_uuid(place.kwargs["uuid"])
    if conversation is None:
        raise Http404
    website = Website.objects.by_id(conversation.website_id)
    if not may_write(request, website):
        raise WrongAuthority(403, UNLISTED)
    check_size(request, website)
    return True


# ninja asks `auth` before it reads a body.
@router.post("{uuid}/files/", summary="Write a message with files", auth=may_come, response={**Posted, 404: Problem})
def post_files(
    request: HttpRequest,
    uuid: str,
    body: Form[FilesIn],
    files: File[list[UploadedFile]],
    since: Since = 0,
) -> Any:
    """Write a message with files in a conversation that there is. Send it as multipart/form-data.

    Answers as the call for messages without files does. Pictures (JPEG, PNG, GIF, WebP) are written anew, without what
    the camera noted.
    """
    who = caller(request, "multipart/form-data")
    seen = who.agent.visible_conversations() if who.agent else Conversation.objects.all()
    conversation = seen.by_uuid(uuid)
    if conversation is None:
        raise Http404
    website = Website.objects.by_id(conversation.website_id)
    claim = None
    if who.agent is None:
        claim = _claim(website, body.identity)
        if claim and not Contact.objects.may_continue(claim, conversation):
            raise Http404
        limits.allow_message(request, conversation.pk)
    try:
        attachments = receive(request, website, by_agent=who.agent is not None)
        message = post_message(
            content=body.content,
            conversation=conversation,
            agent=who.agent,
            client_id=body.client_id,
            claim=claim,
            attachments=attachments,
        )
    except Refused as error:
        if error.status == 413:
            return Status(413, {"detail": str(error)})
        raise unfit("files", str(error)) from error
    except AlreadySent:
        return Status(409, {"detail": TWICE})
    return _answer(message.conversation.uuid, since, LARGEST)


BYTES = {"content": {PLAIN: {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."}


@router.get(
    "{uuid}/files/{file}/",
    summary="Read a file",
    response={404: Problem},
    openapi_extra={"responses": {200: BYTES}},
)
def read_file(request: HttpRequest, uuid: str, file: str) -> FileResponse:
    """A file that came with a message; with `?small`, the small WebP of a picture.

    For a page of an origin that the conversation's website does not list there is none, as there are no messages.
    """
    # A picture or a link in a page names no origin; it is shown, and no script of the page reads what is in it.
    key = _key(request, uuid) if "Origin" in request.headers else as_uuid(uuid)
    return serve(request, Attachment.objects.of(Conversation.objects.by_uuid(key), as_uuid(file)))


def fast_path(run: Callable[..., Answer]) -> Callable[..., Answer]:
    """Answer a plain `?since=ID` before ninja reads and checks the parameters.

    Widgets ask this all day, mostly for nothing, and ninja's work was a sixth of the thread's time for it. Whatever
    else is asked, and whatever is wrong with it, is ninja's to answer.
    """

    @wraps(run)
    def answer(request: HttpRequest, uuid: str) -> Answer:
        since = request.GET.get("since", "")
        if len(request.GET) == 1 and since.isascii() and since.isdigit() and len(since) < 19:
            return newer(request, uuid, int(since))
        return run(request, uuid=uuid)

    return answer


@router.get("{uuid}/", summary="Read messages", response={200: MessagesOut, 422: Invalid})
@decorate_view(fast_path)
def newer(request: HttpRequest, uuid: str, since: Since = 0, limit: Limit = 100, offset: Offset = 0) -> Answer:
    """The conversation's messages, oldest first; with `since` only newer ones. For an unknown uuid there are none."""
    return _answer(_key(request, uuid), since, limit, offset)


def _key(request: HttpRequest, uuid: str) -> UUID | None:
    """The conversation to read, or None where the page that asks is of an origin that its website does not list."""
    key = as_uuid(uuid)
    if key and is_cross_origin(request) and not Origin.objects.may_read(request.headers.get("Origin", ""), key):
        return None
    return key


def _answer(key: UUID | None, since: int, limit: int, offset: int = 0) -> Answer:
    """The shape of MessagesOut, written fast_path away: passing it through pydantic would cost most of a poll.

    Only one page of messages is in memory at a time. More are written to a file, on disk if it grows large, so that
    whoever reads long conversations slowly fills no memory and holds up nobody.
    """
    page = _page(key, since, min(limit, PAGE), offset)
    found, last = len(page), page[-1].pk if page else since
    is_all = found < min(limit, PAGE)
    if is_all or limit <= PAGE:
        count = found if is_all and not offset else _count(key, since)
        return HttpResponse(f'{{"items": [{_items(page, key)}], "count": {count}}}', content_type="application/json")
    file = SpooledTemporaryFile(LARGE, "w+b")  # noqa: SIM115 (the response closes it)
    file.write(f'{{"items": [{_items(page, key)}'.encode())
    while page := _page(key, last, min(limit - found, PAGE)):
        found, last = found + len(page), page[-1].pk
        file.write(f", {_items(page, key)}".encode())
    file.write(f'], "count": {_count(key, since)}}}'.encode())
    file.seek(0)
    return FileResponse(file, content_type="application/json")


def _page(key: UUID | None, since: int, most: int, skip: int = 0) -> list[Message]:
    news = News.by_uuid(key, since, most, skip) if most else None
    return news.messages if news else []


def _count(key: UUID | None, since: int) -> int:
    return Message.objects.of(key).after(since).count()


def _items(messages: list[Message], key: UUID | None) -> str:
    shapes = [
        {
            "conversation": str(key),
            "id": message.pk,
            "date": iso(message.created_at),
            "content": message.content,
            "author": message.author,
            "attachments": [
                {
                    "url": f"/api/messages/{key}/files/{file.uuid}/",
                    "name": file.name,
                    "kind": file.kind,
                    "size": file.size,
                    "width": file.width,
                    "height": file.height,
                }
                for file in message.attached
            ],
        }
        for message in messages
    ]
    return json.dumps(shapes, ensure_ascii=False)[1:-1]
