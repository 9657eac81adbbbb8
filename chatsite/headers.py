"""Headers of every response: Content-Security-Policy, Cache-Control and, for embedding, COEP and CORP.

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

    No response is cached: after a sign-out, the next user of the browser must not see it. And no proxy may change what
    people have written, such as e-mail addresses (`no-transform`).

    A page that may be framed says that it may be so in pages with `Cross-Origin-Embedder-Policy: require-corp` too.

    Sources: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/;
    https://html.spec.whatwg.org/multipage/browsers.html#coep
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
        if ancestors:
            response.headers["Cross-Origin-Embedder-Policy"] = "require-corp"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        caching = response.headers.get("Cache-Control", "no-store, private")
        if "public" not in caching:
            response.headers["Cache-Control"] = f"{caching}, no-transform"
        return response
