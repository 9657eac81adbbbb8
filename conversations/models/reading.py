"""Read receipts: how far each agent has read each conversation."""

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from conversations.models.agent import Agent


class ReadingQuerySet(models.QuerySet["Reading"]):
    """The queries on readings."""

    def of(self, agent: "Agent", conversation_id: int) -> "Reading | None":
        """The agent's reading of a conversation, or None if they have never opened it."""
        return self.filter(agent_id=agent.pk, conversation_id=conversation_id).first()

    def is_past(self, last: int, agent: "Agent", conversation_id: int) -> bool:
        """Whether the agent has read the message with the id `last`, or a newer one."""
        reading = self.of(agent, conversation_id)
        return reading is not None and reading.last_message_id >= last


class Reading(models.Model):
    """How far one agent has read one conversation."""

    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="readings")
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
