"""Error responses: a page in the layout of the others, or JSON under /api/."""

import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from redis import RedisError

from chatsite.databases import is_outage
from conversations.models.attachment import FULL
from conversations.redis_client import is_full as is_redis_full
from conversations.screen.forms import FULL as FULL_DATABASE
from conversations.screen.forms import OUTAGE
from conversations.threshold.origin import explain_mismatch, is_cross_origin

SENTENCES = {
    400: (_("The server could not understand this request"), _("Go back, reload the page and try again.")),
    403: (
        _("You do not have access to this page"),
        _("You may be signed in with another account, or the request came from another website."),
    ),
    405: (_("This page does not accept this request"), _("See /api/docs for what is possible.")),
    413: (_("The request is too large"), _("Send it in smaller parts.")),
    404: (_("Page not found"), _("Check the address. The page may have been deleted.")),
    429: (_("Too many open connections"), _("Close other tabs of this page, or try again in a few seconds.")),
    503: (_("Too many files are being uploaded at the moment"), _("Please try again in a few seconds.")),
    507: (_("The server has no room for files at the moment"), _("You can still send text.")),
    500: (
        _("Something went wrong"),
        _("The error has been logged. Messages that you sent before are safe. Please try again."),
    ),
}


API = "/api/"
API_DETAILS = {
    400: "The host, the address or the body cannot be understood: check ALLOWED_HOSTS in .env, and /api/docs.",
    404: "Not Found",
}
"""What the API says instead of what pages say."""

SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}
"""Errors of a disk that takes no writes: https://sqlite.org/rescode.html"""


def error_response(
    request: HttpRequest, status: int, sentence: str = "", sentences: tuple[Any, Any] | None = None
) -> HttpResponse:
    """The error response of a status: JSON, plain text for htmx, or a page.

    `sentence` replaces the default advice, `sentences` the title and the advice.
    """
    title, what_to_do = sentences or SENTENCES[status]
    if request.path.startswith(API):
        match = request.resolver_match
        detail = sentence or API_DETAILS.get(status, f"{title}. {what_to_do}")
        if status == 404 and (match is None or match.view_name == "api:api-root"):
            detail = f"{detail}. /api/docs shows all addresses."
        return JsonResponse({"detail": detail}, status=status)
    if request.headers.get("HX-Request"):
        return HttpResponse(sentence or f"{title}. {what_to_do}", status=status, content_type="text/plain")
    context = {"title": title, "sentence": sentence or what_to_do, "status": status}
    return render(request, "error.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, or 413 for a body over the limit."""
    return error_response(request, 413 if isinstance(exception, RequestDataTooBig) else 400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403, with the message of PermissionDenied."""
    return error_response(request, 403, str(exception))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form without a valid CSRF token: from a page opened before a sign-in, or from another site."""
    sentence = str(_("This page has expired. Reload it and try again."))
    explained = explain_mismatch(request) if is_cross_origin(request) else []
    return error_response(request, 403, " ".join([sentence, *explained]))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404, whether something does not exist or belongs to somebody else."""
    return error_response(request, 404)


@csrf_exempt
def refuse(request: HttpRequest) -> HttpResponse:
    """The status that the server has chosen when it received the request, such as 413: see chatsite/refusals.py."""
    status: int = request.refusal  # type: ignore[attr-defined]
    response = error_response(request, status)
    if status not in (413, 507):
        response["Retry-After"] = "10"
    return response


def server_error(request: HttpRequest, *args: Any) -> HttpResponse:
    """500; 507 if there is no room for temporary files; 503 if a database does not answer, or takes no writes."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError) and error.errno in FULL:
        return error_response(request, 507)
    if is_outage(error) or isinstance(error, RedisError):
        code = getattr(error.__cause__ if error else None, "sqlite_errorcode", 0)
        is_full = code & 0xFF in SQLITE_FULL or is_redis_full(error)  # the other bits tell details
        response = error_response(request, 503, sentences=FULL_DATABASE if is_full else OUTAGE)
        response["Retry-After"] = "10" if is_full else "5"
        return response
    return error_response(request, 500)


class ApiMiddleware:
    """Adds to the API: HEAD for every URL with GET, and JSON for every error.

    It is the first middleware, because the others answer with errors too, and in debug mode Django with its own pages.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Django's protocol for middleware."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Handle HEAD like GET, and write what an error says in JSON."""
        if not request.path.startswith(API):
            return self.get_response(request)
        method = request.method
        if method == "HEAD":
            request.method = "GET"
        response = self.get_response(request)
        request.method = method  # the server drops the content
        is_error = response.status_code >= 400
        if is_error and isinstance(response, HttpResponse) and "json" not in response.get("Content-Type", ""):
            _rewrite_as_json(request, response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """In debug mode, answer 503 and 507 of the API as otherwise: Django's own page says 500.

        Customers' pages have our own page for 404 too, there with the reason.
        """
        if settings.DEBUG and isinstance(exception, Http404) and request.path.startswith("/chat/"):
            return error_response(request, 404, str(exception))
        is_away = is_outage(exception) or isinstance(exception, OSError | RedisError)
        return server_error(request) if settings.DEBUG and is_away and request.path.startswith(API) else None


def _rewrite_as_json(request: HttpRequest, response: HttpResponse) -> None:
    """Replace the content of an error response, and keep its headers."""
    known = response.status_code if response.status_code in SENTENCES else 500 if response.status_code >= 500 else 400
    replacement = error_response(request, known)
    response.content = replacement.content
    response["Content-Type"] = replacement["Content-Type"]
    if "Content-Length" in response:
        response["Content-Length"] = str(len(response.content))
