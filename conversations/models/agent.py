"""An agent: somebody who answers customers."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, User, UserManager
from django.db import models
from django.db.models import Q

from conversations.models.prepared import prepared

if TYPE_CHECKING:
    from conversations.models.conversation import ConversationQuerySet
    from conversations.models.website import Website

GROUP = "agent"
"""Every active user in the group of this name is an agent."""


class AgentManager(UserManager["Agent"]):
    """Agents are found here, and nobody else is."""

    def get_queryset(self) -> models.QuerySet["Agent"]:
        """Active users in the group, and whether each is limited to some websites."""
        from conversations.models.website import limited

        return super().get_queryset().filter(is_active=True, groups__name=GROUP).annotate(limited=limited())

    def for_user(self, user: Any) -> "Agent | None":
        """The agent that a signed-in `user` is, or None. Costs nothing for one that was found as an agent just now."""
        if isinstance(user, Agent):
            return user
        return self.filter(pk=user.pk).first() if user.is_authenticated else None

    def answering(self, website: "Website") -> models.QuerySet["Agent"]:
        """Those who see the website's conversations, by name."""
        return self.filter(Q(limited=False) | Q(websites=website)).order_by("first_name", "username").distinct()

    def promote(self, user: User) -> "Agent":
        """Make a user an agent."""
        group, _ = Group.objects.get_or_create(name=GROUP)
        user.groups.add(group)
        return self.get(pk=user.pk)


class Agent(User):
    """A user in the group `agent`."""

    objects: ClassVar[AgentManager] = AgentManager()

    class Meta:
        proxy = True

    def __str__(self) -> str:
        """The name that colleagues and customers see."""
        return self.get_full_name() or self.username

    @property
    def is_limited(self) -> bool:
        """Whether they see some websites only."""
        return bool(self.limited)  # type: ignore[attr-defined]  # every agent is found by the manager, which annotates it

    def desk(self) -> "ConversationQuerySet":
        """The conversations that this agent may see. Everything an agent does starts here."""
        from conversations.models.conversation import Conversation

        seen = Conversation.objects.all()
        return seen.filter(website__agents=self.pk) if self.is_limited else seen


class AgentBackend(ModelBackend):
    """Django's own sign-in; a session's user is looked for among the agents first, which answers both in one query."""

    def get_user(self, user_id: int) -> User | None:
        """The user of a session: an Agent if they are one."""
        found = prepared(User.objects.all(), "agent", lambda: Agent.objects.filter(pk=-1), {-1: user_id})
        return next(iter(found), None) or super().get_user(user_id)
