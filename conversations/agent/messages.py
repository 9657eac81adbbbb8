"""What an agent can do with one message or note: quote it, take it back, and copy a link to it."""

from typing import Any

from django.http import Http404, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods

from conversations import actions
from conversations.agent import quoting
from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters
from conversations.agent.inbox import render_inbox
from conversations.models import Author, Conversation, DeskEntry, Message
from conversations.models.formatted import plain
from conversations.models.settling import catch_up
from conversations.screen.bubbles import agent_avatar


@agent_required
@require_http_methods(["GET", "POST"])
def message(request: AgentRequest, pk: int, number: int) -> HttpResponse:
    """GET: the menu of a message or note: its time, a link to it, a quote of it, and the question to take it back.

    POST: take it back. 404 for a message that does not exist or, to take it back, of others.
    """
    conversation = request.agent.visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404
    page = reverse("agent:conversation", args=[pk]) + Filters.from_request(request).query
    back = f"{page}#message-{number}"
    if request.method == "POST":
        try:
            actions.take_back(conversation=conversation, pk=number, by=request.agent)
        except (Message.DoesNotExist, Conversation.DoesNotExist):
            raise Http404 from None
        if request.htmx:
            return HttpResponse(status=204, headers={"HX-Trigger": "messages, inbox"})
        return redirect(back)
    catch_up(conversation)
    found = quoting.find(conversation, number)
    if found is None:
        raise Http404
    context = _menu_context(request, conversation, found, page) | {"back": back}
    html = render_to_string("agent/_message_menu.html", context)
    if request.htmx:
        return HttpResponse(html)
    return HttpResponse(render_inbox(request, panel=SafeString(f'<div class="menu-page">{html}</div>'), reloads=False))


def _menu_context(
    request: AgentRequest, conversation: Conversation, found: Message | DeskEntry, page: str
) -> dict[str, Any]:
    """The context of the menu, without `back`. `page` is the URL of the conversation."""
    is_note = isinstance(found, DeskEntry)
    is_removed = not isinstance(found, DeskEntry) and found.is_removed
    by_agent = isinstance(found, DeskEntry) or found.author == Author.AGENT
    address, quote_page = reverse("agent:conversation", args=[conversation.pk]), f"{page}{'&' if '?' in page else '?'}"
    return {
        "message": found,
        "text": plain(found.content) if found.is_formatted else found.content,
        "here": request.get_full_path(),
        "csrf_token": get_token(request),
        "is_page": not request.htmx,
        "name": agent_avatar(found, request.agent).name if by_agent else str(conversation),
        "may_take_back": by_agent and not is_note and not is_removed and found.agent_id == request.agent.pk,
        "is_removed": is_removed,
        "is_note": is_note,
        "quote": quoting.quote(found),
        "quote_link": f"{quote_page}{'note=1&' if is_note else ''}quote={found.pk}&write=1#content",
        "link": request.build_absolute_uri(f"{address}?at={found.pk}#message-{found.pk}"),
    }
