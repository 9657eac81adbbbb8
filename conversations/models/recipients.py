"""Conversations that customers have open, or have just written to: the next message needs no query.

Pages and widgets poll, or have a socket that is looked up every 25 s, so nearly each customer who writes is known.

Only with the message log. The script that appends a message checks that the conversation exists and still has this
secret, so what is remembered need not be read again for SECONDS. Not if Redis has failed since then: it may have
missed, or lost, that the secret was renewed.
"""

import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from conversations.message_log import UNKNOWN_LAST, Run
from conversations.models.conversation import AWAY, Conversation
from conversations.models.website import Origin, Website
from conversations.redis_client import RedisClient

if TYPE_CHECKING:
    from conversations.models.contact import Claim

SECONDS = 30
"""How long a conversation is remembered: as long as a socket may stay open without being checked (live/rounds.py)."""

WEBSITE_SECONDS = 10
"""How long its website is: as long as answers to polls are used (poll_cache.py). Another process may change it."""

MOST = 10_000
"""Conversations that are remembered, about 5 MB."""


class Began(NamedTuple):
    """When a request began to read a conversation: what was renewed or lost since then does not count."""

    at: float  # time.monotonic()
    run: str  # of Redis

    @classmethod
    def now(cls) -> "Began":
        """It begins now."""
        return cls(time.monotonic(), Run.id)


class Recipient(NamedTuple):
    """A conversation that is remembered."""

    began: Began
    pk: int
    website_id: int
    contact_id: int | None


class KnownWebsite(NamedTuple):
    """A website that is remembered."""

    until: float  # time.monotonic()
    website: Website
    settings: dict[str, Any]  # all that is stored of it, and its origins


class Recipients:
    """The conversations that this process remembers."""

    def __init__(self) -> None:
        """None."""
        self.found: OrderedDict[UUID, Recipient] = OrderedDict()
        self.websites: dict[int, KnownWebsite] = {}

    def get(self, uuid: UUID | None) -> Conversation | None:
        """The conversation with this secret. Only its pk, uuid, contact and website are known; it is for writing."""
        now = time.monotonic()
        found = self._recipient(uuid, now)
        website = self._website(found.website_id, now) if found else None
        if uuid is None or found is None or website is None:
            return None
        conversation = Conversation(
            pk=found.pk, uuid=uuid, website=website, contact_id=found.contact_id, last_message_id=UNKNOWN_LAST
        )
        conversation.remembered_in = found.began.run
        return conversation

    def look_up(self, uuid: UUID) -> tuple[Recipient, Website] | None:
        """As `get`, without any query: None too if the website must be read again."""
        now = time.monotonic()
        found = self._recipient(uuid, now)
        website = self._known_website(found.website_id, now) if found else None
        return (found, website) if found and website else None

    def _recipient(self, uuid: UUID | None, now: float) -> Recipient | None:
        """What is remembered of the conversation with this secret, if it still holds."""
        found = self.found.get(uuid) if uuid else None
        if found is None:
            return None
        at, run = found.began
        if not run or run != Run.id or at < RedisClient.failed_at or now > at + SECONDS:
            return None
        return found

    def _known_website(self, pk: int, now: float) -> Website | None:
        """The website with this primary key, if it was read within WEBSITE_SECONDS."""
        found = self.websites.get(pk)
        return found.website if found and now <= found.until else None

    def _website(self, pk: int, now: float) -> Website | None:
        """The website with this primary key, read once in WEBSITE_SECONDS for all customers; None if it is gone."""
        if website := self._known_website(pk, now):
            return website
        try:
            website = Website.objects.by_id(pk)
        except StopIteration:
            return None
        return self._keep_website(website, now)

    def _keep_website(self, website: Website, now: float) -> Website:
        """Remember a website that was just read: as the same object as before, if nothing of it has changed.

        What was decided for that object goes on to hold (screen/plain_posts.py).
        """
        stored = {field.attname: getattr(website, field.attname) for field in website._meta.concrete_fields}
        stored["origins"] = sorted(Origin.objects.of(website.pk))
        known = self.websites.get(website.pk)
        if known and known.settings == stored:
            website = known.website
        self.websites[website.pk] = KnownWebsite(now + WEBSITE_SECONDS, website, stored)
        return website

    def put(self, conversation: Conversation, claim: "Claim | None" = None) -> None:
        """Remember a conversation with its website, unless it is already: it holds from when it was read.

        Not with a claim: it may be another customer's next time. Nor if its website was not read.
        """
        was_read = settings.MESSAGE_LOG and conversation._meta.get_field("website").is_cached(conversation)
        if not was_read or conversation.is_remembered or claim:
            return
        began = Began.now()
        self.put_read(conversation.uuid, conversation.pk, conversation.website_id, conversation.contact_id, began)
        if self._known_website(conversation.website_id, began.at) is None:
            self._keep_website(conversation.website, began.at)

    def put_read(self, uuid: UUID, pk: int, website_id: int, contact_id: int | None, began: Began) -> None:
        """Remember a conversation that a poll or a socket has read, and its website: it may write next."""
        if not settings.MESSAGE_LOG:
            return
        with suppress(*AWAY):
            self._website(website_id, began.at)
        self.found[uuid] = Recipient(began, pk, website_id, contact_id)
        while len(self.found) > MOST:
            with suppress(KeyError):  # another thread has emptied it
                self.found.popitem(last=False)

    def forget(self, uuid: UUID | None) -> None:
        """Read a conversation again: its secret was renewed, or it was deleted."""
        if uuid:
            self.found.pop(uuid, None)

    def clear(self) -> None:
        """Read all again."""
        self.found.clear()
        self.websites.clear()


recipients = Recipients()


@receiver([post_save, post_delete], sender=Website)
@receiver([post_save, post_delete], sender=Origin)
def forget_recipients(**_: object) -> None:
    """Read websites again: one, or its origins, was changed here."""
    recipients.clear()
