"""Compressed pages: only where their size reveals nothing about what is in them.

Whoever sees the sizes of responses, and can put texts of their own into them, can guess the others by many responses
(https://breachattack.com). So a page repeats no part of its query string that an attacker can choose
(tests/test_compression.py). On agents' pages there are also texts of other customers, so they are compressed only when
the agent opens them: a link on another site, or a new message, makes no compressed response.
"""

import gzip
from collections.abc import Callable
from functools import wraps
from typing import Any

import brotli
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from conversations.screen.bundles import accepted_encoding

SHORT_PAGE = 6_000  # bytes; the chat page with few messages


def compressed(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Compress the view's responses if the browser accepts that."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return compress(request, view(request, *args, **kwargs))

    return wrapper


def compress(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Compress a response if the browser accepts that."""
    encoding = accepted_encoding(request)
    if encoding:
        content = response.content
        quality = 10 if len(content) < SHORT_PAGE else 5  # nothing is cached here, so long pages use a faster level
        response.content = brotli.compress(content, quality=quality) if encoding == "br" else gzip.compress(content, 6)
        response["Content-Encoding"] = encoding
    patch_vary_headers(response, ["Accept-Encoding"])
    return response
