"""How many sockets one address, or one conversation, may have open. The numbers are SOCKETS in the settings.

They are counted in this process: several processes allow as many each.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

_open: Counter[tuple[str, str]] = Counter()


class TooManySockets(Exception):
    """The limit is reached. The client polls, and tries again later."""


@contextmanager
def counted(limit: str, who: str) -> Iterator[None]:
    """Count one open socket of `who` until the context ends. Raises TooManySockets if the limit is reached."""
    key = (limit, who)
    if settings.RATE_LIMITS and _open[key] >= settings.SOCKETS[limit]:
        raise TooManySockets
    _open[key] += 1
    try:
        yield
    finally:
        _open[key] -= 1
        if not _open[key]:
            del _open[key]
