"""Origin checks: whether a request comes from one of our own pages, or from a page of a website that we chat for."""

import logging
import re
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import is_same_domain
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from conversations.models import Conversation, Origin, Website
from conversations.models.website import DEFAULT

logger = logging.getLogger(__name__)

CROSS_ORIGIN_PREFIXES = ("/api/messages", "/api/website/")
"""The parts of the API that scripts on the origins of websites may call."""

LOCAL_PAGE = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
"""The origins of pages that this machine serves, such as those of Vite."""


def own_origin(request: HttpRequest) -> str:
    """Return the origin of our own pages, by the URL of this request."""
    return f"{request.scheme}://{request.get_host()}"


def is_cross_origin(request: HttpRequest) -> bool:
    """Return whether a browser says that a page of another origin sent this request.

    Every browser sends `Origin` with an unsafe request (https://fetch.spec.whatwg.org/#origin-header), and no page can
    forge it or `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/). A client that sends neither is not a browser,
    so it carries nobody's cookies but its own.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site == "same-origin":  # compared by the browser, so a proxy that changes the host does not matter
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return site in {"cross-site", "same-site"}
    return origin != own_origin(request) and not is_trusted_origin(origin)


def explain_mismatch(request: HttpRequest) -> list[str]:
    """Return, and log, a sentence for the operator if the refused page is ours by its host name, else nothing.

    Then the proxy has not passed on the port or the scheme.
    """
    origin, own = request.headers.get("Origin", ""), own_origin(request)
    if not (name := host_name(own)) or host_name(origin) != name:
        return []
    remedy = "the port. In nginx: proxy_set_header Host $http_host; and X-Forwarded-Host, if it is set, likewise"
    if origin.partition("://")[0] != own.partition("://")[0]:
        remedy = "the scheme. In nginx: proxy_set_header X-Forwarded-Proto $scheme; and in .env: TRUSTED_PROXIES=1"
    sentence = f"The page is at {origin}, but Chatsite sees {own}. If both are the same, a proxy drops {remedy}."
    logger.warning(sentence)
    return [sentence]


def log_refusal(origin: str, path: str, reason: str) -> None:
    """Tell the operator that a page of another origin was refused."""
    logger.warning("Refused a page at %r, for %s: %s", origin[:200] or "an unnamed origin", path[:200], reason)


def host_name(origin: str) -> str:
    """The host of an origin without its port, "" if it is none."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def is_trusted_origin(origin: str) -> bool:
    """Return whether CSRF_TRUSTED_ORIGINS lists the origin."""
    return _matches(origin, settings.CSRF_TRUSTED_ORIGINS)


def is_agent_origin(origin: str) -> bool:
    """Return whether AGENT_ORIGINS lists the origin: its pages speak as an agent by a token, never by a cookie."""
    return _matches(origin, settings.AGENT_ORIGINS)


def _matches(origin: str, listed: list[str]) -> bool:
    """Return whether an origin is listed, by its name or by a pattern such as https://*.shop.example."""
    scheme, _sep, host = origin.partition("://")
    entries = [entry.partition("://") for entry in listed]
    return any(scheme == known and is_same_domain(host, pattern.removeprefix("*")) for known, _sep, pattern in entries)


def is_agents_tool(request: HttpRequest) -> bool:
    """Return whether a page of AGENT_ORIGINS calls with a token. Whether it is valid is checked where it is used."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    return scheme.lower() == "bearer" and is_agent_origin(request.headers.get("Origin", ""))


def may_read_cross_origin(sender: Any, request: HttpRequest, **_kwargs: Any) -> bool:  # noqa: ARG001 (a signal handler)
    """Return whether django-cors-headers may let the page that sent this read the answer: if any website lists it.

    Pages of AGENT_ORIGINS may call all of the API. They cannot read answers to calls that carry cookies.

    The API itself checks the origin against the conversation's own website: a preflight request names no conversation.
    """
    origin = request.headers.get("Origin", "")
    if not request.path.startswith("/api/"):
        return False
    is_public = request.path.startswith(CROSS_ORIGIN_PREFIXES)
    if is_agent_origin(origin) or (is_public and is_listed(origin)):
        return True
    if origin and is_cross_origin(request):
        reason = "neither a website nor AGENT_ORIGINS lists it." if is_public else "AGENT_ORIGINS does not list it."
        log_refusal(origin, request.path, reason)
    return False


def is_listed(origin: str) -> bool:
    """Return whether pages of this origin may speak for any website."""
    return is_local_page(origin) or Origin.objects.is_listed(origin)


def speaks_for(origin: str, website: Website) -> bool:
    """Return whether pages of this origin may speak for the website's customers."""
    return (website.is_default and is_local_page(origin)) or website.allows_origin(origin)


def is_local_page(origin: str) -> bool:
    """Return whether somebody develops this page on this machine: in debug mode they need not list it."""
    return settings.DEBUG and LOCAL_PAGE.fullmatch(origin) is not None


def may_read(request: HttpRequest, uuid: UUID) -> bool:
    """Return whether the page that sent this may read the conversation: if its website lists the origin, as above."""
    origin = request.headers.get("Origin", "")
    if (
        not is_cross_origin(request)
        or Origin.objects.may_read(origin, uuid)
        or is_agents_tool(request)
        or (is_local_page(origin) and Conversation.objects.on_website(DEFAULT).by_uuid(uuid) is not None)
    ):
        return True
    log_refusal(origin, request.path, "the conversation's website does not list it, or there is no such conversation.")
    return False


def require_listed_origin(request: HttpRequest, website: Website) -> None:
    """Raise PermissionDenied if the page that sent this may not speak for the website, and say how it may."""
    if not is_cross_origin(request) or is_agents_tool(request):
        return
    origin = request.headers.get("Origin", "")
    if not speaks_for(origin, website):
        log_refusal(origin, request.path, f"the website “{website.key}” does not list it.")
        remedy = f"list the page's origin in the admin as an allowed origin of the website “{website.key}”"
        raise PermissionDenied(
            f"This website does not list the origin of your page. {explain_origins(request, remedy)}"
        )


def explain_origins(request: HttpRequest, remedy: str) -> str:
    """Sentences that name the origin of the page and ours. `remedy` is what to do if they are meant to differ."""
    origin = request.headers.get("Origin", "")[:200] or "an origin that the browser does not name"
    return (
        f"The page is at {origin}, and Chatsite is at {own_origin(request)}. If a proxy in front of Chatsite changes "
        "the host, let it pass on the page's own: in nginx, proxy_set_header Host $http_host; in Vite, changeOrigin: "
        f"false. Otherwise {remedy}."
    )


def same_origin_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Answer unsafe requests from pages of other origins with 403.

    This replaces the CSRF token in views that rely on the customer's cookie: the token needs its own cookie before
    the first message, and Chatsite sets none before it.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD", "OPTIONS"} and is_cross_origin(request):
            sentence = _("This was sent from another website. Please write in the chat itself.")
            log_refusal(request.headers.get("Origin", ""), request.path, "only pages of Chatsite itself may send this.")
            raise PermissionDenied(" ".join([sentence, *explain_mismatch(request)]))
        return view(request, *args, **kwargs)

    return csrf_exempt(wrapper)
