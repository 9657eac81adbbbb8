"""A Redis that stops, hangs, loses its data or refuses commands."""

import signal
import time
from collections.abc import Callable
from functools import partial

import redis

from tests.services import redis_server
from tests.soak.installation import Installation
from tests.soak.trial import Trial


def client(installation: Installation) -> redis.Redis:
    """A direct connection to Redis, without the proxy."""
    return redis.Redis.from_url(installation.redis.url)


def kill(seconds: float, installation: Installation) -> None:
    """Kill Redis, and start it again after some seconds."""
    time.sleep(3)
    installation.redis.end(signal.SIGKILL)
    time.sleep(seconds)
    installation.redis.start()


def freeze(installation: Installation) -> None:
    """SIGSTOP for 20 s."""
    time.sleep(3)
    installation.redis.freeze()
    time.sleep(20)
    installation.redis.thaw()


def cut(installation: Installation) -> None:
    """Open connections go silent."""
    time.sleep(3)
    installation.redis_line.cut()
    time.sleep(15)


def flush(installation: Installation) -> None:
    """FLUSHALL five times."""
    for _ in range(5):
        time.sleep(2)
        client(installation).flushall()


def configured(name: str, value: str, then: str, installation: Installation) -> None:
    """Change a setting for 15 s. If it is the password, end all connections."""
    time.sleep(3)
    connection = client(installation)
    connection.config_set(name, value)
    if name == "requirepass":
        for kind in ("normal", "pubsub"):
            connection.client_kill_filter(_type=kind, skipme=True)
    time.sleep(15)
    connection.config_set(name, then)


def move(installation: Installation) -> None:
    """Another, empty Redis takes over the address; connections to the old one go silent."""
    time.sleep(3)
    with redis_server() as other:
        installation.redis_line.to = other.port
        installation.redis_line.cut()
        time.sleep(12)
        installation.redis_line.to = installation.redis.port
        installation.redis_line.cut()
    time.sleep(1)


FAULTS: dict[str, Callable[[Installation], None]] = {
    "redis-killed": partial(kill, 1),
    "redis-stopped": partial(kill, 20),
    "redis-frozen": freeze,
    "redis-cut": cut,
    "redis-moved": move,
    "redis-flushed": flush,
    "redis-full": partial(configured, "maxmemory", "1", "0"),
    "redis-wants-a-password": partial(configured, "requirepass", "secret", ""),
}
TRIALS = {name: Trial(fault) for name, fault in FAULTS.items()}
