"""Rate limits, and the client address that they count by."""

import json
from typing import Any

import pytest
from django.core.cache import cache
from django.test import RequestFactory

from conversations.models import Agent, Conversation, Message
from conversations.threshold import limits
from tests.conftest import Page

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_limits(settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {
        **settings.LIMITS,
        "messages of one address": (5, 60),
        "messages in one conversation": (3, 60),
        "conversations of one address": (2, 3600),
    }


def api(page: Page, **body: Any) -> Any:
    """POST /api/messages/."""
    return page.post("/api/messages/", json.dumps(body), content_type="application/json")


def test_a_flood_into_one_conversation_is_429_on_page_and_api(alice: Page, talk: Conversation) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    for number in range(3):
        assert alice.says(f"{number}").status_code == 302
    page = alice.says("what I typed")
    part = alice.htmx("/chat/messages/", {"content": "x"})
    call = api(Page(REMOTE_ADDR="192.0.2.9"), content="x", conversation=str(talk.uuid))
    for response in (page, part, call):
        assert response.status_code == 429
        assert 0 < int(response["Retry-After"]) <= 60
    assert "what I typed" in page.content.decode()
    assert "Please try again in" in call.json()["detail"]
    assert talk.messages.count() == 4


def test_many_new_conversations_of_one_address_are_429_and_leave_no_rows(alice: Page) -> None:
    answers = [api(Page(), content="Hi").status_code for _ in range(4)]
    assert answers == [200, 200, 429, 429]
    assert Conversation.objects.count() == Message.objects.count() == 2
    assert api(Page(REMOTE_ADDR="192.0.2.9"), content="Hi").status_code == 200


def test_one_address_is_limited_over_all_conversations(db: None) -> None:
    mine = [api(Page(), content="Hi").json()["items"][0]["conversation"] for _ in range(2)]
    answers = [api(Page(), content=f"{n}", conversation=mine[n % 2]).status_code for n in range(4)]
    assert answers == [200, 200, 200, 429]


def test_agents_are_served_while_somebody_floods(bobs: Page, bob: Agent, talk: Conversation) -> None:
    while api(Page(), content="x", conversation=str(talk.uuid)).status_code == 200:
        pass
    for number in range(10):
        assert bobs.answers(talk, f"{number}").status_code == 302
    assert bobs.get("/inbox/").status_code == 200


def test_reading_is_not_limited(talk: Conversation) -> None:
    for _ in range(20):
        assert Page().get(f"/api/messages/{talk.uuid}/").status_code == 200


def test_a_failing_cache_limits_nothing_and_is_logged(
    alice: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no cache")

    monkeypatch.setattr(type(cache._connections[cache._alias]), "add", broken)  # type: ignore[attr-defined]
    assert alice.says("Hello").status_code == 302
    assert Message.objects.count() == 1
    assert "nothing is limited meanwhile" in caplog.text


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "expected"),
    [
        (0, "192.0.2.1", "", "192.0.2.1"),
        (0, "192.0.2.1", "10.1.1.1", "192.0.2.1"),  # made up
        (1, "127.0.0.1", "198.51.100.7", "198.51.100.7"),
        (1, "127.0.0.1", "10.1.1.1, 198.51.100.7", "198.51.100.7"),  # the first is made up
        (2, "127.0.0.1", "10.1.1.1, 198.51.100.7, 172.16.0.1", "198.51.100.7"),
        (2, "127.0.0.1", "198.51.100.7", "127.0.0.1"),  # past one of our proxies
        (1, "127.0.0.1", "nonsense", "unknown"),
        (1, "192.0.2.1", "", "192.0.2.1"),
        (1, "127.0.0.1", "10.1.1.1, 198.51.100.7:5678", "198.51.100.7"),
        (1, "127.0.0.1", "[2001:db8:1:2::1]:443", "2001:db8:1:2::/64"),
        (1, "127.0.0.1", "[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        (1, "127.0.0.1", "2001:db8:1:2::1", "2001:db8:1:2::/64"),
        (1, "127.0.0.1", "[::ffff:192.0.2.1]:443", "192.0.2.1"),
        (1, "127.0.0.1", "192.0.2.1:", "unknown"),
        (1, "127.0.0.1", "[192.0.2.1", "unknown"),
        (0, "fe80::1%eth0", "", "fe80::/64"),
        (0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
        (0, "", "", "unknown"),
    ],
)
def test_forwarded_addresses_are_trusted_as_far_as_our_own_proxies_wrote_them(
    settings: Any, proxies: int, remote: str, forwarded: str, expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)
    assert limits.address(request) == expected
    headers = [(b"x-forwarded-for", hop.encode()) for hop in forwarded.split(",")]
    assert limits.address_of_scope({"client": [remote, 5678], "headers": headers}) == expected
    assert limits.address_of_scope({"client": None, "headers": []}) == "unknown"


def test_a_spoofed_address_does_not_dodge_the_limit(db: None) -> None:
    answers = [api(Page(HTTP_X_FORWARDED_FOR=f"10.0.0.{n}"), content="Hi").status_code for n in range(3)]
    assert answers == [200, 200, 429]


def test_the_limits_can_be_switched_off_for_measuring(settings: Any) -> None:
    settings.RATE_LIMITS = False
    assert {api(Page(), content="Hi").status_code for _ in range(8)} == {200}
