"""Sessions in the database, read by a query that is built once, because agents' pages poll all day."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib.sessions import middleware
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from conversations.models import SignIn
from conversations.models.optional_write import optional_write
from conversations.models.prepared import prepared
from conversations.models.remembered import ACCESS
from conversations.threshold.origin import is_cross_origin


class SessionStore(db.SessionStore):
    """Django's session store, with a prepared query."""

    is_optional = False
    """Whether a change that cannot be stored is only logged, because the request that makes it only reads."""

    def save(self, must_create: bool = False) -> None:
        """Store the session."""
        self._write("a change of a session", partial(super().save, must_create))

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session. Django does that on any request of a session that a new password has ended."""
        self._write("the end of a session", partial(self._delete, session_key))

    def _delete(self, session_key: str | None) -> None:
        key = session_key or self.session_key
        super().delete(session_key)
        if key:
            SignIn.objects.filter(session_key=key).delete()

    def _write(self, what: str, write: Callable[[], object]) -> None:
        if self.is_optional:
            optional_write(what, write)
        else:
            write()

    def _validate_session_key(self, key: Any) -> bool:
        """Whether it has the form of a session key. Cookies may contain anything, and PostgreSQL raises for a NUL."""
        return bool(key) and len(key) >= 8 and key.isascii() and key.isalnum()

    def _get_session_from_db(self) -> Any:
        key = self.session_key
        sessions = Session.objects.all()
        found = prepared(sessions, "session", lambda: sessions.filter(session_key="?"), {"?": key}, kind=ACCESS)
        if found and found[0].expire_date > timezone.now():
            return found[0]
        self._session_key = None
        return None


class SessionMiddleware(middleware.SessionMiddleware):
    """Django's own, but a GET succeeds also if it cannot write, and saves nothing if it is from another site's page."""

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session."""
        super().process_request(request)
        session: Any = request.session
        session.is_optional = request.method in {"GET", "HEAD", "OPTIONS"}

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session if it has changed."""
        if request.method in {"GET", "HEAD"} and is_cross_origin(request):
            request.session.modified = False
        return super().process_response(request, response)
