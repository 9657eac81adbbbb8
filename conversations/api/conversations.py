"""The API's calls for agents: conversations, and the messages in them by the conversation's id."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import OperationalError, transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from ninja import File, Form, Router
from ninja.errors import HttpError
from ninja.files import UploadedFile

from conversations import actions
from conversations.actions import assign, close, mark_read, post_message, prioritize, reopen, snooze, take, take_back
from conversations.api import message_list
from conversations.api.authentication import (
    MULTIPART,
    AgentSession,
    AgentToken,
    Caller,
    agent_of,
    identify,
    require_agent,
    require_csrf_token,
)
from conversations.api.schemas import (
    FILE_RESPONSE,
    LAST_MESSAGE_HEADER,
    After,
    AgentMessagesOut,
    AnswerFilesIn,
    AnswerIn,
    Assigned,
    AssignedToMe,
    AssignIn,
    Before,
    Changes,
    ConversationOut,
    ConversationsOut,
    ErrorOut,
    LabelName,
    LabelsIn,
    LastSeen,
    Limit,
    Moment,
    Offset,
    Order,
    Original,
    PriorityFilter,
    PriorityIn,
    SeenIn,
    Since,
    Small,
    Snoozed,
    SnoozeIn,
    Status,
    ValidationErrorOut,
    WebsiteKey,
    invalid_field,
)
from conversations.models import Agent, Attachment, Conversation, Label, Website
from conversations.models.conversation import parse_uuid
from conversations.models.label import MAX_ON_CONVERSATION, fold
from conversations.models.settling import catch_up
from conversations.screen.files import check_size, process_uploads, serve

router = Router(auth=[AgentToken(), AgentSession()])

READ_ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ValidationErrorOut}
CHANGE_RESPONSES = {200: ConversationOut, 403: ErrorOut, **READ_ERRORS}
POST_RESPONSES = {200: AgentMessagesOut, **dict.fromkeys((400, 403, 409, 413), ErrorOut), **READ_ERRORS}


@router.get("/", summary="List conversations", response={200: ConversationsOut, 401: ErrorOut, 422: ValidationErrorOut})
def list_conversations(
    request: HttpRequest,
    status: Status | None = None,
    assigned: Assigned | None = None,
    assigned_to_me: AssignedToMe = False,
    website: WebsiteKey | None = None,
    label: LabelName | None = None,
    priority: PriorityFilter | None = None,
    snoozed: Snoozed | None = None,
    updated_since: Moment | None = None,
    order: Order = "start",
    before: Before | None = None,
    after: After | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, object]:
    """The conversations that you may see, newest first: by their start, or by their last message.

    To read all of them, ask again with the cursor of the last item as `before`, until there are none: its `id` or, in
    order of activity, its `last_message_id`. With `offset` you would skip some while others are closed.
    """
    agent = agent_of(request)
    conversations = agent.visible_conversations()
    if status is not None:
        conversations = conversations.open() if status == "OPEN" else conversations.closed()
    if assigned is not None:
        conversations = conversations.assigned() if assigned else conversations.unassigned()
    if assigned_to_me:
        conversations = conversations.assigned_to(agent)
    if website is not None:
        conversations = conversations.on_website(website)
    if label is not None:
        conversations = conversations.labelled_as(label)
    if priority is not None:
        conversations = conversations.filter(priority=Conversation.Priority[priority])
    if snoozed is not None:
        conversations = conversations.snoozed(is_snoozed=snoozed)
    if updated_since is not None:
        conversations = conversations.updated_since(updated_since)
    column = "id" if order == "start" else "last_message_id"
    items, count = conversations.page(column, limit, skip=offset, before=before, after=after)
    return {"items": items, "count": count}


@router.get("/{int:id}/", summary="Read a conversation", response={200: ConversationOut, **READ_ERRORS})
def read_conversation(request: HttpRequest, id: int) -> Conversation:
    """One conversation."""
    conversation = _get_conversation(agent_of(request), id)
    catch_up(conversation)
    if not (conversation.is_open or conversation.is_closed):  # only the message log knows it
        raise OperationalError("The database is away.")
    return conversation


@router.patch("/{int:id}/close", summary="Close a conversation", response={**CHANGE_RESPONSES, 409: ErrorOut})
def close_conversation(request: HttpRequest, id: int, last: LastSeen | None = None) -> Conversation:
    """Close it. It opens again when the customer writes.

    With `last`, it stays open if the customer has written a newer message: 409.
    """
    agent = agent_of(request)
    return close(conversation=_get_conversation(agent, id), by=agent, last_seen=last)


@router.patch("/{int:id}/open", summary="Open a closed conversation", response=CHANGE_RESPONSES)
def open_conversation(request: HttpRequest, id: int) -> Conversation:
    """Open it again."""
    agent = agent_of(request)
    return reopen(conversation=_get_conversation(agent, id), by=agent)


@router.patch("/{int:id}/take", summary="Take a conversation", response=CHANGE_RESPONSES)
def take_conversation(request: HttpRequest, id: int) -> Conversation:
    """Assign it to yourself."""
    agent = agent_of(request)
    return take(conversation=_get_conversation(agent, id), by=agent)


@router.patch("/{int:id}/assign", summary="Assign a conversation", response=CHANGE_RESPONSES)
def assign_conversation(request: HttpRequest, id: int, body: AssignIn) -> Conversation:
    """Assign it to an agent who sees its website: see `GET /api/agents/`."""
    conversation = _get_conversation(agent_of(request), id)
    website = Website.objects.by_id(conversation.website_id)
    agent = Agent.objects.with_access_to(website).filter(pk=body.agent).first()
    if agent is None:
        raise invalid_field("agent", "There is no agent with this id who sees the conversation.")
    return assign(conversation=conversation, to=agent, by=agent_of(request))


@router.patch("/{int:id}/release", summary="Release a conversation", response=CHANGE_RESPONSES)
def release_conversation(request: HttpRequest, id: int) -> Conversation:
    """Assign it to nobody."""
    agent = agent_of(request)
    return assign(conversation=_get_conversation(agent, id), to=None, by=agent)


@router.patch("/{int:id}/labels", summary="Label a conversation", response=CHANGE_RESPONSES)
def label_conversation(request: HttpRequest, id: int, body: LabelsIn) -> Conversation:
    """Put labels on it, and take others off. `POST /api/labels/` makes a label."""
    agent = agent_of(request)
    conversation = _get_conversation(agent, id)
    add, remove = Label.objects.by_names(body.add), Label.objects.by_names(body.remove)
    known = {fold(each.name) for each in add}
    if unknown := [name for name in body.add if fold(name) not in known]:
        raise invalid_field("add", f"There is no label “{unknown[0]}”. POST /api/labels/ makes one.")
    with transaction.atomic():
        labelled = actions.label(conversation=conversation, add=add, remove=remove, by=agent)
        if {each.pk for each in add} - set(labelled.labels):
            raise invalid_field("add", f"A conversation has at most {MAX_ON_CONVERSATION} labels.")
    return labelled


@router.patch("/{int:id}/priority", summary="Set the priority", response=CHANGE_RESPONSES)
def prioritize_conversation(request: HttpRequest, id: int, body: PriorityIn) -> Conversation:
    """Set its priority, or take it away."""
    agent = agent_of(request)
    priority = Conversation.Priority[body.priority] if body.priority else None
    return prioritize(conversation=_get_conversation(agent, id), priority=priority, by=agent)


@router.patch("/{int:id}/snooze", summary="Snooze a conversation", response={**CHANGE_RESPONSES, 409: ErrorOut})
def snooze_conversation(request: HttpRequest, id: int, body: SnoozeIn, last: LastSeen | None = None) -> Conversation:
    """Take it out of the open ones until a moment. A message of the customer brings it back.

    409 if it is closed. With `last`, also if the customer has written a newer message.
    """
    agent = agent_of(request)
    conversation = snooze(conversation=_get_conversation(agent, id), until=body.until, last_seen=last, by=agent)
    if body.until and not conversation.is_open:
        raise HttpError(409, "The conversation is closed. Open it first.")
    return conversation


@router.get(
    "/{int:id}/messages/",
    summary="Read messages",
    response={200: AgentMessagesOut, **READ_ERRORS},
    openapi_extra={"responses": {200: {"headers": LAST_MESSAGE_HEADER}}},
)
def list_conversation_messages(
    request: HttpRequest,
    id: int,
    since: Since = 0,
    limit: Limit = 100,
    offset: Offset = 0,
    changes: Changes = False,
) -> HttpResponse:
    """The conversation's messages, oldest first; with `since` only newer ones.

    Where `more` is true, ask again with the last id as `since`.
    """
    conversation = _get_conversation(agent_of(request), id)
    return message_list.oldest_first(conversation.pk, since, limit, offset, changes=changes)


@router.post("/{int:id}/messages/", summary="Answer", response=POST_RESPONSES)
def send_answer(request: HttpRequest, id: int, body: AnswerIn, since: Since = 0) -> HttpResponse:
    """Write a message as the agent. The answer has all messages, or those after `since`, the new one last.

    If they do not all fit into the answer, it has the newest ones, and `more` is true: GET the others.
    """
    agent = agent_of(request)
    conversation = _get_conversation(agent, id)
    message = post_message(content=body.content, conversation=conversation, agent=agent, client_id=body.client_id)
    return message_list.up_to_newest(message, conversation.pk, since)


@router.delete(
    "/{int:id}/messages/{int:message}/",
    summary="Take a message back",
    response={200: AgentMessagesOut, 403: ErrorOut, **READ_ERRORS},
)
def take_message_back(request: HttpRequest, id: int, message: int) -> HttpResponse:
    """Erase the text and the files of a message that you have written, for everybody. Its place stays.

    The answer has what is left of it. 404 for messages of others. For one that was taken back already, nothing happens.
    """
    agent = agent_of(request)
    try:
        found = take_back(conversation=_get_conversation(agent, id), pk=message, by=agent)
    except ObjectDoesNotExist:
        raise Http404 from None
    return message_list.only(found, id)


@router.post("/{int:id}/seen", summary="Mark as read", response={204: None, 403: ErrorOut, **READ_ERRORS})
def mark_conversation_read(request: HttpRequest, id: int, body: SeenIn) -> HttpResponse:
    """You have read the messages up to this one. The customer learns it where the website shows that."""
    agent = agent_of(request)
    conversation = _get_conversation(agent, id)
    catch_up(conversation)
    mark_read(conversation=conversation, agent=agent, last=body.last)
    return HttpResponse(status=204)


def authenticate_upload(request: HttpRequest) -> Caller:
    """Authenticate an agent's upload, and check its size before the form is parsed.

    Raises HttpError, Http404 and RequestDataTooBig.
    """
    caller = identify(request, MULTIPART)
    match: Any = request.resolver_match
    conversation = _get_conversation(require_agent(caller), match.kwargs["id"])
    check_size(request, Website.objects.by_id(conversation.website_id))
    require_csrf_token(request, caller)
    return caller


@router.post(
    "/{int:id}/files/",
    summary="Answer with files",
    auth=[AgentToken(authenticate_upload), AgentSession(authenticate_upload)],
    response={**POST_RESPONSES, 429: ErrorOut, 507: ErrorOut},
)
def send_answer_with_files(
    request: HttpRequest, id: int, body: Form[AnswerFilesIn], files: File[list[UploadedFile]], since: Since = 0
) -> HttpResponse:
    """Write a message with files as the agent. Send it as multipart/form-data. The answer is as without files."""
    agent = agent_of(request)
    conversation = _get_conversation(agent, id)
    website = Website.objects.by_id(conversation.website_id)
    message = post_message(
        content=body.content,
        conversation=conversation,
        agent=agent,
        client_id=body.client_id,
        attachments=process_uploads(request, website, by_agent=True),
    )
    return message_list.up_to_newest(message, conversation.pk, since)


@router.get(
    "/{int:id}/files/{file}/",
    summary="Read a file",
    response={401: ErrorOut, 404: ErrorOut},
    openapi_extra={"responses": FILE_RESPONSE},
)
def download_conversation_file(
    request: HttpRequest, id: int, file: str, small: Small = False, original: Original = False
) -> FileResponse:
    """A file of a message; with `?small`, a picture's thumbnail as WebP; with `?original`, a picture as it was sent."""
    conversation = _get_conversation(agent_of(request), id)
    attachment = Attachment.objects.in_conversation(conversation, parse_uuid(file))
    return serve(attachment, small=small, original=original)


def _get_conversation(agent: Agent, pk: int) -> Conversation:
    """The conversation. Raises Http404 for one that does not exist or that this agent may not see."""
    conversation = agent.visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404
    return conversation
