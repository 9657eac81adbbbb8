"""Answers to empty polls, kept for a few seconds: the same request gets the same answer again, without Django.

Most requests of a chat are polls, and nearly all of them find nothing new. Such a poll costs no thread, middleware,
session or query here: the event loop finds its answer in a dictionary (docs/performance.md).

An answer is used again only for exactly the same request, with the same headers, so everything that it depends on is in
its key: the conversation's secret or the session, the cursor, the origin, the language. Whatever changes a conversation
announces it (announce.py), in the thread that has changed it and before its own request is answered. An answer counts
only if its request began after the last change of its conversation. So nobody who was told about a change can get an
answer from before it.

What is not announced is noticed after MAX_AGE: that a session has ended, for example, or what a command does.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import Any, NamedTuple

from django.conf import settings

from conversations.shared_changes import SECONDS, SharedChanges

MAX_AGE = 10
"""Seconds after which a poll is answered anew."""

MAX_ANSWERS = 10_000
"""Answers that are kept. Each takes 0.6 kB."""

IGNORED_HEADERS = frozenset(
    [
        *(b"x-request-id", b"x-correlation-id", b"request-id", b"x-amzn-trace-id", b"x-cloud-trace-context", b"cf-ray"),
        *(b"traceparent", b"tracestate", b"x-b3-traceid", b"x-b3-spanid", b"sentry-trace", b"baggage"),
    ]
)
"""Headers that are different in each request, because proxies number requests. No answer to a poll depends on them:
X-Request-ID is repeated in errors, which are not kept."""

Answer = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]
"""Status, headers and content of a response."""


class Moment(NamedTuple):
    """When a request began, before anything was read for it."""

    here: float  # time.monotonic()
    shared: int  # by SharedChanges; 0 where only one process writes
    era: int = 0  # likewise


class Kept(NamedTuple):
    """An answer."""

    conversation: int
    began: Moment
    answer: Answer


class PollCache:
    """The answers to the polls of this process."""

    def __init__(self, shared: SharedChanges | None = None) -> None:
        """Empty. `shared` has the changes of all processes; None if there is only this one."""
        self.shared = shared
        self.answers: dict[bytes, Kept] = {}
        # By conversation: time.monotonic() when it has changed. `look_up` reads it while a thread writes it, so an
        # entry is moved and not taken out meanwhile.
        self.changes: OrderedDict[int, float] = OrderedDict()
        self.lock = Lock()  # for writing both: changes come from threads

    async def look_up(self, key: bytes) -> tuple[Answer | None, Moment | None]:
        """The answer to a request with this key, or None if it must be answered anew, and the moment of now.

        There is no moment while nobody knows what other processes change. Then no answer can be kept.
        """
        began, kept = Moment(time.monotonic(), 0), self.answers.get(key)
        if kept and not self.is_valid(kept, began.here):
            kept = None
        if self.shared:
            found = await self.shared.read(kept.conversation if kept else 0)
            if found is None:
                return None, None
            era, now, changed = found
            began = Moment(began.here, now, era)
            # By Redis' clock too: this machine may have slept, and changes that are as old are not known any more.
            oldest = max(changed, now - MAX_AGE * 1_000_000)
            is_current = kept and kept.began.era == era and kept.began.shared > oldest
            kept = kept if kept and is_current and self.is_valid(kept, began.here) else None
        return kept.answer if kept else None, began

    def is_valid(self, kept: Kept, now: float) -> bool:
        """Whether an answer is new enough, and this process has not changed its conversation since then."""
        began = kept.began.here
        return began > now - MAX_AGE and began > self.changes.get(kept.conversation, 0.0)

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep an answer."""
        now = kept.began.here
        with self.lock:
            self.answers.pop(key, None)
            self.answers[key] = kept
            oldest = next(iter(self.answers))
            while len(self.answers) > MAX_ANSWERS or self.answers[oldest].began.here < now - MAX_AGE:
                del self.answers[oldest]
                oldest = next(iter(self.answers))

    def forget(self, conversation: int) -> None:
        """Answer the polls of a conversation anew: it has changed. May be called in any thread."""
        self.forget_here(conversation)
        if self.shared:
            self.shared.add(conversation)

    def forget_here(self, conversation: int) -> None:
        """As `forget`, where other processes know of the change already. May be called in any thread."""
        with self.lock:
            now = time.monotonic()  # read under the lock: otherwise it could replace that of a later change
            self.changes[conversation] = now
            self.changes.move_to_end(conversation)
            while self.changes[oldest := next(iter(self.changes))] < now - MAX_AGE:  # older than every valid answer
                del self.changes[oldest]


# Redis keeps changes for longer than answers are used.
poll_cache = PollCache(SharedChanges(settings.REDIS_URL, SECONDS) if settings.REDIS_URL else None)


def poll_key(scope: Mapping[str, Any]) -> bytes | None:
    """The key of a request that may be a poll, or None. `scope` is that of the server, with all headers."""
    if scope["method"] != "GET" or b"since=" not in scope["query_string"] or scope.get("chatsite.refusal"):
        return None
    # No header has a line break in it.
    lines = [scope["scheme"].encode(), scope["raw_path"], scope["query_string"]]
    lines += [name + b":" + value for name, value in scope["headers"] if name not in IGNORED_HEADERS]
    return blake2b(b"\n".join(lines), digest_size=16).digest()


def keep(poll: tuple[bytes, Moment] | None, response: Any, head: Mapping[str, Any], content: bytes) -> None:
    """Keep a response if its view says that it is an answer to an empty poll: see `mark_empty`.

    `poll` is the request's key and when it began.
    """
    conversation = getattr(response, "empty_poll_of", None)
    if poll is not None and conversation is not None and not response.cookies:
        answer = head["status"], tuple(kept_once(*pair) for pair in head["headers"]), content
        poll_cache.put(poll[0], Kept(conversation, poll[1], answer))


def mark_empty(response: Any, conversation: int) -> None:
    """Mark a response: it answers a poll that has found nothing new in this conversation."""
    response.empty_poll_of = conversation


async def send_answer(answer: Answer, send: Any) -> None:
    """Send a kept answer. `send` is that of the ASGI application."""
    status, headers, content = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@lru_cache(maxsize=1000)
def kept_once(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header. Equal headers are kept in memory once."""
    return name, value
