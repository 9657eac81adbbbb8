"""Networks that block WebSockets: messages come by polling."""

import re

import pytest
from playwright.sync_api import BrowserContext, WebSocketRoute, expect

from tests.browser.people import Agent, Api, Customer, People, eventually, unique_name, wait_for_same_screen

pytestmark = pytest.mark.browser


def without_websocket(context: BrowserContext) -> None:
    """A browser without WebSockets."""
    context.add_init_script("window.WebSocket = class { constructor() { throw new Error('not here'); } }")


def closing_sockets(context: BrowserContext) -> None:
    """A proxy that closes every socket."""
    context.route_web_socket("**/ws/**", lambda socket: socket.close(code=1011))


@pytest.mark.parametrize("refuse", [without_websocket, closing_sockets])
def test_a_conversation_works_without_sockets(people: People, refuse: object) -> None:
    assert callable(refuse)
    alice, bob, name = people.customer(), people.agent(), unique_name()
    both: tuple[Customer | Agent, ...] = (alice, bob)
    for person in both:
        refuse(person.page.context)
        person.reloads()
    alice.introduces_herself(name)
    alice.says("Hello through the wall.")
    alice.sees("Hello through the wall.")
    bob.opens(name)
    bob.takes()
    bob.answers("I can hear you.")
    alice.sees("I can hear you.")
    alice.says("And I you.")
    bob.sees("And I you.")
    bob.closes()
    expect(alice.page.get_by_text("This chat is closed.")).to_be_visible()
    alice.says("Open up!")
    bob.sees("Open up!")
    expect(bob.head).to_contain_text("Open")
    wait_for_same_screen(alice, bob)
    for person in both:
        expect(person.page.locator("body")).to_have_attribute("data-link", "polling")
        expect(person.connection).to_have_text("Connected")
    bob.comes()
    carol = people.agent("carol")
    carol.opens(name)
    carol.page.get_by_role("link", name="Note", exact=True).click()
    expect(carol.page.locator("#writing.note")).to_be_visible()
    carol.says("@bob look")
    expect(bob.row(name)).to_contain_text("You are mentioned")
    expect(bob.tab("Mentions").locator(".n.new")).to_be_visible()


def test_a_page_that_is_refused_a_socket_polls_and_tries_again_late(people: People, api: Api) -> None:
    tries: list[WebSocketRoute] = []

    def refuse(route: WebSocketRoute) -> None:
        tries.append(route)
        route.close(code=1013)

    uuid = api.start_conversation("Hello")
    alice = people.customer(conversation=uuid)
    alice.page.clock.install()
    alice.page.route_web_socket(re.compile("/ws/"), refuse)
    alice.reloads()
    eventually(alice.page, lambda: len(tries) == 1, "the page tries to open a socket")
    api.post("Do you poll?", uuid)
    alice.page.clock.run_for(5000)
    alice.shows("Hello", "Do you poll?")
    alice.page.clock.run_for(24_000)
    assert len(tries) == 1
    alice.page.clock.run_for(32_000)
    eventually(alice.page, lambda: len(tries) == 2, "the page tries again within a minute")
