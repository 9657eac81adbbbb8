"""Delete conversations after the number of days for which their website keeps them."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from conversations.models import Conversation, Website

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
    gets a new message meanwhile, it stays with the others.
    """
    now = timezone.now()
    websites = {website.pk: website for website in Website.objects.exclude(retention_days=None)}
    before = {pk: now - timedelta(days=website.retention_days or 0) for pk, website in websites.items()}
    last = Conversation.objects.highest_id() if websites else 0
    start = 0
    while start < last:
        expired = deque(Conversation.objects.inactive_since(before, start, start + WINDOW))
        start += WINDOW
        yield Counter()
        while expired:
            yield Counter(websites[website_id].name for website_id in _delete_some(expired, before))


def _delete_some(expired: deque[int], before: Mapping[int, datetime]) -> list[int]:
    """Delete some of the conversations in one transaction, and take them out of `expired`. Returns their websites."""
    deleted, left = [], deque(expired)
    with transaction.atomic():
        end = time.monotonic() + SECONDS
        while left:
            conversation = Conversation.objects.lock_if_exists(left[0])
            # A message may have been added before the lock was held.
            if conversation is not None and conversation.last_message_at < before[conversation.website_id]:
                if conversation.messages.delete_oldest(MESSAGES):
                    break
                conversation.delete()
                deleted.append(conversation.website_id)
            left.popleft()
            if time.monotonic() >= end:
                break
    expired.clear()
    expired.extend(left)
    return deleted
