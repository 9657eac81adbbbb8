"""How a browser gets and loses the secret of its conversation: called by chat-keeper.js and chat-secret.js."""

import logging
import secrets

from django.core import signing
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from conversations.actions import identify as identify_action
from conversations.customer.customer_request import CustomerRequest, customer_view
from conversations.models import Conversation
from conversations.threshold import identity, limits

logger = logging.getLogger(__name__)

CODE_SECONDS = 60
"""How long the code for another window is valid. It can be used once."""

SALT = "conversations.window.2"


@require_GET
@customer_view
def known(customer: CustomerRequest) -> HttpResponse:
    """Whether the browser sends a valid secret: `X-Known: yes` or `no`."""
    return HttpResponse(status=204, headers={"X-Known": "yes" if customer.conversation else "no"})


@require_POST
@customer_view
def identify(customer: CustomerRequest) -> HttpResponse:
    """Identify the customer by the website's proof, and send the secret of the newest of their conversations.

    The anonymous conversation of this browser becomes theirs. 401 if the proof is not valid. A customer who has not
    written any message gets no row in the database.
    """
    try:
        claim = identity.verify(customer.website, customer.proof)
        if claim is None:
            raise identity.InvalidProof(_("Please sign in on the website first, then write to us."))
        limits.enforce("identities of one address", limits.address(customer.request))
        current = customer.continuable_conversation(claim)
        found = identify_action(claim=claim, website=customer.website, current=current)
    except identity.InvalidProof as error:
        return HttpResponse(str(error), status=401, content_type="text/plain; charset=utf-8")
    response = HttpResponse(status=204)
    if found:
        customer.send_secret(response, found)
    elif customer.secret:
        customer.drop_secret(response)
    else:
        response["X-Secret"] = ""  # the browser has no secret, and gets none
    if found == customer.conversation:
        response["X-Same"] = "yes"
    if customer.conversation and current is None:
        response["X-Another"] = "yes"  # the unsent messages of this tab are another customer's
    return response


@require_POST
@customer_view
def code(customer: CustomerRequest) -> HttpResponse:
    """A code that opens this conversation in another window of this browser: once, within CODE_SECONDS."""
    limits.enforce("windows of one address", limits.address(customer.request))
    conversation = customer.conversation
    if conversation is None:
        return HttpResponse(status=404)
    value = [conversation.pk, conversation.secret_digest, secrets.token_hex(8)]
    return HttpResponse(signing.dumps(value, salt=SALT), content_type="text/plain")


@require_POST
@customer_view
def enter(customer: CustomerRequest) -> HttpResponse:
    """Open the conversation of a code in this window; 403 if the code is used or expired, or the secret renewed."""
    limits.enforce("windows of one address", limits.address(customer.request))
    window = customer.request.POST.get("window", "")[
        :64
    ]  # a window may redeem its code twice: see obtainSecret in chat-keeper.js
    conversation = _redeem(customer.request.POST.get("code", ""), window or secrets.token_hex(8))
    if conversation is None or conversation.website_id != customer.website.pk:
        sentence = _("This link has expired. Please open the window again.")
        return HttpResponse(sentence, status=403, content_type="text/plain; charset=utf-8")
    response = HttpResponse(status=204)
    customer.send_secret(response, conversation)
    return response


def _redeem(code: str, window: str) -> Conversation | None:
    """The conversation of a code. Only the first window that redeems it gets it. None if the cache does not answer."""
    try:
        pk, secret_digest, nonce = signing.loads(code, salt=SALT, max_age=CODE_SECONDS)
    except signing.BadSignature:
        return None
    try:
        if cache.get_or_set(f"window-{nonce}", window, CODE_SECONDS) != window:
            return None
    except Exception:  # any error of the cache's library
        logger.exception("The cache does not answer: a code for another window cannot be checked.")
        return None
    conversation = Conversation.objects.by_id(pk)
    return conversation if conversation and conversation.secret_digest == secret_digest else None


@require_POST
@customer_view
def resume(customer: CustomerRequest) -> HttpResponse:
    """Open an earlier conversation of the same verified customer; 404 without their proof."""
    pk = customer.request.POST.get("conversation", "")
    chosen = next((conversation for conversation in customer.earlier if str(conversation.pk) == pk), None)
    if chosen is None:
        raise Http404
    response = HttpResponse(status=204)
    customer.send_secret(response, chosen)
    return response
