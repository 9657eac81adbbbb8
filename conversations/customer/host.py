"""The requests of loader.js on a website's page: report which page the customer is on, and sign them out."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from conversations.actions import renew_secret
from conversations.announce import announce_customer
from conversations.customer.customer_request import CustomerRequest, HttpRequest, rate_limited
from conversations.models import Conversation
from conversations.models.conversation import parse_uuid
from conversations.models.settling import catch_up
from conversations.models.website import DEFAULT
from conversations.presence import visitor
from conversations.threshold import customer_secret, limits
from conversations.threshold.origin import own_origin


def host_view(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Make a view that pages of other origins may POST to. It answers 429 when a rate limit is reached."""

    @wraps(view)
    def limited(request: HttpRequest, key: str = DEFAULT) -> HttpResponse:
        try:
            return view(request, key)
        except limits.RateLimitExceeded as error:
            return rate_limited(error)

    return csrf_exempt(require_POST(limited))


@host_view
def report_page(request: HttpRequest, key: str) -> HttpResponse:
    """Store which page the customer is on; the response says how many messages they have not seen: `{"unread": 2}`.

    The body is JSON, sent as text/plain so that browsers need no preflight: `{"url", "title", "referrer", "language"?,
    "zone", "seen", "chat"?, "left"?}`; `language` is the one that the page has chosen for the chat, `seen` the id of
    the last message that they saw, `chat` the secret if there is no cookie, and `left` is true when they leave the
    page. For a browser without a conversation the response is 204, and nothing is stored.
    """
    customer, body = _read(request, key)
    limits.enforce("visits of one address", limits.address(request))
    if customer.conversation is None:
        return _allow_origin(HttpResponse(status=204), customer)
    conversation = customer.conversation
    body.setdefault("language", visitor.preferred_language(request.headers.get("Accept-Language", "")))
    now = visitor.parse(body, request.headers.get("User-Agent", ""))
    is_new = visitor.mark_left(conversation.pk, now.url) if body.get("left") else visitor.save(conversation.pk, now)
    if is_new:
        announce_customer(conversation)
    seen = body.get("seen")
    catch_up(conversation)
    seen = seen if isinstance(seen, int) and 0 <= seen < 2**62 else 0
    unread = conversation.messages.after(seen).kept().by_agents().count() if conversation.last_message_id > seen else 0
    return _allow_origin(JsonResponse({"unread": unread}), customer)


@host_view
def sign_out(request: HttpRequest, key: str) -> HttpResponse:
    """Sign the customer out: renew the secret, so that it is invalid in every browser. The body is as above.

    The secret in the body may be older than the one in the cookie. Both are renewed. There is no rate limit: others at
    the same address could use it up, and the customer would stay signed in.
    """
    customer, _body = _read(request, key)
    for secret in {customer.secret, customer_secret.read(request.COOKIES, customer.cookie)}:
        if conversation := customer.find(secret):
            with suppress(Conversation.DoesNotExist):  # it was renewed already
                renew_secret(conversation=conversation)
    response = HttpResponse(status=204)
    customer.drop_secret(response)
    del response["X-Secret"]
    return _allow_origin(response, customer)


def _read(request: HttpRequest, key: str) -> tuple[CustomerRequest, dict[str, Any]]:
    """The customer and the body of a request. Raises PermissionDenied unless its page may embed this chat."""
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        body = None
    body = body if isinstance(body, dict) else {}
    customer = CustomerRequest(request, key)
    if isinstance(body.get("chat"), str):
        customer.secret = parse_uuid(body["chat"])
    origin = request.headers.get("Origin")
    is_ours = origin == own_origin(request)
    if not is_ours and (origin != customer.host or not customer.website.allows_origin(origin or "")):
        raise PermissionDenied("This origin is not one of the website's.")
    return customer, body


def _allow_origin(response: HttpResponse, customer: CustomerRequest) -> HttpResponse:
    # A response to a request with cookies must name the origin: "*" is invalid (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials).
    response["Access-Control-Allow-Origin"] = customer.host
    response["Access-Control-Allow-Credentials"] = "true"
    response["Vary"] = "Origin, Cookie"
    return response
