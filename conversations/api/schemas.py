"""The shapes of what the API takes and gives."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Field, Schema
from ninja.errors import ValidationError
from pydantic import AfterValidator, PlainSerializer

from conversations.models import Conversation
from conversations.models.message import MAX_LENGTH
from conversations.models.writing import EMAIL_LENGTH, NAME_LENGTH, check_content, check_email, check_name
from conversations.screen.paging import LARGEST


def iso(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC with milliseconds: 2025-03-08T17:21:49.677Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Moment = Annotated[datetime, PlainSerializer(iso, return_type=str)]
Since = Annotated[int, Field(ge=0, le=LARGEST, description="Only messages with a greater id.")]
Key = Annotated[str, Field(pattern="^[a-z0-9-]{2,40}$", description="Only those of the website with this key.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="At most so many items.")]
Offset = Annotated[int, Field(ge=0, le=LARGEST, description="Without the first so many items.")]


class Problem(Schema):
    """What went wrong, and what to do."""

    detail: str


class Mistake(Schema):
    """One thing that is wrong with the input, and where."""

    type: str
    loc: list[str | int]
    msg: str


class Invalid(Schema):
    """What is wrong with the input."""

    detail: list[Mistake]


def unfit(name: str, sentence: str) -> ValidationError:
    """What to raise for a field that is wrong only in view of what we know."""
    return ValidationError([{"type": "value_error", "loc": ["body", "body", name], "msg": sentence}])


class MessageIn(Schema):
    """A message to post. Only `content` is required."""

    content: Annotated[str, AfterValidator(check_content)] = Field(min_length=1, max_length=MAX_LENGTH)
    conversation: Any = Field(
        None,
        description="The conversation's uuid. Without one, or with one that is unknown, a new conversation is started.",
        examples=["3fa85f64-5717-4562-b3fc-2c963f66afa6"],
    )
    name: Annotated[str, AfterValidator(check_name)] | None = Field(None, max_length=NAME_LENGTH)
    email: Annotated[str, AfterValidator(check_email)] | None = Field(None, max_length=EMAIL_LENGTH)
    website: str | None = Field(
        None,
        pattern="^[a-z0-9-]{2,40}$",
        description="The key of the website that a new conversation begins on. Without one, the default.",
    )
    identity: str | None = Field(
        None, max_length=4096, description="What the website's own server says of the customer: see docs/embedding.md."
    )
    client_id: UUID | None = Field(
        None, description="The message's name, made by the client before its first try: a retry never doubles it."
    )


class FilesIn(Schema):
    """What may come with files."""

    content: Annotated[str, AfterValidator(partial(check_content, has_files=True))] = Field("", max_length=MAX_LENGTH)
    identity: str | None = Field(
        None, max_length=4096, description="What the website's own server says of the customer: see docs/embedding.md."
    )
    client_id: UUID | None = Field(
        None, description="The message's name, made by the client before its first try: a retry never doubles it."
    )


class AttachmentOut(Schema):
    """A file that came with a message."""

    url: str = Field(description="Where it is, on this host. It holds the conversation's uuid: keep it to yourself.")
    name: str
    kind: str = Field(description="image/jpeg, image/png, image/gif, image/webp, or application/octet-stream.")
    size: int = Field(description="Bytes.")
    width: int | None = Field(description="Pixels, of pictures.")
    height: int | None


class MessageOut(Schema):
    """A message."""

    conversation: UUID
    id: int
    date: Moment
    content: str
    author: Literal["CUS", "AGE"] = Field(description="CUS: the customer. AGE: an agent.")
    attachments: list[AttachmentOut]


class MessagesOut(Schema):
    """Messages, oldest first. `count` is how many match, on all pages."""

    items: list[MessageOut]
    count: int


class ConversationOut(Schema):
    """A conversation, as agents see it."""

    id: int
    uuid: UUID
    created_at: Moment
    customer_name: str
    customer_email: str
    website: str = Field(alias="website.key", description="The key of the website that it began on.")
    verified: bool = Field(
        alias="is_verified", description="Whether the website's own server vouches for the customer."
    )
    status: Literal["OPEN", "CLOSED"]
    assignee: int | None = Field(None, alias="assignee_id", description="The id of the agent who has taken it.")
    last_message_id: int
    last_message_at: Moment

    @staticmethod
    def of(conversation: Conversation) -> "ConversationOut":
        """The shape of a conversation."""
        return ConversationOut.model_validate(conversation)


class ConversationsOut(Schema):
    """Conversations, newest first. `count` is how many match, on all pages."""

    items: list[ConversationOut]
    count: int
