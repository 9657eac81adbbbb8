"""Views of the list that agents save under a name."""

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_POST

from conversations.actions.delete_view import delete_view
from conversations.actions.save_view import ViewRefused, save_view
from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters
from conversations.agent.inbox import render_inbox


@agent_required
@require_POST
def save(request: AgentRequest) -> HttpResponse:
    """Save the list of this query string, and show it."""
    query = Filters.from_request(request).first_page
    try:
        save_view(name=request.POST.get("name", ""), query=query[1:], by=request.agent, for_team="team" in request.POST)
    except ViewRefused as error:
        notice = render_to_string("agent/_undo.html", {"sentence": str(error), "changed": ""})
        return HttpResponse(render_inbox(request, notice=notice), status=422)
    return redirect(reverse("agent:inbox") + query)


@agent_required
@require_POST
def delete(request: AgentRequest, pk: int) -> HttpResponse:
    """Delete a saved view: one's own, or one of the team. It may be gone already."""
    if not delete_view(pk=pk, by=request.agent):
        raise Http404
    return redirect(reverse("agent:inbox") + Filters.from_request(request).query)
