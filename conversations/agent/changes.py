"""Changes of one conversation or of several that are selected in the list: the menus for them, and undoing them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.core import signing
from django.http import HttpResponse, QueryDict
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from conversations import actions
from conversations.actions import LabelRefused
from conversations.actions.change import Change, Changed, change, undo
from conversations.actions.snooze import MAX_SNOOZE
from conversations.agent import done
from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.chips import chips_by_id
from conversations.agent.filters import Filters
from conversations.agent.inbox import MAX_ROWS, render_inbox
from conversations.agent.panel import render_header_apart
from conversations.agent.time_zone import zone_of
from conversations.models import Agent, Conversation, Label
from conversations.models.agent_profile import picture_of
from conversations.screen.avatars import Avatar
from conversations.screen.paging import parse_number

TITLES = {
    "assign": pgettext_lazy("conversation", "Assign"),
    "label": gettext_lazy("Labels"),
    "priority": gettext_lazy("Priority"),
    "snooze": pgettext_lazy("conversation", "Snooze"),
}
"""The menus and their titles."""


class Refused(Exception):
    """A form that cannot be understood or carried out; its text says why, for people."""


@dataclass(frozen=True)
class Selected:
    """The conversations of a request that the agent may see, each with the last message on the agent's screen."""

    last_seen: dict[int, int | None]

    @classmethod
    def of(cls, request: AgentRequest, values: QueryDict) -> "Selected":
        """Read the values `pk`, as in "12" or "12-345" with the last message, which may also be in `last`."""
        last_seen, newest = {}, parse_number(values.get("last", ""))
        for text in values.getlist("pk")[:MAX_ROWS]:
            number, _dash, last = text.partition("-")
            pk = parse_number(number)
            if pk is not None:
                last_seen[pk] = parse_number(last) if newest is None else newest
        visible = request.agent.visible_conversations().visible_ids(last_seen) if last_seen else []
        return cls({pk: last_seen[pk] for pk in visible})

    @property
    def values(self) -> list[str]:
        """The values for the next form."""
        return [f"{pk}" if last is None else f"{pk}-{last}" for pk, last in self.last_seen.items()]


class Moment(NamedTuple):
    """A moment until which conversations can be snoozed."""

    name: str
    value: str
    at: datetime


@agent_required
@require_http_methods(["GET", "POST"])
def changes(request: AgentRequest) -> HttpResponse:
    """Change the conversations `pk`, or show the menu `menu` for them. Only a POST changes them."""
    selected = Selected.of(request, request.POST if request.method == "POST" else request.GET)
    if request.method == "GET" or "menu" in request.POST:
        return _menu_response(request, selected)
    if not selected.last_seen:
        return _refused(request, _("Select at least one conversation."))
    try:
        wanted = _wanted(request)
    except (Refused, LabelRefused) as error:
        return _refused(request, str(error))
    changed, unseen = change(last_seen=selected.last_seen, change=wanted, by=request.agent)
    return _done(request, summary(wanted, changed, unseen), changed)


@agent_required
@require_POST
def undo_changes(request: AgentRequest) -> HttpResponse:
    """Change back what is still as it was left."""
    try:
        changed = done.read_changed(request.POST.get("changed", ""))
    except signing.BadSignature:
        return _refused(request, _("This can no longer be undone."))
    visible = set(request.agent.visible_conversations().visible_ids([each.pk for each in changed]))
    count = undo(changed=[each for each in changed if each.pk in visible], by=request.agent)
    sentence = ngettext("Undone for %(count)s conversation.", "Undone for %(count)s conversations.", count) % {
        "count": count
    }
    return _done(request, sentence if count else _("Nothing to undo: it has been changed since."), [])


def _wanted(request: AgentRequest) -> Change:
    """What a form asks for. Raises Refused and LabelRefused."""
    form = request.POST
    if "assignee" in form:
        return Change("assignee", _number(form["assignee"]))
    if "priority" in form:
        priority = _number(form["priority"])
        if priority not in {None, *Conversation.Priority.values}:
            raise Refused(_("Choose what to change."))
        return Change("priority", priority)
    if "status" in form:
        if form["status"] not in Conversation.Status.values:
            raise Refused(_("Choose what to change."))
        return Change("status", form["status"])
    if "until" in form or form.get("at"):
        return Change("snoozed", _until(request.agent, form))
    if "add" in form or "remove" in form:
        return Change("labels", add=parse_number(form.get("add", "")), remove=parse_number(form.get("remove", "")))
    if "name" in form:
        return Change("labels", add=actions.create_label(name=form["name"], colour=form.get("colour", "")).pk)
    raise Refused(_("Choose what to change."))


def _number(text: str) -> int | None:
    """The number in a text, None for an empty one, which takes a value away. Raises Refused."""
    number = parse_number(text)
    if text and number is None:
        raise Refused(_("Choose what to change."))
    return number


def _until(agent: Agent, form: QueryDict) -> str | None:
    """Until when to snooze, in ISO 8601; None to end it. Raises Refused."""
    text = form.get("until", "")
    if "until" in form and not text:
        return None
    try:
        moment = datetime.fromisoformat(text or form.get("at", ""))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone_of(agent, form))
        now = timezone.now()
        if moment <= now:  # when the clock is put back, an hour comes twice
            moment = moment.replace(fold=1)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(_("Enter a date and a time.")) from None
    if moment <= now:
        raise Refused(_("This moment is in the past. Choose a later one."))
    if moment > now + MAX_SNOOZE:
        raise Refused(_("This is too far in the future. Choose an earlier date."))
    return moment.isoformat()


def moments(now: datetime) -> list[Moment]:
    """The moments that the menu offers, in the time zone of `now`."""
    tomorrow = (now + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
    monday = tomorrow + timedelta(days=-tomorrow.weekday() % 7)
    found = [
        # Added in UTC: in one time zone, Python moves the hands of the clock, also past a change of the clock.
        (_("In an hour"), (now.astimezone(UTC) + timedelta(hours=1)).astimezone(now.tzinfo)),
        (_("Tomorrow, 9:00"), tomorrow),
        (_("Monday, 9:00"), monday if monday != tomorrow else monday + timedelta(days=7)),
    ]
    return [Moment(name, at.isoformat(timespec="minutes"), at) for name, at in found]


def _menu_response(request: AgentRequest, selected: Selected) -> HttpResponse:
    values = request.POST if request.method == "POST" else request.GET
    menu = values.get("menu", "")
    if menu not in TITLES or not selected.last_seen:
        return _refused(request, _("Select at least one conversation."))
    html = render_to_string("agent/_menu.html", _menu_context(request, selected, menu, values))
    if request.htmx:
        return HttpResponse(html)
    return HttpResponse(render_inbox(request, panel=SafeString(f'<div class="menu-page">{html}</div>'), reloads=False))


def _menu_context(request: AgentRequest, selected: Selected, menu: str, values: QueryDict) -> dict[str, Any]:
    found = list(request.agent.visible_conversations().filter(pk__in=selected.last_seen).select_related("website"))
    only, count = found[0] if len(found) == 1 else None, len(found)
    opened: dict[str, int | str] = {"open": only.pk} if only and "open" in values else {}
    query = Filters.from_request(request).query
    context: dict[str, Any] = {
        "menu": menu,
        "title": TITLES[menu],
        "selected": selected.values,
        "csrf_token": get_token(request),
        "to": done.with_parameters(reverse("agent:changes") + query, opened),
        "back": reverse("agent:conversation", args=[only.pk]) + query if only and opened and not request.htmx else "",
        "subject": str(only)
        if only
        else ngettext("%(count)s conversation", "%(count)s conversations", count) % {"count": count},
    }
    if menu == "assign":
        agents = Agent.objects.with_access_to(only.website) if only else Agent.objects.colleagues_of(request.agent)
        assignees = {each.assignee_id for each in found}
        context["agents"] = [
            {
                "pk": each.pk,
                "name": _("Me") if each.pk == request.agent.pk else str(each),
                "avatar": Avatar.of(str(each), picture_of(each)),
                "is_chosen": assignees == {each.pk},
            }
            for each in sorted(agents, key=lambda each: each.pk != request.agent.pk)
        ]
        context["is_unassigned"] = assignees == {None}
    elif menu == "label":
        having = [set(each.labels) for each in found]
        chips = chips_by_id()
        context["labels"] = sorted(
            ({"chip": chip, "is_chosen": all(chip.pk in its for its in having)} for chip in chips.values()),
            key=lambda each: not each["is_chosen"],
        )
        context["colours"] = Label.Colour.choices
    elif menu == "priority":
        chosen = {each.priority for each in found}
        context["priorities"] = [
            (each.value, each.label, chosen == {each.value}) for each in reversed(Conversation.Priority)
        ]
        context["has_none"] = chosen == {None}
    else:
        zone = zone_of(request.agent, values)
        context["zone"] = zone.key
        context["moments"] = moments(timezone.now().astimezone(zone))
        context["earliest"] = timezone.now().astimezone(zone).strftime("%Y-%m-%dT%H:%M")
        context["is_snoozed"] = any(each.is_snoozed for each in found)
    return context


def summary(wanted: Change, changed: list[Changed], unseen: int = 0) -> str:
    """What was done, in a sentence. `unseen`: how many were left as they were, because they have a new message."""
    count = len(changed)
    counted = ngettext("%(count)s conversation", "%(count)s conversations", count) % {"count": count}
    if unseen:
        left = ngettext(
            "%(count)s stays open: it has a new message.", "%(count)s stay open: they have new messages.", unseen
        ) % {"count": unseen}
    if not changed:
        return left if unseen else _("Nothing has changed.")
    if wanted.field == "assignee":
        name = _agent_name(wanted.value)
        sentence = _("Assigned to %(name)s: %(what)s.") if name else _("Unassigned: %(what)s.")
        done = sentence % {"name": name, "what": counted}
    elif wanted.field == "status":
        closed = wanted.value == Conversation.Status.CLOSED
        done = (_("Closed: %(what)s.") if closed else _("Reopened: %(what)s.")) % {"what": counted}
    elif wanted.field == "snoozed":
        done = (_("Snoozed: %(what)s.") if wanted.value else _("No longer snoozed: %(what)s.")) % {"what": counted}
    elif wanted.field == "priority":
        done = _("Priority changed: %(what)s.") % {"what": counted}
    else:
        done = (_("Label added: %(what)s.") if wanted.add else _("Label removed: %(what)s.")) % {"what": counted}
    return f"{done} {left}" if unseen else done


def _agent_name(pk: Any) -> str:
    agent = Agent.objects.filter(pk=pk).first() if pk else None
    return str(agent) if agent else ""


def _done(request: AgentRequest, sentence: str, changed: list[Changed]) -> HttpResponse:
    """What was done, with a form that undoes it: for htmx with the header of the shown conversation, else a page."""
    if opened := _opened(request):
        return _go_back(request, opened, sentence, changed)
    notice = done.render_notice(request, sentence, changed)
    if request.htmx:
        header = _shown_header(request)  # here, because the page would wait longer for another request
        triggers = "inbox, about" if header else "inbox, state"
        return HttpResponse(notice + header, headers={"HX-Trigger": triggers, "HX-Retarget": "#done"})
    return HttpResponse(render_inbox(request, notice=notice))


def _shown_header(request: AgentRequest) -> SafeString:
    """The header of the conversation whose page sends this request; empty if there is none, or it was deleted."""
    found = re.search(r"/inbox/(\d+)/", request.htmx.current_url or "")
    pk = parse_number(found[1]) if found else None
    conversation = request.agent.visible_conversations().by_id(pk, "assignee") if pk else None
    return render_header_apart(request, conversation) if conversation else SafeString()


def _refused(request: AgentRequest, sentence: str) -> HttpResponse:
    if request.htmx:
        return HttpResponse(sentence, status=422, content_type="text/plain; charset=utf-8")
    if opened := _opened(request):
        return _go_back(request, opened, sentence, [])
    notice = render_to_string("agent/_undo.html", {"sentence": sentence, "changed": ""})
    return HttpResponse(render_inbox(request, notice=notice), status=422)


def _opened(request: AgentRequest) -> int | None:
    """The conversation whose page a form without scripts comes from."""
    return None if request.htmx else parse_number(request.GET.get("open", ""))


def _go_back(request: AgentRequest, opened: int, sentence: str, changed: list[Changed]) -> HttpResponse:
    url = reverse("agent:conversation", args=[opened]) + Filters.from_request(request).query
    return done.go(request, url, sentence, changed, opened)
