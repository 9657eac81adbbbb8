"""The messages of a conversation as HTML, for the customer's and the agents' pages."""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from django.template.loader import render_to_string
from django.utils.formats import date_format, localize
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from conversations.screen.bubbles import Bubble, ChangedRow, MessageFile, RemovalRow, ShownRow
from conversations.screen.desk_rows import DeskRow, render_row, what_happened
from conversations.screen.prepared_templates import PreparedTemplate

MESSAGE = PreparedTemplate(
    "conversations/_message.html",
    *(
        "pk",
        "client_id",
        "day",
        "hue",
        "initials",
        "picture",
        "name",
        "text",
        "source",
        "files",
        "moment",
        "time",
        "menu",
    ),
)
REMOVAL = PreparedTemplate("conversations/_removal.html", "pk", "moment")


LEAST_FOLDED = 3
"""The fewest activities in a row that are folded, as in static/js/activity-folds.js."""


class Kind(NamedTuple):
    """What decides how a message looks on the reader's screen, besides which of its values are empty."""

    from_readers_side: bool
    from_reader: bool
    starts_group: bool
    is_emoji: bool
    has_blocks: bool
    is_removed: bool
    is_change: bool  # whether it replaces the row with its id


class RemovalKind(NamedTuple):
    """All removals look the same: they are not shown."""


def render_messages(rows: Iterable[ShownRow], first_unread: int | None = None) -> SafeString:
    """The rows of these messages and, for agents, of the notes and activities among them.

    first_unread: the id of the row above which the line "New" stands.
    """
    html = [_render(row) if row.pk != first_unread else _new_line() + _render(row) for row in rows]
    return mark_safe("".join(html))  # noqa: S308 (each is made by a template)


def render_folded(rows: Sequence[ShownRow], first_unread: int | None = None, opened: int | None = None) -> SafeString:
    """As above, with three and more activities in a row folded into one line, for browsers without scripts.

    Scripts unfold it at first (unfolded.js), and fold by themselves what is on the page and what comes
    (activity-folds.js): the rules are the same. opened: the id of a row that the page was opened for.
    """
    html, run = list[str](), list[ShownRow]()
    for row in rows:
        if isinstance(row, DeskRow) and row.is_activity:
            if row.starts_day:
                html.append(_fold(run, opened))
                run = []
            run.append(row)
        elif isinstance(row, RemovalRow):  # it is not shown
            run.append(row)
        else:
            html += [_fold(run, opened), render_messages([row], first_unread)]
            run = []
    html.append(_fold(run, opened))
    return mark_safe("".join(html))  # noqa: S308 (each is made by a template)


def _fold(run: Sequence[ShownRow], opened: int | None) -> str:
    """The rows of one line, or as they are if they are too few."""
    rows, activities = render_messages(run), [row for row in run if isinstance(row, DeskRow)]
    if len(activities) < LEAST_FOLDED:
        return rows
    first, last = activities[0], activities[-1]
    context = {
        "rows": rows,
        "changes": _("Changes: {n}").format(n=localize(len(activities))),
        "what": what_happened(last.entry, last.reader),
        "moment": first.moment.isoformat(),
        "day": _day(first.moment.date(), get_language()) if first.starts_day else "",
        "is_open": any(row.pk == opened for row in run),
    }
    return render_to_string("agent/_fold.html", context)


def _new_line() -> str:
    return render_to_string("agent/_new_line.html")


def _render(row: ShownRow) -> SafeString:
    if isinstance(row, DeskRow):
        return render_row(row, _day(row.moment.date(), get_language()) if row.starts_day else "")
    if isinstance(row, RemovalRow):
        moment = row.moment.isoformat() if row.moment else ""
        return REMOVAL.render(RemovalKind(), {"pk": row.pk, "moment": moment})
    if isinstance(row, ChangedRow):
        return _render_message(row.bubble, is_change=True)
    return _render_message(row)


def _render_message(bubble: Bubble, *, is_change: bool = False) -> SafeString:
    message, avatar, moment = bubble.message, bubble.avatar, bubble.moment
    shown = bubble.shown
    kind = Kind(
        from_readers_side=bubble.from_readers_side,
        from_reader=bubble.from_reader,
        starts_group=bubble.starts_group,
        is_emoji=bubble.is_emoji,
        has_blocks=shown.has_blocks,
        is_removed=message.is_removed,
        is_change=is_change,
    )
    values = {
        "pk": message.pk,
        "client_id": bubble.client_id,
        "day": _day(moment.date(), get_language()) if bubble.starts_day else "",
        "hue": avatar.hue,
        "initials": avatar.initials,
        "picture": avatar.picture,
        "name": avatar.name,
        "text": shown.html,
        "source": "" if shown.is_typed else message.content,
        "files": _files(bubble.files) if bubble.files else "",
        "moment": moment.isoformat(),
        "time": f"{moment:%H:%M %Z}",
        "menu": bubble.menu,
    }
    return MESSAGE.render(kind, values)


@lru_cache(maxsize=1000)
def _day(day: date, _language: str | None) -> str:
    """A day without its year, in the active language, as in “Friday, November 27”."""
    return f"{date_format(day, 'l')}, {date_format(day, 'MONTH_DAY_FORMAT')}"


def _files(files: Iterable[MessageFile]) -> SafeString:
    shown = [
        render_to_string("conversations/_file.html", {"file": file, "attachment": file.attachment}) for file in files
    ]
    return mark_safe("".join(shown))  # noqa: S308 (rendered by its template)
