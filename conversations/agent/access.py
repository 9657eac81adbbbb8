"""Lets agents in to their pages, and nobody else."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django_htmx.middleware import HtmxDetails

from conversations.models import Agent


class AgentRequest(HttpRequest):
    """A request with the agent who makes it."""

    agent: Agent
    htmx: HtmxDetails


def agents_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Give the view `request.agent`.

    Who is not signed in is sent to the sign-in page, or gets 401 where it is htmx that asks: the page then says so
    itself, and nothing that was typed is lost. Who is signed in but no agent gets 403.
    """

    @wraps(view)
    def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        agent = Agent.objects.for_user(request.user)
        if agent is not None:
            request.agent = agent
            return view(request, *args, **kwargs)
        if request.htmx:
            return HttpResponse(_("You are signed out."), status=401, content_type="text/plain")
        if request.user.is_authenticated:
            raise PermissionDenied(_("Your account is not an agent's. Ask whoever runs this Chatsite to make it one."))
        return redirect_to_login(request.get_full_path())

    return guarded
