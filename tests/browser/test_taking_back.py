"""The menu of a message in the browser: its time, a link to it, and taking it back."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, exactly, unique_name
from tests.browser.test_accessibility import TOUCH, found_by_axe

pytestmark = pytest.mark.browser


def more_about(agent: Agent, text: str) -> None:
    """Open the menu of a message, by the keyboard."""
    row = agent.page.locator("#messages > .message").filter(has=agent.page.locator(".bubble", has_text=exactly(text)))
    link = row.get_by_role("link", name="more about this message")
    link.focus()
    expect(row.locator(".when")).to_have_css("opacity", "1")
    link.press("Enter")
    expect(agent.page.locator("#menu choice-menu.of-message")).to_be_visible()
    expect(row.locator(".when")).not_to_have_css("opacity", re.compile(r"0\."))  # it fades out


def test_bob_takes_a_message_back_and_everybody_sees_it_at_once(people: People, api: Api) -> None:
    name, alice = unique_name(), people.customer(timezone_id="Pacific/Kiritimati")
    alice.introduces_herself(name)
    alice.says("My order has not come")
    bob, carol = people.agent("bob"), people.agent("carol", **TOUCH)
    for agent in (bob, carol):
        agent.opens(name)
    bob.says("Which one, Mrs Smith?")
    bob.says("I will look")
    alice.shows("My order has not come", "Which one, Mrs Smith?", "I will look")
    carol.sees("I will look")
    more_about(bob, "Which one, Mrs Smith?")
    menu = bob.page.locator("#menu")
    expect(menu.locator(".exact")).to_contain_text(re.compile(r"20\d\d"))
    assert found_by_axe(bob.page) == []
    menu.locator("summary").press("Enter")
    expect(menu).to_contain_text("erased for everybody")
    menu.get_by_role("button", name="Take back").press("Enter")
    expect(menu).to_be_hidden()
    bob.shows("My order has not come", "You removed this message", "I will look")
    expect(bob.page.locator(".removed ~ .when .sent-at")).to_be_focused()
    carol.shows("My order has not come", "bob removed this message", "I will look")
    alice.shows("My order has not come", "Message removed", "I will look")
    for person in (alice, bob, carol):
        expect(person.page.locator("#messages .day")).to_have_count(1)
        expect(person.page.locator(".pill:not(.newest)")).to_be_hidden()
    alice.page.locator("#messages .message .when time").last.click()
    expect(alice.page.locator("#messages .message .when time").last).to_contain_text(re.compile(r"20\d\d"))
    alice.says("Thank you")
    bob.answers("You are welcome")
    for person in (alice, bob, carol):
        person.sees("You are welcome")
        before = person.screen()
        person.reloads()
        expect(person.bubble("You are welcome")).to_be_visible()
        assert person.screen() == before


def test_a_link_to_a_message_is_copied_and_opens_it(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    bob.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    bob.opens(name)
    more_about(bob, "Hello?")
    menu = bob.page.locator("#menu")
    expect(menu.get_by_text("Take back")).to_have_count(0)
    menu.get_by_role("button", name="Copy link").click()
    expect(menu.get_by_role("button", name="Link copied")).to_be_visible()
    link = bob.page.evaluate("navigator.clipboard.readText()")
    carol.page.goto(link)
    expect(carol.bubble("Hello?")).to_be_visible()
    expect(carol.page.locator("found-message")).to_have_count(1)
