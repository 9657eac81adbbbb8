"""Notes and activities on an agent's screen."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from conversations.models import Agent, Conversation, DeskEntry
from conversations.models.agent_profile import picture_of
from conversations.models.desk_entry import Kind
from conversations.screen.avatars import Avatar
from conversations.screen.mentions import show_note
from conversations.screen.prepared_templates import PreparedTemplate

NOTE = PreparedTemplate(
    "agent/_note.html",
    *("pk", "client_id", "day", "hue", "initials", "picture", "name", "text", "source", "moment", "time", "menu"),
)
ACTIVITY = PreparedTemplate("agent/_activity.html", "pk", "day", "what", "moment", "time")


class NoteKind(NamedTuple):
    """What decides how a note looks."""

    from_reader: bool


class ActivityKind(NamedTuple):
    """All activities look the same."""


@dataclass(frozen=True)
class DeskRow:
    """A note or an activity: all that its row may show."""

    entry: DeskEntry
    reader: Agent
    starts_day: bool
    moment: datetime  # in the reader's time zone

    @property
    def pk(self) -> int:
        """The id of the row."""
        return self.entry.pk

    @property
    def is_activity(self) -> bool:
        """Whether it is no note."""
        return self.entry.kind != Kind.NOTE

    @property
    def client_id(self) -> uuid.UUID | None:
        """None unless it is the reader's own note."""
        return self.entry.client_id if self.entry.agent_id == self.reader.pk else None


def render_row(row: DeskRow, day: str) -> SafeString:
    """The HTML of a row; `day` is printed above it, unless it is empty."""
    entry, from_reader = row.entry, row.entry.agent_id == row.reader.pk
    values = {"pk": row.pk, "day": day, "moment": row.moment.isoformat(), "time": f"{row.moment:%H:%M %Z}"}
    if row.is_activity:
        return ACTIVITY.render(ActivityKind(), values | {"what": what_happened(entry, row.reader)})
    avatar = Avatar.of(_name(entry.agent), picture_of(entry.agent))
    shown = show_note(entry, row.reader.pk)
    values |= {
        "client_id": row.client_id,
        "hue": avatar.hue,
        "initials": avatar.initials,
        "picture": avatar.picture,
        "name": avatar.name,
        "text": shown.html,
        "source": "" if shown.is_typed else entry.content,
        "menu": reverse("agent:message", args=[entry.conversation_id, entry.pk]),
    }
    return NOTE.render(NoteKind(from_reader), values)


def what_happened(entry: DeskEntry, reader: Agent) -> SafeString:
    """A sentence about an activity, as this agent reads it, as HTML."""
    who, whom = entry.agent, entry.about
    names = {"who": _name(who), "whom": _name(whom), "what": _detail(entry)}
    by_reader, to_reader = entry.agent_id == reader.pk, entry.about_id == reader.pk
    sentences = {
        Kind.CLOSED: (_("You closed the conversation"), _("%(who)s closed the conversation")),
        Kind.REOPENED: (_("You reopened the conversation"), _("%(who)s reopened the conversation")),
        Kind.UNASSIGNED: (_("You removed the assignment"), _("%(who)s removed the assignment")),
        Kind.ASSIGNED: (_("You assigned this to %(whom)s"), _("%(who)s assigned this to %(whom)s")),
        Kind.LABELLED: (_("You added the label %(what)s"), _("%(who)s added the label %(what)s")),
        Kind.UNLABELLED: (_("You removed the label %(what)s"), _("%(who)s removed the label %(what)s")),
        Kind.PRIORITIZED: (_("You set the priority to %(what)s"), _("%(who)s set the priority to %(what)s"))
        if entry.content
        else (_("You removed the priority"), _("%(who)s removed the priority")),
        Kind.SNOOZED: (_("You snoozed this until %(what)s"), _("%(who)s snoozed this until %(what)s")),
        Kind.CORRECTED: _corrections(entry.content),
        Kind.UNSNOOZED: (_("You ended the snooze"), _("%(who)s ended the snooze")),
    }
    if entry.kind == Kind.ASSIGNED and entry.agent_id == entry.about_id:
        sentence = _("You took the conversation") if by_reader else _("%(who)s took the conversation")
    elif entry.kind == Kind.ASSIGNED and to_reader:
        sentence = _("%(who)s assigned this to you")
    else:
        mine, others = sentences[Kind(entry.kind)]
        sentence = mine if by_reader else others
    texts = {name: conditional_escape(text) for name, text in names.items()}
    return mark_safe(escape(sentence) % texts)  # noqa: S308 (all of it is escaped)


def _corrections(what: str) -> tuple[str, str]:
    """The sentences about what was corrected: "name", "email" or "name email"."""
    if what == "name":
        return _("You corrected the customer's name"), _("%(who)s corrected the customer's name")
    if what == "email":
        return _("You corrected the customer's e-mail address"), _("%(who)s corrected the customer's e-mail address")
    sentence = _("You corrected the customer's name and e-mail address")
    return sentence, _("%(who)s corrected the customer's name and e-mail address")


def _detail(entry: DeskEntry) -> str:
    """The label, the priority or the moment of an activity."""
    if entry.kind == Kind.PRIORITIZED and entry.content:
        return str(Conversation.Priority(int(entry.content)).label)
    if entry.kind == Kind.SNOOZED:
        until = timezone.localtime(datetime.fromisoformat(entry.content))
        shown = f"{date_format(until, 'MONTH_DAY_FORMAT')} {until:%H:%M %Z}"
        html = '<local-time data-as="full"><time datetime="{}">{}</time></local-time>'
        return format_html(html, until.isoformat(), shown)
    return entry.content


def _name(user: User | None) -> str:
    if user is None:
        return _("Somebody")
    return user.get_full_name() or user.username
