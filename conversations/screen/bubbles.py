"""Message bubbles: how each message looks to one reader, with its author, group, day and clickable links."""

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from conversations.models import Agent, Attachment, Author, Conversation, DeskEntry, Message
from conversations.models.agent import public_name
from conversations.models.agent_profile import picture_of
from conversations.models.desk_news import ThreadRow
from conversations.models.formatted import Formatted, render, typed
from conversations.screen.avatars import Avatar
from conversations.screen.desk_rows import DeskRow

GROUP_INTERVAL = timedelta(minutes=5)
"""Consecutive messages of one author with no longer pause between them share one name and one time."""

# https://www.unicode.org/reports/tr51/#EBNF_and_Regex
_COLOURED = (  # Emoji_Presentation; later versions of Unicode add to the last block
    r"\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4"
    r"\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2795-\u2797"
    r"\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001f0ff\U0001f18e\U0001f191-\U0001f19a\U0001f201-\U0001faff"
)
# Text, unless \ufe0f follows
_SYMBOL = r"\xa9\xae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f170\U0001f171\U0001f17e\U0001f17f"
_EMOJI = (
    rf"(?:[{_COLOURED}](?!\ufe0e)|[{_SYMBOL}](?=\ufe0f|[\U0001f3fb-\U0001f3ff]))"
    r"\ufe0f?(?:[\U0001f3fb-\U0001f3ff]|[\U000e0020-\U000e007e]{1,9}\U000e007f)?"
)
_JOINED = rf"{_EMOJI}(?:\u200d(?:{_EMOJI}|[{_SYMBOL}])){{0,9}}"
_FLAG, _KEYCAP = r"[\U0001f1e6-\U0001f1ff]{2}", r"[0-9#*]\ufe0f?\u20e3"
EMOJI_ONLY = re.compile(rf"\s*+(?:(?:{_FLAG}|{_KEYCAP}|{_JOINED})\s*+){{1,6}}")
"""One to six emoji."""


FileUrl = Callable[[uuid.UUID], str]
"""Returns the URL under which the reader may fetch the file with this uuid."""


@dataclass(frozen=True)
class MessageFile:
    """An attachment with its URL for one reader."""

    attachment: Attachment
    url: str

    @property
    def thumbnail_url(self) -> str:
        """The URL of a picture's thumbnail."""
        return f"{self.url}{'&' if '?' in self.url else '?'}small"

    @property
    def original_url(self) -> str:
        """The URL of a picture as it was sent."""
        return f"{self.url}{'&' if '?' in self.url else '?'}original"


@dataclass(frozen=True)
class Bubble:
    """One message on one reader's screen: all that its row may show."""

    message: Message
    shown: Formatted  # the content
    from_readers_side: bool  # for agents: from any agent
    from_reader: bool
    avatar: Avatar
    starts_group: bool
    starts_day: bool
    moment: datetime  # in the reader's time zone
    client_id: uuid.UUID | None  # None unless it is the reader's own message
    files: tuple[MessageFile, ...] = ()
    menu: str = ""  # the URL of what an agent can do with it; "" for customers

    @property
    def pk(self) -> int:
        """The id of the row."""
        return self.message.pk

    @property
    def is_emoji(self) -> bool:
        """Whether it consists of a few emoji and nothing else; these are shown large."""
        return EMOJI_ONLY.fullmatch(self.message.content) is not None


@dataclass(frozen=True)
class RemovalRow:
    """A row that is not shown: it gives the page the id from which on the next poll asks."""

    pk: int
    moment: datetime | None  # of the shown row above it, so that it separates no days


@dataclass(frozen=True)
class ChangedRow:
    """A row that replaces the one with its id on the page, if that shows it."""

    bubble: Bubble

    @property
    def pk(self) -> int:
        """The id of the row."""
        return self.bubble.pk


ShownRow = Bubble | DeskRow | RemovalRow | ChangedRow
"""A row of the thread as its reader sees it."""


def make_rows(
    rows: Iterable[ThreadRow],
    *,
    previous: ThreadRow | None,
    conversation: Conversation | None,
    reader: Agent | None,
    file_url: FileUrl,
) -> list[ShownRow]:
    """Make the rows of consecutive messages for a reader: an agent, or None for the customer.

    For agents there are notes and activities among them. `previous` is the row before the first one, or None; the first
    one may continue its group and its day, so that a page that grew by polling looks like one that was just loaded.
    Agents see the name of the `conversation`.
    """
    customer = Avatar.of(str(conversation) if reader else _("You"))
    zone = timezone.get_current_timezone()
    before = previous.created_at.astimezone(zone) if previous else None
    folder = reverse("agent:messages", args=[conversation.pk]) if reader and conversation else ""
    made: list[ShownRow] = []
    for message in rows:
        moment = message.created_at.astimezone(zone)
        starts_day = before is None or before.date() != moment.date()
        if isinstance(message, DeskEntry):
            if reader:
                made.append(DeskRow(message, reader, starts_day, moment))
                previous, before = message, moment
            continue
        if message.is_removal:
            made.append(RemovalRow(message.pk, before))
            continue
        by_agent = message.author == Author.AGENT
        from_readers_side = by_agent if reader else not by_agent
        from_reader = message.agent_id == reader.pk if reader else from_readers_side
        made.append(
            Bubble(
                message=message,
                shown=_shown(message, reader),
                from_readers_side=from_readers_side,
                from_reader=from_reader,
                avatar=agent_avatar(message, reader) if by_agent else customer,
                starts_group=starts_day or not (isinstance(previous, Message) and _same_group(previous, message)),
                starts_day=starts_day,
                moment=moment,
                client_id=message.client_id if from_reader else None,
                files=tuple(MessageFile(file, file_url(file.uuid)) for file in message.attached),
                menu=f"{folder}{message.pk}/" if folder else "",
            )
        )
        previous, before = message, moment
    return made


def _shown(message: Message, reader: Agent | None) -> Formatted:
    """The content of a message as its reader sees it."""
    if message.is_removed:
        return Formatted(_removed(message, reader), is_typed=True, has_blocks=False)
    return render(message.content) if message.is_formatted else typed(message.content)


def _removed(message: Message, reader: Agent | None) -> SafeString:
    """What stands in the place of a message that was taken back."""
    if reader is None:
        text = _("Message removed")
    elif message.agent_id == reader.pk:
        text = _("You removed this message")
    else:
        text = _("%(name)s removed this message") % {"name": agent_avatar(message, reader).name}
    return conditional_escape(text)


def agent_avatar(message: ThreadRow, reader: Agent | None) -> Avatar:
    """The avatar of the agent who wrote it. Colleagues see the username of an agent without a full name."""
    username = message.agent.username if message.agent and reader and not message.agent.get_full_name() else ""
    return Avatar.of(username or public_name(message.agent), picture_of(message.agent))


def _same_group(message: Message, following: Message) -> bool:
    return (
        message.author == following.author
        and message.agent_id == following.agent_id
        and following.created_at - message.created_at < GROUP_INTERVAL
    )
