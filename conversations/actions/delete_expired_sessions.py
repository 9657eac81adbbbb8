"""Delete sessions that have expired. Django leaves them in the database, one for each sign-in."""

from collections import Counter
from collections.abc import Iterator

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from conversations.models import SignIn

BATCH = 100
"""Sessions that are deleted in one transaction."""


def delete_expired_sessions() -> Iterator[Counter[str]]:
    """Delete them; yields after each short transaction how many. It may be interrupted, and run twice at once."""
    now = timezone.now()
    while True:
        expired = Session.objects.filter(expire_date__lt=now).order_by("expire_date")
        keys = list(expired.values_list("pk", flat=True)[:BATCH])
        with transaction.atomic():
            # Asked again: its agent may have used it at this moment.
            Session.objects.filter(pk__in=keys, expire_date__lt=now).delete()
            SignIn.objects.filter(session_key__in=keys).delete()
        yield Counter({"expired sessions": len(keys)})
        if len(keys) < BATCH:
            break
    while SignIn.objects.delete_ended(BATCH) == BATCH:
        yield Counter()
