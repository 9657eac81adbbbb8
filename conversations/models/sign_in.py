"""Where users are signed in: a row for each session, so that they can look and end one."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from threading import Lock
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db import IntegrityError, models, transaction
from django.dispatch import receiver
from django.utils import timezone

from conversations.models.optional_write import optional_write
from conversations.models.visible_text import one_line

MOST = 50
"""The most sessions of a user that are known. The oldest ones end when there are more."""

USER_AGENT_LENGTH = 300
"""How many characters of the browser's name are kept."""

MOST_IN_MEMORY = 10_000
"""Sessions of which this process knows that their day is stored."""


class SignInQuerySet(models.QuerySet["SignIn"]):
    """The queries on sign-ins."""

    def of(self, user: User) -> "list[SignIn]":
        """Those of a user whose sessions are valid now, the one that was used last first."""
        found = list(self.filter(user=user).order_by("-seen_on", "-pk"))
        keys = [each.session_key for each in found]
        valid = {
            session.session_key
            for session in Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
            if _belongs_to(session, user)
        }
        return [each for each in found if each.session_key in valid]

    def note(self, user: User, session_key: str, user_agent: str) -> None:
        """Store that the session is used today, once a day. Nothing is written for a session that is known."""
        today = timezone.now().date()
        if _seen.get(session_key) == today:
            return
        write = partial(self._write, user, session_key, user_agent, today)
        optional_write("where an agent is signed in", write)
        _remember(session_key, today)  # also if it failed: a full disk is not asked for each request

    def _write(self, user: User, session_key: str, user_agent: str, today: date) -> None:
        if self.filter(session_key=session_key).exclude(seen_on=today).update(seen_on=today):
            return
        user_agent = one_line(user_agent)[:USER_AGENT_LENGTH]
        try:
            with transaction.atomic():
                self.create(user_id=user.pk, session_key=session_key, user_agent=user_agent, seen_on=today)
        except IntegrityError:  # it is stored already, or the user was deleted at this moment
            return
        surplus = self.filter(user_id=user.pk).order_by("-seen_on", "-pk").values_list("session_key", flat=True)[MOST:]
        self.end(list(surplus))

    def end(self, session_keys: Iterable[str]) -> int:
        """End these sessions; return how many there were."""
        keys = list(session_keys)
        if not keys:
            return 0
        with transaction.atomic():
            self.filter(session_key__in=keys).delete()
            return Session.objects.filter(session_key__in=keys).delete()[0]

    def end_all(self, user: User, but: str | None) -> None:
        """End all sessions of a user except the one with the key `but`, also those that no row is known of.

        Only agents and staff have sessions, so there are few.
        """
        sessions = Session.objects.filter(expire_date__gt=timezone.now()).exclude(session_key=but or "")
        keys = [session.session_key for session in sessions.iterator() if _user_id(session) == str(user.pk)]
        self.filter(user=user).exclude(session_key=but or "").delete()
        for start in range(0, len(keys), 100):
            self.end(keys[start : start + 100])

    def delete_ended(self, most: int) -> int:
        """Delete at most `most` rows whose session does not exist any more; return how many."""
        yesterday = timezone.now() - timedelta(days=1)
        sessions = Session.objects.filter(session_key=models.OuterRef("session_key"))
        ended = self.filter(~models.Exists(sessions), created_at__lt=yesterday)
        return self.filter(pk__in=list(ended.values_list("pk", flat=True)[:most])).delete()[0]


class SignIn(models.Model):
    """A session of a user. The key gives access, as that of the session does: never show it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sign_ins")
    session_key = models.CharField(max_length=40, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    seen_on = models.DateField()  # in UTC
    user_agent = models.CharField(max_length=USER_AGENT_LENGTH, blank=True)

    objects = SignInQuerySet.as_manager()

    def __str__(self) -> str:
        """Whose it is."""
        return str(self.user)


_seen: dict[str, date] = {}
_lock = Lock()


def _remember(session_key: str, day: date) -> None:
    with _lock:
        _seen[session_key] = day
        if len(_seen) > MOST_IN_MEMORY:
            _seen.clear()


def _user_id(session: Session) -> str:
    values: dict[str, Any] = session.get_decoded()
    return str(values.get(SESSION_KEY, ""))


def _belongs_to(session: Session, user: User) -> bool:
    """Whether a session is the user's, and no new password has ended it."""
    values: dict[str, Any] = session.get_decoded()
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    known = values.get(SESSION_KEY) == str(user.pk) and BACKEND_SESSION_KEY in values
    return known and values.get(HASH_SESSION_KEY) in hashes


@receiver(user_logged_in)
def _note_sign_in(request: Any, user: User, **_signal: Any) -> None:
    key = request.session.session_key
    if key:
        SignIn.objects.note(user, key, request.META.get("HTTP_USER_AGENT", ""))
