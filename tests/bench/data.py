"""Fills an empty database: `python -m tests.bench.data CONVERSATIONS EACH` prints the key of an agent's session.

All data is computed from these two numbers, so the benchmark knows every uuid and last id without a query.
"""

import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

LINES = [
    "Hello, is anybody there? I ordered on Monday and have not heard from you since.",
    "It is order 20417, with the two blue planters and the tall terracotta one.",
    "Thank you! Let me look that up, one moment please.",
    "It left our house yesterday. Here is where it is now: https://example.com/track?order=20417",
    "Wonderful, that is all I wanted to know. Grüße aus Gdańsk 🌱",
    "One more thing: " + "can it be delivered to a neighbour, as nobody is at home before six? " * 3,
]
PIECE = 10_000
"""Rows that are created at once, to save memory."""


@dataclass(frozen=True)
class Talk:
    """A conversation, by its number from 1, among `total` with `each` messages.

    Messages are written in turns: in each turn, every conversation gets one.
    """

    number: int
    total: int
    each: int

    @property
    def uuid(self) -> uuid.UUID:
        """Its secret."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"chatsite bench {self.number}")

    @property
    def last(self) -> int:
        """The id of its last message."""
        return self.message(self.each - 1)

    def message(self, turn: int) -> int:
        """The id of its message of this turn."""
        return self.number + turn * self.total

    @property
    def status(self) -> str:
        """Every fifth conversation is closed."""
        return "CLOSED" if self.number % 5 == 0 else "OPEN"

    @property
    def assignee(self) -> int | None:
        """The first agent has taken every third conversation."""
        return 1 if self.number % 3 == 0 else None

    @property
    def has_label(self) -> bool:
        """Whether it has the label. Those whose polls are measured have none, as it changes their polls."""
        return self.number % 28 == 1

    def by_agent(self, turn: int) -> bool:
        """Whether an agent writes the message of this turn: every third message is an answer."""
        return (self.number + turn) % 3 == 0

    def from_customer(self, turns: int) -> int:
        """How many of its first messages the customer wrote."""
        return sum(not self.by_agent(turn) for turn in range(turns))


def fill(total: int, each: int) -> str:
    """Create `total` conversations of `each` messages and two agents; return the key of the first agent's session."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management.color import no_style
    from django.db import connection, transaction
    from django.utils import timezone

    from conversations.models import Agent, Author, Conversation, ConversationLabel, Label, Message, Reading, Website

    began = timezone.now() - timedelta(days=30)
    rate = timedelta(days=30) / (total * each)

    def moment(message: int) -> datetime:
        return began + message * rate

    website, label = Website.objects.default(), Label(pk=1, name="Billing")

    def conversation(talk: Talk) -> Conversation:
        last = talk.each - 1
        answered = next((turn for turn in reversed(range(talk.each)) if talk.by_agent(turn)), 0)
        return Conversation(
            id=talk.number,
            website=website,
            uuid=talk.uuid,
            created_at=moment(talk.number),
            status=talk.status,
            customer_name="" if talk.number % 4 == 0 else f"Customer {talk.number}",
            customer_email=f"customer{talk.number}@example.com" if talk.number % 2 else "",
            assignee_id=talk.assignee,
            last_message_id=talk.last,
            last_message_at=moment(talk.last),
            last_line=line(talk.last)[:120],
            last_author=Author.AGENT if talk.by_agent(last) else Author.CUSTOMER,
            customer_messages=talk.from_customer(talk.each),
            answered_messages=talk.from_customer(answered),
            waiting_since=None if talk.by_agent(last) else moment(talk.last),
            label_ids="1" if talk.has_label else None,
            priority=Conversation.Priority.URGENT if talk.number % 44 == 1 else None,
        )

    def message(pk: int) -> Message:
        turn, number = divmod(pk - 1, total)
        by_agent = Talk(number + 1, total, each).by_agent(turn)
        return Message(
            id=pk,
            conversation_id=number + 1,
            created_at=moment(pk),
            author=Author.AGENT if by_agent else Author.CUSTOMER,
            agent_id=1 + pk % 2 if by_agent else None,
            content=line(pk),
            client_id=None if by_agent else uuid.UUID(int=pk),
        )

    def reading(talk: Talk) -> Reading:
        turns = talk.each - talk.number % 3 % talk.each
        read = talk.number + (turns - 1) * total
        seen = talk.from_customer(turns)
        return Reading(conversation_id=talk.number, agent_id=1, last_message_id=read, customer_messages=seen)

    with transaction.atomic():
        label.save()
        agents = [Agent.objects.promote(User.objects.create_user(name, first_name=name)) for name in ("Bob", "Carol")]
        for numbers in pieces(total):
            talks = [Talk(number, total, each) for number in numbers]
            Conversation.objects.bulk_create(conversation(talk) for talk in talks)
            ConversationLabel.objects.bulk_create(
                ConversationLabel(
                    conversation_id=talk.number, label=label, status=talk.status, last_message_id=talk.last
                )
                for talk in talks
                if talk.has_label
            )
            Reading.objects.bulk_create(reading(talk) for talk in talks if talk.number % 2)
        for numbers in pieces(total * each):
            Message.objects.bulk_create(message(number) for number in numbers)
        session = SessionStore()
        session[SESSION_KEY] = str(agents[0].pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = agents[0].get_session_auth_hash()
        session.create()
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), [Conversation, Message, Label]):
                cursor.execute(sql)
    if connection.vendor == "postgresql":  # now, and not while something is measured
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    return str(session.session_key)


def line(number: int) -> str:
    """The text of the message of this number."""
    return LINES[number % len(LINES)]


def pieces(total: int) -> Iterator[range]:
    """The numbers from 1 to `total`, in batches of PIECE."""
    for first in range(1, total + 1, PIECE):
        yield range(first, min(first + PIECE, total + 1))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(fill(int(sys.argv[1]), int(sys.argv[2])))
