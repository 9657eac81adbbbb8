"""Canned replies: texts that agents write once and insert into many answers."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _

from conversations.models.message import MAX_LENGTH
from conversations.models.visible_text import one_line

if TYPE_CHECKING:
    from conversations.models.agent import Agent

NAME_LENGTH = 40

MOST = 1_000
"""The most replies of an agent, and the most shared ones."""

VARIABLES = ("customer.name", "agent.name", "website.name")
"""What a reply may have between double braces."""

VARIABLE = re.compile(r"([ \t]?)(\{\{([^{}\n]{0,100})\}\})")
"""A variable, with the space before it. It is replaced, nothing more: a template engine would run what agents write."""


class CannedReplyQuerySet(models.QuerySet["CannedReply"]):
    """The queries on canned replies."""

    def visible_to(self, agent: "Agent") -> "CannedReplyQuerySet":
        """The agent's own replies and the shared ones, for all websites and for those that the agent sees."""
        found = self.filter(Q(agent=None) | Q(agent=agent.pk))
        return found.filter(Q(website=None) | Q(website__agents=agent.pk)) if agent.is_limited else found

    def editable_by(self, agent: "Agent") -> "CannedReplyQuerySet":
        """Those that the agent may change: not what is shared on websites that they do not see."""
        found = self.visible_to(agent)
        return found.exclude(agent=None, website=None) if agent.is_limited else found

    def owned_by(self, agent: "Agent | None") -> "CannedReplyQuerySet":
        """An agent's own replies; for None the shared ones."""
        return self.filter(agent=agent and agent.pk)

    def for_website(self, website_id: int) -> "CannedReplyQuerySet":
        """Those for all websites, and for this one."""
        return self.filter(Q(website=None) | Q(website=website_id))

    def matching(self, text: str) -> "CannedReplyQuerySet":
        """Those with the text in their name or content; all if it is empty."""
        return self.filter(Q(name__icontains=text) | Q(content__icontains=text)) if text else self.all()

    def by_name(self) -> "CannedReplyQuerySet":
        """Ordered by name."""
        return self.order_by("name", "pk")


class CannedReply(models.Model):
    """A text that an agent inserts into an answer by its name."""

    # None: every agent has it.
    agent = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="canned_replies"
    )
    # None: it is for all websites.
    website = models.ForeignKey("Website", models.CASCADE, null=True, blank=True, related_name="canned_replies")
    name = models.CharField(max_length=NAME_LENGTH)
    content = models.TextField(max_length=MAX_LENGTH)

    objects = CannedReplyQuerySet.as_manager()

    if TYPE_CHECKING:
        agent_id: int | None
        website_id: int | None

    class Meta:
        verbose_name_plural = "canned replies"

    def __str__(self) -> str:
        """The name, as it is typed."""
        return f"/{self.name}"

    @property
    def first_line(self) -> str:
        """The beginning of the text on one line."""
        return first_line(self.content)

    @property
    def is_shared(self) -> bool:
        """Whether every agent has it."""
        return self.agent_id is None


class Filled(NamedTuple):
    """The text of a reply with its variables filled in."""

    text: str
    unknown: list[str]  # variables that do not exist; they stay in the text
    empty: list[str]  # variables without a value; they are left out

    @property
    def first_line(self) -> str:
        """The beginning of the text on one line."""
        return first_line(self.text)


def first_line(text: str) -> str:
    """The beginning of a text on one line."""
    return " ".join(text[:400].split())[:160]


def check_name(name: str) -> str:
    """The name of a reply as it is typed after the slash. Raises ValueError if it is empty or too long."""
    name = one_line(name).lstrip("/").strip().replace("/", "-").replace(" ", "-")
    if not name:
        raise ValueError(_("Give the reply a short name."))
    if len(name) > NAME_LENGTH:
        # Translators: 40 characters
        raise ValueError(_("The name is longer than %(most)s characters.") % {"most": NAME_LENGTH})
    return name


def unknown_variables(text: str) -> list[str]:
    """The variables in a text that do not exist, as they are written, each once."""
    found = [match[2] for match in VARIABLE.finditer(text) if match[3].strip() not in VARIABLES]
    return list(dict.fromkeys(found))


def fill(text: str, values: Mapping[str, str]) -> Filled:
    """Fill in the variables. `values` has a text for each of VARIABLES, "" if there is none."""
    empty: dict[str, None] = {}

    def replace(match: re.Match[str]) -> str:
        space, written, name = match[1], match[2], match[3].strip()
        if name not in VARIABLES:
            return space + written
        if not values[name]:
            empty[name] = None
            return ""  # without the space before it, so that “Hello {{ customer.name }},” becomes “Hello,”
        return space + values[name]

    return Filled(VARIABLE.sub(replace, text), unknown_variables(text), list(empty))
