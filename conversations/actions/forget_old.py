"""Conversations end when their website says so."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from conversations.models import Conversation, Website

AT_ONCE = 200
"""Conversations that are deleted in one transaction, so that nobody waits for long."""


def forget_old(*, website: Website) -> int:
    """Delete the conversations whose last message is older than the website keeps them; returns how many.

    It may be stopped at any moment and run again.
    """
    if website.retention_days is None:
        return 0
    before = timezone.now() - timedelta(days=website.retention_days)
    forgotten = 0
    while True:
        with transaction.atomic():
            old = Conversation.objects.of(website).inactive_since(before)[:AT_ONCE]
            for found in old:
                conversation = Conversation.objects.lock(found.pk)
                if conversation.last_message_at < before:  # still, now that nobody can write in it
                    conversation.delete()
                    forgotten += 1
        if len(old) < AT_ONCE:
            return forgotten
