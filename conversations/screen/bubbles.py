"""Messages as they stand on a screen: whose side, whose name, where a group or a day begins, links made clickable."""

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from django.utils import timezone
from django.utils.html import Urlizer
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from conversations.models import Agent, Attachment, Author, Conversation, Message

GROUP = timedelta(minutes=5)
"""Messages of one author that follow each other within this time share one name and one time."""

EMOJI_ONLY = re.compile(r"[\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff\ufe0f\u200d\u20e3\s]{1,12}")


class Linker(Urlizer):
    """Django's own finder of links, which escapes all else. Ours open in a new tab and tell nobody from where."""

    # Without a scheme it is a link only if it begins with a host: Django's own would take javascript://x.com for one.
    simple_url_2_re = re.compile(r"www\.|[\w-][\w.-]*\.(com|edu|gov|int|mil|net|org)($|/)", re.IGNORECASE)
    url_template = '<a href="{href}" target="_blank" rel="noopener noreferrer nofollow ugc">{url}</a>'


linkify = Linker()


@dataclass(frozen=True)
class Avatar:
    """How a person looks in a list: a name, initials and a colour of their own."""

    name: str
    initials: str
    hue: int  # 0 to 7

    @classmethod
    def of(cls, name: str) -> "Avatar":
        """The avatar of whoever has this name; the same name has the same colour everywhere."""
        words = [word for word in name.split() if word[0].isalnum()]
        ends = words if len(words) < 2 else [words[0], words[-1]]
        initials = "".join(word[0].upper() for word in ends) or "?"
        if words and words[-1].isdecimal():  # Visitor 84 and Visitor 85 are two
            initials = words[-1][-2:]
        return cls(name, initials, (crc32(name.encode()) >> 8) % 8)


FileAddress = Callable[[uuid.UUID], str]
"""Where a reader finds the file with this uuid."""


@dataclass(frozen=True)
class MessageFile:
    """A file that came with a message, on one reader's screen."""

    attachment: Attachment
    address: str

    @property
    def small(self) -> str:
        """Where the small picture is."""
        return f"{self.address}{'&' if '?' in self.address else '?'}small"


@dataclass(frozen=True)
class Bubble:
    """One message on one reader's screen. What `_message.html` needs, and all that it may show."""

    message: Message
    mine: bool  # of the reader's side
    own: bool  # of the reader
    avatar: Avatar
    starts_group: bool
    starts_day: bool
    echo: uuid.UUID | None  # the client_id, on the screen of the side that sent it
    files: tuple[MessageFile, ...] = ()

    @property
    def text(self) -> SafeString:
        """The content as safe HTML: all of it escaped, links clickable."""
        return mark_safe(linkify(self.message.content, autoescape=True))  # noqa: S308 (it escapes every word)

    @property
    def is_emoji(self) -> bool:
        """Whether it is an emoji or three and nothing else, which is shown large."""
        return EMOJI_ONLY.fullmatch(self.message.content) is not None


def bubbles(
    messages: Iterable[Message],
    *,
    previous: Message | None,
    conversation: Conversation | None,
    reader: Agent | None,
    file_address: FileAddress,
) -> list[Bubble]:
    """The messages as bubbles for a reader: an agent, or None for the customer.

    `previous` is the message before them, if there is one: the first may continue its group and its day. So a page
    that grew answer by answer looks the same as one that is loaded anew. Agents see the name of the `conversation`.
    """
    customer = Avatar.of(str(conversation) if reader else _("You"))
    shown = []
    for message in messages:
        by_agent = message.author == Author.AGENT
        mine = by_agent if reader else not by_agent
        sent_here = message.agent_id == reader.pk if reader else mine
        shown.append(
            Bubble(
                message=message,
                mine=mine,
                own=sent_here,
                avatar=agent_avatar(message) if by_agent else customer,
                starts_group=previous is None or not _together(previous, message),
                starts_day=previous is None or _day(previous.created_at) != _day(message.created_at),
                echo=message.client_id if sent_here else None,
                files=tuple(MessageFile(file, file_address(file.uuid)) for file in message.attached),
            )
        )
        previous = message
    return shown


def agent_avatar(message: Message) -> Avatar:
    """The avatar of the agent who wrote; one whose account is gone has written all the same."""
    return Avatar.of((message.agent.get_full_name() or message.agent.username) if message.agent else _("Agent"))


def _together(one: Message, next_one: Message) -> bool:
    return (
        one.author == next_one.author
        and one.agent_id == next_one.agent_id
        and next_one.created_at - one.created_at < GROUP
        and _day(one.created_at) == _day(next_one.created_at)
    )


def _day(moment: datetime) -> object:
    return timezone.localdate(moment)
