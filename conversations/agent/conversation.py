"""One conversation in the inbox: read it, answer it, take it, close it, open it again."""

import uuid
from typing import Any

from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from conversations.actions import AlreadySent, TakenBySomebodyElse, close, mark_read, post_message, reopen, take
from conversations.agent import customer_details
from conversations.agent.access import AgentRequest, agents_only
from conversations.agent.inbox import View, assignee_name, desk
from conversations.models import Attachment, Conversation, News, Reading, Website
from conversations.screen import files
from conversations.screen.bubbles import Avatar, FileAddress, bubbles
from conversations.screen.forms import MessageForm
from conversations.screen.paging import PAGE, latest, number, sent


@agents_only
@require_GET
def page(request: AgentRequest, pk: int) -> HttpResponse:
    """The conversation beside the list, or the conversation alone where htmx asks for it."""
    return _page(request, _find(request, pk))


@agents_only
@require_http_methods(["GET", "POST"])
def messages(request: AgentRequest, pk: int) -> HttpResponse:
    """GET `?since=`: the new messages, or 204. GET `?before=`: older ones. POST: answer."""
    conversation = _find(request, pk)
    if request.method == "POST":
        return _answer(request, conversation)
    if before := number(request, "before"):
        shown, older = latest(conversation, before, request.agent, file_address(conversation))
        return render(request, "conversations/_older.html", {"bubbles": shown, "older": older, "news": request.path})
    news = News.continuing(conversation.pk, number(request, "since") or 0, PAGE)
    response = HttpResponse(status=204)
    if news and news.messages:
        shown = bubbles(
            news.messages,
            previous=news.previous,
            conversation=conversation,
            reader=request.agent,
            file_address=file_address(conversation),
        )
        response = render(request, "conversations/_newer.html", {"bubbles": shown})
    if news and len(news.messages) == PAGE:
        response["HX-Trigger"] = "messages"
    elif "state" in request.GET and request.GET["state"] != customer_details.state(conversation):
        response["HX-Trigger"] = "state"
    return response


@agents_only
@require_safe
def file(request: AgentRequest, pk: int, uuid: uuid.UUID) -> FileResponse:
    """A file of the conversation, or with `?small` its small picture."""
    return files.serve(request, Attachment.objects.of(_find(request, pk), uuid))


def file_address(conversation: Conversation) -> FileAddress:
    """Where agents find the files of a conversation."""
    folder = reverse("agent:conversation", args=[conversation.pk])
    return lambda uuid: f"{folder}files/{uuid}/"


@agents_only
@require_GET
def state(request: AgentRequest, pk: int) -> HttpResponse:
    """Who has it and whether it is open, with the buttons to change that."""
    return render(request, "agent/_state.html", _state(request, _find(request, pk)))


@agents_only
@require_GET
def details(request: AgentRequest, pk: int) -> HttpResponse:
    """Who the customer is, and where."""
    conversation = _find(request, pk)
    context = {
        "about": customer_details.CustomerDetails.of(conversation),
        "conversation": conversation,
        "view": View.of(request),
    }
    return render(request, "agent/_about.html", context)


@agents_only
@require_POST
def read(request: AgentRequest, pk: int) -> HttpResponse:
    """Note that the agent has read up to the message id `last`."""
    last = request.POST.get("last", "")
    if not (last.isascii() and last.isdigit() and len(last) < 19):
        return HttpResponse("last is the id of a message.", status=422, content_type="text/plain")
    mark_read(conversation=_find(request, pk), agent=request.agent, last=int(last))
    return HttpResponse(status=204, headers={"HX-Trigger": "inbox"})


@agents_only
@require_POST
def take_it(request: AgentRequest, pk: int) -> HttpResponse:
    """Take it, unless somebody else has done so since the page was shown."""
    seen = request.POST.get("seen_assignee", "")
    seen_assignee = int(seen) if seen.isascii() and seen.isdigit() else None
    try:
        conversation = take(conversation=_find(request, pk), by=request.agent, seen_assignee=seen_assignee)
    except TakenBySomebodyElse:
        conversation = _find(request, pk)
        name = assignee_name(conversation, request.agent) or _("Somebody")
        notice = _("%(name)s was quicker and has just taken this one.") % {"name": name}
        return _changed(request, conversation, notice)
    return _changed(request, conversation)


@agents_only
@require_POST
def close_it(request: AgentRequest, pk: int) -> HttpResponse:
    """Close it."""
    return _changed(request, close(conversation=_find(request, pk)))


@agents_only
@require_POST
def open_it(request: AgentRequest, pk: int) -> HttpResponse:
    """Open it again."""
    return _changed(request, reopen(conversation=_find(request, pk)))


def _find(request: AgentRequest, pk: int) -> Conversation:
    conversation = request.agent.visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404
    return conversation


def _answer(request: AgentRequest, conversation: Conversation) -> HttpResponse:
    website = Website.objects.by_id(conversation.website_id)
    files.check_size(request, website)
    form = MessageForm(request.POST)
    form.has_files = "files" in request.FILES
    status, sentence = 422, ""
    if form.is_valid():
        try:
            attachments = files.receive(request, website, by_agent=True)
            message = post_message(
                conversation=conversation, agent=request.agent, attachments=attachments, **form.cleaned_data
            )
        except files.Refused as error:
            status, sentence = error.status, str(error)
        except AlreadySent:
            status = 409
            sentence = _("That answer was sent before with another text. Press send to send this one too.")
        else:
            if request.htmx:
                return sent(message)
            return redirect(_here(request, conversation))
    sentence = sentence or form.sentence()
    if request.htmx:
        return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    return _page(request, conversation, form=form, error=sentence, status=status)


def _changed(request: AgentRequest, conversation: Conversation, notice: str = "") -> HttpResponse:
    """The new state, for htmx; without it, the page again."""
    if request.htmx:
        conversation = _find(request, conversation.pk)
        response = render(request, "agent/_state.html", _state(request, conversation) | {"notice": notice})
        response["HX-Trigger"] = "inbox"
        return response
    if notice:
        return _page(request, conversation, error=notice, status=409)
    return redirect(_here(request, conversation))


def _here(request: AgentRequest, conversation: Conversation) -> str:
    return reverse("agent:conversation", args=[conversation.pk]) + View.of(request).here


def _state(request: AgentRequest, conversation: Conversation) -> dict[str, Any]:
    return {
        "conversation": conversation,
        "state": customer_details.state(conversation),
        "avatar": Avatar.of(str(conversation)),
        "assignee": assignee_name(conversation, request.agent),
        "mine": conversation.assignee_id == request.agent.pk,
        "view": View.of(request),
    }


def _page(
    request: AgentRequest,
    conversation: Conversation,
    *,
    form: MessageForm | None = None,
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    before = number(request, "before")
    shown, older = latest(conversation, before, request.agent, file_address(conversation))
    reading = Reading.objects.of(request.agent, conversation.pk)
    read_up_to = reading.last_message_id if reading else 0
    context = _state(request, conversation) | {
        "about": customer_details.CustomerDetails.of(conversation),
        "website": Website.objects.by_id(conversation.website_id),
        "bubbles": shown,
        "older": older,
        "before": before,
        "first_unread": _first_unread(shown, read_up_to),
        "form": form or MessageForm(),
        "error": error,
        "client_id": uuid.uuid4(),
        "agent": request.agent,
    }
    if before is None:
        mark_read(conversation=conversation, agent=request.agent, last=conversation.last_message_id)
    if request.htmx and not request.htmx.history_restore_request:
        response = render(request, "agent/_conversation.html", context, status=status)
        response["HX-Trigger-After-Swap"] = "inbox"
        return response
    return render(request, "agent/inbox.html", context | desk(request, chosen=conversation), status=status)


def _first_unread(shown: list[Any], read_up_to: int) -> int | None:
    """The id of the first message of the customer that this agent has not read, if an older one is shown read."""
    unread = [bubble.message.pk for bubble in shown if bubble.message.pk > read_up_to and not bubble.mine]
    return unread[0] if unread and read_up_to else None
