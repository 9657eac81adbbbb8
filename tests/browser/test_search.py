"""Searching, and opening a conversation at a message in its middle."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, eventually, unique_name
from tests.browser.test_long_conversations import long

pytestmark = pytest.mark.browser


def opens_in_the_middle(people: People, api: Api, place: int, count: int = 160) -> tuple[Agent, str, list[str]]:
    """Bob at a message of a long conversation: his page, the conversation and its texts."""
    name = unique_name()
    uuid, texts = long(api, count, name=name)
    bob = people.agent()
    number = bob.opens(name)
    pk = api.read(uuid)[place][0]
    bob.goes(f"/inbox/{number}/?at={pk}")
    bob.is_connected()
    expect(bob.bubble(texts[place])).to_be_in_viewport()
    return bob, uuid, texts


def test_a_page_opens_at_a_message_and_grows_in_both_directions(people: People, api: Api) -> None:
    bob, uuid, texts = opens_in_the_middle(people, api, 60)
    row = bob.page.locator(".message.found")
    expect(row).to_contain_text(texts[60])
    expect(bob.bubble(texts[-1])).to_have_count(0)
    bob.page.get_by_role("link", name="Show older messages").click()
    expect(bob.bubble(texts[0])).to_have_count(1)
    for _ in range(6):
        bob.page.locator("message-list").evaluate("each => each.scrollTo(0, each.scrollHeight)")
        bob.page.wait_for_timeout(100)
    bob.shows(*texts)
    expect(bob.page.get_by_role("link", name="Newest messages")).to_have_count(0)
    api.post("News", uuid)
    bob.shows(*texts, "News")
    expect(bob.page.locator(".day")).to_have_count(1)


def test_what_is_new_does_not_come_after_a_gap(people: People, api: Api) -> None:
    bob, uuid, texts = opens_in_the_middle(people, api, 30)
    shown = [text for _, text in bob.screen()]
    with bob.page.expect_response(lambda response: "gap=" in response.url) as answer:
        api.post("News", uuid)
        bob.page.evaluate("document.querySelector('door-bell').ring()")  # its own may have come before
    assert answer.value.status == 204
    assert [text for _, text in bob.screen()] == shown
    bob.page.get_by_role("link", name="Newest messages").click()
    bob.shows(*texts[-49:], "News")
    expect(bob.bubble("News")).to_be_in_viewport()
    api.post("More", uuid)
    bob.shows(*texts[-49:], "News", "More")
    expect(bob.bubble("More")).to_be_in_viewport()


def test_an_answer_from_the_middle_leads_to_the_end(people: People, api: Api) -> None:
    bob, uuid, texts = opens_in_the_middle(people, api, 30)
    bob.answers("My answer")
    eventually(
        bob.page,
        lambda: [text for _, text in bob.screen()][-2:] == [texts[-1], "My answer"] and not bob.pending.count(),
        "the answer stands after the newest message",
    )
    expect(bob.bubble("My answer")).to_be_in_viewport()
    api.post("Thanks", uuid)
    expect(bob.bubble("Thanks")).to_be_in_viewport()


def test_what_is_typed_is_found_and_opens_in_its_place(people: People, api: Api) -> None:
    word = f"q{unique_name()[-8:]}"
    uuid, texts = long(api, 120, name=unique_name())
    api.post(f"The {word} arrived broken", uuid)
    for number in range(70):
        api.post(f"Later {number}", uuid)
    other = api.start_conversation(f"Another {word}!")
    bob = people.agent()
    bob.is_connected()
    page = bob.page
    page.keyboard.press("/")
    field = page.get_by_role("searchbox")
    expect(field).to_be_focused()
    field.press_sequentially(word[:5])
    rows = page.locator(".found-row")
    expect(rows).to_have_count(2)
    expect(rows.nth(1).locator("mark")).to_have_text(word)
    expect(page.locator("search-field [role=status]")).to_contain_text("2 results")
    expect(page).to_have_url(re.compile(f"/inbox/[?]q={word[:5]}$"))
    field.press("Enter")
    expect(rows.nth(0)).to_have_attribute("aria-current", "true")
    expect(bob.bubble(f"Another {word}!")).to_be_in_viewport()
    field.press("ArrowDown")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(bob.bubble(f"The {word} arrived broken")).to_be_in_viewport()
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    assert texts[-1] in [text for _, text in bob.screen()]
    bob.reloads()
    expect(rows).to_have_count(2)
    expect(field).to_have_value(word[:5])
    expect(bob.bubble(f"The {word} arrived broken")).to_be_in_viewport()
    api.post("A ring does not end the search", other)
    expect(rows).to_have_count(2)
    page.locator(".found-row").first.focus()
    page.keyboard.press("Escape")
    expect(rows).to_have_count(0)
    expect(page.locator(".row").first).to_be_visible()
    expect(field).to_have_value("")
    expect(page.locator("[data-conversation]")).to_have_count(1)  # stays open
    page.go_back()
    expect(rows).to_have_count(2)
    expect(field).to_have_value(word[:5])
