"""Drafts of answers and of notes, which an agent's other devices have too."""

from datetime import timedelta

from django.db import IntegrityError
from django.http import Http404, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from conversations.agent.access import AgentRequest, agent_required
from conversations.models import Draft
from conversations.models.draft import Kept
from conversations.models.validation import check_content
from conversations.models.visible_text import is_blank
from conversations.screen.paging import parse_number, query_number

MAX_AGE = 30 * 24 * 3600 * 1000
"""Milliseconds since a draft was typed. More than that counts as this."""


@never_cache
@agent_required
@require_http_methods(["GET", "HEAD", "POST"])
def draft(request: AgentRequest, pk: int, *, is_note: bool = False) -> HttpResponse:
    """The agent's draft of an answer, or of a note, as plain text. `X-Draft` is its version, 0 for none.

    GET `?version=`: 204 if the draft still has this version.
    POST `content`, `version`, `age`: keep what was typed `age` milliseconds ago, after this version of the draft. 204
    if it is kept; 200 with the draft of another device that it has replaced; 409 with that of another device if that
    was typed later, which then stays.
    """
    if request.agent.visible_conversations().by_id(pk) is None:
        raise Http404
    if request.method == "POST":
        return _post(request, pk, is_note)
    found = Draft.objects.one(request.agent, pk, is_note=is_note)
    version, content = (found.version, found.content) if found else (0, "")
    if version == query_number(request, "version"):
        return _response("", version, 204)
    return _response(content, version, 200)


def _post(request: AgentRequest, pk: int, is_note: bool) -> HttpResponse:
    text = request.POST.get("content", "").replace("\r\n", "\n")
    known, age = (parse_number(request.POST.get(name) or "0") for name in ("version", "age"))
    if known is None or age is None:
        return HttpResponse("version and age are numbers.", status=422, content_type="text/plain")
    try:
        content = "" if is_blank(text) else check_content(text)
    except ValueError as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    kept = _keep(request, pk, content, min(age, MAX_AGE), known, is_note)
    if not kept.is_newest:
        return _response(kept.other, kept.version, 409)
    return _response(kept.other, kept.version, 200 if kept.other else 204)


def _keep(request: AgentRequest, pk: int, content: str, age: int, known: int, is_note: bool, tries: int = 2) -> Kept:
    typed_at = timezone.now() - timedelta(milliseconds=age)
    try:
        return Draft.objects.keep(request.agent, pk, content, typed_at=typed_at, known=known, is_note=is_note)
    except IntegrityError:  # another device has begun one at this moment, or the conversation was deleted
        if tries == 1:
            raise Http404 from None
        return _keep(request, pk, content, age, known, is_note, tries - 1)


def _response(text: str, version: int, status: int) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["X-Draft"] = str(version)
    return response
