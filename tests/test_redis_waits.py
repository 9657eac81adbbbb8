"""No request waits longer than its limit for a Redis that is away, and for a second after a failure none asks it.

Measured inside the server, around each use of a connection to Redis, with the time limit that is usual.
"""

import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from conversations.redis_client import PAUSE, TIMEOUT
from tests.conftest import PASSWORD
from tests.services import Chat, Service, postgresql, redis_server
from tests.test_log_faults import WAYS, Talk, ask_page, until_well

SLACK = 0.15
"""Seconds by which a time limit may be noticed late on a busy machine."""

AWAY = 2.5
"""Seconds that Redis is away: so it is asked two or three times."""

MEASURE = """
import sys, threading, time
import redis.asyncio, redis.connection
from tests import outage_settings

for name in outage_settings.LIMITS:  # they count, but nobody is refused
    outage_settings.LIMITS[name] = 100_000, 60

state = threading.local()

def note(began):
    name = threading.current_thread().name.replace(" ", "")
    sys.stderr.write(f"ASKED {name} {began} {time.monotonic()}.\\n")  # whole: others write too

def measure(name):
    original = getattr(redis.connection.AbstractConnection, name)
    def measured(self, *args, **options):
        if getattr(state, "is_inside", False):
            return original(self, *args, **options)
        state.is_inside, began = True, time.monotonic()
        try:
            return original(self, *args, **options)
        finally:
            state.is_inside = False
            note(began)
    setattr(redis.connection.AbstractConnection, name, measured)

for name in ("connect", "read_response", "send_packed_command"):
    measure(name)

execute = redis.asyncio.Redis.execute_command

async def execute_command(self, *args, **options):
    began = time.monotonic()
    try:
        return await execute(self, *args, **options)
    finally:
        if args[0] != "PUBLISH":  # nobody waits for rings
            note(began)

redis.asyncio.Redis.execute_command = execute_command
"""
"""Prints each use of a connection: its thread, and when it began and ended."""

ASKED = re.compile(r"ASKED (\S+) ([\d.]+) ([\d.]+)\.\n")

BACKGROUND = ("replicating", "cleaning", "ready")
"""Threads for which nobody waits."""


class Measured:
    """A server, and how long its requests have waited for Redis."""

    def __init__(self, chat: Chat, redis: Service) -> None:
        """Alice and bob talk."""
        self.chat, self.redis = chat, redis
        self.talk = Talk(chat)

    def asks(self, since: float, until: float) -> list[tuple[float, float]]:
        """When Redis was asked in this time for somebody who waits: beginnings and ends."""
        found = [(name, float(began), float(ended)) for name, began, ended in ASKED.findall(self.chat.log)]
        return [(a, b) for name, a, b in found if since <= a < until and not name.startswith(BACKGROUND)]

    def waits(self, door: Callable[[], object]) -> tuple[float, list[tuple[float, float]]]:
        """Go through a door; return how many seconds it has waited for Redis, and when."""
        began = time.monotonic()
        door()
        asks = self.asks(began, time.monotonic())
        return sum(ended - began for began, ended in asks), asks

    def doors(self) -> dict[str, Callable[[], Any]]:
        """Whatever uses Redis."""
        talk, chat = self.talk, self.chat
        since = talk.ids[-1] if talk.ids else 1
        guess = {"username": "carol", "password": "guessed", "csrfmiddlewaretoken": "x" * 32}
        return {
            "a widget posts": talk.writes,
            "a customer's page posts": lambda: talk.customer("POST", "messages/", content="Hi", client_id=str(uuid4())),
            "a form posts": lambda: talk.customer("POST", "messages/", htmx=False, content="Hi"),
            "an agent posts": lambda: talk.agent("POST", f"{talk.number}/messages/", content="Hi"),
            "a widget polls": lambda: chat.ask("GET", f"/api/messages/{talk.secret}/?since={since}"),
            "a customer's page polls": lambda: talk.customer("GET", f"messages/?since={since}"),
            "an agent's page polls": lambda: talk.agent("GET", f"{talk.number}/messages/?since={since}"),
            "a customer comes": lambda: talk.customer("GET", "", htmx=False),
            "an agent opens a conversation": lambda: talk.agent("GET", f"{talk.number}/", htmx=False),
            "an agent closes": lambda: talk.agent("POST", f"{talk.number}/close/"),
            "an agent has read": lambda: talk.agent("POST", f"{talk.number}/read/", last=str(since)),
            "a website reports a page": lambda: chat.ask(
                "POST", "/chat/here/", b"{}", **{"Cookie": talk.alice, "Origin": chat.url, "Content-Type": "text/plain"}
            ),
            "somebody signs in": lambda: ask_page(
                chat, "POST", "/inbox/sign-in/", f"csrftoken={'x' * 32}", False, guess
            ),
            "a customer's socket opens": lambda: self.rings("/ws/chat/", talk.alice),
            "an agent's socket opens": lambda: self.rings("/ws/inbox/", talk.bob),
        }

    def rings(self, path: str, cookie: str) -> None:
        """Open a WebSocket, and wait until it rings."""
        url = self.chat.url.replace("http:", "ws:") + path
        with connect(url, origin=Origin(self.chat.url), additional_headers={"Cookie": cookie}) as bell:
            bell.recv(30)

    def until_well(self) -> None:
        """Wait until Redis is used again."""
        until_well(lambda: self.talk.posts() + self.talk.polls(), 10)
        deadline = time.monotonic() + 10
        while not all(self.waits(self.talk.writes)[1] for _ in range(2)):  # without the log, posts succeed anyway
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module", params=["redis", "sql"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """A server with the message log, and one without it."""
    where = tmp_path_factory.mktemp("chat")
    (where / "redis").mkdir()
    with postgresql() as sql, redis_server(where / "redis") as redis:
        environment = {"DATABASE_URL": sql.url, "REDIS_URL": redis.url, "MESSAGE_LOG": request.param}
        chat = Chat(where, environment)
        chat.command = (chat.command[0], MEASURE + chat.command[1])
        chat.manage("migrate", "--verbosity", "0")
        chat.manage("createagent", "bob", "--password", PASSWORD)
        chat.start()
        yield Measured(chat, redis)
        chat.kill()


def test_no_door_waits_longer_than_its_limit_and_the_next_ones_do_not_ask(measured: Measured) -> None:
    report = []
    for name, door in measured.doors().items():
        measured.until_well()
        measured.redis.freeze()
        try:
            seconds, asks = measured.waits(door)
            again = measured.waits(measured.talk.writes)[1]
        finally:
            measured.redis.thaw()
        report.append(f"{name}: {seconds * 1000:.0f} ms")
        assert seconds < TIMEOUT + SLACK, (name, asks, measured.chat.log[-3000:])
        if asks and time.monotonic() < asks[-1][1] + PAUSE:
            assert not again, (name, asks, again)
    print(*report, sep="\n    ")


@pytest.mark.parametrize("way", WAYS)
def test_redis_is_asked_once_a_second_while_it_is_away(measured: Measured, way: str) -> None:
    go, come = WAYS[way]
    measured.until_well()
    go(measured.redis)
    began = time.monotonic()
    try:
        while time.monotonic() < began + AWAY:
            for door in measured.doors().values():
                assert measured.waits(door)[0] < TIMEOUT + SLACK
    finally:
        come(measured.redis)
    until = time.monotonic()
    asks = measured.asks(began, until)
    tries = [asks[0]]
    for one, other in pairwise(asks):
        if other[0] > one[1] + 0.1:  # else the same try: a connection is closed, and opened again
            tries.append(other)
            assert other[0] > one[1] + 0.9 * PAUSE, asks
    print(way, len(tries), f"tries in {AWAY} seconds, waited for", sum(b - a for a, b in asks))
    assert 2 <= len(tries) <= 1 + (until - began) / PAUSE
