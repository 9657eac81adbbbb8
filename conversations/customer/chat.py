"""The customer's chat page: the page itself, its messages, and the line that says how things stand."""

import uuid

from django.http import HttpRequest as DjangoRequest
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.middleware import HtmxDetails

from conversations import customer_cookie, limits, paging
from conversations.actions import AlreadySent, post_message
from conversations.bubbles import bubbles
from conversations.forms import CustomerMessageForm
from conversations.models import Conversation, News
from conversations.origin import own_pages_only
from conversations.paging import PAGE, number, sent


class HttpRequest(DjangoRequest):
    """A request, and what htmx says of it."""

    htmx: HtmxDetails


@xframe_options_sameorigin
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The chat page, with the newest messages or, from `?before=`, those before a message."""
    return _page(request, _conversation(request), before=number(request, "before"))


@xframe_options_sameorigin
@own_pages_only
@require_http_methods(["GET", "POST"])
def messages(request: HttpRequest) -> HttpResponse:
    """GET `?since=`: the new messages, or 204. GET `?before=`: older ones. POST: write one."""
    if request.method == "POST":
        return _post(request)
    if before := number(request, "before"):
        return _older(request, before)
    since = number(request, "since") or 0
    news = News.continuing(customer_cookie.read(request.COOKIES), since, PAGE)
    if news is None:
        return HttpResponse(status=204)
    response = HttpResponse(status=204)
    if news.messages:
        shown = bubbles(news.messages, previous=news.previous, conversation=None, reader=None)
        response = render(request, "conversations/_newer.html", {"bubbles": shown})
    if len(news.messages) == PAGE:
        response["HX-Trigger"] = "messages"  # and more to fetch
    elif request.GET.get("state", news.status) != news.status:
        response["HX-Trigger"] = "state"
    return response


@require_GET
def state(request: HttpRequest) -> HttpResponse:
    """The line above the composer that says whether the chat is closed."""
    return render(request, "customer/_state.html", {"conversation": _conversation(request)})


def _post(request: HttpRequest) -> HttpResponse:
    conversation = _conversation(request)
    form = CustomerMessageForm(request.POST)
    if not form.is_valid():
        return _refused(request, conversation, form, form.sentence(), 422)
    try:
        limits.allow_message(request, conversation.pk if conversation else None)
        message = post_message(conversation=conversation, **form.cleaned_data)
    except limits.TooMany as error:
        response = _refused(request, conversation, form, str(error), 429)
        response["Retry-After"] = str(error.retry_after)
        return response
    except AlreadySent:
        sentence = _("That message was sent before with another text. Press send to send this one too.")
        return _refused(request, conversation, form, sentence, 409)
    response = sent(message) if request.htmx else redirect("customer:chat")
    customer_cookie.give(response, message.conversation)
    return response


def _refused(
    request: HttpRequest, conversation: Conversation | None, form: CustomerMessageForm, sentence: str, status: int
) -> HttpResponse:
    if request.htmx:
        return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    return _page(request, conversation, form=form, error=sentence, status=status)


def _page(
    request: HttpRequest,
    conversation: Conversation | None,
    *,
    before: int | None = None,
    form: CustomerMessageForm | None = None,
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    shown, older = paging.latest(conversation, before, reader=None) if conversation else ([], None)
    context = {
        "conversation": conversation,
        "bubbles": shown,
        "older": older,
        "before": before,
        "form": form or CustomerMessageForm(),
        "error": error,
        "client_id": uuid.uuid4(),
    }
    return render(request, "customer/chat.html", context, status=status)


def _older(request: HttpRequest, before: int) -> HttpResponse:
    conversation = _conversation(request)
    if conversation is None:
        return HttpResponse(status=204)
    shown, older = paging.latest(conversation, before, reader=None)
    return render(request, "conversations/_older.html", {"bubbles": shown, "older": older, "news": request.path})


def _conversation(request: HttpRequest) -> Conversation | None:
    return Conversation.objects.named(customer_cookie.read(request.COOKIES))
