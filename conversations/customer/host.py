"""What the pages of a website ask for themselves: the loader, and its few words with us while the chat is closed."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from conversations.actions import revoke
from conversations.announce import announce_customer
from conversations.customer.customer_request import CustomerRequest, HttpRequest
from conversations.models.conversation import as_uuid
from conversations.models.website import DEFAULT
from conversations.presence import visitor
from conversations.threshold import limits
from conversations.threshold.origin import own_origin


def for_hosts(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """429 and when to try again, where there was too much at once."""

    @wraps(view)
    def limited(request: HttpRequest, key: str = DEFAULT) -> HttpResponse:
        try:
            return view(request, key)
        except limits.TooMany as error:
            return HttpResponse(str(error), status=429, headers={"Retry-After": str(error.retry_after)})

    return csrf_exempt(require_POST(limited))


@for_hosts
def here(request: HttpRequest, key: str) -> HttpResponse:
    """Note which page the customer is on; answers how many messages they have not seen: `{"unread": 2}`.

    The body is JSON, called text so that the browser need not ask first: `{"url", "title", "referrer", "language"?,
    "zone", "seen", "chat"?, "left"?}`; `language` is the one that the page has chosen for the chat, `seen` the id of
    the last message that they saw, `chat` the secret where there is no cookie, and `left` is there when they leave the
    page. 204 and nothing noted for whoever has no conversation.
    """
    visit, said = _word(request, key)
    if visit.conversation is None:
        return _readable(HttpResponse(status=204), visit)
    conversation = visit.conversation
    said.setdefault("language", visitor.preferred(request.headers.get("Accept-Language", "")))
    them = visitor.parse(said, request.headers.get("User-Agent", ""))
    news = visitor.mark_left(conversation.pk, them.url) if said.get("left") else visitor.save(conversation.pk, them)
    if news:
        announce_customer(conversation)
    seen = said.get("seen")
    seen = seen if isinstance(seen, int) and 0 <= seen < 2**62 else 0
    unread = conversation.messages.after(seen).by_agents().count() if conversation.last_message_id > seen else 0
    return _readable(JsonResponse({"unread": unread}), visit)


@for_hosts
def forget(request: HttpRequest, key: str) -> HttpResponse:
    """The customer leaves: this browser's secret holds no longer, anywhere. The body is as for `here`."""
    visit, _said = _word(request, key)
    if visit.conversation is not None:
        revoke(conversation=visit.conversation)
    response = HttpResponse(status=204)
    visit.drop_secret(response)
    del response["X-Secret"]
    return _readable(response, visit)


def _word(request: HttpRequest, key: str) -> tuple[CustomerRequest, dict[str, Any]]:
    """Who speaks, and what it says. Raises PermissionDenied unless it is a page that may have this chat."""
    visit = CustomerRequest(request, key)
    origin = request.headers.get("Origin")
    by_us = origin == own_origin(request)
    if not by_us and (origin != visit.host or not visit.website.allows_origin(origin or "")):
        raise PermissionDenied("This origin is not one of the website's.")
    limits.enforce("visits of one address", limits.address(request))
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    if isinstance(said.get("chat"), str):
        visit.secret = as_uuid(said["chat"])
    return visit, said


def _readable(response: HttpResponse, visit: CustomerRequest) -> HttpResponse:
    # With cookies, and so for this one origin by name (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials).
    response["Access-Control-Allow-Origin"] = visit.host
    response["Access-Control-Allow-Credentials"] = "true"
    response["Vary"] = "Origin, Cookie"
    return response
