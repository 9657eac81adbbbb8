"""When somebody answers: weekly hours in a time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LINE = re.compile(r"([a-z]{3})(?:\s*[-\N{EN DASH}]\s*([a-z]{3}))?\s+(\d\d?):(\d\d)\s*[-\N{EN DASH}]\s*(\d\d?):(\d\d)")
MIDNIGHT = 24 * 60

Span = tuple[int, int, int]
"""A day of the week (0: Monday), and from which minute of it to which."""


@dataclass(frozen=True)
class OfficeHours:
    """Weekly hours. Without any, somebody is always there."""

    spans: tuple[Span, ...]
    zone: ZoneInfo

    @classmethod
    def of(cls, text: str, time_zone: str) -> "OfficeHours":
        """Read lines such as “Mon-Fri 9:00-17:30”. Raises ValueError with a sentence about the line that is wrong."""
        spans: set[Span] = set()
        for line in filter(None, (line.strip() for line in text.splitlines())):
            spans.update(_spans(line))
        return cls(_merged(spans), ZoneInfo(time_zone))

    def are_on(self, moment: datetime) -> bool:
        """Whether somebody is there."""
        local = moment.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return not self.spans or any(day == local.weekday() and start <= minute < end for day, start, end in self.spans)

    def back_at(self, moment: datetime) -> datetime | None:
        """When somebody will be there next, or None where somebody is there now."""
        if self.are_on(moment):
            return None
        return min(start for start, _end in self._around(moment) if start > moment)

    def seconds(self, since: datetime, until: datetime) -> int:
        """How many seconds between two moments somebody was there; at most those of the last four weeks."""
        since = max(since, until - timedelta(weeks=4))
        if not self.spans:
            return max(0, int((until - since).total_seconds()))
        days = (until.astimezone(self.zone).date() - since.astimezone(self.zone).date()).days + 1
        spans = [(max(start, since), min(end, until)) for start, end in self._around(since, range(days))]
        return int(sum(max(0.0, (end - start).total_seconds()) for start, end in spans))

    def wait(self, since: datetime, until: datetime) -> int | None:
        """How many seconds of the hours somebody waited for an answer, or None where that says nothing.

        Who writes in the evening and is answered in the evening has waited, but none of it while somebody had to be
        there. That is not an answer within no time: the usual answers are those within the hours, and leave it out.
        """
        return self.seconds(since, until) or (0 if self.are_on(until) else None)

    def _around(self, moment: datetime, days: range = range(8)) -> list[tuple[datetime, datetime]]:
        """The hours of the day of a moment and of those after it."""
        today = moment.astimezone(self.zone).date()
        found = []
        for ahead in days:
            then = today + timedelta(days=ahead)
            for day, start, end in self.spans:
                if day == then.weekday():
                    found.append((self._at(then, start), self._at(then, end)))
        return sorted(found)

    def _at(self, day: date, minute: int) -> datetime:
        midnight = datetime.combine(day, time(), self.zone)
        # By the clock on the wall, also on the two days of the year on which the clock jumps. In UTC, because Python
        # subtracts two times of one zone as if it never jumped.
        return (midnight + timedelta(minutes=minute)).astimezone(UTC)


def _merged(spans: set[Span]) -> tuple[Span, ...]:
    """The same hours, each in one span alone, however many lines name it."""
    merged: list[Span] = []
    for day, start, end in sorted(spans):
        if merged and merged[-1][0] == day and start <= merged[-1][2]:
            day, start, before = merged.pop()
            end = max(before, end)
        merged.append((day, start, end))
    return tuple(merged)


def _spans(line: str) -> set[Span]:
    found = LINE.fullmatch(line.lower())
    wrong = _("“%(line)s” is not understood. Write it as in “Mon-Fri 9:00-17:30”.") % {"line": line}
    if not found:
        raise ValueError(wrong)
    first, last, *numbers = found.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, numbers)
    start, end = 60 * start_hour + start_minute, 60 * end_hour + end_minute
    if (
        not {first, last or first} <= set(DAYS)
        or max(start_minute, end_minute) > 59
        or start >= MIDNIGHT
        or end > MIDNIGHT
        or start == end
    ):
        raise ValueError(wrong)
    begin, count = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7 + 1
    days = [(begin + day) % 7 for day in range(count)]
    if start < end:
        return {(day, start, end) for day in days}
    return {(day, start, MIDNIGHT) for day in days} | {((day + 1) % 7, 0, end) for day in days if end}  # over midnight
