"""The JSON API: its routes, and how its errors look. `/api/docs` shows it, `/api/openapi.json` describes it."""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.docs import Swagger

from chatsite.errors import error_response
from conversations.api import conversations, messages
from conversations.api.authentication import WrongAuthority
from conversations.threshold.limits import RateLimitExceeded

api = NinjaAPI(
    title="Chatsite",
    version="1",
    description="Customers write and read with nothing but a conversation's uuid. Agents sign in or bring a token.",
    docs=Swagger(settings={"persistAuthorization": False}),
    urls_namespace="api",
)
api.add_router("/messages/", messages.router, tags=["messages"])
api.add_router("/conversation/", conversations.router, tags=["conversations"])


@api.exception_handler(WrongAuthority)
def wrong_authority(request: HttpRequest, error: Any) -> HttpResponse:
    """401 or 403, with the reason."""
    return api.create_response(request, {"detail": str(error)}, status=error.status)


@api.exception_handler(RequestDataTooBig)
def too_large(request: HttpRequest, error: Any) -> HttpResponse:
    """413."""
    return error_response(request, 413)


@api.exception_handler(RateLimitExceeded)
def too_many(request: HttpRequest, error: Any) -> HttpResponse:
    """429, and when to try again."""
    response = api.create_response(request, {"detail": str(error)}, status=429)
    response["Retry-After"] = str(error.retry_after)
    return response
