"""What was just done, in a sentence, with a form that undoes it.

Without scripts the page on which it stands is another request: its address has it, signed, as `done`.
"""

from urllib.parse import urlencode

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from conversations.actions.change import Changed
from conversations.agent.access import AgentRequest
from conversations.agent.filters import Filters

UNDO_SECONDS = 3600
"""How long an undo is accepted. The page offers it for 10 seconds; without scripts it stays on the page."""

SALT, NOTICE_SALT = "conversations.agent.changes", "conversations.agent.done"


def render_notice(request: HttpRequest, sentence: str, changed: list[Changed], opened: int | None = None) -> SafeString:
    """The sentence and, if something has changed, the form. `opened`: the conversation whose page comes after it."""
    filters = Filters.from_request(request)
    return render_to_string(
        "agent/_undo.html",
        {
            "sentence": sentence,
            "changed": signing.dumps([list(each) for each in changed], salt=SALT, compress=True) if changed else "",
            "to": with_parameters(reverse("agent:undo") + filters.query, {"open": opened} if opened else {}),
            "csrf_token": get_token(request),
        },
    )


def read_changed(text: str) -> list[Changed]:
    """What the form says. Raises signing.BadSignature if it is too old, or not ours."""
    return [Changed(*row) for row in signing.loads(text, salt=SALT, max_age=UNDO_SECONDS)]


def go(request: AgentRequest, url: str, sentence: str, changed: list[Changed], opened: int) -> HttpResponse:
    """Go to a page of the inbox, which then says what was done with the conversation `opened`."""
    notice = [sentence, [list(each) for each in changed], opened]
    return redirect(with_parameters(url, {"done": signing.dumps(notice, salt=_notice_salt(request), compress=True)}))


def notice_of(request: AgentRequest) -> SafeString | None:
    """What the address of this page says that the agent has done. It says nothing to others."""
    try:
        sentence, rows, opened = signing.loads(request.GET["done"], salt=_notice_salt(request), max_age=UNDO_SECONDS)
    except (KeyError, signing.BadSignature):
        return None
    return render_notice(request, sentence, [Changed(*row) for row in rows], opened)


def _notice_salt(request: AgentRequest) -> str:
    return f"{NOTICE_SALT}.{request.agent.pk}"


def with_parameters(url: str, parameters: dict[str, int | str]) -> str:
    """The URL with more query parameters."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}" if parameters else url
