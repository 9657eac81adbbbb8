"""The id of a request: in the log lines of this request, and in the header X-Request-ID of a response with an error.

So whoever has seen an error can tell the operator which lines belong to it.
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.conf import settings

HEADER = "X-Request-ID"
NAME = HEADER.lower().encode()  # in ASGI scopes

SANE = re.compile(rb"[\w.~+/=:@-]{1,100}", re.ASCII)
"""Ids that are taken from a proxy. They are written into logs, so a client must not be able to write anything there."""


class CurrentRequest(NamedTuple):
    """The request that this thread or task is answering."""

    id: str
    path: str


current_request: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


def request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The id that our proxy has given to a request in X-Request-ID, if it is sane; otherwise a new one."""
    if settings.TRUSTED_PROXIES:
        given = [value for name, value in headers if name == NAME]
        if given and SANE.fullmatch(given[-1]):
            return given[-1].decode("ascii")
    return f"{random.getrandbits(48):012x}"


@contextmanager
def answering(scope: Mapping[str, Any]) -> Iterator[None]:
    """In this block, log lines belong to the request of this scope."""
    token = current_request.set(CurrentRequest(scope["chatsite.request_id"], scope["path"]))
    try:
        yield
    finally:
        current_request.reset(token)
