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
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import Any

MAX_AGE = 10
"""Seconds after which a poll is answered anew."""

MAX_ANSWERS = 20_000
"""Answers that are kept. Each takes about 0.5 kB."""

UNREAD = frozenset(
    [
        *(b"x-request-id", b"x-correlation-id", b"request-id", b"x-amzn-trace-id", b"x-cloud-trace-context", b"cf-ray"),
        *(b"traceparent", b"tracestate", b"x-b3-traceid", b"x-b3-spanid", b"sentry-trace", b"baggage"),
    ]
)
"""Headers that are different in each request, because proxies number requests. Nothing in Chatsite reads them."""

Answer = tuple[dict[str, Any], dict[str, Any]]
"""The two ASGI messages of a response."""


class PollCache:
    """The answers to the polls of this process."""

    def __init__(self) -> None:
        """Empty."""
        self.answers: dict[bytes, tuple[int, float, Answer]] = {}  # conversation, when it began, answer
        self.changes: dict[int, float] = {}  # by conversation: when it has changed
        self.lock = Lock()  # for writing both: changes come from threads

    def get(self, key: bytes) -> Answer | None:
        """The answer to the request with this key, or None if it must be answered anew."""
        found = self.answers.get(key)
        if found is None:
            return None
        conversation, began, answer = found
        is_valid = began > time.monotonic() - MAX_AGE and began > self.changes.get(conversation, 0.0)
        return answer if is_valid else None

    def put(self, key: bytes, conversation: int, began: float, answer: Answer) -> None:
        """Keep the answer to a poll of a conversation. `began` is time.monotonic() before anything was read for it."""
        with self.lock:
            self.answers.pop(key, None)
            self.answers[key] = conversation, began, answer
            oldest = next(iter(self.answers))
            while len(self.answers) > MAX_ANSWERS or self.answers[oldest][1] < began - MAX_AGE:
                del self.answers[oldest]
                oldest = next(iter(self.answers))

    def forget(self, conversation: int) -> None:
        """Answer the polls of a conversation anew: it has changed. May be called in any thread."""
        now = time.monotonic()
        with self.lock:
            self.changes.pop(conversation, None)
            self.changes[conversation] = now
            while self.changes[oldest := next(iter(self.changes))] < now - MAX_AGE:  # older than every valid answer
                del self.changes[oldest]


poll_cache = PollCache()


def poll_key(scope: Mapping[str, Any]) -> bytes | None:
    """The key of a request that may be a poll, or None. `scope` is that of the server, with all headers."""
    if scope["method"] != "GET" or b"since=" not in scope["query_string"] or scope.get("chatsite.refusal"):
        return None
    # No header has a line break in it.
    lines = [scope["scheme"].encode(), scope["raw_path"], scope["query_string"]]
    lines += [name + b":" + value for name, value in scope["headers"] if name not in UNREAD]
    return blake2b(b"\n".join(lines), digest_size=16).digest()


def keep(poll: tuple[bytes, float] | None, response: Any, head: Mapping[str, Any], content: bytes) -> None:
    """Keep a response if its view says that it is an answer to an empty poll: see `mark_empty`.

    `poll` is the request's key and when it began.
    """
    conversation = getattr(response, "empty_poll_of", None)
    if poll is not None and conversation is not None and not response.cookies:
        start = {**head, "headers": [shared(*pair) for pair in head["headers"]]}
        poll_cache.put(poll[0], conversation, poll[1], (start, {"type": "http.response.body", "body": content}))


def mark_empty(response: Any, conversation: int) -> None:
    """Mark a response: it answers a poll that has found nothing new in this conversation."""
    response.empty_poll_of = conversation


@lru_cache(maxsize=1000)
def shared(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header. Equal headers are kept in memory once."""
    return name, value
