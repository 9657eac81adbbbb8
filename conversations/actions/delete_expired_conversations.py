"""Delete conversations after the number of days for which their website keeps them."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from conversations.models import Conversation, Website

BATCH = 200
"""Conversations that are deleted in one transaction, so that no other write waits long for it."""


def delete_expired_conversations(*, website: Website) -> int:
    """Delete the conversations whose last message is older than `website.retention_days`; return how many.

    It may be interrupted at any moment and run again.
    """
    if website.retention_days is None:
        return 0
    before = timezone.now() - timedelta(days=website.retention_days)
    deleted = 0
    while True:
        with transaction.atomic():
            expired = Conversation.objects.of(website).inactive_since(before)[:BATCH]
            for found in expired:
                conversation = Conversation.objects.lock(found.pk)
                if conversation.last_message_at < before:  # a message may have been added before the lock was held
                    conversation.delete()
                    deleted += 1
        if len(expired) < BATCH:
            return deleted
