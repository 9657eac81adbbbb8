"""The customer's chat page: the page itself, its messages, and the line that says how things stand."""

import uuid
from urllib.parse import quote

from django.http import FileResponse, Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from conversations.actions import AlreadySent, post_message
from conversations.customer import assets
from conversations.customer.customer_request import CustomerRequest, customer_view
from conversations.customer.welcome import Welcome
from conversations.models import Attachment, Conversation, News
from conversations.models.website import DEFAULT
from conversations.presence import visitor
from conversations.screen import files, paging
from conversations.screen.bubbles import FileAddress, bubbles
from conversations.screen.forms import CustomerMessageForm
from conversations.screen.paging import PAGE, number, sent
from conversations.threshold import customer_secret, identity, limits


@assets.small
@xframe_options_exempt
@require_safe
@customer_view
def page(visit: CustomerRequest) -> HttpResponse:
    """The chat page, with the newest messages or, from `?before=`, those before a message."""
    return _page(visit, before=number(visit.request, "before"))


@xframe_options_exempt
@require_http_methods(["GET", "POST"])
@customer_view
def messages(visit: CustomerRequest) -> HttpResponse:
    """GET `?since=`: the new messages, or 204. GET `?before=`: older ones. POST: write one.

    A page says in `state` what it shows: how the conversation stands, and the mark of its secret.
    """
    request = visit.request
    if request.method == "POST":
        return _post(visit)
    if _shows_anothers(visit, request.GET):
        return _another()
    if before := number(request, "before"):
        return _older(visit, before)
    since = number(request, "since") or 0
    news = News.continuing(visit.secret, since, PAGE)
    if news is None:  # a secret that holds no longer: the page asks anew who it is
        return HttpResponse(status=204, headers={"HX-Trigger": "stranger"} if visit.secret else {})
    response = HttpResponse(status=204)
    if news.messages:
        shown = bubbles(
            news.messages,
            previous=news.previous,
            conversation=None,
            reader=None,
            file_address=file_address(visit),
        )
        response = render(request, "conversations/_newer.html", {"bubbles": shown})
    if len(news.messages) == PAGE:
        response["HX-Trigger"] = "messages"  # and more to fetch
    elif request.GET.get("state", news.status).partition(" ")[0] != news.status:
        response["HX-Trigger"] = "state"
    return response


def _shows_anothers(visit: CustomerRequest, said: QueryDict) -> bool:
    """Whether the page shows another conversation than the one that this browser has by now.

    Somebody has left, or come, in another tab: what is new in theirs must not come below what is old in this one.
    """
    mark = said.get("state", "").partition(" ")[2]
    return bool(mark) and mark != customer_secret.fingerprint(visit.secret)


def _another() -> HttpResponse:
    return HttpResponse(status=204, headers={"HX-Trigger": "another", "X-Another": "yes"})


def _shown_state(conversation: Conversation | None) -> str:
    return f"{conversation.status} {customer_secret.fingerprint(conversation.uuid)}" if conversation else ""


@require_safe
@customer_view
def state(visit: CustomerRequest) -> HttpResponse:
    """The line above the composer that says whether the chat is closed."""
    if _shows_anothers(visit, visit.request.GET):
        return _another()
    context = {"conversation": visit.conversation, "shown_state": _shown_state(visit.conversation)}
    return render(visit.request, "customer/_state.html", context)


@require_safe
@customer_view
def file(visit: CustomerRequest, uuid: uuid.UUID) -> FileResponse:
    """A file of the conversation, or with `?small` its small picture."""
    return files.serve(visit.request, Attachment.objects.of(visit.conversation, uuid))


@require_POST
@customer_view
def sign_file(visit: CustomerRequest, uuid: uuid.UUID) -> HttpResponse:
    """An address under which a file of the conversation can be had for a minute.

    A window that a frame opens has neither its cookie nor its header, and the secret must be in no address.
    """
    attachment = Attachment.objects.of(visit.conversation, uuid)
    if attachment is None:
        raise Http404
    place = _beside(visit, f"files/{attachment.signed_id}/{quote(attachment.name, safe='')}")
    return HttpResponse(place.removesuffix(visit.query), content_type="text/plain; charset=utf-8")


@require_safe
@customer_view
def signed_file(visit: CustomerRequest, signed_id: str, name: str) -> FileResponse:
    """The file of a signed address, which ends with its name, because browsers call a picture's window by that."""
    response = files.serve(visit.request, Attachment.objects.by_signed_id(signed_id))
    response["Cache-Control"] = "private, no-store"  # or the address would hold for longer than its signature
    return response


def address(name: str, visit: CustomerRequest) -> str:
    """The address of one of the customer's pages, for the same chat in the same page and language."""
    path = reverse(f"customer:{name}") if visit.key == DEFAULT else reverse(f"website:{name}", args=[visit.key])
    return path + visit.query


def file_address(visit: CustomerRequest) -> FileAddress:
    """Where the customer finds the files of their conversation."""
    return lambda uuid: _beside(visit, f"files/{uuid}/")


def _beside(visit: CustomerRequest, name: str) -> str:
    return address("chat", visit).removesuffix(visit.query) + name + visit.query


def _post(visit: CustomerRequest) -> HttpResponse:
    visit.activate_language()
    website = visit.website
    files.check_size(visit.request, website)
    if _shows_anothers(visit, visit.request.POST):
        return _another()  # it was written below what is not theirs any more
    form = CustomerMessageForm(visit.request.POST)
    form.has_files = "files" in visit.request.FILES
    try:
        claim = visit.claim
    except identity.InvalidProof as error:
        return _refused(visit, form, str(error), 401)
    conversation = visit.continuable_conversation(claim)
    form.ask(website, is_first=conversation is None, is_known=claim is not None)
    if not form.is_valid():
        return _refused(visit, form, form.sentence(), 422)
    try:
        limits.allow_message(visit.request, conversation.pk if conversation else None)
        attachments = files.receive(visit.request, website, by_agent=False)
        message = post_message(
            conversation=conversation, website=website, claim=claim, attachments=attachments, **form.cleaned_data
        )
    except files.Refused as error:
        return _refused(visit, form, str(error), error.status)
    except limits.TooMany as error:
        response = _refused(visit, form, str(error), 429)
        response["Retry-After"] = str(error.retry_after)
        return response
    except AlreadySent:
        sentence = _("That message was sent before with another text. Press send to send this one too.")
        return _refused(visit, form, sentence, 409)
    language = visit.request.GET.get("language") or visitor.preferred(visit.request.headers.get("Accept-Language", ""))
    told = {"zone": visit.request.POST.get("zone"), "language": language}
    visitor.save(message.conversation_id, visitor.parse(told, visit.request.headers.get("User-Agent", "")))
    response = sent(message) if visit.request.htmx else redirect(address("chat", visit))
    visit.send_secret(response, message.conversation)
    return response


def _refused(visit: CustomerRequest, form: CustomerMessageForm, sentence: str, status: int) -> HttpResponse:
    if visit.request.htmx:
        return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    return _page(visit, form=form, error=sentence, status=status)


def _page(
    visit: CustomerRequest,
    *,
    before: int | None = None,
    form: CustomerMessageForm | None = None,
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    visit.activate_language()
    website, conversation = visit.website, visit.conversation
    where = file_address(visit)
    shown, older = paging.latest(conversation, before, None, where) if conversation else ([], None)
    context = {
        **assets.addresses(website),
        "visit": visit,
        "website": website,
        "welcome": Welcome.of(website, conversation),
        "here": address("chat", visit),
        "news": address("messages", visit),
        "state": address("state", visit),
        "keep": _beside(visit, "*/"),
        "resume": address("resume", visit),
        "alone": address("chat", visit).partition("?")[0] + visit.alone,
        "earlier": conversation.earlier() if conversation else [],
        "conversation": conversation,
        "shown_state": _shown_state(conversation),
        "bubbles": shown,
        "older": older,
        "before": before,
        "form": form or CustomerMessageForm(),
        "error": error,
        "client_id": uuid.uuid4(),
    }
    response = render(visit.request, "customer/chat.html", context, status=status)
    response.frame_ancestors = ["'self'", *visit.frame_ancestors]  # type: ignore[attr-defined]  # see chatsite/headers.py
    return response


def _older(visit: CustomerRequest, before: int) -> HttpResponse:
    conversation = visit.conversation
    if conversation is None:
        return HttpResponse(status=204)
    shown, older = paging.latest(conversation, before, None, file_address(visit))
    context = {"bubbles": shown, "older": older, "news": address("messages", visit)}
    return render(visit.request, "conversations/_older.html", context)
