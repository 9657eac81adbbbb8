"""Browsers without JavaScript: everything works by forms and links."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, Customer, People, unique_name
from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser


def send(person: Customer | Agent, text: str) -> None:
    """Write and press the button; a page that reloads itself has the form behind a link."""
    link = person.page.get_by_role("link", name=re.compile("^Write a"))
    if link.count():
        link.click()
        expect(person.field).to_be_visible()
    person.field.fill(text)
    person.page.get_by_role("button", name="Send").click()


def texts(person: Customer | Agent) -> list[str]:
    """The messages that the page shows."""
    return person.page.locator("#messages .bubble").all_text_contents()


def test_a_whole_conversation_works_by_forms(people: People) -> None:
    alice, name = people.customer(java_script_enabled=False), unique_name()
    alice.page.get_by_text("Name and e-mail").click()
    alice.page.get_by_label("Name").fill(name)
    send(alice, "No scripts here.\nTwo lines.")
    alice.sees("No scripts here.\nTwo lines.")

    bob = Agent(people.browser(java_script_enabled=False).new_page(), people.server.url)
    bob.comes()
    bob.page.get_by_label("Name").fill("bob")
    bob.page.get_by_label("Password").fill(PASSWORD)
    bob.page.get_by_role("button", name="Sign in").click()
    bob.row(name).click()
    expect(bob.head).to_contain_text("unassigned")
    bob.page.get_by_role("button", name="Assign to me").click()
    expect(bob.head).to_contain_text("assigned to you")
    send(bob, "None here either.")
    bob.sees("None here either.")
    bob.page.get_by_role("button", name="Close").click()
    expect(bob.head).to_contain_text("Closed")

    alice.reloads()
    alice.sees("None here either.")
    expect(alice.page.get_by_text("This chat is closed. Write again to reopen it.")).to_be_visible()
    send(alice, "Again!")
    expect(alice.page.get_by_text("This chat is closed.")).to_have_count(0)
    bob.reloads()
    expect(bob.head).to_contain_text("Open")
    bob.page.get_by_role("button", name="Close").click()
    bob.page.get_by_role("button", name="Reopen").click()
    expect(bob.head).to_contain_text("Open")
    assert texts(bob) == texts(alice) == ["No scripts here.\nTwo lines.", "None here either.", "Again!"]
    bob.page.get_by_role("button", name="Sign out").click()
    expect(bob.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_links_lead_to_older_messages_and_back_to_the_newest(people: People, api: Api) -> None:
    written = [f"Line {number}" for number in range(1, 71)]
    name = unique_name()
    uuid = api.start_conversation(*written, name=name)
    bob = people.agent(java_script_enabled=False)
    bob.row(name).click()
    for person in (people.customer(conversation=uuid, java_script_enabled=False), bob):
        assert texts(person) == written[-50:]
        person.page.get_by_role("link", name="Show older messages").click()
        person.sees("Line 1")
        assert texts(person) == written[:20]
        person.page.get_by_role("link", name="Back to the newest messages").click()
        person.sees("Line 70")
        assert texts(person) == written[-50:]


def test_a_refused_message_is_explained_and_the_text_is_kept(people: People) -> None:
    alice = people.customer(java_script_enabled=False)
    alice.page.get_by_text("Name and e-mail").click()
    alice.page.get_by_label("Name").fill("Alice")
    alice.page.get_by_label("E-mail").fill("not an address")
    send(alice, "Do you have\nsmaller pots?")
    expect(alice.page.get_by_role("alert")).to_have_text("This does not look like an e-mail address.")
    expect(alice.field).to_have_value("Do you have\nsmaller pots?")
    expect(alice.page.get_by_label("Name")).to_have_value("Alice")
    alice.page.get_by_label("E-mail").fill("alice@example.com")
    send(alice, "   ")
    expect(alice.page.get_by_role("alert")).to_have_text("The message is empty. Write something first.")
    expect(alice.page.get_by_label("E-mail")).to_have_value("alice@example.com")
    send(alice, "Do you?")
    alice.sees("Do you?")


def test_a_refused_answer_of_an_agent_is_explained(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent(java_script_enabled=False)
    bob.row(name).click()
    send(bob, " \n ")
    expect(bob.page.get_by_role("alert")).to_have_text("The message is empty. Write something first.")
    send(bob, "Hello yourself")
    bob.sees("Hello yourself")


def test_pressing_send_twice_sends_once(people: People) -> None:
    alice = people.customer(java_script_enabled=False)
    alice.field.fill("Click click")
    alice.page.get_by_role("button", name="Send").dblclick()
    alice.sees("Click click")
    alice.reloads()
    assert texts(alice) == ["Click click"]


def test_the_filters_are_links(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Find me.", name=name)
    bob = people.agent(java_script_enabled=False)
    bob.tab("Mine").click()
    expect(bob.row(name)).to_have_count(0)
    bob.tab("Unassigned").click()
    bob.row(name).click()
    expect(bob.page).to_have_url(re.compile(r"/inbox/\d+/\?whose=nobody$"))
    expect(bob.row(name)).to_have_attribute("aria-current", "true")


def test_the_page_refreshes_itself(people: People, api: Api) -> None:
    uuid = api.start_conversation("Waiting…")
    alice = people.customer(conversation=uuid, java_script_enabled=False)
    alice.page.route(
        "**/chat/", lambda route: route.fulfill(body=with_quick_refresh(route.fetch().text()), content_type="text/html")
    )
    alice.reloads()
    api.post("News!", uuid)
    alice.sees("News!")


def with_quick_refresh(html: str) -> str:
    """The same page with a refresh after one second."""
    changed = re.sub(r'http-equiv="refresh" content="\d+', 'http-equiv="refresh" content="1', html)
    assert changed != html
    return changed


def test_a_page_with_an_open_form_does_not_refresh(people: People, api: Api) -> None:
    name = unique_name()
    alice, bob = people.customer(java_script_enabled=False), people.agent(java_script_enabled=False)

    def reloads(person: Customer | Agent) -> bool:
        writing = person.page.locator("#content:visible").count()
        reloading = person.page.locator("meta[http-equiv=refresh]").count()
        assert not (writing and reloading)
        return bool(reloading)

    assert not reloads(alice)
    assert reloads(bob)
    api.start_conversation("Hello", name=name)
    bob.reloads()
    send(alice, "Hello too")
    alice.sees("Hello too")
    bob.row(name).click()
    bob.sees("Hello")
    for person in (alice, bob):
        assert reloads(person)
        person.page.get_by_role("link", name=re.compile("^Write a")).click()
        expect(person.field).to_be_focused()  # without another click
        assert not reloads(person)
        person.field.fill(" ")
        person.page.get_by_role("button", name="Send").click()
        expect(person.page.get_by_role("alert")).to_be_visible()
        assert not reloads(person)
        person.field.fill("A whole sentence.")
        person.page.get_by_role("button", name="Send").click()
        person.sees("A whole sentence.")
        assert reloads(person)
