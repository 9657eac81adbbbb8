"""Who uses the installation: `manage.py restore` must be alone, also where no connection to the database is open.

Each process that serves or copies the message log has a shared lock of the directory of files, and a restore has it
alone. The kernel ends a lock together with its process. Some network file systems have no locks: then nobody
is noticed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from django.conf import settings
from django.core.files.storage import default_storage

from conversations.log_state import waiting
from conversations.message_log import MESSAGES

SECONDS = 5
"""Seconds that Redis may take for an answer."""


class InUse(Exception):
    """Somebody else uses the installation."""


@contextmanager
def used(*, alone: bool = False) -> Iterator[None]:
    """Use the installation. Raises InUse if somebody is alone with it, or, where `alone` is asked for, uses it."""
    directory = Path(default_storage.path(""))
    descriptor = None
    try:
        with suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse from None
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def left_in_log() -> int | None:
    """How many messages of the message log the database lacks; None if Redis has no message log.

    Raises redis.RedisError.
    """
    if not settings.REDIS_URL:
        return None
    times = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True, **times) as client:
        return waiting(client) if client.exists(MESSAGES) else None
