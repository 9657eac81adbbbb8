"""The rows of the inbox. Most are the same in the next request, so their HTML is remembered."""

from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime
from itertools import count
from sys import getsizeof
from threading import Lock
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from conversations.agent.chips import Chip, render_chips
from conversations.models import Author
from conversations.models.conversation import InboxEntry
from conversations.models.prepared import FoundRows, Raw
from conversations.screen.avatars import Avatar
from conversations.screen.prepared_templates import PreparedTemplate

MAX_CHIPS = 3
"""The most labels that a row shows."""

MOST_BYTES = 16_000_000
"""How much memory the rows may take: about 8,000 rows, or 160 lists of 50."""

MOST_FRAMES = 1_000
"""How many frames are known at once."""

PK, ASSIGNEE, LABELS, UNREAD = map(InboxEntry._fields.index, ("pk", "assignee_id", "label_ids", "unread"))
"""Where a row has them."""


class Frame(NamedTuple):
    """What decides how the rows of a list look, besides what is a row's own."""

    query: str  # of the list, which the links of its rows keep
    websites: tuple[tuple[int, str], ...]  # their ids and names, if the agent sees several
    labels: tuple[Chip, ...]  # all there are, if a row has any
    names_closed: bool  # where the list has both
    language: str | None
    zone: str  # in which its times are written


class Reader(NamedTuple):
    """What decides how one row looks to an agent, besides what was read of it."""

    chosen: bool
    is_mine: bool
    has_draft: bool


Key = tuple[int, Reader, Raw]
"""All that decides how a row looks at a moment: the number of its frame, its reader, and what was read of it."""


class RowKind(NamedTuple):
    """What decides how a row looks, besides which of its values are empty."""

    answered: bool
    urgency: str
    chosen: bool
    priority: int | None
    is_back: bool  # from being snoozed, and no agent has written since
    has_draft: bool
    is_mentioned: bool
    is_closed: bool


ROW = PreparedTemplate(
    "agent/_row.html",
    *("pk", "query", "hue", "initials", "name", "moment", "time", "line", "website", "assignee", "unread"),
    *("last", "labels", "snoozed_moment", "snoozed_time", "pick"),
)


class Rendered(NamedTuple):
    """A row, and from when to when it looks so. It is rendered anew if the clock is set back."""

    html: SafeString
    since: datetime
    until: datetime


class RowMemory:
    """Rendered rows, at most so many bytes of them. The first ones are forgotten first."""

    def __init__(self, most: int) -> None:
        """`most` is in bytes."""
        self.most, self.size = most, 0
        self.rows: OrderedDict[Key, Rendered] = OrderedDict()
        self.frames: dict[Frame, int] = {}
        self.numbers = count()
        self.lock = Lock()  # for what changes it

    def number(self, frame: Frame) -> int:
        """The number of a frame: it stands in each key, and is shorter."""
        found = self.frames.get(frame)
        if found is not None:
            return found
        with self.lock:
            if len(self.frames) >= MOST_FRAMES:  # their rows are forgotten by and by
                self.frames = {}
            return self.frames.setdefault(frame, next(self.numbers))

    def put(self, key: Key, rendered: Rendered) -> None:
        """Remember a row."""
        with self.lock:
            self._drop(key)
            self.rows[key] = rendered
            self.size += _bytes(key, rendered)
            while self.size > self.most:
                self._drop(next(iter(self.rows)))

    def _drop(self, key: Key) -> None:
        if dropped := self.rows.pop(key, None):
            self.size -= _bytes(key, dropped)


def _bytes(key: Key, rendered: Rendered) -> int:
    """The memory that a row takes; besides its values 600 for tuples and the dictionary."""
    return 600 + getsizeof(rendered.html) + sum(map(getsizeof, key[2]))


memory = RowMemory(MOST_BYTES)


def render_rows(
    found: FoundRows[tuple[Any, ...]], most: int, frame: Frame, own_id: int, chosen: int | None, drafts: Collection[int]
) -> list[SafeString]:
    """The first `most` of these rows, for the agent `own_id`.

    chosen: the conversation that is open beside them. drafts: those in which the agent has a draft.
    """
    now, number, rows = timezone.now(), memory.number(frame), memory.rows
    keys = [
        (number, Reader(row[PK] == chosen, row[ASSIGNEE] == own_id, row[PK] in drafts), row) for row in found.raw[:most]
    ]
    rendered = [rows.get(key) for key in keys]
    unknown = [at for at, row in enumerate(rendered) if row is None or not row.since <= now < row.until]
    if unknown:
        websites, labels = dict(frame.websites), {chip.pk: chip for chip in frame.labels}
        for at, entry in zip(unknown, InboxEntry.of(found, [keys[at][2] for at in unknown]), strict=True):
            html = _render(entry, frame, keys[at][1], websites, labels, now)
            rendered[at] = row = Rendered(html, now, entry.same_until(now))
            memory.put(keys[at], row)
    return [row.html for row in rendered if row]


def _render(
    entry: InboxEntry,
    frame: Frame,
    reader: Reader,
    websites: dict[int, str],
    labels: dict[int, Chip],
    now: datetime,
) -> SafeString:
    avatar, at = Avatar.of(str(entry)), timezone.localtime(entry.last_message_at)
    snoozed = entry.snoozed_until if entry.snoozed_until and entry.snoozed_until > now else None
    until = timezone.localtime(snoozed) if snoozed else None
    kind = RowKind(
        answered=entry.last_author == Author.AGENT,
        urgency="" if snoozed else entry.urgency(now),
        chosen=reader.chosen,
        priority=entry.priority,
        is_back=entry.status == "OPEN" and entry.snoozed_until is not None and not snoozed,
        has_draft=reader.has_draft,
        is_mentioned=bool(entry.is_mentioned),
        is_closed=frame.names_closed and entry.status == "CLOSED",
    )
    chips = [labels[pk] for pk in map(int, (entry.label_ids or "").split()) if pk in labels]
    values = {
        "pk": entry.pk,
        "query": frame.query,
        "hue": avatar.hue,
        "initials": avatar.initials,
        "name": avatar.name,
        "moment": at.isoformat(),
        "time": _short(at),
        "line": entry.last_line or (_("Message removed") if entry.last_author else ""),
        "website": websites.get(entry.website_id, ""),
        "assignee": _("You") if reader.is_mine else entry.assignee_name or entry.assignee_username or "",
        "unread": entry.unread or "",
        "last": entry.last_message_id,
        "labels": render_chips(chips, MAX_CHIPS),
        "snoozed_moment": until.isoformat() if until else "",
        "snoozed_time": _short(until) if until else "",
        "pick": _("Select %(name)s") % {"name": avatar.name},
    }
    return ROW.render(kind, values)


def _short(at: datetime) -> str:
    return f"{date_format(at, 'MONTH_DAY_FORMAT')} {at:%H:%M}"
