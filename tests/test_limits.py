"""Rate limits, and the client address that they count by."""

import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import RequestFactory

from conversations.models import Agent, Conversation, Message
from conversations.threshold import limits, sliding_window
from conversations.threshold.proxies import address_of_scope
from tests.conftest import Page, free_port

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


def test_while_redis_fails_the_process_counts_by_itself(settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}"
    limits.store.cache_clear()
    uuid = api(Page(), content="Hi").json()["items"][0]["conversation"]
    answers = [api(Page(), content=f"{n}", conversation=uuid).status_code for n in range(8)]
    assert answers[0] == 200
    assert answers[-1] == 429


def test_requests_do_not_wait_long_for_a_hanging_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        store = sliding_window.RedisStore(f"redis://127.0.0.1:{hanging.getsockname()[1]}")
        started = time.monotonic()
        assert store.use("counter", 1, 60, 0) == 0
        assert store.use("counter", 1, 60, 1) > 0  # this process counts by itself
        assert time.monotonic() - started < 2


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
    assert address_of_scope({"client": [remote, 5678], "headers": headers}) == expected
    assert address_of_scope({"client": None, "headers": []}) == "unknown"


def test_a_spoofed_address_does_not_evade_the_limit(db: None) -> None:
    answers = [api(Page(HTTP_X_FORWARDED_FOR=f"10.0.0.{n}"), content="Hi").status_code for n in range(3)]
    assert answers == [200, 200, 429]


def test_the_limits_can_be_switched_off_for_measuring(settings: Any) -> None:
    settings.RATE_LIMITS = False
    assert {api(Page(), content="Hi").status_code for _ in range(8)} == {200}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass: a function of seconds."""
    now = [math.ceil(time.time() / 3600) * 3600.0]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def allowed(limit: str = "messages of one address") -> int:
    """0, or in how many seconds the next use is allowed."""
    try:
        limits.enforce(limit, "192.0.2.1")
    except limits.RateLimitExceeded as error:
        return error.retry_after
    return 0


def test_a_limit_is_not_doubled_across_two_minutes(clock: Callable[[float], None]) -> None:
    clock(59)
    assert [allowed() for _ in range(5)] == [0] * 5
    clock(2)
    assert allowed() == 58


def test_no_period_of_a_limits_length_has_more_uses_and_retry_after_is_right(clock: Callable[[float], None]) -> None:
    dice = random.Random(7)
    uses: list[float] = []
    for _ in range(400):
        clock(dice.choice([0, 0.01, 1, 5, 20]) * dice.random())
        if wait := allowed():
            assert wait == math.ceil(uses[-5] + 60 - time.time())
            if dice.random() < 0.2:
                clock(wait - 1)
                assert allowed() == 1
                clock(1)
                assert allowed() == 0
                uses.append(time.time())
        else:
            uses.append(time.time())
    assert len(uses) > 50
    assert all(later - use >= 60 for use, later in zip(uses, uses[5:], strict=False))


def test_uses_at_the_same_moment_do_not_exceed_a_limit() -> None:
    start = threading.Barrier(12)

    def use(_number: int) -> int:
        start.wait()
        return allowed()

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(use, range(12))).count(0) == 5


def test_a_use_can_be_given_back() -> None:
    for _ in range(8):
        limits.give_back(limits.enforce("messages of one address", "192.0.2.1"))
    assert [allowed() > 0 for _ in range(6)] == [False] * 5 + [True]


def test_limits_are_reserved_together_or_not_at_all() -> None:
    limits.enforce("messages in one conversation", 1)
    both = ("messages of one address", "192.0.2.1"), ("messages in one conversation", 1)
    assert len(limits.reserve(*both)) == len(limits.reserve(*both)) == 2
    for _ in range(9):
        with pytest.raises(limits.RateLimitExceeded) as error:
            limits.reserve(*both)
        assert error.value.limit == "messages in one conversation"
    assert [allowed() > 0 for _ in range(4)] == [False] * 3 + [True]


def test_memory_holds_a_bounded_number_of_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window, "MAX_USES", 100)
    store = sliding_window.MemoryStore()
    for number in range(1000):
        store.use("busy", 5, 60, number)
        store.use(f"{number}", 5, 60, number)
        store.give_back(f"{number - 1}", number - 1)
    assert len(store.counters) <= 100
    assert store.size == sum(map(len, store.counters.values())) <= 100
    assert store.use("busy", 5, 60, 1000) > 0
