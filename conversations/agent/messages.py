"""What an agent can do with one message: take it back, and copy a link to it."""

from django.http import Http404, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods

from conversations import actions
from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters
from conversations.agent.inbox import render_inbox
from conversations.models import Author, Conversation, Message
from conversations.models.settling import catch_up
from conversations.screen.bubbles import agent_avatar


@agent_required
@require_http_methods(["GET", "POST"])
def message(request: AgentRequest, pk: int, number: int) -> HttpResponse:
    """GET: the menu of a message, with its time, a link to it and, for its author, the question to take it back.

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
    found = Message.objects.one(pk, number)
    if found is None:
        raise Http404
    is_own = found.author == Author.AGENT and found.agent_id == request.agent.pk
    context = {
        "message": found,
        "here": request.get_full_path(),
        "csrf_token": get_token(request),
        "is_page": not request.htmx,
        "name": agent_avatar(found, request.agent).name if found.author == Author.AGENT else str(conversation),
        "may_take_back": is_own and not found.is_removed,
        "back": back,
        "link": request.build_absolute_uri(f"{reverse('agent:conversation', args=[pk])}?at={number}#message-{number}"),
    }
    html = render_to_string("agent/_message_menu.html", context)
    if request.htmx:
        return HttpResponse(html)
    return HttpResponse(render_inbox(request, panel=SafeString(f'<div class="menu-page">{html}</div>'), reloads=False))
