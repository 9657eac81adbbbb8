"""Delete verified customers of whom no conversation is kept any more: name, e-mail address and id are personal."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from conversations.models import Contact, Website

BATCH = 50
"""Contacts that one query looks for."""

SECONDS = 0.01
"""How long one transaction goes on to the next contact, so that no other write waits long for it."""


def delete_forgotten_contacts() -> Iterator[Counter[str]]:
    """Delete contacts without conversations, of websites that keep conversations for a number of days only.

    Yields after each short transaction how many. It may be interrupted, and run twice at once.
    """
    for website in Website.objects.exclude(retention_days=None):
        after = 0
        while batch := Contact.objects.forgotten(website, _limit(website.pk), after, BATCH):
            deleted = 0
            with transaction.atomic():
                end = time.monotonic() + SECONDS
                # Read anew: who lets the website keep its conversations for longer means its customers, too.
                before = _limit(website.pk)
                for after in batch:
                    deleted += Contact.objects.delete_if_forgotten(after, before)
                    if time.monotonic() >= end:
                        break
            yield Counter({"verified customers without conversations": deleted})


def _limit(website_id: int) -> datetime | None:
    """Before which moment a contact of the website must have been created to be deleted; None if all are kept."""
    days = Website.objects.filter(pk=website_id).values_list("retention_days", flat=True).first()
    return timezone.now() - timedelta(days=days) if days else None
