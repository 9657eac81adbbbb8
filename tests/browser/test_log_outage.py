"""With the message log, PostgreSQL stops while a customer and an agent talk: they do not notice."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.people import People, eventually
from tests.conftest import PASSWORD
from tests.services import Chat, Service, postgresql, redis_server

pytestmark = pytest.mark.browser

SECONDS = float(os.environ.get("OUTAGE", "12"))
"""How long PostgreSQL is away."""


@pytest.fixture
def database() -> Iterator[Service]:
    """A PostgreSQL that may be stopped."""
    with postgresql() as service:
        yield service


@pytest.fixture
def logging_server(database: Service, tmp_path: Path) -> Iterator[Chat]:
    """A server with the message log, which copies into PostgreSQL by itself."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as redis:
        server = Chat(
            tmp_path,
            {"DATABASE_URL": database.url, "REDIS_URL": redis.url, "MESSAGE_LOG": "redis", "RATE_LIMITS": "off"},
        )
        server.manage("migrate", "--verbosity", "0")
        server.manage("createagent", "bob", "--password", PASSWORD)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def people(chromium: Browser, logging_server: Chat) -> Iterator[People]:
    """Customers and agents of this server."""
    people = People(chromium, logging_server, {})
    yield people
    people.close()


def test_a_customer_and_an_agent_talk_while_postgresql_is_away(
    people: People, database: Service, logging_server: Chat, tmp_path: Path
) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("Hello")
    bob.opens("Hello")
    bob.says("Hello Alice")
    alice.shows("Hello", "Hello Alice")
    said = ["Hello", "Hello Alice"]
    database.end(signal.SIGINT)
    ends, carla = time.monotonic() + SECONDS, None
    while time.monotonic() < ends:
        for person, other in ((alice, bob), (bob, alice)):
            said.append(secrets.token_hex(4))
            person.says(said[-1])
            other.sees(said[-1])
            person.shows(*said)
            for each in (alice, bob):
                alerts = each.page.locator("[role=alert]:visible").all_inner_texts()
                assert not any(text.strip() for text in alerts), alerts
        if carla is None:  # somebody new
            carla = people.customer()
            carla.says("I am new")
            carla.shows("I am new")
    if where := os.environ.get("SCREENSHOTS"):
        alice.page.screenshot(path=f"{where}/alice.png")
        bob.page.screenshot(path=f"{where}/bob.png")
    database.start()
    eventually(
        bob.page,
        lambda: bob.row("I am new").count() == 1 and bob.row(said[-1]).count() == 1,
        "the list has what was written meanwhile",
        timeout=30,
    )
    for person in (alice, bob):
        person.reloads()
        person.shows(*said[-50:])  # a page
    assert "Traceback" not in logging_server.log, logging_server.log
