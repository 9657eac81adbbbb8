"""Redis, or Redis and PostgreSQL, are away while a customer and an agent talk: each is told, and nothing is lost.

OUTAGE=60 lets them be away for as many seconds, and SCREENSHOTS=folder keeps what people see meanwhile.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.people import Agent, People, Person, eventually, exactly
from tests.conftest import PASSWORD
from tests.services import Chat, Service, postgresql, redis_server
from tests.test_log_faults import AWAY, WAYS

pytestmark = pytest.mark.browser

SECONDS = float(os.environ.get("OUTAGE", "4"))
"""How long they are away."""

HEALED = 15
"""Seconds after which everything is delivered. Retry-After is 5 of them."""

PHONE: ViewportSize = {"width": 375, "height": 667}


class Place:
    """A server, and what it needs."""

    def __init__(self, where: Path, stack: ExitStack, log: str) -> None:
        """`log` is the MESSAGE_LOG."""
        (where / "redis").mkdir()
        self.sql = stack.enter_context(postgresql())
        self.redis = stack.enter_context(redis_server(where / "redis"))
        urls = {"DATABASE_URL": self.sql.url, "REDIS_URL": self.redis.url}
        self.chat = Chat(where, {**urls, "MESSAGE_LOG": log, "RATE_LIMITS": "off"})
        self.chat.manage("migrate", "--verbosity", "0")
        self.chat.manage("createagent", "bob", "--password", PASSWORD)
        self.chat.start()
        stack.callback(self.chat.kill)

    @contextmanager
    def away(self, way: str, *services: Service) -> Iterator[None]:
        """These services are away."""
        go, come = WAYS[way]
        for service in services:
            go(service)
        try:
            yield
        finally:
            for service in services:
                come(service)


@pytest.fixture(scope="module")
def with_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with the message log."""
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("log"), stack, "redis")


@pytest.fixture(scope="module")
def without_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server without it, for which Redis is the channel layer and the cache."""
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("sql"), stack, "sql")


def take_pictures(name: str, **pages: Page) -> None:
    """Keep what people see, if somebody wants to look at it."""
    for who, page in pages.items():
        if where := os.environ.get("SCREENSHOTS"):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(500)  # colours change slowly
                page.screenshot(path=f"{where}/{name}-{who}-{scheme}.png")


def has_delivered(person: Person, number: int) -> bool:
    """Whether the page has so many messages, and none that waits."""
    return len(person.screen()) == number and not person.pending.count()


def no_alerts(*people: Person) -> None:
    """No page shows an error."""
    for person in people:
        alerts = person.page.locator("[role=alert]:visible").all_inner_texts()
        assert not any(text.strip() for text in alerts), alerts


def talk(people: People, name: str) -> tuple[Person, Agent, Person]:
    """Alice, who also has a phone, and bob talk."""
    alice, bob = people.customer(), people.agent()
    alice.says(f"Hello, {name}")
    bob.opens(f"Hello, {name}")
    bob.says("Hello Alice")
    alice.shows(f"Hello, {name}", "Hello Alice")
    state = alice.page.context.storage_state()
    phone = Person(people.browser(viewport=PHONE, storage_state=state).new_page(), alice.url)
    phone.goes("/chat/")
    return alice, bob, phone


def waits(person: Person, text: str) -> None:
    """The message is shown, and said to wait."""
    row = person.page.locator(".message.retrying", has_text=text)
    expect(row).to_have_count(1)
    expect(row.locator(".delivery")).to_contain_text("trying again")


CASES = [("frozen", False), ("killed", True)]
if "OUTAGE" in os.environ:  # by hand all of them
    CASES += [("killed", False), ("frozen", True)]


@pytest.mark.parametrize(("way", "both"), CASES, ids=[f"{'both' if both else 'redis'}-{way}" for way, both in CASES])
def test_with_the_log_messages_wait_until_redis_is_back(
    chromium: Browser, with_log: Place, way: str, both: bool
) -> None:
    people = People(chromium, with_log.chat, {})
    name = f"{'both' if both else 'redis'}-{way}"
    alice, bob, phone = talk(people, name)
    said: dict[Person, list[str]] = {alice: [], bob: []}
    with with_log.away(way, with_log.redis, *([with_log.sql] if both else [])):
        ends = time.monotonic() + SECONDS
        while not said[bob] or (time.monotonic() < ends and len(said[bob]) < 20):
            for person, mine in said.items():
                mine.append(f"{'bob' if person is bob else 'alice'} {len(mine)}")
                person.says(mine[-1])
                person.page.wait_for_timeout(400)
        for person, mine in said.items():
            waits(person, mine[0])
            for text in mine:
                expect(person.page.locator(".message.pending .bubble").filter(has_text=exactly(text))).to_have_count(1)
        while time.monotonic() < ends:
            alice.page.wait_for_timeout(200)
        phone.says("from my phone")
        waits(phone, "from my phone")
        take_pictures(name, alice=alice.page, bob=bob.page, phone=phone.page)
        no_alerts(alice, bob, phone)
    everything = 2 + len(said[alice]) + len(said[bob]) + 1
    for person in (alice, bob, phone):
        eventually(
            person.page,
            partial(has_delivered, person, everything),
            "everything is delivered",
            HEALED + max(map(len, said.values())),
        )
    assert alice.screen() == bob.screen() == phone.screen()
    texts = [text for _, text in alice.screen()]
    for mine in said.values():
        assert [text for text in texts if text in mine] == mine
    alice.reloads()
    alice.shows(*texts)
    people.close()
    assert "Traceback" not in with_log.chat.log


def test_without_javascript_the_text_is_kept(chromium: Browser, with_log: Place) -> None:
    people = People(chromium, with_log.chat, {})
    name = "forms"
    alice, bob, _ = talk(people, name)
    pages = {}
    for who, person in (("alice", alice), ("bob", bob)):
        state = person.page.context.storage_state()
        page = people.browser(java_script_enabled=False, storage_state=state).new_page()
        page.goto(person.page.url)
        page.get_by_role("link", name=re.compile("^Write a")).click()
        page.locator("#content").fill(f"{who} has typed this")
        pages[who] = page
    with with_log.away("killed", with_log.redis):
        for who, page in pages.items():
            page.get_by_role("button", name="Send").click()
            expect(page.get_by_text(AWAY)).to_be_visible()
            expect(page.locator("#content")).to_have_value(f"{who} has typed this")
        take_pictures(name, **pages)
        for page in pages.values():
            page.set_viewport_size(PHONE)
        take_pictures(f"{name}-phone", **pages)
    for who, page in pages.items():
        deadline = time.monotonic() + HEALED
        while page.locator("#content").input_value():
            assert time.monotonic() < deadline
            page.get_by_role("button", name="Send").click()
        expect(page.locator(".bubble", has_text=f"{who} has typed this")).to_have_count(1)
    alice.sees("bob has typed this")
    people.close()


@pytest.mark.parametrize("way", WAYS)
def test_without_the_log_messages_go_on(chromium: Browser, without_log: Place, way: str) -> None:
    people = People(chromium, without_log.chat, {})
    name = f"sql-{way}"
    alice, bob, phone = talk(people, name)
    said = [f"Hello, {name}", "Hello Alice"]
    with without_log.away(way, without_log.redis):
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            for person, other in ((alice, bob), (bob, alice)):
                said.append(f"{len(said)}")
                person.says(said[-1])
                other.sees(said[-1])
                no_alerts(alice, bob)
        newcomer = people.customer()
        newcomer.says(f"I am new, {name}")
        newcomer.shows(f"I am new, {name}")
        bob.goes("/inbox/")
        expect(bob.row(f"I am new, {name}")).to_have_count(1)
        take_pictures(name, alice=alice.page, bob=bob.page, phone=phone.page)
    alice.reloads()
    alice.shows(*said[-50:])
    people.close()
    assert "Traceback" not in without_log.chat.log
