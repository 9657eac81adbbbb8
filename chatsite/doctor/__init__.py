"""`manage.py doctor`: what is wrong with an installation, and what to do about it. One sentence for each finding."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from chatsite.startup import reason

CHECK_TIMEOUT = 30
"""Seconds that one check may take. Each has shorter limits for what it waits for; this one is for what has none."""

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """What a check has found."""

    level: str
    sentence: str


Check = tuple[str, Callable[[], Iterable[Finding]]]
"""What is checked, and how."""


def findings(checks: Iterable[Check], timeout: float = CHECK_TIMEOUT) -> Iterator[tuple[str, Finding]]:
    """The findings of all checks with what was checked. One that hangs or fails is a finding, and ends no other."""
    for name, check in checks:
        for finding in _within(timeout, check):
            yield name, finding


def _within(seconds: float, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check. After so many seconds without one more it is left to itself in its thread."""
    found: queue.Queue[Finding | None] = queue.Queue()

    def run() -> None:
        try:
            for finding in check():
                found.put(finding)
        except Exception as error:
            logging.getLogger(__name__).debug("A check failed.", exc_info=error)
            found.put(Finding(PROBLEM, f"This could not be checked: {type(error).__name__}: {reason(error)}"))
        found.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        while finding := found.get(timeout=seconds):
            yield finding
    except queue.Empty:
        yield Finding(PROBLEM, f"This could not be checked within {seconds:g} seconds.")
