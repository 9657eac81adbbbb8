"""Notes in the browser: a composer of their own beside that for replies."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Api, People, unique_name

pytestmark = pytest.mark.browser

POST = re.compile(r"/inbox/\d+/(messages|notes)/$")


def test_a_note_reaches_a_colleague_and_no_customer(people: People, api: Api) -> None:
    name, alice = unique_name(), people.customer()
    alice.introduces_herself(name)
    alice.says("My order has not come")
    bob, carol = people.agent("bob"), people.agent("carol")
    for agent in (bob, carol):
        agent.opens(name)
    bob.types("half a reply")
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(bob.field).to_have_value("")
    bob.says("She is a VIP")
    carol.sees("She is a VIP")
    expect(carol.page.locator("#messages .note")).to_contain_text("only for agents")
    bob.page.get_by_role("link", name="Reply", exact=True).click()
    expect(bob.field).to_have_value("half a reply")
    bob.field.press("Enter")
    alice.shows("My order has not come", "half a reply")
    bob.shows("My order has not come", "She is a VIP", "half a reply")


def test_an_unsent_reply_comes_back_once_and_is_sent_once(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob = people.agent("bob")
    bob.opens(name)
    bob.page.route(POST, lambda route: route.abort())
    bob.types("On its way")
    bob.field.press("Enter")
    expect(bob.pending).to_have_count(1)
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(bob.page.locator("#writing.note")).to_be_visible()
    expect(bob.pending).to_have_count(0)
    bob.page.get_by_role("link", name="Reply", exact=True).click()
    expect(bob.pending).to_have_count(1)
    bob.page.unroute(POST)
    bob.shows("Hello?", "On its way")
    bob.reloads()
    bob.shows("Hello?", "On its way")
