"""Canned replies: the page that lists them, the form to edit one, and the list above the field of an answer."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from conversations.agent.access import AgentRequest, agent_required, opened_by_the_agent
from conversations.models import Agent, CannedReply, Conversation, Website
from conversations.models.canned_reply import MOST, NAME_LENGTH, VARIABLES, Filled, check_name, fill, unknown_variables
from conversations.models.message import MAX_LENGTH
from conversations.models.validation import check_content
from conversations.screen.paging import parse_number

ON_PAGE = 100
"""Replies on a page of the list."""

CHOICES = 100
"""Replies that the list above the field gets at once. If there are more, it asks again for those that match."""

MAX_QUERY = 100
"""Characters of a search."""

EXAMPLES = [f"{{{{ {name} }}}}" for name in VARIABLES]
NAMES = {
    "customer.name": gettext_lazy("The customer’s name is not known, so it was left out."),
    "agent.name": gettext_lazy("Your account has no name, so it was left out."),
    "website.name": gettext_lazy("The website has no name, so it was left out."),
}
"""What is said if a variable has no value."""


@agent_required
@require_safe
def page(request: AgentRequest) -> HttpResponse:
    """The agent's own canned replies and the shared ones, by name. `?q=` searches in names and texts."""
    query = _query(request)
    found = CannedReply.objects.visible_to(request.agent).matching(query).select_related("website").by_name()
    shown = Paginator(found, ON_PAGE).get_page(request.GET.get("page"))
    repeated = query if opened_by_the_agent(request) else ""  # a link on another site may have chosen it: see Filters
    context = {
        "searched": bool(query),
        "query": repeated,
        "shown": shown,
        "websites": Website.objects.visible_to(request.agent),
    }
    return render(request, "agent/replies.html", context)


@agent_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: AgentRequest) -> HttpResponse:
    """The form for a new reply."""
    return _edit(request, CannedReply(agent=request.agent))


@agent_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: AgentRequest, pk: int) -> HttpResponse:
    """The form for one of the agent's replies, or a shared one."""
    return _edit(request, _get_or_404(request, pk))


@agent_required
@require_POST
def delete(request: AgentRequest, pk: int) -> HttpResponse:
    """Delete a reply."""
    reply = _get_or_404(request, pk)
    reply.delete()
    messages.success(request, _("%(name)s is deleted.") % {"name": reply})
    return redirect("agent:replies")


class CannedReplyForm(forms.Form):
    """A canned reply, with the rules of `models.canned_reply`."""

    name = forms.CharField(strip=False, required=False)
    content = forms.CharField(strip=False, required=False)
    website = forms.CharField(required=False)
    shared = forms.BooleanField(required=False)

    def __init__(self, data: Any, *, reply: CannedReply, agent: Agent, websites: list[Website]) -> None:
        """`websites` are those that the agent sees."""
        self.reply, self.agent, self.websites = reply, agent, websites
        chosen = next((website.key for website in websites if website.pk == reply.website_id), "")
        initial = {"name": reply.name, "content": reply.content, "website": chosen, "shared": reply.is_shared}
        super().__init__(data, initial=initial)

    def clean_name(self) -> str:
        """The name on one line, without spaces."""
        return _checked(check_name, self.cleaned_data["name"])

    def clean_content(self) -> str:
        """The text, which may name only variables that exist."""
        text = _checked(check_content, self.cleaned_data["content"].replace("\r\n", "\n"))
        if unknown := unknown_variables(text):
            error = _("%(variable)s does not exist. You can use %(known)s.")
            raise forms.ValidationError(
                error
                % {"variable": unknown[0], "known": ", ".join(EXAMPLES).replace("{ ", "{\xa0").replace(" }", "\xa0}")}
            )
        return text

    def clean_website(self) -> Website | None:
        """The website, or None for all."""
        key = self.cleaned_data["website"]
        found = next((website for website in self.websites if website.key == key), None)
        if key and found is None:
            raise forms.ValidationError(_("There is no such website."))
        return found

    def clean(self) -> dict[str, Any]:
        """Check the whole: who may share what, that the name is free, and that there are not too many."""
        values = self.cleaned_data
        if self.errors:
            return values
        owner = None if values["shared"] else self.agent
        if owner is None and values["website"] is None and self.agent.is_limited:
            self.add_error("website", _("Choose one of your websites to share a reply there."))
            return values
        others = CannedReply.objects.owned_by(owner).exclude(pk=self.reply.pk)
        if others.filter(name__iexact=values["name"], website=values["website"]).exists():
            self.add_error("name", _("There is already a reply with this name."))
        elif others.count() >= MOST:
            error = _("There are %(most)s replies already. Delete one first.")
            self.add_error(None, error % {"most": number_format(MOST, force_grouping=True)})
        return values

    def save(self) -> CannedReply:
        """Save the reply."""
        values = self.cleaned_data
        self.reply.name, self.reply.content = values["name"], values["content"]
        self.reply.website = values["website"]
        self.reply.agent = None if values["shared"] else self.agent
        self.reply.save()
        return self.reply


def _checked(check: Any, text: str) -> str:
    try:
        checked: str = check(text)
    except ValueError as error:
        raise forms.ValidationError(str(error)) from error
    return checked


def _edit(request: AgentRequest, reply: CannedReply) -> HttpResponse:
    websites = Website.objects.visible_to(request.agent)
    form = CannedReplyForm(request.POST or None, reply=reply, agent=request.agent, websites=websites)
    if request.method == "POST" and form.is_valid():
        messages.success(request, _("%(name)s is saved.") % {"name": form.save()})
        return redirect("agent:replies")
    context = {
        "form": form,
        "reply": reply,
        "websites": websites,
        "variables": EXAMPLES,
        "name_length": NAME_LENGTH,
        "most": MAX_LENGTH,
    }
    return render(request, "agent/reply.html", context, status=422 if request.method == "POST" else 200)


def _get_or_404(request: AgentRequest, pk: int) -> CannedReply:
    reply = CannedReply.objects.editable_by(request.agent).filter(pk=pk).first()
    if reply is None:
        raise Http404
    return reply


def _query(request: AgentRequest) -> str:
    """The text to search for."""
    return request.GET.get("q", "").strip()[:MAX_QUERY]


@agent_required
@require_safe
def choices(request: AgentRequest, pk: int) -> HttpResponse:
    """The replies for a conversation, with their variables filled in. `?q=` narrows them."""
    conversation = request.agent.visible_conversations().by_id(pk, "website")
    if conversation is None:
        raise Http404
    found = list(_usable(request.agent, conversation).matching(_query(request))[: CHOICES + 1])
    values = _values(request.agent, conversation)
    shown = [(reply, filled := fill(reply.content, values), _notice(filled)) for reply in found[:CHOICES]]
    return render(request, "agent/_replies.html", {"shown": shown, "more": len(found) > CHOICES})


def render_options(agent: Agent, conversation: Conversation) -> SafeString:
    """The replies for a conversation as options of a select element; "" if there are none."""
    replies = list(_usable(agent, conversation).only("pk", "name"))
    return render_to_string("agent/_reply_options.html", {"replies": replies}) if replies else SafeString()


def inserted(request: AgentRequest, conversation: Conversation) -> tuple[str, str]:
    """The text of the answer form with the chosen reply after it, and what is to be said of it, or ""."""
    text = request.POST.get("content", "").replace("\r\n", "\n")
    chosen = parse_number(request.POST.get("reply", ""))
    reply = _usable(request.agent, conversation).filter(pk=chosen).first() if chosen is not None else None
    if reply is None:
        return text, _("Choose a canned reply first.")
    filled = fill(reply.content, _values(request.agent, conversation))
    return "\n".join(filter(None, [text, filled.text])), _notice(filled)


def _usable(agent: Agent, conversation: Conversation) -> Any:
    return CannedReply.objects.visible_to(agent).for_website(conversation.website_id).by_name()


def _values(agent: Agent, conversation: Conversation) -> dict[str, str]:
    website = Website.objects.by_id(conversation.website_id)
    return {
        "customer.name": conversation.customer_name,
        "agent.name": agent.get_full_name(),
        "website.name": website.name,
    }


def _notice(filled: Filled) -> str:
    """What the agent has to know of a text before it is sent, or ""."""
    unknown = [
        _("%(variable)s does not exist, so it was not filled in.") % {"variable": each} for each in filled.unknown
    ]
    return " ".join([*unknown, *(str(NAMES[name]) for name in filled.empty)])
