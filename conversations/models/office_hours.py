"""Office hours: weekly time spans in a time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LINE = re.compile(r"([a-z]{3})(?:\s*[-\N{EN DASH}]\s*([a-z]{3}))?\s+(\d\d?):(\d\d)\s*[-\N{EN DASH}]\s*(\d\d?):(\d\d)")
MIDNIGHT = 24 * 60

Span = tuple[int, int, int]
"""A weekday (0: Monday), its first minute, and the minute after its last, both counted from midnight."""


@dataclass(frozen=True)
class OfficeHours:
    """Weekly office hours. Without spans, the office is always open."""

    spans: tuple[Span, ...]
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, time_zone: str) -> "OfficeHours":
        """Parse lines such as “Mon-Fri 9:00-17:30”. Raises ValueError with a message about the invalid line."""
        spans: set[Span] = set()
        for line in filter(None, (line.strip() for line in text.splitlines())):
            spans.update(_parse_line(line))
        return cls(_merged(spans), ZoneInfo(time_zone))

    def are_open(self, moment: datetime) -> bool:
        """Return whether the moment is within the hours."""
        local = moment.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return not self.spans or any(day == local.weekday() and start <= minute < end for day, start, end in self.spans)

    def next_opening(self, moment: datetime) -> datetime | None:
        """Return when the hours begin next, or None if the moment is within them."""
        if self.are_open(moment):
            return None
        return min(start for start, _end in self._spans_from(moment) if start > moment)

    def seconds_between(self, since: datetime, until: datetime) -> int:
        """Return the seconds between two moments that are within the hours, of the last four weeks at most."""
        since = max(since, until - timedelta(weeks=4))
        if not self.spans:
            return max(0, int((until - since).total_seconds()))
        days = (until.astimezone(self.zone).date() - since.astimezone(self.zone).date()).days + 1
        spans = [(max(start, since), min(end, until)) for start, end in self._spans_from(since, range(days))]
        return int(sum(max(0.0, (end - start).total_seconds()) for start, end in spans))

    def waiting_time(self, since: datetime, until: datetime) -> int | None:
        """Return the seconds within the hours that an answer took, or None if it was written outside of them.

        A question and its answer in the same night took 0 seconds of the hours. That would count as an instant answer
        in the usual reply time, so it is left out.
        """
        return self.seconds_between(since, until) or (0 if self.are_open(until) else None)

    def _spans_from(self, moment: datetime, days: range = range(8)) -> list[tuple[datetime, datetime]]:
        """Return the start and end of each span on these days, counted from the day of the moment."""
        today = moment.astimezone(self.zone).date()
        spans = []
        for offset in days:
            then = today + timedelta(days=offset)
            for day, start, end in self.spans:
                if day == then.weekday():
                    spans.append((self._at(then, start), self._at(then, end)))
        return sorted(spans)

    def _at(self, day: date, minute: int) -> datetime:
        midnight = datetime.combine(day, time(), self.zone)
        # Wall time, also on the two days of the year on which the clock changes. Converted to UTC, because Python
        # ignores the change when it subtracts two times of the same zone.
        return (midnight + timedelta(minutes=minute)).astimezone(UTC)


def _merged(spans: set[Span]) -> tuple[Span, ...]:
    """Join spans that overlap or touch."""
    merged: list[Span] = []
    for day, start, end in sorted(spans):
        if merged and merged[-1][0] == day and start <= merged[-1][2]:
            day, start, previous_end = merged.pop()
            end = max(previous_end, end)
        merged.append((day, start, end))
    return tuple(merged)


def _parse_line(line: str) -> set[Span]:
    match = LINE.fullmatch(line.lower())
    invalid = _("“%(line)s” is not valid. Write office hours like this: “Mon-Fri 9:00-17:30”.") % {"line": line}
    if not match:
        raise ValueError(invalid)
    first, last, *numbers = match.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, numbers)
    start, end = 60 * start_hour + start_minute, 60 * end_hour + end_minute
    if (
        not {first, last or first} <= set(DAYS)
        or max(start_minute, end_minute) > 59
        or start >= MIDNIGHT
        or end > MIDNIGHT
        or start == end
    ):
        raise ValueError(invalid)
    first_day = DAYS.index(first)
    count = (DAYS.index(last or first) - first_day) % 7 + 1
    days = [(first_day + offset) % 7 for offset in range(count)]
    if start < end:
        return {(day, start, end) for day in days}
    return {(day, start, MIDNIGHT) for day in days} | {((day + 1) % 7, 0, end) for day in days if end}  # past midnight
