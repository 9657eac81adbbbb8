"""Mentions: who is named in a note, as @username. Customers never see them."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import models

from conversations.models.agent import Agent
from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT

if TYPE_CHECKING:
    from conversations.models.conversation import Conversation
    from conversations.models.website import Website

MOST = 50
"""How many agents one note may mention. Further names stay text."""

# What stands before the @ of an e-mail address or inside a URL makes it none of ours. The characters after it are those
# of Django's usernames, of which 150 are allowed, and marks that are typed apart from their letters: see `fold`.
NAMED = re.compile(r"(?<![A-Za-z0-9_.+/=@-])@([\w.@+\u0300-\u036f-]{1,150})")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# Not the beginning of a word in Latin letters: @josé is not jose.
ASCII_START = re.compile(r"[A-Za-z0-9_.@+-]++(?![\u00aa-\u036f\u1e00-\u1eff])")


class Named(NamedTuple):
    """A part of a text that names an agent."""

    start: int  # where its @ is
    end: int
    agent_id: int


def fold(username: str) -> str:
    """A username as mentions are compared: without differences of case."""
    return unicodedata.normalize("NFKC", username).casefold()


def named_in(text: str, names: Mapping[str, int]) -> Iterator[Named]:
    """Where a text names some of these agents, given by their folded usernames.

    A name ends before the punctuation of the sentence, and where a script without spaces goes on.
    """
    for found in NAMED.finditer(text):
        for name in _readings(found[1]):
            if (agent_id := names.get(fold(name))) is not None:
                yield Named(found.start(), found.start() + 1 + len(name), agent_id)
                break


def _readings(word: str) -> Iterator[str]:
    """What may be the name at the beginning of a word, the longest first."""
    yield word
    yield word.rstrip(".@+-")
    if ascii_start := ASCII_START.match(word):
        yield ascii_start[0]
        yield ascii_start[0].rstrip(".@+-")


def find_mentions(text: str, website: "Website", *, is_formatted: bool) -> dict[str, int]:
    """The agents whom a note names and who see this website: their ids by folded username, at most MOST.

    is_formatted: whether the text is Markdown, whose code names nobody.
    Costs no query if nothing in the text looks like a name.
    """
    if is_formatted:
        text = CODE.sub(" ", text)
    if not NAMED.search(text):
        return {}
    agents = Agent.objects.with_access_to(website).values_list("username", "pk")
    names = {fold(username): pk for username, pk in agents}
    known = {pk: name for name, pk in names.items()}
    ids = list(dict.fromkeys(named.agent_id for named in named_in(text, names)))[:MOST]
    return {known[pk]: pk for pk in ids}


class MentionQuerySet(models.QuerySet["Mention"]):
    """The queries on mentions."""

    def add(self, conversation: "Conversation", entry_id: int, agent_ids: list[int]) -> None:
        """These agents are mentioned by a note in a conversation, which is locked."""
        earlier = self.filter(conversation=conversation.pk, agent__in=agent_ids)
        known = set(earlier.values_list("agent_id", flat=True))
        if known:
            earlier.update(entry_id=entry_id, unread=True)
        self.bulk_create(
            Mention(agent_id=pk, conversation=conversation, entry_id=entry_id) for pk in agent_ids if pk not in known
        )

    def newest(self, agent: "Agent", conversation_id: int) -> int:
        """The id of the note in a conversation that has mentioned the agent last; 0 for none."""
        found = self.filter(agent=agent.pk, conversation=conversation_id).values_list("entry_id", flat=True)
        return found.first() or 0

    def mark_read(self, agent: "Agent", conversation_id: int, last: int) -> None:
        """The agent has seen the thread of a conversation up to the row with the id `last`."""
        found: list[tuple[int, int]] = prepared(
            self,
            "unread mention",
            lambda: self.filter(agent_id=-1, conversation_id=-2, unread=True).values_list("pk", "entry_id"),
            {-1: agent.pk, -2: conversation_id},
            kind=CONTENT,
        )
        for pk, entry_id in found:
            if entry_id <= last:
                self.filter(pk=pk, entry_id__lte=last).update(unread=False)


class Mention(models.Model):
    """An agent is mentioned in a conversation. It has the newest note that does so, and whether they have read it."""

    # Its index is that of the constraint, which begins with the agent.
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="mentions", db_index=False)
    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="mentions")
    entry_id = models.BigIntegerField()  # a DeskEntry's
    unread = models.BooleanField(default=True)

    objects = MentionQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["agent", "conversation"], name="one_mention_each"),)
        indexes = (
            models.Index(fields=["agent", "-entry_id"], name="inbox_mentions"),
            models.Index(fields=["agent", "unread"], name="unread_mentions"),
        )

    def __str__(self) -> str:
        """The agent and the conversation."""
        return f"{self.agent} in {self.conversation}"


def write_names(names: Mapping[str, int]) -> str | None:
    """Who is mentioned as a note stores it: "7:bob 9:carol"; None for nobody."""
    return " ".join(f"{pk}:{name}" for name, pk in names.items()) or None


def read_names(stored: str | None) -> dict[str, int]:
    """Who is mentioned, from what a note stores: ids by folded username."""
    pairs: Any = (pair.partition(":") for pair in (stored or "").split())
    return {name: int(pk) for pk, _colon, name in pairs}
