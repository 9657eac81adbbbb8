"""Delete verified customers of whom no conversation is kept any more: name, e-mail address and id are personal."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from conversations.models import Contact, Website

BATCH = 50
"""Contacts that are deleted in one transaction."""


def delete_forgotten_contacts() -> Iterator[Counter[str]]:
    """Delete contacts without conversations, of websites that keep conversations for a number of days only.

    Yields after each short transaction how many. It may be interrupted, and run twice at once.
    """
    for website in Website.objects.exclude(retention_days=None):
        before = timezone.now() - timedelta(days=website.retention_days or 0)
        after = 0
        while batch := Contact.objects.forgotten(website, before, after, BATCH):
            after = batch[-1]
            with transaction.atomic():
                deleted = sum(Contact.objects.delete_if_forgotten(pk) for pk in batch)
            yield Counter({"verified customers without conversations": deleted})
