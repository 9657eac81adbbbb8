"""Chatsite's settings as they are, with rate limits that are counted, but high: few people write very much here."""

from tests.outage_settings import *  # noqa: F403
from tests.outage_settings import LIMITS

LIMITS.update({name: (100_000, period) for name, (_, period) in LIMITS.items()})
