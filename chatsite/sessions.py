"""Sessions in the database, read by a query that is built once, because agents' pages poll all day."""

from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

from conversations.models.prepared import prepared


class SessionStore(db.SessionStore):
    """Django's session store, with a prepared query."""

    def _get_session_from_db(self) -> Any:
        key = self.session_key
        sessions = Session.objects.all()
        found = prepared(sessions, "session", lambda: sessions.filter(session_key="?"), {"?": key})
        if found and found[0].expire_date > timezone.now():
            return found[0]
        self._session_key = None
        return None
