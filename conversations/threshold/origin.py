"""Whether a request comes from a page of ours, or from one of a website that we chat for."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import is_same_domain
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from conversations.models import Origin, Website

WIDGETS = "/api/messages/"
"""Where widgets of other origins call."""


def own_origin(request: HttpRequest) -> str:
    """The origin of our own pages, as this request came to them."""
    return f"{request.scheme}://{request.get_host()}"


def is_cross_origin(request: HttpRequest) -> bool:
    """Whether a browser says that a page of another origin sent this.

    Every browser names the origin of an unsafe request (https://fetch.spec.whatwg.org/#origin-header), and none lets
    a page forge it. A client that names none is no browser, and has no cookie of somebody else to misuse.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}
    return origin != own_origin(request) and not is_trusted(origin)


def is_trusted(origin: str) -> bool:
    """Whether CSRF_TRUSTED_ORIGINS lists it, by its name or as in https://*.shop.example."""
    scheme, _sep, host = origin.partition("://")
    listed = [known.partition("://") for known in settings.CSRF_TRUSTED_ORIGINS]
    return any(scheme == known and is_same_domain(host, pattern.removeprefix("*")) for known, _sep, pattern in listed)


def is_widget(sender: Any, request: HttpRequest, **_more: Any) -> bool:  # noqa: ARG001 (a signal says them by name)
    """Whether django-cors-headers may let a page of another origin read the answer: if any website lists that origin.

    Which website's conversation it asks for is the API's to look at: a preflight does not say.
    """
    return request.path.startswith(WIDGETS) and Origin.objects.known(request.headers.get("Origin", ""))


def may_write(request: HttpRequest, website: Website) -> bool:
    """Whether the page that sent this is ours or of an origin that the website lists, or it is no page at all."""
    return not is_cross_origin(request) or website.lists(request.headers.get("Origin", ""))


def same_origin_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Refuse unsafe requests of other sites' pages with 403.

    It stands in for the CSRF token where the customer's cookie is the authority: the token would need a cookie of its
    own before the first message, and there is none before it.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD", "OPTIONS"} and is_cross_origin(request):
            raise PermissionDenied(_("This was sent from another website. Please write in the chat itself."))
        return view(request, *args, **kwargs)

    return csrf_exempt(guarded)
