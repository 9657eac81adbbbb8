"""What an agent is called for: customers who wait for an answer, and colleagues who mention the agent."""

from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Exists, OuterRef, Q

from conversations.models.agent_profile import AgentProfile
from conversations.models.conversation import Conversation, name_of_customer
from conversations.models.mention import Mention
from conversations.models.message import MAX_ID, Author, Message

if TYPE_CHECKING:
    from conversations.models.agent import Agent

MOST = 20
"""The most conversations that an agent is called for at once."""


class Call(NamedTuple):
    """A conversation that an agent is called for."""

    conversation: int
    last: int  # the id of the message or note
    name: str  # the customer's
    is_mention: bool


def calls(agent: "Agent", since: int) -> list[Call]:
    """The conversations with something above the id `since` that the agent wants to be called for, the newest first.

    That are customers' messages which no agent has read or answered: as many as the agent has chosen to hear of; and
    notes that mention them. One call for each conversation, MOST at most.
    """
    found: dict[int, Call] = {}
    if since >= MAX_ID:
        return []
    mentions = Mention.objects.filter(agent=agent.pk, unread=True, entry_id__gt=since).order_by("-entry_id")
    visible = agent.visible_conversations()
    mentioned = dict(mentions.values_list("conversation_id", "entry_id")[:MOST])
    if mentioned:
        for conversation in visible.filter(pk__in=mentioned):
            pk = conversation.pk
            found[pk] = Call(pk, mentioned[pk], str(conversation), is_mention=True)
    about = agent.preferences.about
    if about != AgentProfile.About.MENTIONS:
        wanted = visible.filter(
            status=Conversation.Status.OPEN, last_message_id__gt=since, last_author=Author.CUSTOMER
        ).order_by("-last_message_id")
        # Also a removal has raised the id, and nobody is called for that.
        written = Message.objects.filter(conversation=OuterRef("pk"), pk__gt=since, author=Author.CUSTOMER)
        wanted = wanted.filter(Exists(written))
        if about == AgentProfile.About.MINE:
            wanted = wanted.filter(Q(assignee=agent.pk) | Q(assignee=None))
        columns = ("pk", "last_message_id", "customer_name", "customer_email", "unread")
        for pk, last, name, email, unread in wanted.with_unread(agent.pk).values_list(*columns)[:MOST]:
            if unread > 0 and pk not in found:
                found[pk] = Call(pk, last, name_of_customer(name, email, pk), is_mention=False)
    return sorted(found.values(), key=lambda call: -call.last)[:MOST]
