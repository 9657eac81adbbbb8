"""Responses that are sent before Django sees the request: health, metrics, and refusals of wrong proxies."""

import json
import re
from typing import Any

from django.conf import settings

from chatsite import health, metrics
from chatsite.doctor.mirror import description, is_doctor
from conversations.threshold.proxies import PROXY_SIGNS, SECURE, hops, warn_once

Scope = dict[str, Any]
# Status, content type and content
Response = tuple[int, str, str]
TEXT = "text/plain; charset=utf-8"

THIS_MACHINE = re.compile(rb"(localhost|[\w-]+\.localhost|127(\.\d+){3}|\[::1\])(:\d+)?")

SET_TRUSTED_PROXIES = (
    "A proxy in front of Chatsite says that this request came by https, but Chatsite may not believe it. "
    "Set TRUSTED_PROXIES in .env to the number of your proxies, usually 1, and start Chatsite again."
)
SET_FORWARDED_PROTO = (
    "The proxy in front of Chatsite does not say that this request came by https. Let it set the header "
    "X-Forwarded-Proto to the scheme that the customer uses (nginx: proxy_set_header X-Forwarded-Proto $scheme; "
    "a second proxy behind it passes the header on), and set TRUSTED_PROXIES in .env to the number of your proxies, "
    "usually 1."
)
NO_PREFIX = (
    "Chatsite cannot be served under a path: the proxy in front of it says so in X-Forwarded-Prefix. "
    "Give it a host name of its own, as in https://chat.example.com/, and let the proxy pass on all paths unchanged."
)


async def early_response(scope: Scope) -> Response | None:
    """The response to a request that Django need not see, or None. `scope` is a resolved one: see proxies.py."""
    if scope["path"] == "/healthz":
        return 200, TEXT, "ok\n"
    if scope["path"] == "/readyz":
        status, content = await health.describe()
        return status, TEXT, content
    if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD") and metrics.may_read(scope):
        if settings.MESSAGE_LOG:
            await health.log_readiness.find_problem()  # it notes what the metrics say
        try:
            return 200, *metrics.exposition(scope, await metrics.ask_total())
        except TimeoutError:  # the sum of some would look as if counters had been reset
            return 503, TEXT, "The processes have not said their numbers in time.\n"
    if is_doctor(scope):
        return 200, "application/json", description(scope)
    sentence = proxy_problem(scope)
    if not sentence:
        return None
    warn_once(sentence)
    if scope["path"].startswith("/api/"):
        return 400, "application/json", json.dumps({"detail": sentence})
    return 400, TEXT, sentence + "\n"


def proxy_problem(scope: Scope) -> str:
    """What is wrong with the proxy that the request came through, in a sentence for its operator; "" if nothing is.

    Everybody may read these sentences: the pages would not work for anybody, and name settings only. A redirect to
    https would come back here for ever.
    """
    headers = dict(scope["headers"])
    if headers.get(b"x-forwarded-prefix", b"").strip(b"/ "):
        return NO_PREFIX
    if not settings.SECURE_SSL_REDIRECT or scope["scheme"] == "https":
        return ""
    proto = headers.get(b"x-forwarded-proto")
    if proto and not settings.TRUSTED_PROXIES and any(hop.lower() in SECURE for hop in hops([proto])):
        return SET_TRUSTED_PROXIES
    is_unclear = not proto and PROXY_SIGNS.intersection(headers)
    return SET_FORWARDED_PROTO if is_unclear or spoke_https(headers) else ""


def spoke_https(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser has used https: it sends `Sec-Fetch-Mode` over http only to its own machine.

    Source: https://www.w3.org/TR/fetch-metadata/#sec-fetch-mode-header (potentially trustworthy URLs)
    """
    return b"sec-fetch-mode" in headers and not THIS_MACHINE.fullmatch(headers.get(b"host", b""))


async def send_response(response: Response, send: Any) -> None:
    """Send a response. No cookies, nothing is cached."""
    status, content_type, content = response
    body = content.encode()
    headers = [
        (b"Content-Type", content_type.encode()),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
