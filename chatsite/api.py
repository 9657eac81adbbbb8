"""The JSON API: its routers and exception handlers. `/api/docs` shows it, `/api/openapi.json` describes it."""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.docs import Swagger

from chatsite.errors import error_response
from conversations.api import conversations, messages
from conversations.threshold.limits import RateLimitExceeded

api = NinjaAPI(
    title="Chatsite",
    version="1",
    description="Customers need nothing but their conversation's uuid. Agents need a session or a token.",
    docs=Swagger(settings={"persistAuthorization": False}),
    urls_namespace="api",
)
api.add_router("/messages/", messages.router, tags=["messages"])
api.add_router("/conversation/", conversations.router, tags=["conversations"])


@api.exception_handler(RequestDataTooBig)
def body_too_large(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 413 for a body over the limit."""
    return error_response(request, 413)


@api.exception_handler(RateLimitExceeded)
def rate_limit_exceeded(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer 429 with Retry-After in seconds."""
    response = api.create_response(request, {"detail": str(error)}, status=429)
    response["Retry-After"] = str(error.retry_after)
    return response
