"""Formatted text in the browser: the tools above the field, the preview, and what both sides see."""

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, unique_name
from tests.browser.test_accessibility import TOUCH, check, found_by_axe

pytestmark = pytest.mark.browser


def select(agent: Agent, text: str) -> None:
    """Select this part of the text in the field."""
    agent.field.evaluate(
        """(field, text) => {
            const at = field.value.indexOf(text);
            field.focus();
            field.setSelectionRange(at, at + text.length);
        }""",
        text,
    )


@pytest.fixture
def bob(people: People, api: Api) -> Agent:
    """Bob, who answers somebody."""
    name = unique_name()
    api.start_conversation("Hello?", "Anybody there?", name=name)
    bob = people.agent("bob")
    bob.opens(name)
    return bob


def test_tools_and_keys_put_marks_around_the_selection_and_take_them_away(bob: Agent) -> None:
    field, tools = bob.field, bob.page.get_by_role("toolbar", name="Formatting")
    field.fill("make this bold and that too")
    select(bob, "this bold")
    tools.get_by_role("button", name="Bold").click()
    expect(field).to_have_value("make **this bold** and that too")
    expect(field).to_be_focused()
    field.press("Control+b")
    expect(field).to_have_value("make this bold and that too")
    select(bob, "ha")  # a part of a word: the word
    field.press("Control+i")
    expect(field).to_have_value("make this bold and _that_ too")
    field.press("Control+z")
    expect(field).to_have_value("make this bold and that too")
    select(bob, "this")
    field.press("Control+e")
    expect(field).to_have_value("make `this` bold and that too")
    select(bob, "that")
    field.press("Control+Shift+K")
    field.press_sequentially("https://a.example")
    expect(field).to_have_value("make `this` bold and [that](https://a.example) too")
    expect(bob.page.locator("#menu:popover-open")).to_have_count(0)


def test_a_list_goes_on_with_the_next_line(bob: Agent) -> None:
    field = bob.field
    field.fill("a\nb")
    field.press("Control+a")
    field.press("Control+Shift+Digit8")
    expect(field).to_have_value("- a\n- b")
    field.press("Control+Shift+Digit8")
    expect(field).to_have_value("a\nb")
    field.fill("1. one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    expect(field).to_have_value("1. one\n2. two")
    field.press("Shift+Enter")
    field.press("Shift+Enter")  # an empty item ends the list
    expect(field).to_have_value("1. one\n2. two\n")


def test_the_preview_shows_what_both_sides_will_see(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello?", name=name)
    alice, bob = people.customer(conversation=uuid, **TOUCH), people.agent("bob", **TOUCH)
    bob.opens(name)
    bob.page.get_by_role("button", name="Preview").click()
    bob.types("**Hi** `code`\n- a\n- b\n\n> quoted\n\n```\nx = 1\n```")
    preview = bob.page.get_by_role("region", name="Preview")
    expect(preview.locator("li")).to_have_count(2)
    expect(preview.locator("strong")).to_have_text("Hi")
    assert found_by_axe(bob.page) == []
    bob.field.press("Enter")
    for person in (alice, bob):
        bubble = person.page.locator("#messages .bubble").last
        expect(bubble.locator("li")).to_have_text(["a", "b"])
        expect(bubble.locator("ul")).to_have_css("list-style-type", "disc")  # the style sheet came with the message
        expect(bubble.locator("pre")).to_have_text("x = 1")
    expect(preview).to_be_hidden()
    check(alice.page)
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(bob.page.get_by_role("button", name="Bold")).to_be_visible()


def test_a_quote_is_put_where_the_caret_is_and_notes_only_in_notes(bob: Agent) -> None:
    page, field = bob.page, bob.field
    bob.types("Before")
    row = page.locator("#messages > .message", has_text="Hello?")
    row.hover()
    row.get_by_role("link", name="more about this message").click()
    page.get_by_role("link", name="Quote", exact=True).click()
    expect(field).to_have_value("Before\n\n> Hello?\n\n")
    expect(field).to_be_focused()
    field.press("Control+z")
    expect(field).to_have_value("Before")
    page.get_by_role("link", name="Note", exact=True).click()
    bob.says("She is a VIP")
    note = page.locator("#messages .note")
    page.get_by_role("link", name="Reply", exact=True).click()
    expect(field).to_have_value("Before")
    note.get_by_role("link", name="more about this message").click()
    page.get_by_role("link", name="Quote in a note").click()
    expect(field).to_have_value("> She is a VIP\n\n")
    expect(page.locator("#writing.note")).to_be_visible()
