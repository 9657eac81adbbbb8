"""Delete verified customers of whom no conversation is kept any more: name, e-mail address and id are personal."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

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
        after = 0
        while batch := Contact.objects.forgotten(website, _limit(website.pk), after, BATCH):
            after = batch[-1]
            with transaction.atomic():
                # Read anew: who lets the website keep its conversations for longer means its customers, too.
                still = Contact.objects.forgotten(website, _limit(website.pk), batch[0] - 1, BATCH)
                deleted = sum(Contact.objects.delete_if_forgotten(pk) for pk in still if pk <= after)
            yield Counter({"verified customers without conversations": deleted})


def _limit(website_id: int) -> datetime | None:
    """Before which moment a contact of the website must have been created to be deleted; None if all are kept."""
    days = Website.objects.filter(pk=website_id).values_list("retention_days", flat=True).first()
    return timezone.now() - timedelta(days=days) if days else None
