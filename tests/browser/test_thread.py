"""The thread of a conversation as agents see it: the line "New", and changes that are folded."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Api, People, eventually, unique_name
from tests.browser.test_accessibility import TOUCH, found_by_axe
from tests.conftest import Server

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


SHOWN = """() => [...document.querySelectorAll("#messages > li")].filter((row) => row.offsetParent).map(
    (row) => row.querySelector(".bubble, .what").textContent + (row.querySelector("button")?.textContent ?? ""))"""


def test_three_changes_in_a_row_are_one_line(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob", **TOUCH), people.agent("carol")
    bob.opens(name)
    pk = carol.opens(name)
    fold = carol.page.locator(".activity-fold button")

    def sees(*rows: str) -> None:
        eventually(carol.page, lambda: carol.page.evaluate(SHOWN) == list(rows), f"the thread shows {rows}")

    bob.takes()
    bob.closes()
    expect(carol.page.locator("#messages .activity")).to_have_count(2)
    sees("Hello?", "bob took the conversation", "bob closed the conversation")
    bob.reopens()
    sees("Hello?", "bob reopened the conversationChanges: 3")
    bob.closes()
    sees("Hello?", "bob closed the conversationChanges: 4")
    fold.focus()
    fold.press("Enter")
    expect(fold).to_have_attribute("aria-expanded", "true")
    bob.reopens()
    expect(fold).to_have_text("Changes: 5")
    expect(carol.page.locator("#messages > li:visible")).to_have_count(7)
    expect(carol.page.locator("#messages > li:visible").last).to_contain_text("bob reopened the conversation")
    expect(fold).to_be_focused()
    fold.press("Space")
    sees("Hello?", "bob reopened the conversationChanges: 5")
    api.post("Thanks", uuid)
    bob.sees("Thanks")  # otherwise he may not close it
    bob.closes()
    sees("Hello?", "bob reopened the conversationChanges: 5", "Thanks", "bob closed the conversation")
    carol.goes(f"/inbox/{pk}/")
    expect(fold).to_have_count(1)
    sees("Hello?", "bob reopened the conversationChanges: 5", "Thanks", "bob closed the conversation")
    assert found_by_axe(bob.page) == []


def test_the_line_of_folded_changes_has_the_readers_time(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob = people.agent("bob", timezone_id="Asia/Tokyo")
    bob.opens(name)
    bob.takes()
    bob.closes()
    bob.reopens()
    bob.page.locator("#menu-snooze").click()
    bob.page.get_by_role("button", name="In an hour").click()
    folded = bob.page.locator(".activity-fold .what time")
    unfolded = bob.page.locator("#messages .activity").last.locator(".what time")
    for opens_again in (False, True):
        if opens_again:
            bob.comes("?status=snoozed")
            bob.opens(name)
        expect(folded).to_have_text(re.compile("AM|PM"))
        expect(folded).to_have_text(str(unfolded.text_content()))


def test_without_scripts_three_changes_in_a_row_are_one_line_too(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello?", name=name)
    bob = people.agent("bob", java_script_enabled=False)
    bob.row(name).click()
    shown, fold = bob.page.locator(".activity:visible"), bob.page.locator(".activity-fold summary")
    for button in ("Assign to me", "Close"):
        bob.page.get_by_role("button", name=button, exact=True).click()
    expect(shown).to_have_count(2)
    expect(fold).to_have_count(0)
    bob.page.get_by_role("button", name="Reopen", exact=True).click()
    expect(shown).to_have_count(0)
    expect(fold).to_have_text("Changes: 3 You reopened the conversation")
    fold.click()
    expect(shown).to_have_count(3)
    expect(fold.locator(".what")).to_be_hidden()
    api.post("Thanks", uuid)
    middle = bob.page.locator(".activity").nth(1).get_attribute("data-id")
    pk = bob.page.locator("[data-conversation]").get_attribute("data-conversation")
    bob.goes(f"/inbox/{pk}/?at={middle}")
    expect(shown).to_have_count(3)
    bob.goes(f"/inbox/{pk}/")
    expect(shown).to_have_count(0)
    expect(bob.bubble("Thanks")).to_have_count(1)


def test_a_change_that_is_opened_by_its_address_is_not_folded(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello?", name=name)
    bob = people.agent("bob")
    pk = bob.opens(name)
    bob.takes()
    bob.closes()
    bob.reopens()
    expect(bob.page.locator(".activity-fold")).to_have_count(1)
    second = bob.page.locator("#messages .activity").nth(1)
    for number in range(3):
        api.post(f"Well, {number}", uuid)
    bob.goes(f"/inbox/{pk}/?at={second.get_attribute('data-id')}")
    expect(second).to_be_visible()
    expect(bob.page.get_by_role("button", name="Changes: 3")).to_have_attribute("aria-expanded", "true")


def test_changes_on_an_older_page_join_their_line(people: People, api: Api, server: Server) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob = people.agent("bob")
    server.manage(
        "shell",
        "-c",
        "from conversations import actions, models as m; bob = m.Agent.objects.get(username='bob');"
        f"get = lambda: m.Conversation.objects.get(customer_name={name!r});"
        "[(actions.close if number % 2 else actions.reopen)(conversation=get(), by=bob) for number in range(1, 61)]",
    )
    bob.opens(name)
    expect(bob.page.locator(".activity-fold button")).to_have_text("Changes: 50")
    bob.page.get_by_role("link", name="Show older messages").click()
    expect(bob.bubble("Hello?")).to_be_visible()
    expect(bob.page.locator(".activity-fold button")).to_have_text("Changes: 60")
    expect(bob.page.locator("#messages > li:visible")).to_have_count(2)


def test_the_day_stays_above_changes_that_are_folded(people: People, api: Api, server: Server) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    server.manage(
        "shell",
        "-c",
        "from datetime import timedelta; from conversations import actions, models as m;"
        f"alice = m.Conversation.objects.get(customer_name={name!r}); bob = m.Agent.objects.get(username='bob');"
        "hello = m.Message.objects.filter(conversation=alice);"
        "hello.update(created_at=hello.get().created_at - timedelta(days=1));"
        "[(actions.close if number % 2 else actions.reopen)(conversation=alice, by=bob) for number in range(1, 5)]",
    )
    bob = people.agent("bob")
    bob.opens(name)
    fold = bob.page.get_by_role("button", name="Changes: 4")
    days = bob.page.locator("#messages .day:visible")
    expect(days).to_have_text(["Yesterday", "Today"])
    fold.click()
    expect(bob.page.locator("#messages .activity .what:visible")).to_have_count(4)
    expect(days).to_have_text(["Yesterday", "Today"])
