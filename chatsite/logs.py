"""Log records: secrets are masked, and repeated records are counted instead of logged."""

import json
import logging
import re
import threading
import time
from collections.abc import Hashable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

import redis
from django.conf import settings
from redis.exceptions import ClusterDownError, NoPermissionError

from chatsite.request_id import current_request

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)

SECRET_PATH = re.compile(r"(/forgotten/)[\w=-]+/[\w-]+|(/files/)[\w-]+(?::|%3A)[\w-]+(?::|%3A)[\w-]+", re.IGNORECASE)
"""Paths that are secrets for a while: links for a new password, and signed URLs of files."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters: a message with a line break of a client would look like two records."""

MAX_OF_A_KIND = 10
"""The most different warnings and errors of one kind in a minute, and each of them once. Further ones are counted."""

MINUTE = 60

TRACEBACK_INTERVAL = 3600
"""Seconds until an error that goes on is logged with its traceback again."""

REDIS_OUTAGES = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    NoPermissionError,
    ClusterDownError,
)
REDIS_REFUSES = re.compile(r"^(BUSY|MISCONF|NOREPLICAS|UNKILLABLE) |-(OOM|READONLY|MISCONF|NOREPLICAS) ")
"""Answers for which redis-py has no class, and errors of a script, in which Redis 6 names the cause after a `-`."""

CODE = str(Path(__file__).resolve().parent.parent)


class SecretMaskingFormatter(logging.Formatter):
    """Masks UUIDs, which are customers' secrets and in URLs of the API, and other paths that are secrets.

    It escapes control characters, and ends the line with the id of the request that it belongs to. It also writes what
    FloodFilter has decided, which changes no record: other handlers get all of it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, with secrets masked in its message and traceback."""
        text, error = self.parts(record)
        request = current_request.get()
        shown = copy(record)
        shown.exc_info, shown.exc_text, shown.stack_info = None, None, None
        shown.msg, shown.args = f"{text} [{request.id}]" if request else text, ()
        # Indented, because an error may quote what a client has sent.
        return "\n".join([super().format(shown), *(f"  {line}" for line in error)])

    def parts(self, record: logging.LogRecord) -> tuple[str, list[str]]:
        """The message, and the lines of the traceback."""
        text, error = record.getMessage(), record.exc_info
        if getattr(record, "hides_traceback", False) and error:
            if not is_bad_request(record):
                text = f"{text} {type(error[1]).__name__}: {' '.join(str(error[1]).split())}"
            error = None
        if left_out := getattr(record, "left_out", 0):
            text = f"{text} ({left_out} more like this were left out before)"
        lines = self.formatException(error).split("\n") if error else []
        if record.stack_info:
            lines += self.formatStack(record.stack_info).split("\n")
        return mask(escape(text)), [mask(escape(line)) for line in lines]


class JsonFormatter(SecretMaskingFormatter):
    """One JSON object a line, with what SecretMaskingFormatter writes."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record."""
        text, error = self.parts(record)
        shown = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **({"process": record.process} if settings.PROCESSES > 1 else {}),
            "message": text,
        }
        if request := current_request.get():
            shown |= {"request_id": request.id, "path": mask(escape(request.path))}
        if error:
            shown["traceback"] = "\n".join(error)
        return json.dumps(shown)


def mask(text: str) -> str:
    """A text without secrets."""
    return UUID.sub("[uuid]", SECRET_PATH.sub(lambda found: f"{found[1] or found[2]}[secret]", text))


def escape(text: str) -> str:
    """A text with its control characters written as in Python's literals."""
    return CONTROL.sub(lambda character: ascii(character[0])[1:-1], text)


@dataclass
class Kind:
    """What was logged of one kind of records."""

    minute: int = -1
    texts: set[str] = field(default_factory=set)  # in this minute
    left_out: int = 0
    traceback_at: float = float("-inf")


class FloodFilter(logging.Filter):
    """Keeps clients and outages from filling the log: what repeats is one line a minute, with one traceback."""

    def __init__(self) -> None:
        """Start with empty counters."""
        super().__init__()
        self.lock = threading.Lock()
        self.kinds: dict[Hashable, Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged. Bad requests and outages lose their traceback; a repeated error, too."""
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        outage, text = outage_of(record), record.getMessage()
        with self.lock:
            kind = self.kinds.setdefault(("outage", outage) if outage else kind_of(record), Kind())
            if kind.minute != now // MINUTE:
                kind.minute, kind.texts = int(now // MINUTE), set()
            if text in kind.texts or len(kind.texts) >= (1 if outage else MAX_OF_A_KIND):
                kind.left_out += 1
                return False
            kind.texts.add(text)
            record.left_out, kind.left_out = kind.left_out, 0
            has_traceback = not outage and not is_bad_request(record) and now - kind.traceback_at >= TRACEBACK_INTERVAL
            if has_traceback and record.exc_info:
                kind.traceback_at = now
        record.hides_traceback = not has_traceback
        return True


def kind_of(record: logging.LogRecord) -> Hashable:
    """A key for records that are counted together: same line of code, same place and type of error, same status."""
    error = None
    if record.exc_info and not is_bad_request(record):
        error = record.exc_info[0], *place_of(record.exc_info[2])
    return record.name, record.pathname, record.lineno, error, getattr(record, "status_code", None)


def place_of(traceback: TracebackType | None) -> tuple[str, int]:
    """File and line of our code in which an exception was raised, or of a library if our code was not there."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(traceback)]
    ours = [place for place in places if place[0].startswith(CODE) and "site-packages" not in place[0]]
    return (ours or places or [("", 0)])[-1]


def outage_of(record: logging.LogRecord) -> str:
    """The service whose failure a record reports, or ""."""
    from chatsite.databases import is_outage  # not before logging is configured

    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, REDIS_OUTAGES) or (
        isinstance(error, redis.ResponseError) and REDIS_REFUSES.search(str(error))
    ):
        return "Redis"
    return "database" if is_outage(error) else ""


def is_bad_request(record: logging.LogRecord) -> bool:
    """Whether Django has logged an invalid request, such as one with an unknown host or a malformed form."""
    status: int = getattr(record, "status_code", 500)
    return status < 500 and record.name.startswith("django.")
