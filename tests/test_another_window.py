"""A code opens the conversation in another window: once, within a minute, and on the same website only."""

import time
from typing import Any

import pytest

from conversations import redis_client
from conversations.models import Conversation, Website
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db


def code_of(talk: Conversation) -> str:
    """The code that the customer's page gets for another window."""
    page = Page()
    page.cookies["chat"] = talk.uuid.hex
    return str(page.post("/chat/code/").content.decode())


def test_a_code_works_once(alice: Page, mallory: Page, talk: Conversation) -> None:
    code = code_of(talk)
    assert alice.post("/chat/enter/", {"code": code, "window": "1"}).status_code == 204
    assert texts(alice.get("/chat/")) == ["Hello, is anybody there?"]
    refused = mallory.post("/chat/enter/", {"code": code, "window": "2"})
    assert (refused.status_code, refused.cookies) == (403, {})
    assert texts(mallory.get("/chat/")) == []


def test_a_window_without_cookies_may_ask_again_for_the_secret(alice: Page, talk: Conversation) -> None:
    entry = {"code": code_of(talk), "window": "1"}
    assert "X-Secret" not in alice.post("/chat/enter/", entry)
    assert alice.post("/chat/enter/", entry, headers={"X-Keep": "yes"})["X-Secret"] == talk.uuid.hex


@pytest.mark.parametrize(("seconds", "status"), [(55, 204), (65, 403)])
def test_a_code_expires_after_a_minute(
    alice: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch, seconds: int, status: int
) -> None:
    code, now = code_of(talk), time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    assert alice.post("/chat/enter/", {"code": code}).status_code == status


def test_a_code_works_on_its_own_website_only(alice: Page, talk: Conversation) -> None:
    Website.objects.create(name="The bakery", key="bakery")
    assert alice.post("/chat/bakery/enter/", {"code": code_of(talk)}).status_code == 403


@pytest.mark.parametrize("code", ["", "nonsense", "a:b:c", "\x00"])
def test_an_invalid_code_is_refused(alice: Page, code: str) -> None:
    assert alice.post("/chat/enter/", {"code": code}).status_code == 403


def test_without_a_conversation_there_is_no_code(alice: Page) -> None:
    assert alice.post("/chat/code/").status_code == 404


def test_without_its_cache_every_code_is_refused(alice: Page, talk: Conversation, settings: Any) -> None:
    entry = {"code": code_of(talk), "window": "1"}
    cache = {"BACKEND": "chatsite.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/"}
    working, settings.CACHES = settings.CACHES, {"default": cache}
    refused = alice.post("/chat/enter/", entry)
    assert (refused.status_code, refused.cookies) == (403, {})
    settings.CACHES = working
    redis_client.breaker.succeeded()  # otherwise Redis is not asked again for a second
    assert alice.post("/chat/enter/", entry).status_code == 204
