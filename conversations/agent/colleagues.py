"""The list of colleagues above the field of a note: whom it may mention."""

from django.db.models import Q
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from conversations.agent.access import AgentRequest, agent_required
from conversations.models import Agent, Website

CHOICES = 100
"""Colleagues that the list gets at once. If there are more, it asks again for those that match."""

MAX_QUERY = 150
"""Characters of a search: those of a username."""


@agent_required
@require_safe
def choices(request: AgentRequest, pk: int) -> HttpResponse:
    """The agents who see a conversation, without this one. `?q=` narrows them."""
    conversation = request.agent.visible_conversations().by_id(pk)
    if conversation is None:
        raise Http404
    found = Agent.objects.with_access_to(Website.objects.by_id(conversation.website_id)).exclude(pk=request.agent.pk)
    if query := request.GET.get("q", "").strip()[:MAX_QUERY]:
        named = (Q(**{f"{field}__icontains": query}) for field in ("username", "first_name", "last_name"))
        found = found.filter(next(named) | next(named) | next(named))
    shown = list(found[: CHOICES + 1])
    return render(request, "agent/_colleagues.html", {"shown": shown[:CHOICES], "more": len(shown) > CHOICES})
