"""Access control of the agents' pages."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django_htmx.middleware import HtmxDetails

from conversations.models import Agent, SignIn
from conversations.screen.compression import compress
from conversations.threshold.origin import is_cross_origin


class AgentRequest(HttpRequest):
    """A request of a signed-in agent."""

    agent: Agent
    htmx: HtmxDetails


def opened_by_the_agent(request: Any) -> bool:
    """Return whether the agent opened this page from one of our pages or by its URL. Only then does a GET mark as read.

    A link on another site, or a prefetch by the browser, must not mark as read. Where the browser sends no fetch
    metadata (https://www.w3.org/TR/fetch-metadata/), as on plain http, the page's script marks as read.
    """
    if request.htmx or request.method == "POST":  # no page of another site can send these
        return True
    prefetched = "prefetch" in request.headers.get("Sec-Purpose", "")
    return request.headers.get("Sec-Fetch-Site") in {"same-origin", "none"} and not prefetched


def agent_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Require a signed-in agent, and give the view `request.agent`. It runs in the agent's language and time zone.

    Anonymous users are redirected to the sign-in page. A request of htmx gets 401 instead: the page shows that,
    and keeps what was typed. Signed-in users who are not agents get 403.
    """

    @wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        agent = Agent.objects.for_user(request.user)
        if agent is not None:
            request.agent = agent
            if request.session.session_key and not is_cross_origin(request):
                SignIn.objects.note(agent, request.session.session_key, request.headers.get("User-Agent", ""))
            if agent.preferences.language in dict(settings.LANGUAGES):  # until the next request chooses its own
                translation.activate(agent.preferences.language)
                request.LANGUAGE_CODE = translation.get_language()
            with timezone.override(agent.preferences.zone) if agent.preferences.zone else nullcontext():
                return view(request, *args, **kwargs)
        if request.htmx:
            return HttpResponse(_("You are signed out."), status=401, content_type="text/plain")
        if request.user.is_authenticated:
            raise PermissionDenied(_("Your account is not an agent account. Ask your administrator to make it one."))
        return redirect_to_login(request.get_full_path())

    return wrapper


def compressed_if_opened(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Compress a whole page that the agent opens, and nothing that it fetches by itself: see screen/compression.py."""

    @wraps(view)
    def wrapper(request: AgentRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        is_opened = not request.htmx and opened_by_the_agent(request)
        return compress(request, response) if is_opened else response

    return wrapper
