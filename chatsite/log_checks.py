"""What the message log needs of Redis (MESSAGE_LOG=redis, docs/log.md): otherwise `serve` and `replicate` do not start.

Nor does `serve` without a message log while Redis still has one.

A Redis that does not answer is no reason: it may answer soon, and `startup.find_warnings` says so.
"""

from collections.abc import Iterator
from typing import Any

import redis
from django.conf import settings

from chatsite.startup import REDIS_TIMEOUT, reason
from conversations.log_state import waiting
from conversations.message_log import MESSAGES

OLDEST = (7, 0)
"""The first version of Redis whose streams tell how many entries a consumer group has not read."""

OPTIONS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")

VOUCH = (
    "Look yourself whether Redis has appendonly yes, appendfsync always, and maxmemory 0 or maxmemory-policy "
    "noeviction, and then set MESSAGE_LOG_VOUCHED=on."
)


def find_log_problems() -> list[str]:
    """What is wrong with the Redis of the message log, one sentence each. Takes some times REDIS_TIMEOUT at most."""
    if not settings.REDIS_URL:
        is_missing = "MESSAGE_LOG is redis, and REDIS_URL is empty. Set REDIS_URL, or MESSAGE_LOG to sql."
        return [is_missing] if settings.MESSAGE_LOG else []
    try:
        with short_client() as client:
            return list(_find(client) if settings.MESSAGE_LOG else find_left_log(client))
    except (redis.ConnectionError, redis.TimeoutError, OSError):  # also a wrong password; see find_warnings
        return []


def short_client() -> Any:
    """A client that waits REDIS_TIMEOUT at most for each answer."""
    times = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
    return redis.Redis.from_url(settings.REDIS_URL, retry=None, decode_responses=True, **times)


def find_left_log(client: Any) -> Iterator[str]:
    """A sentence if the message log was used, and not emptied and switched off."""
    if client.exists(MESSAGES):
        yield (
            f"Redis has a message log, and the database may lack {waiting(client)} of its messages. Set MESSAGE_LOG to "
            "redis again, or empty the log and switch it off: stop all processes of Chatsite, and run "
            "`MESSAGE_LOG=redis manage.py replicate --drain`."
        )


def _find(client: Any) -> Iterator[str]:
    version = str(client.info("server").get("redis_version", ""))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        yield f"The message log needs Redis 7.0 or newer, and this is {version or 'of an unknown version'}. Upgrade it."
        return
    if settings.MESSAGE_LOG_VOUCHED:
        return
    try:
        config = client.config_get(*OPTIONS)
    except redis.ResponseError as error:
        yield f"Redis does not say how it keeps messages ({reason(error)}). {VOUCH}"
        return
    yield from find_config_problems(config)


def find_config_problems(config: dict[str, str]) -> Iterator[str]:
    """What is wrong with these settings of Redis."""
    if config.get("appendonly") != "yes":
        yield (
            "Redis does not keep what it has on its disk (appendonly no): a restart would lose messages. Run "
            "`redis-cli CONFIG SET appendonly yes` and `redis-cli CONFIG REWRITE`."
        )
    fsync = config.get("appendfsync", "")
    if fsync != "always" and (fsync, settings.MESSAGE_LOG_FSYNC) != ("everysec", "everysec"):
        yield (
            f"Redis acknowledges messages before they are on its disk (appendfsync {fsync}): a power cut would lose "
            "some. Run `redis-cli CONFIG SET appendfsync always` and `redis-cli CONFIG REWRITE`. "
            "With appendfsync everysec a second may be lost: MESSAGE_LOG_FSYNC=everysec says that this is right."
        )
    if config.get("no-appendfsync-on-rewrite") == "yes":
        yield (
            "Redis does not wait for its disk while it rewrites its file (no-appendfsync-on-rewrite yes): a power cut "
            "would lose messages. Run `redis-cli CONFIG SET no-appendfsync-on-rewrite no` and `redis-cli CONFIG "
            "REWRITE`."
        )
    policy = config.get("maxmemory-policy", "")
    if config.get("maxmemory", "0") != "0" and policy != "noeviction":
        yield (
            f"Redis deletes keys when its memory is full (maxmemory-policy {policy}), messages among them. Run "
            "`redis-cli CONFIG SET maxmemory-policy noeviction` and `redis-cli CONFIG REWRITE`."
        )
