"""The pages of one conversation in the inbox: read, answer, take, close, reopen."""

import uuid
from contextlib import suppress
from functools import partial
from typing import Any

from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from redis import RedisError

from conversations import actions
from conversations.actions import AlreadySent, TakenBySomebodyElse, UnseenAnswer, UnseenMessage
from conversations.actions.change import Change, Changed, Value, value_of
from conversations.agent import after_closing, canned_replies, customer_details, done, quoting
from conversations.agent import preview as previews
from conversations.agent.access import AgentRequest, agent_required, compressed_if_opened, opened_by_the_agent
from conversations.agent.changes import summary
from conversations.agent.filters import Filters
from conversations.agent.inbox import assignee_name, render_inbox
from conversations.agent.panel import Unread, render_details, render_header, render_panel
from conversations.models import Agent, Attachment, Conversation, Draft, Message, Reading, Website
from conversations.models.desk_news import DeskNews
from conversations.models.optional_write import optional_write
from conversations.models.remembered import memory
from conversations.models.settling import catch_up
from conversations.poll_cache import mark_empty
from conversations.presence import visitor
from conversations.screen import files
from conversations.screen.bubbles import FileUrl
from conversations.screen.forms import AnswerForm, MessageForm, NoteForm, not_kept
from conversations.screen.message_rows import render_messages
from conversations.screen.paging import (
    PAGE_SIZE,
    changed_page,
    latest_page,
    message_accepted,
    newer_desk_page,
    page_around,
    parse_number,
    query_number,
    restored_page,
)

RELATED = ("website", "contact", "assignee")
"""The foreign keys of a conversation whose objects its page shows."""


@agent_required
@require_GET
@compressed_if_opened
def page(request: AgentRequest, pk: int) -> HttpResponse:
    """The inbox page with this conversation open, or the conversation alone for htmx."""
    return render_page(request, _get_or_404(request, pk, *RELATED))


@agent_required
@require_http_methods(["GET", "POST"])
def messages(request: AgentRequest, pk: int) -> HttpResponse:
    """GET `?since=`: the new messages, or 204. GET `?before=`: older ones. POST: send an answer.

    Of a page in the middle of the conversation, which does not show its newest messages: with `?gap`, a poll only
    asks for the state and for what was taken back since that id; `?since=&page` is the next page, `?newest` the newest.
    """
    conversation = _get_or_404(request, pk)
    if request.method == "POST":
        return _post_answer(request, conversation)
    if before := query_number(request, "before"):
        return render(request, "conversations/_older.html", _older_context(request, conversation, before))
    if "newest" in request.GET:
        return render(request, "conversations/_older.html", _older_context(request, conversation, None))
    if "gap" in request.GET:
        return _poll_in_the_middle(request, conversation)
    news = DeskNews.after(conversation, query_number(request, "since") or 0, PAGE_SIZE)
    if news and news.is_restored:
        return restored_page(request, _older_context(request, conversation, None))
    response, more = HttpResponse(status=204), False
    if news and news.rows:
        shown, more = newer_desk_page(news, conversation, request.agent, file_url(conversation))
        context: dict[str, Any] = {"thread": render_messages(shown)}
        if "page" in request.GET and more:
            context |= {"newer": shown[-1].pk, "news": request.path}
            context["parameters"] = Filters.from_request(request).parameters
            more = False
        response = render(request, "conversations/_newer.html", context)
    else:
        mark_empty(response, conversation.pk)
    if more:
        response["HX-Trigger"] = "messages"  # to fetch them at once
    elif _shows_another_state(request, conversation):
        response["HX-Trigger"] = "state"
    return response


def _poll_in_the_middle(request: AgentRequest, conversation: Conversation) -> HttpResponse:
    catch_up(conversation)
    gap = query_number(request, "gap") or 0
    changed, last = changed_page(conversation, gap, request.agent, file_url(conversation))
    if last is None:
        response = HttpResponse(status=204)
        mark_empty(response, conversation.pk)
    else:
        response = render(request, "conversations/_newer.html", {"thread": render_messages(changed)})
        response["X-Removal"] = str(last)
    if _shows_another_state(request, conversation):
        response["HX-Trigger"] = "state"
    return response


def _shows_another_state(request: AgentRequest, conversation: Conversation) -> bool:
    """Whether the page says that its header shows another state than that of now.

    While SQL is away, nobody knows: what this process remembers may be older than what the page shows.
    """
    now = customer_details.state_version(conversation, visitor.get(conversation.pk))
    return "state" in request.GET and not memory.is_away and request.GET["state"] != now


def _older_context(request: AgentRequest, conversation: Conversation, before: int | None) -> dict[str, Any]:
    """Return the context of `_older.html`: a page of messages before a message or, for None, the newest page."""
    shown, older = latest_page(conversation, before, request.agent, file_url(conversation))
    unread = Unread.on_page(shown, older, query_number(request, "read") or 0)
    return {
        "thread": render_messages(shown, unread.first),
        "older": older,
        "news": request.path,
        "parameters": unread.parameters(Filters.from_request(request)),
        "read": unread.above,
    }


@agent_required
@require_safe
def file(request: AgentRequest, pk: int, uuid: uuid.UUID) -> FileResponse:
    """Serve a file of the conversation; `?small` and `?original` as in `files.serve_to_page`."""
    return files.serve_to_page(request, Attachment.objects.in_conversation(_get_or_404(request, pk), uuid))


def file_url(conversation: Conversation) -> FileUrl:
    """Return a function from a file's uuid to its URL for agents."""
    folder = reverse("agent:conversation", args=[conversation.pk])
    return lambda uuid: f"{folder}files/{uuid}/"


@agent_required
@require_GET
def state(request: AgentRequest, pk: int) -> HttpResponse:
    """The header: assignee and status, with the buttons that change them. 204 while nobody knows."""
    conversation = _get_or_404(request, pk, "assignee")
    catch_up(conversation)
    if memory.is_away:
        return HttpResponse(status=204)
    return HttpResponse(render_header(request, conversation))


@agent_required
@require_GET
def details(request: AgentRequest, pk: int) -> HttpResponse:
    """The panel with the customer's details; 204 as above."""
    conversation = _get_or_404(request, pk, *RELATED)
    catch_up(conversation)
    if memory.is_away:
        return HttpResponse(status=204)
    return HttpResponse(render_details(request, conversation, visitor.get(pk)))


@agent_required
@require_POST
def read(request: AgentRequest, pk: int) -> HttpResponse:
    """Mark as read up to the message with the id `last`."""
    last = parse_number(request.POST.get("last", ""))
    if last is None:
        return HttpResponse("last is the id of a message.", status=422, content_type="text/plain")
    conversation = _get_or_404(request, pk)
    catch_up(conversation)
    actions.mark_read(conversation=conversation, agent=request.agent, last=last)
    return HttpResponse(status=204, headers={"HX-Trigger": "inbox"})


@agent_required
@require_POST
def take(request: AgentRequest, pk: int) -> HttpResponse:
    """Assign the conversation to this agent, unless a colleague has taken it since the page was shown."""
    seen_assignee = parse_number(request.POST.get("seen_assignee", ""))
    found = _get_or_404(request, pk)
    wanted, before = Change("assignee", request.agent.pk), value_of(found, "assignee")
    try:
        conversation = actions.take(conversation=found, by=request.agent, seen_assignee=seen_assignee)
    except TakenBySomebodyElse:
        conversation = _get_or_404(request, pk)
        name = assignee_name(conversation, request.agent) or _("another agent")
        notice = _("This conversation has just been assigned to %(name)s.") % {"name": name}
        return _state_response(request, conversation, notice)
    return _changed_response(request, conversation, wanted, before)


@agent_required
@require_POST
def close(request: AgentRequest, pk: int) -> HttpResponse:
    """Close the conversation, unless the customer has written since the message `last`, the newest on the screen."""
    last_seen, then = parse_number(request.POST.get("last", "")), request.agent.preferences.after_closing
    conversation = _get_or_404(request, pk)
    wanted, before = Change("status", Conversation.Status.CLOSED), value_of(conversation, "status")
    next_one = after_closing.find_next(request, conversation) if then == "next" else None
    try:
        conversation = actions.close(conversation=conversation, by=request.agent, last_seen=last_seen)
    except UnseenMessage:
        notice = _("A new message has come in. Read it first, then close the conversation.")
        response = _state_response(request, _get_or_404(request, pk), notice)
        if request.htmx:
            response["HX-Trigger"] = "inbox, messages"
        return response
    if then == "stay":
        return _changed_response(request, conversation, wanted, before)
    if request.htmx:
        changed = _changes(conversation, wanted, before)
        return after_closing.leave(request, next_one, done.render_notice(request, summary(wanted, changed), changed))
    return _changed_response(request, conversation, wanted, before, after_closing.next_url(request, next_one))


@agent_required
@require_POST
def reopen(request: AgentRequest, pk: int) -> HttpResponse:
    """Reopen the conversation."""
    conversation = _get_or_404(request, pk)
    wanted, before = Change("status", Conversation.Status.OPEN), value_of(conversation, "status")
    return _changed_response(request, actions.reopen(conversation=conversation, by=request.agent), wanted, before)


def _get_or_404(request: AgentRequest, pk: int, *related: str) -> Conversation:
    conversation = request.agent.visible_conversations().by_id(pk, *related)
    if conversation is None:
        raise Http404
    return conversation


def _post_answer(request: AgentRequest, conversation: Conversation) -> HttpResponse:
    website = Website.objects.by_id(conversation.website_id)
    files.check_size(request, website)
    if request.POST.keys() & {"insert", "preview"}:  # without JavaScript
        return _insert_reply(request, conversation) if "insert" in request.POST else _preview(request, conversation)
    form = AnswerForm(request.POST)
    form.has_files = "files" in request.FILES
    status, sentence = 422, ""
    if form.is_valid():
        try:
            attachments = files.process_uploads(request, website, by_agent=True)
            version = form.cleaned_data.pop("draft")
            message = actions.post_message(
                conversation=conversation,
                agent=request.agent,
                is_formatted=True,
                attachments=attachments,
                **form.cleaned_data,
            )
        except files.UploadRefused as error:
            status, sentence = error.status, str(error)
        except AlreadySent:
            status = 409
            sentence = _("This reply was already sent with a different text. Press Send to send this text too.")
        except UnseenAnswer as error:
            return _ask_about_answer(request, conversation, form, error.answer, version)
        except RedisError as error:
            return not_kept(error, lambda sentence: _refused(request, conversation, form, sentence, 503))
        else:
            if version:
                sent = partial(Draft.objects.delete_sent, request.agent, conversation.pk, version)
                optional_write("that a draft was sent", sent)
            _take_answered(request, conversation)
            if request.htmx:
                return message_accepted(message)
            return redirect(_page_url(request, conversation))
    return _refused(request, conversation, form, sentence or form.first_error(), status)


def _take_answered(request: AgentRequest, conversation: Conversation) -> None:
    """Assign a conversation that nobody has, or only somebody who has left, to the agent who has answered.

    Unless a colleague was faster.
    """
    agent, assignee = request.agent, conversation.assignee_id
    if assignee == agent.pk or not agent.preferences.takes_answered:
        return

    def write() -> None:
        if assignee is None or not Agent.objects.reaching(assignee, conversation.website_id).exists():
            actions.take(conversation=conversation, by=agent, seen_assignee=assignee)

    with suppress(TakenBySomebodyElse, Conversation.DoesNotExist, RedisError):
        optional_write("who has answered", write)


def _insert_reply(request: AgentRequest, conversation: Conversation) -> HttpResponse:
    """The page with a canned reply in the text of the answer, which is not sent yet."""
    content, notice = canned_replies.inserted(request, conversation)
    form = AnswerForm({"content": content})
    return render_page(request, conversation, form=form, error=notice, writes=True)


def _preview(request: AgentRequest, conversation: Conversation, *, is_note: bool = False) -> HttpResponse:
    """The page with the text as its readers will see it, and to be sent. For browsers without JavaScript."""
    form = MessageForm(request.POST)
    try:
        shown, error = previews.show(form["content"].value() or ""), ""
    except ValueError as refused:
        shown, error = previews.show(""), str(refused)
    return render_page(request, conversation, form=form, error=error, preview=shown, writes=True, is_note=is_note)


def _ask_about_answer(
    request: AgentRequest, conversation: Conversation, form: AnswerForm, answer: Message, version: int | None
) -> HttpResponse:
    """Ask whether to send this answer too: a colleague has answered since the agent last looked.

    The page shows the colleague's answer, and sends its id as `seen` if the agent still wants to send theirs. The text
    is kept as the agent's draft, unless they have typed another one since this version of it.
    """
    agent, kept = request.agent, None

    def keep() -> None:
        nonlocal kept
        draft = Draft.objects.one(agent, conversation.pk)
        if draft is None or draft.version == version:
            content = form.cleaned_data["content"]
            kept = Draft.objects.keep(agent, conversation.pk, content, typed_at=timezone.now(), known=version or 0)

    optional_write("an answer that was not sent as a draft", keep)
    name = (answer.agent and (answer.agent.get_full_name() or answer.agent.username)) or _("Another agent")
    question = _("%(name)s has just answered. Send yours too?") % {"name": name}
    if request.htmx:
        response = _refused(request, conversation, form, question, 409)
        response["X-Answered"] = str(answer.pk)
        if kept:
            response["X-Draft"] = str(kept.version)
        return response
    return render_page(request, conversation, form=form, error=question, asks=True, status=409)


@agent_required
@require_POST
def notes(request: AgentRequest, pk: int) -> HttpResponse:
    """Write a note, which only agents see."""
    conversation = _get_or_404(request, pk, *RELATED)
    if "preview" in request.POST:
        return _preview(request, conversation, is_note=True)
    form = NoteForm(request.POST)
    if not form.is_valid():
        return _refused(request, conversation, form, form.first_error(), 422, is_note=True)
    version = form.cleaned_data.pop("draft")
    try:
        note = actions.write_note(
            conversation=conversation, agent=request.agent, is_formatted=True, **form.cleaned_data
        )
    except AlreadySent:
        sentence = _("This note was already saved with a different text. Press Send to save this text too.")
        return _refused(request, conversation, form, sentence, 409, is_note=True)
    except RedisError as error:
        return not_kept(error, lambda sentence: _refused(request, conversation, form, sentence, 503, is_note=True))
    if version:
        sent = partial(Draft.objects.delete_sent, request.agent, conversation.pk, version, is_note=True)
        optional_write("that a draft was sent", sent)
    return message_accepted(note) if request.htmx else redirect(_page_url(request, conversation))


def _refused(
    request: AgentRequest,
    conversation: Conversation,
    form: MessageForm,
    sentence: str,
    status: int,
    *,
    is_note: bool = False,
) -> HttpResponse:
    if request.htmx:
        return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    return render_page(request, conversation, form=form, error=sentence, status=status, is_note=is_note)


def _state_response(request: AgentRequest, conversation: Conversation, notice: str = "") -> HttpResponse:
    """The state as it is now: the header for htmx, otherwise the page. `notice`: why it was not changed."""
    if request.htmx:
        conversation = _get_or_404(request, conversation.pk, "assignee")
        return HttpResponse(render_header(request, conversation, notice), headers={"HX-Trigger": "inbox"})
    return render_page(request, conversation, error=notice, status=409)


def _changed_response(
    request: AgentRequest, conversation: Conversation, wanted: Change, before: Value, url: str = ""
) -> HttpResponse:
    """The response to a change: the new header or, without scripts, a page that says what was done, and can undo it.

    url: of that page, if it is another one.
    """
    if request.htmx:
        return _state_response(request, conversation)
    url, changed = url or _page_url(request, conversation), _changes(conversation, wanted, before)
    if not changed:
        return redirect(url)
    return done.go(request, url, summary(wanted, changed), changed, conversation.pk)


def _changes(conversation: Conversation, wanted: Change, before: Value) -> list[Changed]:
    """What a change has changed, to undo it: nothing, or this conversation."""
    after = value_of(conversation, wanted.field)
    changed = Changed(conversation.pk, wanted.field, before, after, conversation.last_message_id)
    return [] if before == after else [changed]


def _page_url(request: AgentRequest, conversation: Conversation) -> str:
    return reverse("agent:conversation", args=[conversation.pk]) + Filters.from_request(request).query


def render_page(
    request: AgentRequest,
    conversation: Conversation,
    *,
    form: MessageForm | None = None,
    error: str = "",
    preview: str = "",
    asks: bool = False,
    writes: bool = False,
    status: int = 200,
    is_note: bool = False,
) -> HttpResponse:
    """The inbox page with a conversation open, or the conversation alone for htmx.

    form: what was typed. error: why it, or something else, was refused. is_note: whether it is a note.
    asks, writes: see `render_panel`.
    """
    before, writes = query_number(request, "before"), writes or bool(request.GET.get("write"))
    at, newer = query_number(request, "at") if before is None else None, None
    if at:
        shown, older, newer = page_around(conversation, at, request.agent, file_url(conversation))
    else:
        shown, older = latest_page(conversation, before, request.agent, file_url(conversation))
    reading = Reading.objects.of(request.agent, conversation.pk)
    read_up_to = marked = reading.last_message_id if reading else 0
    last = conversation.last_message_id
    newest = max(last, conversation.last_entry_id or 0)
    if before is None and newer is None and opened_by_the_agent(request):
        mark = actions.mark_read if read_up_to < last else actions.mark_mentions_read
        write = partial(mark, conversation=conversation, agent=request.agent, last=newest)
        if optional_write("which messages an agent has read", write):
            marked = max(newest, read_up_to)
    # The line stays on the page, also on one that reloads itself and on its older pages.
    stopped = query_number(request, "read") or (read_up_to if before is None else 0)
    unread = Unread.on_page(shown, older, stopped, at_top=not at)
    is_note = is_note or bool(request.GET.get("note"))
    drafts = Draft.objects.both(request.agent, conversation.pk) if before is None else {}
    draft = drafts.get(is_note)
    panel = render_panel(
        request,
        conversation,
        shown,
        older=older,
        before=before,
        newer=newer,
        at=at,
        content=quoting.with_asked(request, conversation, _typed(form, draft), is_note=is_note),
        version=draft.version if draft else 0,
        error=error,
        preview=preview,
        asks=asks,
        writes=writes,
        is_note=is_note,
        has_other_draft=(not is_note) in drafts,
        read_up_to=marked,
        unread=unread,
        last_seen=max([read_up_to, *(row.pk for row in shown)]),
        client_id=form["client_id"].value() if form and status == 503 else None,  # the message may be in the log
    )
    if request.htmx and not request.htmx.history_restore_request:
        return HttpResponse(panel, status=status, headers={"HX-Trigger-After-Swap": "inbox"})
    reload_query = _reload_query(request, stopped) if unread.first and before is None and not at else ""
    page = render_inbox(request, conversation, panel, reloads=not (error or writes), reload_query=reload_query)
    return HttpResponse(page, status=status)


def _typed(form: MessageForm | None, draft: Draft | None) -> str:
    """What an agent has typed so far."""
    return (form["content"].value() or "") if form else draft.content if draft else ""


def _reload_query(request: AgentRequest, read_up_to: int) -> str:
    """The query string with which a page without scripts reloads itself, so that the line "New" stays."""
    kept = Filters.from_request(request).parameters.copy()
    kept["read"] = str(read_up_to)
    if request.GET.get("note"):
        kept["note"] = "1"
    return f"?{kept.urlencode()}"
