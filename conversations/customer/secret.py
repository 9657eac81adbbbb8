"""What a browser keeps of its conversation, where, and for whom: asked by chat-keeper.js and chat-secret.js."""

import logging
import secrets

from django.core import signing
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from conversations.actions import identify as identify_action
from conversations.customer.chat import address
from conversations.customer.customer_request import CustomerRequest, customer_view
from conversations.models import Conversation
from conversations.threshold import identity, limits

logger = logging.getLogger(__name__)

CODE_SECONDS = 60
"""How long a code for another window holds. It holds once."""

SALT = "conversations.window"


@require_GET
@customer_view
def known(visit: CustomerRequest) -> HttpResponse:
    """Whether the browser's cookie has come along: in `X-Known`, yes or no."""
    return HttpResponse(status=204, headers={"X-Known": "yes" if visit.conversation else "no"})


@require_POST
@customer_view
def identify(visit: CustomerRequest) -> HttpResponse:
    """The website's server vouches for the customer: give them the newest of their conversations.

    The conversation that this browser has had so far becomes theirs, unless it is another verified customer's. 401 if
    the proof does not hold. No row is written for somebody who has not written a message.
    """
    try:
        claim = identity.verify(visit.website, visit.proof)
        if claim is None:
            raise identity.InvalidProof(_("Please sign in on the website first, then write to us."))
        limits.enforce("identities of one address", limits.address(visit.request))
        held = visit.continuable_conversation(claim)
        found = identify_action(claim=claim, website=visit.website, held=held)
    except identity.InvalidProof as error:
        return HttpResponse(str(error), status=401, content_type="text/plain; charset=utf-8")
    except limits.TooMany as error:
        response = HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8")
        response["Retry-After"] = str(error.retry_after)
        return response
    response = HttpResponse(status=204)
    if found:
        visit.send_secret(response, found)
    elif visit.secret:
        visit.drop_secret(response)
    else:
        response["X-Secret"] = ""  # there is none to keep, nor to ask for
    if found == visit.conversation:
        response["X-Same"] = "yes"
    if visit.conversation and held is None:
        response["X-Another"] = "yes"  # what this tab still has to send is somebody else's
    return response


@require_POST
@customer_view
def code(visit: CustomerRequest) -> HttpResponse:
    """A code with which another window of this browser goes on with this conversation: once, for 60 seconds."""
    if visit.conversation is None:
        return HttpResponse(status=404)
    said = {"conversation": visit.conversation.pk, "once": secrets.token_hex(8)}
    return HttpResponse(signing.dumps(said, salt=SALT, compress=False), content_type="text/plain")


@require_POST
@customer_view
def enter(visit: CustomerRequest) -> HttpResponse:
    """Go on in this window with the conversation of a code; 403 once it is used or old."""
    try:
        said = signing.loads(visit.request.POST.get("code", ""), salt=SALT, max_age=CODE_SECONDS)
    except signing.BadSignature:
        said = None
    conversation = Conversation.objects.by_id(said["conversation"]) if said else None
    window = visit.request.POST.get("window", "")[:64]  # it may ask twice: see chat-secret.js
    if said and not _holds(said["once"], window):
        conversation = None
    if conversation is None or conversation.website_id != visit.website.pk:
        sentence = _("This window was opened too late. Please open it anew.")
        return HttpResponse(sentence, status=403, content_type="text/plain; charset=utf-8")
    response = HttpResponse(status=204)
    visit.send_secret(response, conversation)
    return response


def _holds(once: str, window: str) -> bool:
    """Whether no other window has used this code. While the cache that knows does not answer, none may."""
    try:
        return bool(cache.get_or_set(f"window-{once}", window, CODE_SECONDS) == window)
    except Exception:  # whatever the cache's library raises
        logger.exception("The cache that knows which codes are used does not answer.")
        return False


@require_POST
@customer_view
def resume(visit: CustomerRequest) -> HttpResponse:
    """Go on with an earlier conversation of the same verified customer: 404 for any other."""
    number = visit.request.POST.get("conversation", "")
    earlier = visit.conversation.earlier() if visit.conversation else []
    chosen = next((one for one in earlier if str(one.pk) == number), None)
    if chosen is None:
        raise Http404
    response = redirect(address("chat", visit)) if not visit.header else HttpResponse(status=204)
    visit.send_secret(response, chosen)
    return response
