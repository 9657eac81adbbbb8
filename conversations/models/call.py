"""What an agent is called for: customers who wait, and colleagues who mention them or assign them something."""

from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q

from conversations.models.agent import Agent
from conversations.models.agent_profile import AgentProfile
from conversations.models.conversation import Conversation, name_of_customer
from conversations.models.desk_entry import DeskEntry, Kind
from conversations.models.mention import Mention
from conversations.models.message import MAX_ID, Author, Message

MOST = 20
"""The most conversations that an agent is called for at once."""


class Call(NamedTuple):
    """A conversation that an agent is called for."""

    conversation: int
    last: int  # the id of the message or note
    name: str  # the customer's
    why: str  # message, mention or assigned


def calls(agent: Agent, since: int) -> list[Call]:
    """The conversations with something above the id `since` that the agent wants to be called for, the newest first.

    That are customers' messages which no agent has read or answered: as many as the agent has chosen to hear of; and
    notes that mention them, and what a colleague has assigned to them. One call for each conversation, MOST at most.
    """
    if since >= MAX_ID:
        return []
    found = _by_colleagues(agent, since)
    if agent.preferences.about != AgentProfile.About.MENTIONS:
        for call in _by_customers(agent, since):
            found.setdefault(call.conversation, call)
    return sorted(found.values(), key=lambda call: -call.last)[:MOST]


def _by_colleagues(agent: Agent, since: int) -> dict[int, Call]:
    """What colleagues call the agent for, by conversation: a mention counts more than that it is assigned."""
    notes = Mention.objects.filter(agent=agent.pk, unread=True, entry_id__gt=since).order_by("-entry_id")
    mentioned = dict(notes.values_list("conversation_id", "entry_id")[:MOST])
    assigned: dict[int, int] = {}
    if agent.preferences.about != AgentProfile.About.MENTIONS:
        given = DeskEntry.objects.filter(about=agent.pk, kind=Kind.ASSIGNED, pk__gt=since).exclude(agent=agent.pk)
        assigned = dict(given.order_by("-pk").values_list("conversation_id", "pk")[:MOST])
    if not mentioned and not assigned:
        return {}
    found: dict[int, Call] = {}
    for conversation in agent.visible_conversations().filter(pk__in={*mentioned, *assigned}):
        pk = conversation.pk
        if pk in mentioned:
            found[pk] = Call(pk, mentioned[pk], str(conversation), "mention")
        elif conversation.is_open and conversation.assignee_id == agent.pk:
            found[pk] = Call(pk, assigned[pk], str(conversation), "assigned")
    return found


def _by_customers(agent: Agent, since: int) -> list[Call]:
    """The conversations in which a customer waits for an answer that the agent wants to be called for."""
    wanted = agent.visible_conversations().filter(
        status=Conversation.Status.OPEN, last_message_id__gt=since, last_author=Author.CUSTOMER
    )
    if agent.preferences.about == AgentProfile.About.MINE:
        # Whoever has left, or sees the website no more, answers nobody: that is as if it were unassigned.
        answering = Agent.objects.reaching(OuterRef("assignee"), OuterRef("website"))
        wanted = wanted.filter(Q(assignee=agent.pk) | ~Exists(answering))
    columns = ("pk", "last_message_id", "customer_name", "customer_email", "unread")
    # Also a removal has raised the id, and nobody is called for that.
    written = Message.objects.filter(conversation=OuterRef("pk"), pk__gt=since, author=Author.CUSTOMER)
    rows = (
        wanted.filter(Exists(written)).order_by("-last_message_id").with_unread(agent.pk).values_list(*columns)[:MOST]
    )
    return [
        Call(pk, last, name_of_customer(name, email, pk), "message")
        for pk, last, name, email, unread in rows
        if unread > 0
    ]
