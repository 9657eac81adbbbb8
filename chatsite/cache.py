"""The cache in Redis: Django's, with a client that has short timeouts."""

from typing import Any

from django.core.cache.backends import redis

from conversations.redis_client import OPTIONS, RedisClient


class CacheClient(redis.RedisCacheClient):
    """Django's adapter, with time limits and RedisClient."""

    def __init__(self, servers: Any, **options: Any) -> None:
        """`options` of the connections come from the settings, and take precedence over OPTIONS."""
        super().__init__(servers, **{**OPTIONS, **options})
        self._client = RedisClient


class RedisCache(redis.RedisCache):
    """While Redis does not answer, every call raises redis.ConnectionError or redis.TimeoutError.

    It does not pretend that an entry is missing: a code that a window has used would be valid again. The caller knows
    what to do without the cache.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        """Django's protocol for caches."""
        super().__init__(server, params)
        self._class = CacheClient
