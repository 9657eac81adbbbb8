"""The schemas of requests and responses."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from django.utils import timezone
from ninja import Field, Schema
from ninja.errors import ValidationError
from pydantic import AfterValidator, BeforeValidator, ConfigDict, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError

from conversations.actions.snooze import MAX_SNOOZE
from conversations.models import Conversation, Label
from conversations.models.attachment import OCTET_STREAM
from conversations.models.label import MAX_ON_CONVERSATION
from conversations.models.message import MAX_LENGTH
from conversations.models.validation import EMAIL_LENGTH, NAME_LENGTH, check_content, check_email, check_name
from conversations.screen.paging import MAX_NUMBER


def iso_utc(moment: datetime) -> str:
    """Format a moment as ISO 8601 in UTC with milliseconds: 2025-03-08T17:21:49.677Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


TIME_FORMAT = "Write a time as in 2025-03-08T17:21:49Z. In a URL, write + as %2B."


def check_iso(text: Any) -> Any:
    """The text of a moment. Raises ValueError for other notations, which pydantic reads too, such as numbers."""
    if not re.match(r"\d{4}-\d\d-\d\dT", str(text)):
        raise ValueError(TIME_FORMAT)
    return text


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, not before 1970. Without a time zone it is in UTC already."""
    try:
        return max(moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC), datetime(1970, 1, 1, tzinfo=UTC))
    except OverflowError as error:  # in the years 1 and 9999
        raise ValueError("This time is out of range.") from error


KEY = "^[a-z0-9-]{2,40}$"


def check_key(key: str) -> str:
    """The key of a website, which may not exist. Raises PydanticCustomError for what cannot be one."""
    if not re.fullmatch(KEY, key) or key.endswith("\n"):
        sentence = "A website’s key has 2 to 40 small letters (a to z), digits and dashes, such as abc23def45."
        raise PydanticCustomError("string_pattern_mismatch", sentence)
    return key


def empty_is_true(value: Any) -> Any:
    """True for a parameter without a value, as in `?small`."""
    return value == "" or value


@dataclass(frozen=True)
class Description:
    """The description of a parameter. That of pydantic's Field is lost where ninja adds a default."""

    text: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the description. The name and the meaning of the arguments are pydantic's."""
        return {**handler(core), "description": self.text}


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso_utc, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Id = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Since = Annotated[Id, Description("Only messages with a greater id.")]
LastSeen = Annotated[Id, Description("The id of the last message that the agent has seen.")]
Key = Annotated[str, AfterValidator(check_key), Field(json_schema_extra={"pattern": KEY})]
WebsiteKey = Annotated[Key, Description("Only those of the website with this key.")]
Before = Annotated[Id, Description("Only those with a lower cursor.")]
After = Annotated[Id, Description("Only those with a higher cursor, the lowest of them.")]
Moment = Annotated[
    datetime,
    BeforeValidator(check_iso),
    AfterValidator(in_utc),
    Description(
        "Only those that changed since then: a message, the status, the assignee, the customer, a label, the priority, "
        "a snooze."
    ),
]
Changes = Annotated[
    bool,
    Description(
        "List messages again that were taken back, each with `change`: an id as of a new message. Otherwise programs "
        "that keep messages do not learn it."
    ),
]
Limit = Annotated[int, Field(ge=1, le=1000), Description("At most this many items.")]
Offset = Annotated[Id, Description("Skip this many items.")]
Assigned = Annotated[bool, Description("Only those that are assigned to an agent, or that are not.")]
AssignedToMe = Annotated[bool, Description("Only those that are assigned to you.")]
Status = Annotated[Literal["OPEN", "CLOSED"], Description("Only open or only closed ones.")]
Snoozed = Annotated[bool, Description("Only those that are snoozed now, or that are not.")]
LabelName = Annotated[str, Description("Only those with the label of this name, in upper or lower case.")]
Priority = Literal["LOW", "MEDIUM", "HIGH", "URGENT"]
PriorityFilter = Annotated[Priority, Description("Only those with this priority.")]
Order = Annotated[
    Literal["start", "activity"],
    Description("By their start, with the cursor `id`, or by their last message, with the cursor `last_message_id`."),
]
Small = Annotated[
    bool, BeforeValidator(empty_is_true), Description("A picture’s thumbnail, as WebP. `?small` alone is enough.")
]
Original = Annotated[
    bool, BeforeValidator(empty_is_true), Description("A picture as it was sent. `?original` alone is enough.")
]


def header(description: str, kind: str = "integer") -> dict[str, Any]:
    """A header of a response, for the document."""
    return {"description": description, "schema": {"type": kind}}


LAST_MESSAGE = "X-Last-Message"
"""The header with the id of the conversation's last message; 0 if there is no such conversation."""

LAST_MESSAGE_HEADER = {
    LAST_MESSAGE: header("The id of the conversation’s last message; 0 if there is no such conversation.")
}
FILE_RESPONSE = {
    200: {
        "headers": {
            "Content-Disposition": header("The file’s name, and whether browsers show it or save it.", "string"),
            "Cache-Control": header("Of pictures: they never change.", "string"),
        },
        "content": {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}},
        "description": "The file.",
    }
}


class ErrorOut(Schema):
    """An error: what went wrong and what to do."""

    detail: str


class FieldError(Schema):
    """An error in one field of the input. `loc` is the path to the field."""

    type: str
    loc: list[str | int]
    msg: str


class ValidationErrorOut(Schema):
    """The errors in the input."""

    detail: list[FieldError]


def invalid_field(name: str, message: str) -> ValidationError:
    """The error to raise (422) for a field of the body that fails a check which needs the database."""
    return ValidationError([{"type": "value_error", "loc": ["body", name], "msg": message}])


ClientId = Annotated[
    UUID | None,
    Field(description="A random UUID made by the client before its first try, so that a retry never posts it twice."),
]
Identity = Annotated[
    str | None,
    Field(max_length=4096, description="The website's proof of who the customer is: see docs/embedding.md."),
]


def null_in_form(value: Any) -> Any:
    """None for what clients send for null in a form, where every value is text."""
    return None if value in {"", "null", "None"} else value


NullInForm = BeforeValidator(null_in_form)


class AnswerIn(Schema):
    """An agent's message. Only `content` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"content": "Hello Alice"}]})

    content: Annotated[str, AfterValidator(check_content)] = Field(min_length=1, max_length=MAX_LENGTH)
    client_id: ClientId = None


class AnswerFilesIn(Schema):
    """The fields beside the files of an agent's message."""

    content: Annotated[str, AfterValidator(partial(check_content, has_files=True))] = Field("", max_length=MAX_LENGTH)
    client_id: Annotated[ClientId, NullInForm] = None


class MessageIn(AnswerIn):
    """A message. Only `content` is required."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"content": "Hello", "name": "Alice", "email": "alice@shop.example"}]}
    )

    conversation: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})] = Field(
        None,
        description="The conversation's uuid. Without one, or with an unknown or malformed one, a new conversation is "
        "started.",
    )
    name: Annotated[str, AfterValidator(check_name)] | None = Field(None, max_length=NAME_LENGTH)
    email: Annotated[str, AfterValidator(check_email)] | None = Field(None, max_length=EMAIL_LENGTH)
    website: Key | None = Field(
        None,
        description="The key of the website on which a new conversation starts. Default: the default website.",
    )
    identity: Identity = None


class FilesIn(AnswerFilesIn):
    """The fields beside the files of a message."""

    identity: Annotated[Identity, NullInForm] = None


class OriginalOut(Schema):
    """A picture as it was sent, without its metadata."""

    url: str
    name: str
    size: int = Field(description="Bytes.")


class AttachmentOut(Schema):
    """A file that came with a message."""

    url: str = Field(
        description="Its path on this host. A path under /api/messages/ contains the uuid: keep it secret."
    )
    name: str
    kind: str = Field(description="image/jpeg, image/png, image/gif, image/webp, or application/octet-stream.")
    size: int = Field(description="Bytes.")
    width: int | None = Field(description="Pixels, of pictures.")
    height: int | None
    original: OriginalOut | None = Field(
        description="Of pictures that were scaled down or are shown without their animation: the file as it was sent.",
    )


class AuthorOut(Schema):
    """The agent who wrote a message, as customers see them."""

    name: str
    picture: str = Field("", description="The address of their picture, a square in WebP, if they have one.")


class MessageFields(Schema):
    """What customers and agents see of a message."""

    id: int
    date: Timestamp
    content: str
    author: Literal["CUS", "AGE"] = Field(description="CUS: the customer. AGE: an agent.")
    agent: AuthorOut | None = Field(description="Who answered. Null for messages of the customer.")
    attachments: list[AttachmentOut]
    removed: bool = Field(False, description="True if its author took it back: then it is empty. Left out otherwise.")
    change: int | None = Field(
        None,
        description="Only with `changes`: the id under which it is listed again, because it was taken back. Use it as "
        "`since` if it is the last one. Left out otherwise.",
    )


class MessageOut(MessageFields):
    """A message."""

    conversation: UUID


class AgentMessageOut(MessageFields):
    """A message, for agents: `conversation` is always null, so that the customer's secret is not in it."""

    conversation: UUID | None = Field(description="Always null.")


More = Annotated[
    bool,
    Field(
        description="True if not all that match are here, left out otherwise. After a GET, ask again with the last id "
        "as `since`. After a POST, the answer has the newest: GET the others with the `since` that you had before."
    ),
]


class SeenOut(Schema):
    """The conversation's last message, which the other side has seen."""

    id: int
    at: Timestamp


Seen = Annotated[
    SeenOut | None,
    Field(
        description="Your last message, if it is the conversation's last one and the other side has seen it. Left out "
        "otherwise, and where the website shows no receipts."
    ),
]


class SeenIn(Schema):
    """What was seen."""

    last: Id = Field(
        strict=True,
        description="`X-Last-Message` of the answer that has what is on the screen, or the id of its last message.",
    )


class MessagesOut(Schema):
    """Messages, oldest first. `count` is the number of all that match."""

    items: list[MessageOut]
    count: int
    more: More = False
    seen: Seen = None


class AgentMessagesOut(Schema):
    """Messages, oldest first. `count` is the number of all that match."""

    items: list[AgentMessageOut]
    count: int
    more: More = False
    seen: Seen = None


class ConversationOut(Schema):
    """A conversation, as agents see it."""

    id: int
    uuid: UUID | None = Field(
        description="The customer's secret: who knows it can read and write as the customer. Null for read-only tokens."
    )
    created_at: Timestamp
    customer_name: str
    customer_email: str
    website: str = Field(alias="website.key", description="The key of the website on which it started.")
    verified: bool = Field(
        alias="is_verified", description="Whether the website's server has proven who the customer is."
    )
    status: Literal["OPEN", "CLOSED"]
    assignee: int | None = Field(alias="assignee_id", description="The id of the agent who has taken it.")
    last_message_id: int
    last_message_at: Timestamp
    updated_at: Timestamp = Field(
        description="When a message, the status, the assignee, the customer, a label, the priority or a snooze changed "
        "last."
    )
    labels: list[str] = Field(description="The names of its labels.")
    priority: Priority | None
    snoozed_until: Timestamp | None = Field(
        description="Until then it is snoozed: agents do not see it among the open ones. Null if it is not snoozed now."
    )

    @staticmethod
    def resolve_labels(conversation: Conversation, context: dict[str, Any]) -> list[str]:
        """Those that still exist. All names are read once for a list."""
        request, ids = context["request"], conversation.labels
        if ids and not hasattr(request, "label_names"):
            request.label_names = {label.pk: label.name for label in Label.objects.everyone()}
        return [request.label_names[pk] for pk in ids if pk in request.label_names]

    @staticmethod
    def resolve_priority(conversation: Conversation) -> str | None:
        """The name of the priority."""
        return Conversation.Priority(conversation.priority).name if conversation.priority else None

    @staticmethod
    def resolve_snoozed_until(conversation: Conversation) -> datetime | None:
        """Only while it is snoozed."""
        return conversation.snoozed_until if conversation.is_snoozed else None

    @staticmethod
    def resolve_updated_at(conversation: Conversation) -> datetime:
        """Of conversations from before it was stored, when the last message was written."""
        return conversation.updated_at or conversation.last_message_at

    @staticmethod
    def resolve_uuid(conversation: Conversation, context: dict[str, Any]) -> UUID | None:
        """Hide the secret from read-only tokens."""
        return None if context["request"].auth.by_read_only_token else conversation.uuid


class ConversationsOut(Schema):
    """Conversations, newest first. `count` is the number of all that match."""

    items: list[ConversationOut]
    count: int


class AssignIn(Schema):
    """To whom a conversation is assigned."""

    agent: int = Field(ge=0, le=MAX_NUMBER, description="The id of an agent.")


Names = Annotated[list[str], Field(max_length=MAX_ON_CONVERSATION)]


class LabelsIn(Schema):
    """Labels to put on a conversation, and to take off it."""

    add: Names = Field([], description="Names of labels that exist, in upper or lower case.")
    remove: Names = Field([], description="Names of labels.")


class PriorityIn(Schema):
    """A conversation's priority."""

    priority: Priority | None = Field(description="Null takes it away.")


def check_snooze(until: datetime) -> datetime:
    """The moment. Raises ValueError for one in the past, or too far in the future."""
    now = timezone.now()
    if until <= now:
        raise ValueError("This moment is in the past. Choose a later one.")
    if until > now + MAX_SNOOZE:
        raise ValueError("This is too far in the future. Choose an earlier date.")
    return until


class SnoozeIn(Schema):
    """Until when a conversation is snoozed."""

    until: (
        Annotated[datetime, BeforeValidator(check_iso), AfterValidator(in_utc), AfterValidator(check_snooze)] | None
    ) = Field(description="At most five years from now. Null brings it back now.")


class LabelIn(Schema):
    """A label to make."""

    name: str = Field(description="At most 40 characters.")
    colour: Label.Colour | None = Field(None, description="By default, the next one in turn.")


class LabelOut(Schema):
    """A label."""

    name: str
    colour: Label.Colour


class LabelsOut(Schema):
    """Labels, by name. `count` is their number."""

    items: list[LabelOut]
    count: int


class AgentOut(Schema):
    """An agent, as colleagues see them."""

    id: int
    name: str
    online: bool = Field(description="Whether their inbox is open.")


class AgentsOut(Schema):
    """Agents, by name. `count` is their number."""

    items: list[AgentOut]
    count: int


class MeOut(Schema):
    """The agent who calls."""

    id: int
    name: str
    public_name: str = Field(description="The name that customers see.")
    websites: list[str] = Field(description="The keys of the websites whose conversations you see.")
    read_only: bool = Field(description="Whether the token may only read.")


class HoursSpanOut(Schema):
    """A part of the office hours, in the website's time zone."""

    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    start: str = Field(description="Such as 09:00.")
    end: str = Field(description="Such as 17:30. 24:00 is the end of the day.")


class HoursOut(Schema):
    """The office hours."""

    open: bool = Field(description="Whether it is open now.")
    next_opening: Timestamp | None = Field(description="When it opens again. Null while it is open.")
    time_zone: str = Field(description="Such as Europe/Berlin.")
    spans: list[HoursSpanOut] = Field(description="Empty: always open.")


class FilesOut(Schema):
    """What files a message may have."""

    most: int = Field(description="How many.")
    megabytes: int = Field(description="The size of each at most.")


Ask = Literal["OFF", "OPTIONAL", "REQUIRED"]


class WebsiteOut(Schema):
    """What a widget shows of a website."""

    key: str
    name: str
    greeting: str
    away_text: str = Field(description="What is said outside the office hours.")
    reply_time: str = Field(description="How long an answer usually takes, in the website's own words.")
    accent: str = Field(description="A colour such as #4a51c7.")
    position: Literal["right", "left"] = Field(description="Of the button. For languages that run from left to right.")
    languages: list[str] = Field(description="The first is for everybody who speaks none of them. Empty: all.")
    ask_name: Ask = Field(description="Whether the first message needs `name`.")
    ask_email: Ask = Field(description="Whether the first message needs `email`.")
    identity_required: bool = Field(description="Whether each message needs `identity`.")
    files: FilesOut | None = Field(description="Null if messages may have no files.")
    hours: HoursOut
