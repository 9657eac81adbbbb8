"""The API's calls about agents: who the caller is, and to whom a conversation can be assigned."""

from typing import Any

from django.http import HttpRequest
from ninja import Router

from conversations.api.authentication import AgentSession, AgentToken, agent_of
from conversations.api.schemas import AgentsOut, ErrorOut, MeOut, WebsiteKey
from conversations.models import Agent, Website
from conversations.models.agent import public_name
from conversations.presence import agents

router = Router(auth=[AgentToken(), AgentSession()])


@router.get("agents/", summary="List agents", response={200: AgentsOut, 401: ErrorOut})
def list_agents(request: HttpRequest, website: WebsiteKey | None = None) -> dict[str, Any]:
    """The agents who see a website that you see too, by name; with `website`, those who see this one."""
    found = list(Agent.objects.colleagues_of(agent_of(request), website))
    online = {agent.pk for agent in agents.online(found)}
    items = [{"id": agent.pk, "name": str(agent), "online": agent.pk in online} for agent in found]
    return {"items": items, "count": len(items)}


@router.get("me/", summary="Say who is calling", response={200: MeOut, 401: ErrorOut})
def read_me(request: HttpRequest) -> dict[str, Any]:
    """The agent whose token or session you use."""
    agent = agent_of(request)
    return {
        "id": agent.pk,
        "name": str(agent),
        "public_name": public_name(agent),
        "websites": [website.key for website in Website.objects.visible_to(agent)],
        "read_only": request.auth.by_read_only_token,  # type: ignore[attr-defined]  # set by ninja
    }
