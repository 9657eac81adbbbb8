"""The form beside a conversation that corrects the customer's name and e-mail address."""

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from conversations import actions
from conversations.agent import conversation as pages
from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.filters import Filters
from conversations.agent.panel import render_details
from conversations.models.validation import check_email, check_name
from conversations.presence import visitor


@agent_required
@require_POST
def correct(request: AgentRequest, pk: int) -> HttpResponse:
    """Set the name and the e-mail address to `name` and `email`."""
    conversation = request.agent.visible_conversations().by_id(pk, *pages.RELATED)
    if conversation is None:
        raise Http404
    try:
        name, email = check_name(request.POST.get("name", "")), check_email(request.POST.get("email", ""))
    except ValueError as error:
        if request.htmx:
            return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
        return pages.render_page(request, conversation, error=str(error), status=422)
    actions.correct(conversation=conversation, name=name, email=email, by=request.agent)
    if not request.htmx:
        return redirect(reverse("agent:conversation", args=[pk]) + Filters.from_request(request).query)
    conversation = request.agent.visible_conversations().by_id(pk, *pages.RELATED) or conversation
    details = render_details(request, conversation, visitor.get(pk))
    return HttpResponse(details, headers={"HX-Trigger": "inbox, state, messages"})
