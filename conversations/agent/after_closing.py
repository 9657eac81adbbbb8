"""Where an agent is after closing a conversation: a choice of theirs."""

import json

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters, Site
from conversations.models import AgentProfile, Conversation, Cursor, Mention, Website


@agent_required
@require_POST
def choose(request: AgentRequest) -> HttpResponse:
    """Keep the choice `then`, and show the list again."""
    choice = request.POST.get("then", "")
    if choice not in AgentProfile.AfterClosing.values:
        return HttpResponse("then is stay, next or list.", status=422, content_type="text/plain")
    AgentProfile.objects.change(request.agent, after_closing=choice)
    return redirect(reverse("agent:inbox") + Filters.from_request(request).query)


def find_next(request: AgentRequest, conversation: Conversation) -> int | None:
    """The conversation below this one in the agent's list or, if it is the last one, the first; None if it is alone.

    `conversation` is as it was before it was closed.
    """
    filters, agent = Filters.from_request(request), request.agent
    view = filters.view(agent.pk, Site.all_of(Website.objects.visible_to(agent)))
    cursor: Cursor | None = Cursor(conversation.last_message_id)
    if view.mentioned:
        cursor = Cursor(Mention.objects.newest(agent, conversation.pk))
    if view.status == "snoozed" or view.order == "waiting":
        moment = conversation.snoozed_until if view.status == "snoozed" else conversation.waiting_since
        cursor = Cursor(conversation.pk, moment) if moment else None
    everything = agent.visible_conversations()
    found = everything.inbox(agent, view, 1, cursor) or everything.inbox(agent, view, 2)
    return next((entry.pk for entry in found if entry.pk != conversation.pk), None)


def next_url(request: AgentRequest, next_one: int | None) -> str:
    """The page of the next conversation or, if there is none, of the list."""
    page = reverse("agent:conversation", args=[next_one]) if next_one else reverse("agent:inbox")
    return page + Filters.from_request(request).query


def leave(request: AgentRequest, next_one: int | None, notice: str) -> HttpResponse:
    """With htmx, say what was done, and let the script go there. Not by HX-Location: htmx then shows no content."""
    place = {"path": next_url(request, next_one), "select": None if next_one else "#conversation > *"}
    triggers = {"inbox": "", "left": place}
    return HttpResponse(notice, headers={"HX-Retarget": "#done", "HX-Trigger": json.dumps(triggers)})
