"""Chatsite's settings with high rate limits: here few people write very many messages."""

from tests.outage_settings import *  # noqa: F403
from tests.outage_settings import LIMITS

LIMITS.update({name: (100_000, period) for name, (_, period) in LIMITS.items()})
