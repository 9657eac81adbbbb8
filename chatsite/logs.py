"""Log records: secrets are masked, and floods of warnings and errors are cut off."""

import logging
import re
import threading
import time
from collections.abc import Hashable

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)

MAX_OF_A_KIND = 10
"""The most warnings and errors of one kind in a minute. Further ones are counted, not logged."""

MINUTE = 60


class SecretMaskingFormatter(logging.Formatter):
    """Masks UUIDs: a conversation's UUID is its customer's secret, and it is in URLs of the API."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, with UUIDs masked in its message and traceback."""
        return UUID.sub("[uuid]", super().format(record))


class FloodFilter(logging.Filter):
    """Keeps clients from filling the log: no tracebacks of their mistakes, and a maximum per minute and kind."""

    def __init__(self) -> None:
        """Start with empty counters."""
        super().__init__()
        self.lock = threading.Lock()
        self.minute = 0
        self.seen: dict[Hashable, int] = {}
        self.left_out: dict[Hashable, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged. A bad request loses its traceback."""
        if record.levelno < logging.WARNING:
            return True
        kind = kind_of(record)
        with self.lock:
            minute = int(time.monotonic() // MINUTE)
            if minute != self.minute:
                self.minute, self.seen = minute, {}
            self.seen[kind] = number = self.seen.get(kind, 0) + 1
            if number > MAX_OF_A_KIND:
                self.left_out[kind] = self.left_out.get(kind, 0) + 1
                return False
            left_out = self.left_out.pop(kind, 0)
        if is_bad_request(record):
            record.exc_info = record.exc_text = None
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this were left out before)", ()
        return True


def kind_of(record: logging.LogRecord) -> Hashable:
    """A key for records that are counted together: same line of code, same type of error, same status."""
    error = record.exc_info[0] if record.exc_info and not is_bad_request(record) else None
    return record.name, record.pathname, record.lineno, error, getattr(record, "status_code", None)


def is_bad_request(record: logging.LogRecord) -> bool:
    """Whether Django has logged an invalid request, such as one with an unknown host or a malformed form."""
    status: int = getattr(record, "status_code", 500)
    return status < 500 and record.name.startswith("django.")
