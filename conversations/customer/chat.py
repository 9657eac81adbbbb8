"""The customer's chat page, its messages, its files, and the notice that the chat is closed."""

import hashlib
import uuid
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from django.http import FileResponse, Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from redis import RedisError

from conversations.actions import AlreadySent, mark_seen, post_message
from conversations.customer import assets
from conversations.customer.customer_request import CustomerRequest, customer_view
from conversations.customer.welcome import Welcome
from conversations.models import Attachment, Author, Conversation, News
from conversations.models.optional_write import optional_write
from conversations.models.recipients import recipients
from conversations.models.settling import catch_up
from conversations.poll_cache import mark_empty
from conversations.presence import visitor
from conversations.screen import files
from conversations.screen.bubbles import FileUrl
from conversations.screen.compression import compressed
from conversations.screen.forms import CustomerMessageForm, not_kept
from conversations.screen.message_rows import render_messages
from conversations.screen.paging import (
    PAGE_SIZE,
    latest_page,
    message_accepted,
    newer_page,
    parse_number,
    query_number,
    restored_page,
)
from conversations.screen.plain_posts import mark_plain
from conversations.threshold import identity, limits
from conversations.threshold.origin import is_cross_origin


@compressed
@xframe_options_exempt
@require_safe
@customer_view
def page(customer: CustomerRequest) -> HttpResponse:
    """The chat page, with the newest messages or, from `?before=`, those before a message."""
    return _page(customer, before=query_number(customer.request, "before"))


@xframe_options_exempt
@require_http_methods(["GET", "POST"])
@customer_view
def messages(customer: CustomerRequest) -> HttpResponse:
    """GET `?since=`: the new messages, or 204. GET `?before=`: older ones. POST: write a message.

    A page sends in `state` what it shows: the conversation's status and primary key.
    """
    request = customer.request
    if request.method == "POST":
        if request.htmx:  # a page that is told that its secret was renewed sends the message again
            customer.use_remembered()
        return _post(customer)
    if before := query_number(request, "before"):
        return _older(customer, before)
    since = query_number(request, "since") or 0
    news = News.with_previous(customer.secret, since, PAGE_SIZE, website=customer.key)
    if _shows_another_conversation(customer, request.GET, news.conversation_id if news else None):
        return _conversation_changed()
    if news is None:
        return _secret_renewed() if customer.secret else HttpResponse(status=204)
    if news.is_restored and customer.conversation:
        customer.activate_language()
        return restored_page(request, _older_context(customer, customer.conversation, None))
    response, more = HttpResponse(status=204), False
    if news.messages:
        shown, more = newer_page(news, file_url(customer))
        response = render(request, "conversations/_newer.html", {"thread": render_messages(shown)})
    else:
        mark_empty(response, news.conversation_id)
    if more:
        response["HX-Trigger"] = "messages"  # to fetch them at once
    elif news.status and _has_other_state(request.GET.get("state"), news):
        response["HX-Trigger"] = "state"
    return response


def _shows_another_conversation(customer: CustomerRequest, parameters: QueryDict, pk: int | None) -> bool:
    """Whether the page shows another conversation than `pk`, the one whose secret the browser sends.

    This happens after somebody has signed in or out in another tab. Messages of one conversation must never be added
    below those of another.
    """
    shown = "".join(parameters.get("state", "").split(" ")[1:2])
    if pk is None:
        return bool(shown) and customer.secret is None  # a secret without a conversation was renewed
    if shown in {"", str(pk)}:
        return False
    # Pages of older versions send the first 8 digits of a SHA-256 of the secret instead of the primary key.
    return customer.secret is None or shown != hashlib.sha256(customer.secret.bytes).hexdigest()[:8]


def _shows_lost_conversation(customer: CustomerRequest) -> bool:
    """Whether the page's script posts to a conversation whose secret was renewed, or that was deleted.

    The customer may have been identified, or signed out, while the request was on its way. A new conversation would
    replace the one that the browser has now. So the script sends the message again, with the current secret.
    """
    shown = customer.request.POST.get("state", "")
    return bool(customer.request.htmx and shown and customer.secret and customer.conversation is None)


def _conversation_changed() -> HttpResponse:
    """Make the page load the browser's current conversation: it shows another one."""
    return HttpResponse(status=204, headers={"HX-Trigger": "another", "X-Another": "yes"})


def _secret_renewed() -> HttpResponse:
    """Make the page look for its customer's conversation: the browser's secret was renewed."""
    return HttpResponse(status=204, headers={"HX-Trigger": "stranger"})


def _shown_state(conversation: Conversation | None) -> str:
    """The status, the primary key and, if an agent has seen the customer's last message, its id."""
    if conversation is None:
        return ""
    is_seen = conversation.is_seen and conversation.last_author == Author.CUSTOMER
    return f"{conversation.status} {conversation.pk}" + (f" {conversation.seen_id}" if is_seen else "")


def _state_context(customer: CustomerRequest) -> dict[str, Any]:
    """What `_state.html` needs besides the website, the conversation and the URLs of modules."""
    conversation, receipt, unseen = customer.conversation, None, None
    if conversation and customer.website.receipts:
        receipt = conversation.receipt(Author.CUSTOMER)
        unseen = conversation.last_message_id if conversation.may_be_seen(Author.AGENT) else None
    return {
        "shown_state": _shown_state(conversation),
        "receipt": receipt,
        "seen_url": f"{customer.url('state')}{'&' if customer.query else '?'}seen={unseen}" if unseen else "",
    }


def _has_other_state(shown: str | None, news: News) -> bool:
    """Whether a page that shows this state must fetch another one."""
    if shown is None:
        return False
    status, _pk, receipt = [*shown.split(" "), "", ""][:3]
    return status != news.status or (news.receipt is not None and receipt != str(news.receipt or ""))


@require_http_methods(["GET", "HEAD", "POST"])
@customer_view
def state(customer: CustomerRequest) -> HttpResponse:
    """The notices above the composer: that the chat is closed, or when an agent has seen the last message.

    POST `seen`: the customer has seen the message with this id, in a visible page. GET with `seen` is the same for
    browsers without JavaScript, which fetch it as a picture of the page.
    """
    request = customer.request
    seen = parse_number((request.POST if request.method == "POST" else request.GET).get("seen", ""))
    if request.method == "POST" or seen is not None:
        return _seen(customer, seen)
    pk = customer.conversation.pk if customer.conversation else None
    if _shows_another_conversation(customer, customer.request.GET, pk):
        return _conversation_changed()
    if customer.conversation:
        catch_up(customer.conversation)
    customer.activate_language()
    context = {
        **assets.urls(customer.website),
        "website": customer.website,
        "conversation": customer.conversation,
        **_state_context(customer),
    }
    return render(customer.request, "customer/_state.html", context)


def _seen(customer: CustomerRequest, last: int | None) -> HttpResponse:
    if last is None:
        return HttpResponse("seen is the id of a message.", status=422, content_type="text/plain")
    if customer.conversation and not is_cross_origin(customer.request):
        catch_up(customer.conversation)
        with suppress(Conversation.DoesNotExist):
            seen = partial(mark_seen, conversation=customer.conversation, last=last)
            optional_write("that a customer has seen a message", seen)
    return HttpResponse(status=204)


@require_safe
@customer_view
def file(customer: CustomerRequest, uuid: uuid.UUID) -> FileResponse:
    """A file of the conversation; `?small` and `?original` as in `files.serve_to_page`."""
    return files.serve_to_page(customer.request, Attachment.objects.in_conversation(customer.conversation, uuid))


@require_POST
@customer_view
def sign_file(customer: CustomerRequest, uuid: uuid.UUID) -> HttpResponse:
    """A signed URL of one file, valid for a minute.

    A window that a frame opens sends neither the frame's cookie nor its header, and the secret must not be in a URL.
    """
    attachment = Attachment.objects.in_conversation(customer.conversation, uuid)
    if attachment is None:
        raise Http404
    path = f"files/{attachment.signed_id}/{quote(attachment.name, safe='')}"
    return HttpResponse(customer.path("chat") + path, content_type="text/plain; charset=utf-8")


@require_safe
@customer_view
def signed_file(customer: CustomerRequest, signed_id: str, name: str) -> FileResponse:
    """The file of a signed URL. The URL ends with the file's name, because browsers show it as the window's title."""
    response = files.serve_to_page(customer.request, Attachment.objects.by_signed_id(signed_id))
    response["Cache-Control"] = "private, no-store"  # a cached copy would outlive the signature
    return response


def file_url(customer: CustomerRequest) -> FileUrl:
    """A function from a file's uuid to its URL for this customer."""
    path, query = customer.path("chat"), customer.query
    return lambda uuid: f"{path}files/{uuid}/{query}"


def _post(customer: CustomerRequest) -> HttpResponse:
    customer.activate_language()
    website = customer.website
    files.check_size(customer.request, website)
    pk = customer.conversation.pk if customer.conversation else None
    if _shows_another_conversation(customer, customer.request.POST, pk):
        return _conversation_changed()  # the page shows another conversation than the one that the message would go to
    form = CustomerMessageForm(customer.request.POST)
    form.has_files = "files" in customer.request.FILES
    try:
        claim = customer.claim
    except identity.InvalidProof as error:
        return _refused(customer, form, str(error), 401)
    conversation = customer.continuable_conversation(claim)
    if conversation is None and _shows_lost_conversation(customer):
        return _secret_renewed()
    form.require_contact_details(website, is_first=conversation is None, is_known=claim is not None)
    if not form.is_valid():
        return _refused(customer, form, form.first_error(), 422)
    try:
        with limits.counted_message(customer.request, conversation):
            attachments = files.process_uploads(customer.request, website, by_agent=False)
            message = post_message(
                conversation=conversation, website=website, claim=claim, attachments=attachments, **form.cleaned_data
            )
    except files.UploadRefused as error:
        return _refused(customer, form, str(error), error.status)
    except limits.RateLimitExceeded as error:
        response = _refused(customer, form, str(error), 429)
        response["Retry-After"] = str(error.retry_after)
        return response
    except Conversation.DoesNotExist:
        recipients.forget(customer.secret)
        return _secret_renewed() if customer.request.htmx else redirect(customer.url("chat"))
    except RedisError as error:
        return not_kept(error, lambda sentence: _refused(customer, form, sentence, 503))
    except AlreadySent:
        sentence = _("This message was already sent with a different text. Press Send to send this text too.")
        return _refused(customer, form, sentence, 409)
    recipients.put(message.conversation, claim)
    request = customer.request
    spoken, browser = request.headers.get("Accept-Language", ""), request.headers.get("User-Agent", "")
    visitor.save(message.conversation_id, visitor_of(request.POST, request.GET, spoken, browser))
    response = message_accepted(message) if request.htmx else redirect(customer.url("chat"))
    customer.send_secret(response, message.conversation)
    mark_plain(response, conversation)
    return response


def visitor_of(form: QueryDict, parameters: QueryDict, spoken: str, browser: str) -> visitor.Visitor:
    """What a request with a message says of who sends it; `spoken` and `browser` are two of its headers."""
    language = parameters.get("language") or visitor.preferred_language(spoken)
    return visitor.parse({"zone": form.get("zone"), "language": language}, browser)


def _refused(customer: CustomerRequest, form: CustomerMessageForm, sentence: str, status: int) -> HttpResponse:
    if customer.request.htmx:
        return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    return _page(customer, form=form, error=sentence, status=status)


def _page(
    customer: CustomerRequest,
    *,
    before: int | None = None,
    form: CustomerMessageForm | None = None,
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    customer.activate_language()
    website, conversation = customer.website, customer.conversation
    shown, older = latest_page(conversation, before, None, file_url(customer)) if conversation else ([], None)
    if conversation and not customer.proof:
        recipients.put(conversation)  # for the first message
    form = form or CustomerMessageForm()
    writes = bool(customer.request.GET.get("write"))
    context = {
        **assets.urls(website),
        "customer": customer,
        "website": website,
        "welcome": Welcome.of(website, conversation),
        "parameters": customer.parameters,
        "chat_url": customer.url("chat"),
        "news": customer.url("messages"),
        "state_url": customer.url("state"),
        "secret_urls": f"{customer.path('chat')}*/{customer.query}",
        "resume_url": customer.url("resume"),
        "standalone_url": customer.path("chat") + customer.standalone_query,
        "earlier": customer.earlier,
        "conversation": conversation,
        **_state_context(customer),
        "thread": render_messages(shown),
        "older": older,
        "before": before,
        "form": form,
        "content": form["content"].value() or "",
        "megabytes": website.attachment_megabytes if website.attachments else "",
        "writes": writes,
        "reloads": conversation is not None and not error and not writes,
        "write_query": f"{customer.query}{'&' if customer.query else '?'}write=1",
        "error": error,
        # After an outage it is kept: the message may be in the log.
        "client_id": (status == 503 and form["client_id"].value()) or uuid.uuid4(),
    }
    response = render(customer.request, "customer/chat.html", context, status=status)
    response.frame_ancestors = ["'self'", *customer.frame_ancestors]  # type: ignore[attr-defined]  # see chatsite/headers.py
    return response


def _older(customer: CustomerRequest, before: int) -> HttpResponse:
    conversation = customer.conversation
    if _shows_another_conversation(customer, customer.request.GET, conversation.pk if conversation else None):
        return _conversation_changed()
    if conversation is None:
        return HttpResponse(status=204)
    return render(customer.request, "conversations/_older.html", _older_context(customer, conversation, before))


def _older_context(customer: CustomerRequest, conversation: Conversation, before: int | None) -> dict[str, Any]:
    """The context of `_older.html`: a page of messages before a message or, for None, the newest page."""
    shown, older = latest_page(conversation, before, None, file_url(customer))
    return {
        "thread": render_messages(shown),
        "older": older,
        "news": customer.url("messages"),
        "parameters": customer.parameters,
    }
