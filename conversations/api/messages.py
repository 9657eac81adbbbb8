"""The API's calls for customers. Everybody who knows a conversation's uuid may read and write as its customer."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial, wraps
from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from ninja import File, Form, Router
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.files import UploadedFile

from conversations.actions import mark_read, mark_seen, post_message
from conversations.api import message_list
from conversations.api.authentication import MULTIPART, Caller, authenticate
from conversations.api.document import OPTIONAL_AUTH
from conversations.api.schemas import (
    FILE_RESPONSE,
    LAST_MESSAGE_HEADER,
    Changes,
    ErrorOut,
    FilesIn,
    Limit,
    MessageIn,
    MessagesOut,
    Offset,
    Original,
    SeenIn,
    Since,
    Small,
    ValidationErrorOut,
    invalid_field,
)
from conversations.models import Attachment, Contact, Conversation, Website
from conversations.models.contact import Claim
from conversations.models.conversation import identified_uuid, parse_uuid
from conversations.models.optional_write import optional_write
from conversations.models.recipients import recipients
from conversations.models.settling import catch_up
from conversations.screen.files import check_size, process_uploads, serve
from conversations.screen.plain_posts import mark_plain
from conversations.threshold import identity, limits
from conversations.threshold.customer_secret import find_identified
from conversations.threshold.origin import may_read, require_listed_origin

router = Router()
POST_ERRORS = (400, 401, 403, 404, 409, 413, 429)
POST_RESPONSES = {200: MessagesOut, 422: ValidationErrorOut, **dict.fromkeys(POST_ERRORS, ErrorOut)}


@router.post("", summary="Write a message", response=POST_RESPONSES, openapi_extra={"security": OPTIONAL_AUTH})
def send_message(request: HttpRequest, body: MessageIn, since: Since = 0) -> HttpResponse:
    """Write a message. The answer has all messages of the conversation, or those after `since`, the new one last.

    If they do not all fit into the answer, it has the newest ones, and `more` is true: GET the others.

    Agents (members of the group `agent`, by session or token) write as AGE, everyone else as CUS.
    """
    caller = authenticate(request)
    if caller.agent is None and not body.identity and (found := recipients.get(parse_uuid(body.conversation))):
        with suppress(Conversation.DoesNotExist):
            return _send(request, body, since, caller, found)
        recipients.forget(found.uuid)
    visible = caller.agent.visible_conversations() if caller.agent else Conversation.objects.all()
    conversation = visible.by_uuid(body.conversation, "website")
    if conversation is None and caller.agent is None:
        conversation = find_identified(parse_uuid(body.conversation), body.identity)
    return _send(request, body, since, caller, conversation)


def _send(
    request: HttpRequest, body: MessageIn, since: int, caller: Caller, conversation: Conversation | None
) -> HttpResponse:
    website = conversation.website if conversation else _find_website(body.website)
    require_listed_origin(request, website)
    is_hidden = caller.agent and not conversation and website not in Website.objects.visible_to(caller.agent)
    if is_hidden:
        raise invalid_field("website", "There is no website with this key.")
    claim = None
    counted: AbstractContextManager[None] = nullcontext()
    if caller.agent is None:
        claim = _verified_claim(website, body.identity)
        if conversation and claim and not Contact.objects.may_continue(claim, conversation):
            conversation = None
        if conversation is None and claim is None:
            _check_required_fields(website, body)
        counted = limits.counted_message(request, conversation)
    with counted:
        message = post_message(
            content=body.content,
            conversation=conversation,
            agent=caller.agent,
            customer=caller.user,
            name=body.name or "",
            email=body.email or "",
            client_id=body.client_id,
            website=website,
            claim=claim,
        )
    if not caller.agent:
        recipients.put(message.conversation, claim)
    response = message_list.up_to_newest(message, message.conversation.uuid, since)
    mark_plain(response, conversation)
    return response


def _find_website(key: str | None) -> Website:
    website = Website.objects.by_key(key) if key else Website.objects.default()
    if website is None:
        raise invalid_field("website", "There is no website with this key.")
    return website


def _verified_claim(website: Website, proof: str | None) -> Claim | None:
    try:
        return identity.verify_or_anonymous(website, proof)
    except identity.InvalidProof as error:
        raise HttpError(401, str(error)) from error


def _check_required_fields(website: Website, body: MessageIn) -> None:
    """Raise ValidationError if a name or e-mail is missing that the website requires with the first message."""
    for name, ask, value in (("name", website.ask_name, body.name), ("email", website.ask_email, body.email)):
        if ask == Website.Ask.REQUIRED and not value:
            raise invalid_field(name, f"This website asks for the customer's {name} with the first message.")


def check_upload(request: HttpRequest) -> bool:
    """Check the conversation, the origin and the size of an upload before its form is parsed.

    Raises Http404, HttpError and RequestDataTooBig. The caller is authenticated later: a CSRF token may be in the form.
    """
    match: Any = request.resolver_match
    uuid = parse_uuid(match.kwargs["uuid"])
    # The customer may have been identified since they got this uuid. Their proof is in the form, which is parsed later.
    conversation = Conversation.objects.by_uuid(uuid) or (uuid and Conversation.objects.by_uuid(identified_uuid(uuid)))
    if not conversation:
        raise Http404
    website = Website.objects.by_id(conversation.website_id)
    require_listed_origin(request, website)
    check_size(request, website)
    return True


# ninja calls `auth` before it reads the body.
@router.post(
    "{uuid}/files/",
    summary="Write a message with files",
    auth=check_upload,
    response={**POST_RESPONSES, 507: ErrorOut},
    openapi_extra={"security": OPTIONAL_AUTH},
)
def send_files(
    request: HttpRequest,
    uuid: str,
    body: Form[FilesIn],
    files: File[list[UploadedFile]],
    since: Since = 0,
) -> HttpResponse:
    """Write a message with files in an existing conversation. Send it as multipart/form-data.

    The answer is the same as for messages without files. Pictures (JPEG, PNG, GIF, WebP) are re-encoded without
    their metadata.
    """
    caller = authenticate(request, MULTIPART)
    visible = caller.agent.visible_conversations() if caller.agent else Conversation.objects.all()
    conversation = visible.by_uuid(uuid)
    if conversation is None and caller.agent is None:
        conversation = find_identified(parse_uuid(uuid), body.identity)
    if conversation is None:
        raise Http404
    website = Website.objects.by_id(conversation.website_id)
    claim = None
    if caller.agent is None:
        claim = _verified_claim(website, body.identity)
        if claim and not Contact.objects.may_continue(claim, conversation):
            raise Http404
        limits.enforce_message(request, conversation.pk)
    message = post_message(
        content=body.content,
        conversation=conversation,
        agent=caller.agent,
        client_id=body.client_id,
        claim=claim,
        attachments=process_uploads(request, website, by_agent=caller.agent is not None),
    )
    return message_list.up_to_newest(message, message.conversation.uuid, since)


@router.get(
    "{uuid}/files/{file}/",
    summary="Read a file",
    response={404: ErrorOut},
    openapi_extra={"responses": FILE_RESPONSE, "security": OPTIONAL_AUTH},
)
def download_file(
    request: HttpRequest, uuid: str, file: str, small: Small = False, original: Original = False
) -> FileResponse:
    """A file of a message; with `?small`, a picture's thumbnail as WebP; with `?original`, a picture as it was sent.

    404 for a page of an origin that the conversation's website does not list.
    """
    # <img> and links send no Origin: the browser shows the file, and no script of the page can read it.
    key = _readable_uuid(request, uuid) if "Origin" in request.headers else parse_uuid(uuid)
    attachment = Attachment.objects.in_conversation(Conversation.objects.by_uuid(key), parse_uuid(file))
    return serve(attachment, small=small, original=original)


def fast_path(run: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer a plain `?since=ID` without ninja's parsing and validation, which takes a sixth of the time of a poll.

    Everything else goes through ninja.
    """

    @wraps(run)
    def answer(request: HttpRequest, uuid: str) -> HttpResponse:
        since = request.GET.get("since", "")
        if len(request.GET) == 1 and since.isascii() and since.isdigit() and len(since) < 19:
            return list_messages(request, uuid, int(since))
        return run(request, uuid=uuid)

    return answer


@router.get(
    "{uuid}/",
    summary="Read messages",
    response={200: MessagesOut, 422: ValidationErrorOut},
    openapi_extra={"security": OPTIONAL_AUTH, "responses": {200: {"headers": LAST_MESSAGE_HEADER}}},
)
@decorate_view(fast_path)
def list_messages(
    request: HttpRequest,
    uuid: str,
    since: Since = 0,
    limit: Limit = 100,
    offset: Offset = 0,
    changes: Changes = False,
) -> HttpResponse:
    """The conversation's messages, oldest first; with `since` only newer ones. For an unknown uuid there are none.

    Where `more` is true, ask again with the last id as `since`.
    """
    return message_list.oldest_first(_readable_uuid(request, uuid), since, limit, offset, changes=changes)


@router.post(
    "{uuid}/seen",
    summary="Say what was seen",
    response={204: None, 401: ErrorOut, 403: ErrorOut, 422: ValidationErrorOut},
    openapi_extra={"security": OPTIONAL_AUTH},
)
def report_seen(request: HttpRequest, uuid: str, body: SeenIn) -> HttpResponse:
    """The customer has seen the messages up to this one, in a visible window. Agents learn it if the website shows it.

    Say it whenever there is a new message on the screen; again changes nothing. An agent's call says that the agent has
    read them.
    """
    caller = authenticate(request)
    visible = caller.agent.visible_conversations() if caller.agent else Conversation.objects.all()
    if conversation := visible.by_uuid(_readable_uuid(request, uuid), "website"):
        catch_up(conversation)
        seen = partial(mark_read, agent=caller.agent) if caller.agent else mark_seen
        with suppress(Conversation.DoesNotExist):
            optional_write("what was seen", partial(seen, conversation=conversation, last=body.last))
    return HttpResponse(status=204)


def _readable_uuid(request: HttpRequest, uuid: str) -> UUID | None:
    """The uuid of the conversation to read, or None for a page of an origin that its website does not list."""
    key = parse_uuid(uuid)
    return key if key and may_read(request, key) else None
