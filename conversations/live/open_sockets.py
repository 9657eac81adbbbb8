"""How many sockets one address, or one conversation, may have open. The numbers are SOCKETS in the settings.

They are counted in this process: several processes allow as many each.
"""

from collections import Counter

from django.conf import settings
from prometheus_client import Gauge

from conversations.metrics import rate_limited, registry

Place = tuple[str, str]
"""A limit and who uses it."""

OF_ADDRESS = "sockets of one address"
"""The limit that counts every socket."""

_open: Counter[Place] = Counter()


class TooManySockets(Exception):
    """The limit is reached. The client polls, and tries again later."""


def take_place(limit: str, who: str) -> Place:
    """Count one more open socket of `who`, until `free_place`. Raises TooManySockets if the limit is reached."""
    place = (limit, who)
    if settings.RATE_LIMITS and _open[place] >= settings.SOCKETS[limit]:
        rate_limited.labels(limit).inc()
        raise TooManySockets
    _open[place] += 1
    return place


def free_place(place: Place) -> None:
    """Count one less."""
    _open[place] -= 1
    if not _open[place]:
        del _open[place]


def number() -> int:
    """How many sockets are open in this process."""
    return sum(count for (limit, _), count in _open.items() if limit == OF_ADDRESS)


Gauge("chatsite_websockets_open", "Open WebSockets.", registry=registry).set_function(number)
