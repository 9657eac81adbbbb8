"""The preview of what an agent writes: as the customer will see it."""

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from conversations.agent.access import AgentRequest, agent_required
from conversations.models.formatted import render_once
from conversations.models.validation import check_content
from conversations.models.visible_text import is_blank
from conversations.screen.bubbles import EMOJI_ONLY
from conversations.threshold import limits


@agent_required
@require_POST
def preview(request: AgentRequest) -> HttpResponse:
    """Show `content` as its readers will see it; nothing for a blank text."""
    try:
        limits.enforce("previews of one agent", request.agent.pk)
        html = show(request.POST.get("content", ""))
    except limits.RateLimitExceeded as error:
        response = HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8")
        response["Retry-After"] = str(error.retry_after)
        return response
    except ValueError as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    return HttpResponse(html)


def show(text: str) -> SafeString:
    """A message with this text, or "" for a blank one. Raises ValueError if it is too long."""
    if is_blank(text):
        return SafeString()
    content = check_content(text.replace("\r\n", "\n"))
    context = {"text": render_once(content).html, "is_emoji": EMOJI_ONLY.fullmatch(content) is not None}
    return render_to_string("agent/_preview.html", context)
