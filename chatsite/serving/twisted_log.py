"""Passes on what matters of Twisted's log, all of which daphne discards."""

import logging
import resource
import time
from collections.abc import Callable
from typing import Any

MINUTE = 60

logger = logging.getLogger(__name__)


class TwistedLog:
    """Logs exceptions that Twisted has caught, such as those of a protocol, and that connections are refused."""

    def __init__(self, cannot_accept: Callable[[], None]) -> None:
        """`cannot_accept` is called when Twisted could not accept a connection, which therefore still waits."""
        self.cannot_accept = cannot_accept
        self.refused_at = -MINUTE * 1.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an event of Twisted's, or ignore it."""
        text = event.get("log_format") or ""
        if "acceptError" in event:
            self.log_refused(event["acceptError"])
            self.cannot_accept()
        elif "EMFILE" in text:
            self.log_refused("EMFILE")
        elif (failure := event.get("log_failure")) is not None:
            logger.error("Exception inside Twisted: %s", failure.value, exc_info=failure.value)

    def log_refused(self, reason: str) -> None:
        """Say that connections cannot be accepted, once a minute: Twisted has an event for each of them."""
        now = time.monotonic()
        if now - self.refused_at < MINUTE:
            return
        self.refused_at = now
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        logger.error(
            "No file descriptors left, new connections are closed (%s; the limit is %s). Raise it: LimitNOFILE in "
            "systemd, ulimit -n in a shell.",
            reason,
            limit,
        )
