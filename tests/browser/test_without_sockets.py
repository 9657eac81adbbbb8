"""Networks that block WebSockets: messages come by polling."""

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.cast import Agent, Customer, Stage, unique_name, wait_for_same_screen

pytestmark = pytest.mark.browser


def no_such_thing(context: BrowserContext) -> None:
    """A browser without WebSockets."""
    context.add_init_script("window.WebSocket = class { constructor() { throw new Error('not here'); } }")


def closed_at_once(context: BrowserContext) -> None:
    """A proxy that closes every socket."""
    context.route_web_socket("**/ws/**", lambda socket: socket.close(code=1011))


@pytest.mark.parametrize("refuse", [no_such_thing, closed_at_once])
def test_a_conversation_works_without_sockets(stage: Stage, refuse: object) -> None:
    assert callable(refuse)
    alice, bob, name = stage.customer(), stage.agent(), unique_name()
    people: tuple[Customer | Agent, ...] = (alice, bob)
    for person in people:
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
    for person in people:
        expect(person.page.locator("body")).to_have_attribute("data-link", "polling")
        expect(person.connection).to_have_text("Connected")
