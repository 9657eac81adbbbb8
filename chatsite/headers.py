"""Headers of every response but files: Content-Security-Policy and Cache-Control.

Django supports Content-Security-Policy from 6.0 on; this is for 5.2.
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
NOT_FRAMED = POLICY.format(ancestors="'none'")


class HeadersMiddleware:
    """Forbids inline scripts and styles, content from other origins, and framing except by origins that a view allows.

    No response is cached: after a sign-out, the next user of the browser must not see it.

    Source of the directives: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Set the headers that the view has not set."""
        response = self.get_response(request)
        # Set by the customer's chat: the origins of its website.
        ancestors = getattr(response, "frame_ancestors", None)
        policy = POLICY.format(ancestors=" ".join(ancestors)) if ancestors else NOT_FRAMED
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Cache-Control", "no-store, private")
        return response
