"""Messages of customers that are written without Django: see conversations/screen/plain_posts.py."""

from time import perf_counter
from typing import Any

from django.conf import settings

from chatsite.metrics import observe_request
from conversations.api import plain_posts as widget_posts
from conversations.customer import plain_posts as page_posts
from conversations.poll_cache import Answer


async def answer_plain_post(scope: dict[str, Any]) -> Answer | None:
    """Write the message of a request, and return the response; None if Django must handle it.

    scope: that of the server. Notes in it by what to remember what Django decides.
    """
    if not settings.MESSAGE_LOG or scope["method"] != "POST":
        return None
    door: Any = page_posts if scope["raw_path"].startswith(b"/chat/") else widget_posts
    key = scope["chatsite.plain_post"] = door.key_of(scope)
    if key is None:
        return None
    began = perf_counter()
    answer: Answer | None = await door.post(scope, key)
    if answer:
        observe_request(scope, answer[0], perf_counter() - began)
    return answer
