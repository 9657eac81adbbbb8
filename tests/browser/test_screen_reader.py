"""What a screen reader is given, as docs/accessibility.md tells it: roles, names and live regions."""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.people import Api, People, unique_name

pytestmark = pytest.mark.browser

POLITE = ("polite", "")
"""How live regions tell their changes; "" is the default of the roles `status` and `log`."""


def is_polite(region: Locator) -> None:
    """Assert that a region's changes are told, without interrupting."""
    expect(region).to_have_count(1)
    assert (region.get_attribute("aria-live") or "") in POLITE


def test_the_inbox_has_roles_names_and_live_regions(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello, is anybody there?", name=name)
    bob = people.agent()
    bob.is_connected()
    expect(bob.page.locator("#list .item", has_text=name)).to_match_aria_snapshot(f"""
        - listitem:
          - checkbox "Select {name}"
          - link /{name} .* Hello, is anybody there\\? .*1 unread/
    """)
    bob.opens(name)
    bob.answers("Yes, I am.")
    expect(bob.page.locator("body")).to_match_aria_snapshot(f"""
        - banner:
          - link "Inbox"
          - status: Connected
          - link "Commands"
          - button "Sign out"
        - main:
          - heading "Conversations" [level=1]
          - region "Conversations":
            - navigation "Filter conversations":
              - link /^Open \\d+/
              - link /^Mine \\d+/
              - group: Views and filters
            - list
          - region "Conversation":
            - heading "{name}" [level=2]
            - paragraph: /^Open/
            - button "Assign"
            - button "Labels"
            - button "Priority"
            - button "Snooze"
            - button "Close"
            - region "Conversation with {name}":
              - log "Messages":
                - list:
                  - listitem:
                    - paragraph: {name}
                    - text: Hello, is anybody there?
                  - listitem:
                    - paragraph: bob
                    - text: Yes, I am.
              - list "Messages being sent"
            - navigation "Reply or note":
              - link "Reply"
              - link "Note"
            - textbox "Write a reply"
            - button "Send"
            - complementary "About {name}":
              - heading "{name}" [level=2]
    """)
    is_polite(bob.page.get_by_role("log", name="Messages"))
    is_polite(bob.page.locator("door-bell"))
    expect(bob.page.locator(".modes [aria-current]")).to_have_text("Reply")
    expect(bob.page.get_by_role("alert")).to_have_count(0)  # nothing is wrong


def test_a_menu_is_a_dialog_that_gives_the_focus_back(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    button = bob.page.get_by_role("button", name="Labels")
    button.focus()
    button.press("Enter")
    dialog = bob.page.get_by_role("dialog", name=f"Labels {name}")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    bob.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_the_chat_has_roles_names_and_live_regions(people: People) -> None:
    alice = people.customer()
    alice.says("Hello, is anybody there?")
    alice.shows("Hello, is anybody there?")
    alice.is_connected()
    expect(alice.page.locator("body")).to_match_aria_snapshot("""
        - main:
          - heading [level=1]
          - status: Connected
          - region "Conversation":
            - log "Messages":
              - list:
                - listitem:
                  - paragraph: You
                  - text: Hello, is anybody there?
            - list "Messages being sent"
          - textbox "Write a message"
          - button "Send"
    """)
    is_polite(alice.page.get_by_role("log", name="Messages"))
    expect(alice.page.get_by_role("alert")).to_have_count(0)
