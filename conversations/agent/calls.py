"""What an agent's page calls them for, by a sound or on their desktop: static/js/desk-notices.js asks."""

from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.time_zone import zone_of
from conversations.models.call import Call, calls
from conversations.screen.paging import query_number


@agent_required
@require_GET
def since(request: AgentRequest) -> HttpResponse:
    """What the agent is called for since the id `since`, as JSON; without it, only the id of the newest message.

    `quiet` says that these are the agent's quiet hours.
    """
    agent, after = request.agent, query_number(request, "since")
    last = agent.visible_conversations().last_message_id()  # before: what comes meanwhile is found the next time, too
    found = [] if after is None else calls(agent, after)
    return JsonResponse(
        {
            "last": max([last, *(call.last for call in found)]),
            "quiet": agent.preferences.is_quiet(timezone.now().astimezone(zone_of(agent, request.GET))),
            "calls": [{"conversation": call.conversation, "last": call.last, "text": _text(call)} for call in found],
        }
    )


def _text(call: Call) -> str:
    """A sentence for a lock screen, so without what was written."""
    if call.why == "assigned":
        return _("Assigned to you: %(name)s") % {"name": call.name}
    if call.why == "mention":
        return _("A colleague mentions you: %(name)s") % {"name": call.name}
    return _("New message from %(name)s") % {"name": call.name}
