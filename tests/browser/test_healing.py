"""Slow lines, dead lines, and servers that fail for a while: what waits comes through soon after all is well again."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.browser.people import Agent, Api, Customer, People, Person, eventually, unique_name, uuid_of
from tests.conftest import PASSWORD, Server

pytestmark = pytest.mark.browser

MESSAGES = re.compile(r"/messages/(\?|$)")
LOOKS = re.compile(r"/(messages|list)/(\?|$)")
SLOW = 10_000  # bytes per second, both ways
LONG = "長い" * 10_000  # 60 kB


def slow_line(person: Person) -> None:
    """Give the browser a line of 10 kB/s."""
    cdp = person.page.context.new_cdp_session(person.page)
    cdp.send("Network.enable")
    line = {"offline": False, "latency": 20, "downloadThroughput": SLOW, "uploadThroughput": SLOW}
    cdp.send("Network.emulateNetworkConditions", line)


def test_a_long_message_and_a_short_one_behind_it_are_sent_over_a_slow_line(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.sees("Hello")
    slow_line(alice)
    alice.says(LONG)
    alice.says("short")
    eventually(alice.page, lambda: not alice.pending.count(), "both messages are sent", timeout=40)
    alice.shows("Hello", LONG, "short")


def test_long_messages_that_wait_come_one_after_the_other_over_a_slow_line(people: People, api: Api) -> None:
    alice = people.customer(conversation=(uuid := api.start_conversation("Hello")))
    alice.is_connected()
    texts = [LONG + str(number) for number in range(3)]
    alice.page.route(MESSAGES, lambda route: route.abort())
    for text in texts:
        api.post(text, uuid)
    alice.page.unroute(MESSAGES)
    slow_line(alice)
    alice.page.evaluate("document.body.dispatchEvent(new CustomEvent('messages'))")
    eventually(alice.page, lambda: len(alice.screen()) > 1, "the first is shown", timeout=12)
    eventually(alice.page, lambda: len(alice.screen()) == 4, "all are shown", timeout=40)


def test_a_response_may_take_longer_than_the_limit_while_its_parts_arrive(people: People) -> None:
    alice = people.customer()
    timeouts = alice.page.evaluate(
        """new Promise((done) => {
            const found = [];
            document.body.addEventListener("htmx:beforeSend", ({ detail }) => {
                found.push(detail.xhr.timeout);
                detail.xhr.addEventListener("load", () => done([...found, detail.xhr.timeout]));
            });
            const { htmx } = document.querySelector("chat-keeper");
            htmx.ajax("GET", location.href, { target: "#state", swap: "none" });
        })"""
    )
    assert timeouts == [15_000, 60_000]


def fails(person: Person, status: int, **headers: str) -> list[str]:
    """Let the server answer all looks and posts with this status, while sockets stay open; returns their methods."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        route.fulfill(status=status, headers=headers, body="Not now.", content_type="text/plain")

    person.page.route(LOOKS, answer)
    return asked


@pytest.mark.parametrize("side", ["customer", "agent"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_message_goes_as_soon_as_the_server_is_well_again(people: People, api: Api, side: str, status: int) -> None:
    uuid = api.start_conversation("Hello", name=(name := unique_name()))
    person: Customer | Agent
    if side == "customer":
        person = people.customer(conversation=uuid)
    else:
        person = people.agent()
        person.opens(name)
    person.is_connected()
    asked = fails(person, status)
    person.says("Is anybody there?")
    expect(person.connection).to_have_text("Reconnecting…")  # although the socket is open
    eventually(person.page, lambda: asked.count("POST") >= 4, "the composer waits for seconds between its tries")
    person.page.unroute(LOOKS)
    well = time.monotonic()
    expect(person.pending).to_have_count(0)
    assert time.monotonic() - well < 8  # a poll comes after 3.3 seconds at the most; the rest is for a busy machine
    person.sees("Is anybody there?")
    expect(person.connection).to_have_text("Connected")
    assert api.read(uuid)[-1][1] == "Is anybody there?"


def test_a_server_that_only_reads_is_asked_to_write_at_the_pace_of_polls(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.is_connected()
    alice.page.clock.install()
    posts: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "GET":
            return route.continue_()
        posts.append(route.request.method)
        return route.fulfill(status=500)

    alice.page.route(MESSAGES, answer)
    alice.says("Please")
    for _ in range(60):
        alice.page.clock.run_for(500)
        alice.page.wait_for_timeout(30)
    assert 6 <= len(posts) <= 20  # in 30 seconds
    expect(alice.connection).to_have_text("Connected")


def test_a_503_is_tried_again_after_the_time_that_the_server_says(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.is_connected()
    alice.page.clock.install()
    posts: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "GET":
            return route.continue_()
        posts.append(route.request.method)
        return route.fulfill(status=503, headers={"Retry-After": "40"}) if len(posts) == 1 else route.continue_()

    alice.page.route(MESSAGES, answer)
    alice.says("Later")
    eventually(alice.page, lambda: len(posts) == 1, "the first try")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    alice.page.clock.run_for(39_000)
    assert len(posts) == 1
    alice.page.clock.run_for(2000)
    alice.shows("Hello", "Later")


def test_tries_of_a_long_outage_come_as_often_as_the_server_says(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.is_connected()
    alice.page.clock.install()
    posts: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            posts.append(route.request.method)
        route.fulfill(status=503, headers={"Retry-After": "5"})

    alice.page.route(MESSAGES, answer)
    alice.says("Now?")
    for _ in range(90):
        alice.page.clock.run_for(1000)
        alice.page.wait_for_timeout(50)
    assert len(posts) >= 13  # 18 in 90 seconds; with a back-off that grows to 20 seconds there are 10
    alice.page.unroute(MESSAGES)
    alice.page.clock.run_for(5100)
    alice.shows("Hello", "Now?")


def test_a_message_for_whose_files_there_is_no_space_waits_for_its_sender(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.is_connected()
    asked = fails(alice, 507)
    alice.says("A picture")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent. Not now.")
    assert asked.count("POST") == 1
    alice.page.unroute(LOOKS)
    alice.says("Another one")
    alice.sees("Another one")
    expect(alice.pending).to_have_count(1)
    alice.pending.get_by_role("button", name="Try again").click()
    alice.shows("Hello", "Another one", "A picture")


def test_a_request_without_an_answer_is_reason_to_open_another_socket(people: People, api: Api) -> None:
    sockets: list[WebSocketRoute] = []
    held: list[Route] = []
    dead = refused = False

    def connect(route: WebSocketRoute) -> None:
        sockets.append(route)
        server = route.connect_to_server()
        server.on_message(lambda message: None if dead else route.send(message))

    def answer(route: Route) -> None:
        if dead and route.request.method == "POST":
            held.append(route)  # it is neither answered nor refused
        elif refused:
            route.abort()
        else:
            route.continue_()

    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.page.clock.install()
    alice.page.route_web_socket(re.compile("/ws/"), connect)
    alice.page.route(MESSAGES, answer)
    alice.reloads()
    alice.is_connected()
    dead = True
    alice.says("Can you hear me?")
    eventually(alice.page, lambda: len(held) == 1, "the message is on its way")
    alice.page.clock.run_for(13_000)
    expect(alice.connection).to_have_text("Connected")
    assert len(sockets) == 1
    refused = True  # so that no look finds the server before the next check
    alice.page.clock.run_for(3000)
    expect(alice.connection).to_have_text("Reconnecting…")
    alice.page.clock.run_for(1000)
    eventually(alice.page, lambda: len(sockets) == 2, "the page has opened another socket")
    dead = refused = False
    alice.page.clock.run_for(4000)
    alice.shows("Hello", "Can you hear me?")
    alice.is_connected()


def test_a_read_mark_that_failed_is_sent_again(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    bob.is_connected()
    tries: list[int] = []

    def fail_twice(route: Route) -> None:
        tries.append(1)
        if len(tries) > 2:
            route.continue_()
        elif len(tries) == 2:
            route.fulfill(status=500)
        else:
            route.abort()

    bob.page.route("**/read/", fail_twice)
    api.post("The last message", uuid)
    bob.sees("The last message")
    eventually(bob.page, lambda: len(tries) == 3, "the mark is sent until the server has it", timeout=30)
    expect(bob.row(name).locator(".unread")).to_have_count(0)


# A restored database -------------------------------------------------------------------------------------------------


class Restorable(Server):
    """A server on a SQLite database of its own, which can be put back to an earlier state."""

    def __init__(self, folder: Path) -> None:
        self.database, self.backup = folder / "db.sqlite3", folder / "backup.sqlite3"
        where = {"DATABASE_URL": f"sqlite:///{self.database}", "FILES": str(folder / "files")}
        super().__init__({"DEBUG": "on", "RATE_LIMITS": "off", **where})

    def saves(self) -> None:
        """Copy the database."""
        self.manage(
            "shell", "-c", f"from django.db import connection as c; c.cursor().execute(\"VACUUM INTO '{self.backup}'\")"
        )

    def restores(self) -> None:
        """Stop, put the copy in place, and start."""
        self.kill()
        for path in self.database.parent.glob("db.sqlite3-*"):
            path.unlink()
        self.database.write_bytes(self.backup.read_bytes())
        self.start()


@pytest.fixture
def restorable(tmp_path: Path) -> Iterator[Restorable]:
    """A server whose database can be restored."""
    server = Restorable(tmp_path)
    server.manage("migrate", "--verbosity", "0")
    server.manage("createagent", "bob", "--password", PASSWORD)
    server.start()
    yield server
    if server.process and server.process.poll() is None:
        server.kill()


def test_after_a_restore_both_sides_show_what_there_is_and_go_on(people: People, restorable: Restorable) -> None:
    people.server, people.sessions = restorable, {}
    alice = people.customer(server=restorable)
    alice.says("Before the backup")
    alice.sees("Before the backup")
    bob = people.agent(server=restorable)
    bob.opens("Before the backup")
    uuid = uuid_of(alice)
    restorable.saves()
    for number in range(5):
        alice.says(f"Alice's {number}")
        alice.sees(f"Alice's {number}")
        bob.answers(f"Bob's {number}")
        bob.sees(f"Bob's {number}")
    alice.sees("Bob's 4")
    restorable.restores()
    for person in (alice, bob):
        expect(
            person.page.get_by_text("This conversation was restored. Newer messages may be missing.")
        ).to_be_visible()
        expect(person.page.locator("#messages .message")).to_have_count(1)
        expect(person.pending).to_have_count(5)
        expect(person.pending.first.locator(".delivery")).to_have_text("This message was lost. You can send it again.")
    expect(alice.pending.first.locator(".bubble")).to_have_text("Alice's 0")
    alice.says("Hello again")
    alice.sees("Hello again")
    bob.sees("Hello again")
    bob.answers("And hello to you")
    alice.sees("And hello to you")
    alice.pending.nth(4).get_by_role("button", name="Try again").click()
    for person in (alice, bob):
        person.sees("Alice's 4")
    api = Api(restorable)
    texts = [text for _, text in api.read(uuid)]
    assert texts == ["Before the backup", "Hello again", "And hello to you", "Alice's 4"]


def test_a_message_that_was_acknowledged_before_a_restore_is_sent_again(people: People, restorable: Restorable) -> None:
    alice = people.customer(server=restorable)
    alice.says("Before the backup")
    alice.sees("Before the backup")
    alice.is_connected()
    uuid = uuid_of(alice)
    restorable.saves()
    Api(restorable).post("From another device", uuid)
    alice.sees("From another device")
    alice.page.route(MESSAGES, lambda route: route.continue_() if route.request.method == "POST" else route.abort())
    alice.says("Acknowledged, but never on the screen")
    expect(alice.pending.locator(".delivery")).to_have_text("Sent")
    restorable.restores()
    alice.page.unroute(MESSAGES)
    alice.shows("Before the backup", "Acknowledged, but never on the screen")
