"""Messages of customers that are written without Django: see conversations/screen/plain_posts.py."""

from time import perf_counter
from typing import Any

from django.conf import settings

from chatsite.metrics import observe_request
from conversations.api import plain_posts
from conversations.poll_cache import Answer
from conversations.screen.plain_posts import head_key


async def answer_plain_post(scope: dict[str, Any]) -> Answer | None:
    """Write the message of a request, and return the response; None if Django must handle it.

    scope: that of the server. Notes in it by what to remember what Django decides.
    """
    if not settings.MESSAGE_LOG or scope["method"] != "POST" or scope["raw_path"] not in plain_posts.PATHS:
        return None
    key = head_key(scope)
    if key is None:
        return None
    scope["chatsite.plain_post"] = key
    began = perf_counter()
    answer = await plain_posts.post(scope, key)
    if answer:
        observe_request(scope, answer[0], perf_counter() - began)
    return answer
