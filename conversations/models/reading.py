"""Read receipts: how far each agent has read each conversation."""

from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT

if TYPE_CHECKING:
    from conversations.models.agent import Agent


class ReadingQuerySet(models.QuerySet["Reading"]):
    """The queries on readings."""

    def of(self, agent: "Agent", conversation_id: int) -> "Reading | None":
        """The agent's reading of a conversation, or None if they have never opened it."""
        values = {-1: agent.pk, -2: conversation_id}
        query = partial(self.filter, agent_id=-1, conversation_id=-2)
        return next(iter(prepared(self, "reading", query, values, kind=CONTENT)), None)


class Reading(models.Model):
    """How far one agent has read one conversation."""

    # Its index is that of the constraint.
    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="readings", db_index=False)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="readings")
    last_message_id = models.BigIntegerField(default=0)
    # How many of the messages up to last_message_id the customer wrote.
    customer_messages = models.PositiveIntegerField(default=0)

    objects = ReadingQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["conversation", "agent"], name="one_reading_each"),)

    def __str__(self) -> str:
        """The agent, the conversation and the message id."""
        return f"{self.agent} has read {self.conversation} up to {self.last_message_id}"
