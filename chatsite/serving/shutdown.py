"""Ends the process in time after SIGTERM or SIGINT, even if a thread, a socket or the event loop hangs."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

END_TIMEOUT = 9.5
"""Seconds after SIGTERM at which the process ends, whatever is open: Docker and others send SIGKILL after ten."""

logger = logging.getLogger(__name__)


def end_in_time(describe: Callable[[], str]) -> None:
    """From now on, end the process with 1 if it is still there END_TIMEOUT seconds after SIGTERM or SIGINT.

    `describe` says what is open then. It is called in another thread. The handlers that are set already are called too;
    a signal that is ignored stays so.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_begin, handler, describe))


def _begin(handler: Callable[[int, FrameType | None], Any], describe: Callable[[], str], *signal: Any) -> None:
    timer = threading.Timer(END_TIMEOUT, _end, [describe])
    timer.daemon = True  # it does not keep the process from ending sooner
    try:
        timer.start()
    except RuntimeError:
        logger.exception("There is no thread that could end the process in time.")
    handler(*signal)


def _end(describe: Callable[[], str]) -> None:
    try:
        waiting = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        threads = f" and the threads {', '.join(waiting)}" if waiting else ""
        logger.warning(
            "The process ends %s s after it was told to stop. Cut off: %s%s.", END_TIMEOUT, describe(), threads
        )
        logging.shutdown()
    finally:
        os._exit(1)
