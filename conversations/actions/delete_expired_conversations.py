"""Delete conversations after the number of days for which their website keeps them."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from conversations import message_log
from conversations.models import Conversation, Website
from conversations.models.settling import settle_locked

WINDOW = 5000
"""Primary keys that one query looks at: no index finds old conversations, and no query may take long."""

SECONDS = 0.01
"""How long one transaction goes on to the next conversation, so that no other write waits long for it."""

MESSAGES = 100
"""The most messages that one transaction deletes of a conversation; those of a longer one are deleted before it."""


def delete_expired_conversations() -> Iterator[Counter[str]]:
    """Delete the conversations whose last message is older than the `retention_days` of their website.

    Yields after each short transaction how many were deleted, by the names of their websites. It may be interrupted at
    any moment and run again, also twice at the same time. Of a long conversation the oldest messages go first; if it
    gets a new message meanwhile, it stays with the others. Raises redis.RedisError if the message log does not answer.
    """
    now = timezone.now()
    first, last = Conversation.objects.first_and_last_id() if _limits(now) else (1, 0)
    for start in range(first - 1, last, WINDOW):
        before = {website_id: moment for website_id, (moment, _name) in _limits(now).items()}
        expired = deque(Conversation.objects.inactive_since(before, start, start + WINDOW))
        yield Counter()
        while expired:
            yield Counter(_delete_some(expired, now))


def _limits(now: datetime) -> dict[int, tuple[datetime, str]]:
    """Before which moment the last message of a conversation must be to delete it, and the names, by website.

    Read anew for each transaction: a run takes up to hours, and who lets a website keep its conversations for longer
    means those that it still has.
    """
    websites = Website.objects.exclude(retention_days=None).values_list("pk", "retention_days", "name")
    return {pk: (now - timedelta(days=days or 0), name) for pk, days, name in websites}


def _delete_some(expired: deque[int], now: datetime) -> list[str]:
    """Delete some of the conversations in one transaction, and take them out of `expired`. Returns their websites."""
    deleted, left = [], deque(expired)
    with transaction.atomic():
        end = time.monotonic() + SECONDS
        limits = _limits(now)
        while left:
            conversation = Conversation.objects.lock_if_exists(left[0])
            before, name = limits.get(conversation.website_id, (None, "")) if conversation else (None, "")
            if conversation and before and conversation.last_message_at < before and settings.MESSAGE_LOG:
                message_log.fence(conversation.pk)
                settle_locked(conversation)
            # A message may have been added before the lock was held.
            if conversation and before and conversation.last_message_at < before:
                if conversation.messages.delete_oldest(MESSAGES):
                    conversation.save_changes()
                    break
                conversation.delete()
                deleted.append(name)
            left.popleft()
            if time.monotonic() >= end:
                break
    expired.clear()
    expired.extend(left)
    return deleted
