"""Notes in the browser: a composer of their own beside that for replies."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Api, People, unique_name
from tests.browser.test_accessibility import TOUCH, found_by_axe

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


def test_an_at_sign_opens_the_list_of_colleagues_and_who_is_mentioned_is_told(people: People, api: Api) -> None:
    name, other = unique_name(), unique_name()
    api.start_conversation("Hello?", name=name)
    api.start_conversation("Hi", name=other)
    bob, carol = people.agent("bob", **TOUCH), people.agent("carol")
    carol.opens(other)
    carol.is_connected()
    bob.opens(name)
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(bob.page.locator("#writing.note")).to_be_visible()
    options = bob.page.locator("#colleagues").get_by_role("option")
    bob.field.press_sequentially("mail@ca")
    expect(options).to_have_count(0)
    bob.field.fill("")
    bob.page.get_by_role("button", name="Mention a colleague").click()
    expect(options.filter(has_text="carol")).to_be_visible()
    expect(options.filter(has_text="bob")).to_have_count(0)
    expect(bob.field).to_have_attribute("aria-controls", "colleagues")
    assert found_by_axe(bob.page) == []
    bob.field.press_sequentially("CARO")
    expect(options).to_have_count(1)
    expect(bob.field).to_have_attribute("aria-activedescendant", str(options.first.get_attribute("id")))
    bob.field.press("Escape")
    expect(options.first).to_be_hidden()
    bob.field.fill("")
    bob.field.press_sequentially("@ca")
    expect(options).to_have_count(1)
    bob.field.press("Tab")
    expect(bob.field).to_have_value("@carol ")
    expect(bob.field).to_be_focused()
    bob.field.press_sequentially("@nobody look")
    bob.field.press("Enter")
    bob.shows("Hello?", "@carol @nobody look")
    expect(bob.page.locator("#messages .mention")).to_have_text(["@carol"])
    expect(carol.tab("Mentions").locator(".n")).to_have_text("1 unread")
    carol.tab("Mentions").click()
    expect(carol.row(name)).to_contain_text("You are mentioned")
    carol.opens(name)
    expect(carol.page.locator(".mention.to-you")).to_have_text("@carol")
    assert found_by_axe(carol.page) == []
    expect(carol.tab("Mentions").locator(".n")).to_have_text("0")
    bob.says("@carol again")  # she has it open, and sees it
    carol.sees("@carol again")
    expect(carol.tab("Mentions").locator(".n")).to_have_text("0")


def test_a_note_survives_on_another_device_beside_the_answer(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    desk, phone = people.agent("bob"), people.agent("bob", **TOUCH)
    pk = desk.opens(name)
    with desk.page.expect_response("**/draft/"):
        desk.types("Dear Alice")
    desk.page.get_by_role("link", name="Note", exact=True).click()
    expect(desk.field).to_have_value("")
    with desk.page.expect_response("**/notes/draft/"):
        desk.types("She is a VIP")
    phone.goes(f"/inbox/{pk}/?note=1")
    expect(phone.field).to_have_value("She is a VIP")
    desk.page.get_by_role("link", name="Reply", exact=True).click()
    expect(desk.field).to_have_value("Dear Alice")
    phone.page.get_by_role("button", name="Send").click()
    phone.shows("Hello?", "She is a VIP")
    desk.reloads()
    expect(desk.field).to_have_value("Dear Alice")
    desk.page.get_by_role("link", name="Note", exact=True).click()
    expect(desk.field).to_have_value("")
