"""The JSON API: its routers and exception handlers. `/api/docs` shows it, `/api/openapi.json` describes it."""

from json import JSONDecodeError
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import RawPostDataException
from django.urls import path
from ninja.errors import AuthenticationError, HttpError
from ninja.openapi.docs import Swagger

from chatsite import __version__
from chatsite.errors import error_response
from conversations.actions import AlreadySent, UnseenMessage
from conversations.api import agents, conversations, labels, messages, websites
from conversations.api.document import DocumentedAPI
from conversations.api.schemas import invalid_field
from conversations.models import Conversation
from conversations.models.attachment import UploadRefused
from conversations.threshold.limits import RateLimitExceeded

api = DocumentedAPI(
    title="Chatsite",
    version=__version__,
    description="Customers need nothing but their conversation's uuid. Agents need a session or a token.",
    docs=Swagger(settings={"persistAuthorization": False}),
    urls_namespace="api",
    servers=[{"url": "/", "description": "The server that this document is from."}],
)
api.add_router("/messages/", messages.router, tags=["messages"])
api.add_router("/conversation/", conversations.router, tags=["conversations"])
api.add_router("/website/", websites.router, tags=["websites"])
api.add_router("/labels/", labels.router, tags=["labels"])
api.add_router("/", agents.router, tags=["agents"])

CHALLENGE = (
    'Bearer realm="Chatsite", error_description="Send an agent\'s token as Authorization: Bearer TOKEN. '
    'manage.py createtoken makes one."'
)
"""The header WWW-Authenticate of a call without a valid token or session: https://www.rfc-editor.org/rfc/rfc6750."""


def _with_and_without_slash(patterns: list[Any]) -> list[Any]:
    """The URL patterns, then each with its last slash removed or added."""
    for pattern in patterns:
        pattern.callback.csrf_exempt = True  # calls check the token themselves; other methods are 404 or 405
    routes = [(str(pattern.pattern), pattern.callback) for pattern in patterns]
    variants = [(route[:-1] if route.endswith("/") else f"{route}/", view) for route, view in routes if route]
    return [*patterns, *(path(route, view) for route, view in variants)]


@api.exception_handler(Exception)
def fault(request: HttpRequest, error: Exception) -> HttpResponse:
    """Let Django and errors.py answer, in debug mode too, where ninja would answer with the traceback as text."""
    raise error


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer with the sentence of the error, or for a body that ninja cannot parse, with where it is wrong."""
    detail = _explain_body(request, error.__cause__) if error.status_code == 400 else str(error)
    response = api.create_response(request, {"detail": detail}, status=error.status_code)
    if isinstance(error, AuthenticationError):
        response["WWW-Authenticate"] = CHALLENGE
    return response


def _explain_body(request: HttpRequest, error: BaseException | None) -> str:
    if request.content_type != "application/json":
        sent = f"“{request.content_type[:100]}”" if request.content_type else "no Content-Type"
        return f"Send JSON with the header Content-Type: application/json. You have sent {sent}."
    where = ""
    if isinstance(error, JSONDecodeError):
        where = f": {error.msg}, at line {error.lineno}, column {error.colno}"
    elif isinstance(error, UnicodeDecodeError):
        where = f": it is not UTF-8, at byte {error.start}"
    return f"The body is not valid JSON{where}."


@api.exception_handler(RawPostDataException)
def form_instead_of_json(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 400 for a form that the CSRF check has read already, where JSON is expected."""
    return api.create_response(request, {"detail": _explain_body(request, None)}, status=400)


@api.exception_handler(RequestDataTooBig)
def body_too_large(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 413 for a body over the limit."""
    return error_response(request, 413)


@api.exception_handler(PermissionDenied)
def permission_denied(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 403 with the sentence of the error."""
    return error_response(request, 403, str(error))


@api.exception_handler(Http404)
@api.exception_handler(Conversation.DoesNotExist)
def not_found(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 404, also for a conversation that was deleted, or whose secret was renewed, during the call."""
    return error_response(request, 404)


@api.exception_handler(RateLimitExceeded)
def rate_limit_exceeded(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 429 with Retry-After in seconds."""
    response = api.create_response(request, {"detail": str(error)}, status=429)
    response["Retry-After"] = str(error.retry_after)
    return response


@api.exception_handler(AlreadySent)
def client_id_reused(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 409 for a client_id that named another message before."""
    detail = "This client_id was used for another message. Make a new one for each."
    return api.create_response(request, {"detail": detail}, status=409)


@api.exception_handler(UnseenMessage)
def unseen_message(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 409 for a conversation that is not closed or snoozed because of a message that nobody has seen."""
    detail = "The customer has written a newer message than `last`. Read it first, then close or snooze it."
    return api.create_response(request, {"detail": detail}, status=409)


@api.exception_handler(UploadRefused)
def upload_refused(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 413, 422 or 507 for files that cannot be accepted, 429 while too many pictures are being decoded."""
    if error.status == 422:
        return api.on_exception(request, invalid_field("files", str(error)))
    response = api.create_response(request, {"detail": str(error)}, status=error.status)
    if error.status == 429:
        response["Retry-After"] = "60"
    return response


patterns, app_name, namespace = api.urls
urls = _with_and_without_slash(patterns), app_name, namespace
