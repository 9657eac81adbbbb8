"""Drafts: what an agent has typed and not sent yet, for their other devices. Nobody else sees them."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import connection, models, transaction

from conversations.models.message import MAX_LENGTH
from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT
from conversations.models.visible_text import is_blank

if TYPE_CHECKING:
    from conversations.models.agent import Agent

MOST = 500
"""The most drafts of an agent. The oldest ones are deleted."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Kept(NamedTuple):
    """What became of a draft that was to be kept."""

    version: int  # of what is kept now, 0 for nothing
    is_newest: bool  # False: another device has typed later, and its draft stays
    other: str  # the draft of another device that was replaced, or that stays; "" for none


class DraftQuerySet(models.QuerySet["Draft"]):
    """The queries on drafts."""

    def of(self, agent: "Agent") -> "DraftQuerySet":
        """The agent's drafts."""
        return self.filter(agent=agent.pk)

    def both(self, agent: "Agent", conversation_id: int) -> "dict[bool, Draft]":
        """The agent's drafts in a conversation: of an answer (False) and of a note (True), as far as there are any."""
        values = {-1: agent.pk, -2: conversation_id}
        found = prepared(
            self, "drafts of one", lambda: self.filter(agent_id=-1, conversation_id=-2), values, kind=CONTENT
        )
        return {draft.is_note: draft for draft in found}

    def one(self, agent: "Agent", conversation_id: int, *, is_note: bool = False) -> "Draft | None":
        """The agent's draft of an answer in a conversation, or of a note; or None."""
        return self.both(agent, conversation_id).get(is_note)

    def conversations_of(self, agent: "Agent") -> set[int]:
        """The ids of the conversations in which the agent has a draft, by one query."""

        def build() -> "models.QuerySet[Draft, Any]":
            return self.filter(agent_id=-1).values_list("conversation_id")

        return {row[0] for row in prepared(self, "drafts", build, {-1: agent.pk}, kind=CONTENT)}

    @transaction.atomic
    def keep(
        self,
        agent: "Agent",
        conversation_id: int,
        content: str,
        *,
        typed_at: datetime,
        known: int,
        is_note: bool = False,
    ) -> Kept:
        """Keep what an agent has typed in a conversation, instead of an earlier draft. A blank text deletes it.

        typed_at: when they typed it. If another device has typed later, its draft stays.
        known: the version of the draft that the device has begun with, 0 for none.
        is_note: whether it becomes a note, and no answer.
        """
        mine = self.filter(agent=agent.pk, conversation=conversation_id, is_note=is_note)
        locked = mine.select_for_update() if connection.features.has_select_for_update else mine
        draft = locked.first()
        is_strange = draft is not None and draft.version != known and draft.content != content
        other = draft.content if draft and is_strange else ""
        if draft and is_strange and draft.typed_at > typed_at:
            return Kept(draft.version, is_newest=False, other=other)
        if is_blank(content):
            mine.delete()
            return Kept(0, is_newest=True, other=other)
        if draft:
            draft.content, draft.typed_at = content, max(typed_at, draft.typed_at + MICROSECOND)
            draft.save(update_fields=["content", "typed_at"])
        else:
            where = {"agent_id": agent.pk, "conversation_id": conversation_id, "is_note": is_note}
            draft = self.create(content=content, typed_at=typed_at, **where)
            oldest = self.of(agent).order_by("-typed_at").values_list("pk", flat=True)[MOST:]
            self.filter(pk__in=list(oldest)).delete()
        return Kept(draft.version, is_newest=True, other=other)

    def delete_sent(self, agent: "Agent", conversation_id: int, version: int, *, is_note: bool = False) -> None:
        """The agent has sent their draft: delete it, unless they have typed another text since this version."""
        mine = self.filter(agent=agent.pk, conversation=conversation_id, is_note=is_note)
        mine.filter(typed_at__lte=EPOCH + version * MICROSECOND).delete()


class Draft(models.Model):
    """What one agent has typed in one conversation: an answer, or a note."""

    # The constraint begins with the agent, so its index is theirs.
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="drafts", db_index=False)
    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="drafts")
    content = models.TextField(max_length=MAX_LENGTH)
    typed_at = models.DateTimeField()
    # Whether it becomes a note. Servers of an earlier version do not know this column.
    is_note = models.BooleanField(default=False, db_default=False)

    objects = DraftQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["agent", "conversation", "is_note"], name="one_draft_of_each"),)

    def __str__(self) -> str:
        """The agent and the conversation."""
        return f"{self.agent} in {self.conversation}"

    @property
    def version(self) -> int:
        """A number that rises with each change: the microseconds of `typed_at`."""
        return (self.typed_at - EPOCH) // MICROSECOND
