"""Which agents look at which conversation, for the colleagues who look at it too. It ends by itself: see SECONDS.

Each process keeps this in its memory, from the events of the channel layer, which every process receives. So nobody who
looks waits for Redis in the event loop, and no two processes overwrite each other's list.
"""

import time
from typing import NamedTuple

SECONDS = 10
"""How long it is known without being said again. Pages say it again every 7 seconds (static/js/who-is-here.js)."""


class Look(NamedTuple):
    """An agent who looks at a conversation, on one of their pages."""

    agent: int
    name: str
    until: float  # time.monotonic()


class Looking:
    """Who looks at what."""

    def __init__(self) -> None:
        """Nobody looks at anything."""
        self.looks: dict[int, dict[str, Look]] = {}  # by conversation and page
        self.pages: dict[str, int] = {}  # the conversation of each page, in the order in which they end

    def take(self, conversation: int, page: str, agent: int, name: str, *, on: bool) -> None:
        """Note that an agent looks at a conversation on a page, or, without `on`, no more. `page` is a unique text."""
        self.forget(page)
        now = time.monotonic()
        if on:
            self.looks.setdefault(conversation, {})[page] = Look(agent, name, now + SECONDS)
            self.pages[page] = conversation
        while self.pages and self.looks[self.pages[oldest := next(iter(self.pages))]][oldest].until <= now:
            self.forget(oldest)

    def forget(self, page: str) -> None:
        """Note that nobody looks at anything on this page."""
        conversation = self.pages.pop(page, None)
        if conversation is not None:
            looks = self.looks[conversation]
            del looks[page]
            if not looks:
                del self.looks[conversation]

    def is_anybody(self, conversation: int) -> bool:
        """Whether anybody looks at a conversation."""
        return conversation in self.looks and bool(self.others(conversation, None))

    def others(self, conversation: int, agent: int | None) -> list[str]:
        """The names of those who look at a conversation, without this agent, by name."""
        now = time.monotonic()
        looks = self.looks.get(conversation, {}).values()
        found = {look.agent: look.name for look in looks if look.until > now and look.agent != agent}
        return sorted(found.values())


looking = Looking()
