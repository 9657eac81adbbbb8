"""The thread of a conversation as agents see it: the line "New", and changes that are folded."""

import pytest
from playwright.sync_api import expect

from tests.browser.people import Api, People, unique_name

pytestmark = pytest.mark.browser


def test_a_conversation_opens_where_its_reader_has_stopped(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("What I know", name=name)
    bob = people.agent("bob")
    bob.opens(name)
    bob.comes()
    for number in range(60):
        api.post(f"News {number}", uuid)
    bob.opens(name)
    line, jump = bob.page.locator(".new-line"), bob.page.get_by_role("button", name="Jump to the newest")
    expect(line).to_have_count(1)
    expect(line).to_be_in_viewport()
    expect(bob.bubble("News 59")).not_to_be_in_viewport()
    expect(jump).to_be_visible()
    bob.page.get_by_role("link", name="Show older messages").click()
    expect(bob.bubble("What I know")).to_have_count(1)
    expect(line).to_have_count(1)
    assert line.evaluate("line => line.nextElementSibling.querySelector('.bubble').textContent") == "News 0"
    api.post("And more", uuid)
    expect(bob.page.get_by_role("button", name="New messages: 1")).to_be_visible()
    expect(line).to_have_count(1)
    bob.page.get_by_role("button", name="New messages: 1").click()
    expect(bob.bubble("And more")).to_be_in_viewport()
    expect(bob.page.locator(".pill")).to_be_hidden()
    bob.page.locator("message-list").evaluate("list => list.scrollTop = 0")
    jump.click()
    expect(jump).to_be_hidden()
    expect(line).to_have_count(1)
