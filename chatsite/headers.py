"""The headers of every answer but files: its Content-Security-Policy, and that no cache keeps it.

Django has a policy of its own from 6.0 on; this is for 5.2.
"""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "frame-ancestors {ancestors}",
    ]
)
NOBODY = POLICY.format(ancestors="'none'")


class HeadersMiddleware:
    """Nothing inline and nothing from elsewhere; framed by nobody, or by those whom the page names.

    What people wrote is in no cache, neither a proxy's nor, after they have signed out, the browser's.

    Source of the directives: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, with the headers that are not there yet."""
        response = self.get_response(request)
        # A page that may be framed says by whom: the customer's chat, in the pages of its website.
        ancestors = getattr(response, "frame_ancestors", None)
        policy = POLICY.format(ancestors=" ".join(ancestors)) if ancestors else NOBODY
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Cache-Control", "no-store, private")
        return response
