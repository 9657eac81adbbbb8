"""Sessions in the database, read by a query that is built once, because agents' pages poll all day."""

from typing import Any

from django.contrib.sessions import middleware
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from conversations.models.prepared import prepared
from conversations.threshold.origin import is_cross_origin


class SessionStore(db.SessionStore):
    """Django's session store, with a prepared query."""

    def _validate_session_key(self, key: Any) -> bool:
        """Whether it has the form of a session key. Cookies may contain anything, and PostgreSQL raises for a NUL."""
        return bool(key) and len(key) >= 8 and key.isascii() and key.isalnum()

    def _get_session_from_db(self) -> Any:
        key = self.session_key
        sessions = Session.objects.all()
        found = prepared(sessions, "session", lambda: sessions.filter(session_key="?"), {"?": key})
        if found and found[0].expire_date > timezone.now():
            return found[0]
        self._session_key = None
        return None


class SessionMiddleware(middleware.SessionMiddleware):
    """Django's own, but a GET from another site's page saves no change of the session."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session if it has changed."""
        if request.method in {"GET", "HEAD"} and is_cross_origin(request):
            request.session.modified = False
        return super().process_response(request, response)
