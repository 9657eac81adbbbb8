"""Agents: the users who answer customers."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, User, UserManager
from django.db import models
from django.db.models import Q
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from conversations.models.prepared import name_filter, prepared
from conversations.models.remembered import ACCESS, CONTENT
from conversations.models.visible_text import one_line

if TYPE_CHECKING:
    from conversations.models.agent_profile import AgentProfile
    from conversations.models.conversation import ConversationQuerySet
    from conversations.models.website import Website

GROUP = "agent"
"""Each active user in the group with this name is an agent."""


class AgentManager(UserManager["Agent"]):
    """Manager that finds agents only, and annotates each with `limited`."""

    def get_queryset(self) -> models.QuerySet["Agent"]:
        """Return the active users in the group, with their profiles, and whether they are limited to some websites."""
        from conversations.models.website import is_limited

        agents = super().get_queryset().filter(is_active=True, groups__name=GROUP)
        return agents.select_related("profile").annotate(limited=is_limited())

    def for_user(self, user: Any) -> "Agent | None":
        """Return the user as an agent, or None. Costs no query if AgentBackend found the user."""
        if isinstance(user, Agent):
            return user
        return self.filter(pk=user.pk).first() if user.is_authenticated else None

    def with_access_to(self, website: "Website") -> models.QuerySet["Agent"]:
        """Return the agents who see the website's conversations, by name."""
        return self.filter(Q(limited=False) | Q(websites=website)).order_by("first_name", "username").distinct()

    def reaching(self, assignee: Any, website: Any) -> models.QuerySet["Agent"]:
        """For a subquery: the assignee, if they are an agent who sees the website. Both are ids or expressions."""
        return self.filter(Q(limited=False) | Q(websites=website), pk=assignee)

    def colleagues_of(self, agent: "Agent", website_key: str | None = None) -> models.QuerySet["Agent"]:
        """Return the agents who see a website that this agent sees too, by name: that one, or any of them."""
        found: models.QuerySet[Agent] = self.all()
        if website_key is not None:
            from conversations.models.website import Website

            website = next((site for site in Website.objects.visible_to(agent) if site.key == website_key), None)
            return self.with_access_to(website) if website else found.none()
        if agent.is_limited:
            found = found.filter(Q(limited=False) | Q(websites__agents=agent.pk))
        return found.order_by("first_name", "username").distinct()

    def offered_to(self, agent: "Agent") -> "list[Agent]":
        """The colleagues of an agent for a page of theirs, also while the database is away, with the message log."""

        def build() -> models.QuerySet[Agent]:
            found: models.QuerySet[Agent] = Agent.objects.all()
            if agent.is_limited:
                found = found.filter(Q(limited=False) | Q(websites__agents=-1))
            return found.order_by("first_name", "username").distinct()

        key = ("colleagues", agent.is_limited)
        return prepared(User.objects.all(), key, build, {-1: agent.pk}, kind=CONTENT)

    def promote(self, user: User) -> "Agent":
        """Add a user to the group and return the agent."""
        group, _created = Group.objects.get_or_create(name=GROUP)
        user.groups.add(group)
        return self.get(pk=user.pk)


class Agent(User):
    """An active user in the group `agent`."""

    objects: ClassVar[AgentManager] = AgentManager()

    class Meta:
        proxy = True

    def __str__(self) -> str:
        """The name that colleagues see."""
        return self.get_full_name() or self.username

    @property
    def is_limited(self) -> bool:
        """Whether this agent sees only the conversations of some websites."""
        return bool(self.limited)  # type: ignore[attr-defined]  # annotated by AgentManager

    @cached_property
    def preferences(self) -> "AgentProfile":
        """What the agent has chosen, or the defaults. Costs no query, because agents are read with their profile."""
        from conversations.models.agent_profile import AgentProfile

        try:
            return self.profile
        except AgentProfile.DoesNotExist:
            return AgentProfile(agent=self)

    def visible_conversations(self) -> "ConversationQuerySet":
        """Return the conversations that this agent may see. Every query on behalf of an agent starts here."""
        from conversations.models.conversation import Conversation

        conversations = Conversation.objects.all()
        if self.is_limited:
            conversations = conversations.filter(website__agents=self.pk)
            name_filter(conversations, ("agent", self.pk))
        return conversations


@receiver(pre_save, sender=User)
@receiver(pre_save, sender=Agent)
def _clean_names(instance: User, **_signal: Any) -> None:
    """Remove invisible characters from names when a user is saved, by any form or command."""
    instance.first_name, instance.last_name = one_line(instance.first_name), one_line(instance.last_name)


def public_name(agent: User | None) -> str:
    """Return the name that customers see: the full name, never the username. `agent` is None if they were deleted."""
    return (agent.get_full_name() if agent else "") or _("Agent")


class AgentBackend(ModelBackend):
    """Django's ModelBackend, which loads the user of a session and whether they are an agent in one query."""

    def get_user(self, user_id: int) -> User | None:
        """Return the user of a session, as an Agent if they are one."""
        found = prepared(User.objects.all(), "agent", lambda: Agent.objects.filter(pk=-1), {-1: user_id}, kind=ACCESS)
        return next(iter(found), None) or super().get_user(user_id)
