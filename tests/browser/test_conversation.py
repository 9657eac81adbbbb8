"""A conversation between a customer and an agent, each in their own browser."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Error, Request, Route, expect

from tests.browser.people import Api, Customer, People, eventually, unique_name, wait_for_same_screen
from tests.browser.websites import block_cookies
from tests.conftest import Server

pytestmark = pytest.mark.browser


def test_a_customer_writes_and_an_agent_takes_it_and_answers(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("Hello, is anybody there?")
    bob.opens("Hello, is anybody there?")
    bob.takes()
    bob.answers("Yes, bob is.")
    alice.shows("Hello, is anybody there?", "Yes, bob is.")
    bob.shows("Hello, is anybody there?", "Yes, bob is.")
    assert alice.screen() == bob.screen()


def test_a_new_conversation_appears_in_the_inbox_with_name_and_unread_count(people: People) -> None:
    alice, bob, name = people.customer(), people.agent(), unique_name()
    bob.is_connected()
    alice.introduces_herself(name)
    alice.says("My pot has a crack.")
    alice.sees("My pot has a crack.")
    alice.says("Near the rim.")
    row = bob.row(name)
    expect(row.locator(".who")).to_have_text(name)
    expect(row.locator(".line")).to_have_text("Near the rim.")
    expect(row.locator(".count")).to_have_text("2 unread")
    expect(row.locator(".ago")).to_have_text("now")
    expect(bob.page.locator(".row").first).to_contain_text(name)  # newest first


def test_read_messages_are_not_counted_in_the_list_or_the_title(people: People) -> None:
    alice, carol = people.customer(), people.agent("carol")
    alice.says("Count me, please.")
    carol.opens("Count me, please.")
    carol.takes()
    carol.answers("One, and two.")
    carol.comes("?whose=mine")
    carol.is_connected()
    expect(carol.page).to_have_title("Inbox")
    alice.says("And three?")
    expect(carol.page).to_have_title("(1) Inbox")
    expect(carol.row("And three?").locator(".count")).to_have_text("1 unread")
    carol.opens("And three?")
    expect(carol.page).to_have_title("Inbox")
    expect(carol.row("And three?").locator(".count")).to_have_count(0)
    alice.says("And four, while you look?")
    carol.sees("And four, while you look?")
    expect(carol.row("And four, while you look?").locator(".count")).to_have_count(0)


def test_a_conversation_that_a_link_on_another_site_opens_is_read_once_it_is_on_the_screen(
    people: People, api: Api
) -> None:
    name = unique_name()
    api.start_conversation("Count me, please.", name=name)
    carol = people.agent("carol")
    link = f"{carol.url}{carol.row(name).get_attribute('href')}"
    carol.page.goto(f"data:text/html,<a href={link}>A colleague sends a link</a>")
    with carol.page.expect_response(lambda response: response.request.method == "POST") as response:
        carol.page.get_by_role("link").click()
    assert response.value.status == 204
    expect(carol.row(name)).to_be_visible()
    expect(carol.row(name).locator(".count")).to_have_count(0)


def test_name_and_email_are_optional_and_shown_to_the_agent(people: People) -> None:
    alice, bob, name = people.customer(), people.agent(viewport={"width": 1440, "height": 900}), unique_name()
    alice.introduces_herself(name, "alice@example.com")
    alice.says("Do you deliver to Gdańsk?")
    bob.opens(name)
    expect(bob.head.locator("h2")).to_have_text(name)
    expect(bob.page.locator(".details")).to_contain_text("alice@example.com")
    expect(alice.page.get_by_label("E-mail")).to_have_count(0)  # asked only once


@pytest.fixture(scope="module")
def closed_website(server: Server) -> str:
    """A website that is closed until the day after tomorrow; returns its key."""
    server.manage("addwebsite", "The night shop", "--key", "night")
    day = (datetime.now(UTC) + timedelta(days=2)).strftime("%a")
    change = f"Website.objects.filter(key='night').update(office_hours='{day} 11:00-12:00')"
    server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    return "night"


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_outside_office_hours_an_email_is_asked_for_until_it_is_known(
    people: People, closed_website: str, script: bool
) -> None:
    alice, bob, name = people.customer(java_script_enabled=script), people.agent(), unique_name()
    question = alice.page.get_by_text("Leave your e-mail address, so that an agent can write to you")
    alice.goes(f"/chat/{closed_website}/")

    def says(text: str, name: str = "", email: str = "") -> None:
        """Send it with the button; without JavaScript the form is behind a link."""
        link = alice.page.get_by_role("link", name="Write a message")
        if link.count():
            link.click()
        expect(question).to_be_visible()
        if name:
            alice.page.get_by_label("Name").fill(name)
        if email:
            alice.page.get_by_label("E-mail").fill(email)
        alice.types(text)
        alice.page.get_by_role("button", name="Send").click()
        alice.sees(text)

    says("Is it still warm?", name)
    says("The bread, I mean.")
    says("I shall come by tomorrow.", email="alice@example.com")
    expect(question).to_have_count(0)
    alice.reloads()
    alice.sees("I shall come by tomorrow.")
    expect(question).to_have_count(0)
    bob.opens(name)
    expect(bob.page.locator(".details")).to_contain_text("alice@example.com")


def test_an_email_typed_while_a_message_is_being_sent_is_kept(people: People, closed_website: str) -> None:
    alice, name = people.customer(), unique_name()
    alice.goes(f"/chat/{closed_website}/")
    email = alice.page.get_by_label("E-mail")
    held: list[Route] = []
    alice.page.route("**/messages/*", lambda route: held.append(route) if not held else route.continue_())
    alice.says("Is it still warm?")
    eventually(alice.page, lambda: bool(held), "the message is being sent")
    email.fill("me@exam")
    held[0].continue_()
    alice.sees("Is it still warm?")
    expect(email).to_have_value("me@exam")
    email.fill("me@example.com")
    alice.says(f"I am {name}.")
    alice.sees(f"I am {name}.")
    expect(email).to_have_count(0)
    bob = people.agent()
    bob.opens(name)
    expect(bob.page.locator(".details")).to_contain_text("me@example.com")


def test_without_cookies_the_page_asks_only_for_what_is_not_known_yet(people: People, closed_website: str) -> None:
    context, text = people.browser(), f"I am {unique_name()}."
    block_cookies(context, people.server.url)
    alice = Customer(context.new_page(), people.server.url)
    email = alice.page.get_by_label("E-mail")
    for where, is_asked in (("/chat/", False), (f"/chat/{closed_website}/", True)):
        alice.goes(where)
        alice.says(text)
        alice.shows(text)
        alice.reloads()
        alice.shows(text)
        alice.is_connected()
        expect(email).to_have_count(int(is_asked))
    email.fill("me@example.com")
    alice.says("Now you can reach me.")
    alice.shows(text, "Now you can reach me.")
    alice.reloads()
    alice.shows(text, "Now you can reach me.")
    expect(email).to_have_count(0)


def test_a_colleague_sees_at_once_who_has_taken_a_conversation(people: People) -> None:
    alice, bob, carol = people.customer(), people.agent("bob"), people.agent("carol")
    alice.says("Who is the boss here?")
    for agent in (bob, carol):
        agent.opens("Who is the boss here?")
    carol.is_connected()
    bob.takes()
    expect(carol.head).to_contain_text("assigned to bob")
    expect(carol.row("Who is the boss here?").locator(".taken")).to_have_text("bob")


def test_an_agent_who_takes_a_conversation_too_late_sees_who_has_it(people: People) -> None:
    alice, bob, carol = people.customer(), people.agent("bob"), people.agent("carol")
    alice.says("First come, first served?")
    for agent in (bob, carol):
        agent.opens("First come, first served?")
    carol.page.route("**/state/*", lambda route: route.abort())  # carol's page does not get the update
    bob.takes()
    carol.page.get_by_role("button", name="Assign to me").click()
    expect(carol.page.get_by_role("alert").filter(has_text="just been assigned to bob")).to_be_visible()
    expect(carol.head).to_contain_text("assigned to bob")


def test_a_closed_conversation_reopens_when_the_customer_writes(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("That is all, thank you.")
    bob.opens("That is all, thank you.")
    alice.is_connected()
    bob.closes()
    closed = alice.page.get_by_text("This chat is closed. Write again to reopen it.")
    expect(closed).to_be_visible()
    expect(bob.row("That is all, thank you.")).to_have_count(0)  # the list shows open ones
    alice.says("Wait, one more thing!")
    expect(closed).to_have_count(0)
    expect(bob.head).to_contain_text("Open")
    bob.sees("Wait, one more thing!")
    expect(bob.row("Wait, one more thing!")).to_have_count(1)


def test_closing_is_refused_over_a_message_that_is_not_on_the_screen_yet(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("That is all, thank you.")
    bob.opens("That is all, thank you.")
    bob.is_connected()
    bob.takes()
    closing: list[Request] = []  # until then, new messages do not reach the page
    bob.page.on("request", lambda request: closing.append(request) if request.url.endswith("/close/") else None)
    bob.page.route(re.compile(r"/messages/\?.*since="), lambda route: route.continue_() if closing else route.abort())
    alice.says("Wait, one more thing!")
    alice.sees("Wait, one more thing!")
    bob.page.get_by_role("button", name="Close").click()
    expect(bob.page.get_by_text("A new message has come in. Read it first")).to_be_visible()
    bob.sees("Wait, one more thing!")
    expect(bob.head).to_contain_text("Open")
    bob.closes()


def test_an_agent_reopens_a_closed_conversation(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("Bye for now.")
    bob.opens("Bye for now.")
    alice.is_connected()
    bob.closes()
    expect(alice.page.get_by_text("This chat is closed.")).to_be_visible()
    bob.reopens()
    expect(alice.page.get_by_text("This chat is closed.")).to_have_count(0)


def test_both_sides_show_the_same_after_a_reload(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("One")
    alice.sees("One")
    alice.says("Reload me")
    bob.opens("Reload me")
    bob.answers("Three")
    alice.sees("Three")
    before = wait_for_same_screen(alice, bob)
    assert [text for _, text in before] == ["One", "Reload me", "Three"]
    alice.reloads()
    bob.reloads()
    assert alice.screen() == bob.screen() == before


def test_two_conversations_do_not_mix(people: People) -> None:
    alice, dan, bob = people.customer(), people.customer(), people.agent()
    alice.says("I am alice.")
    dan.says("I am dan.")
    bob.opens("I am alice.")
    dan.says("Dan again.")
    expect(bob.row("Dan again.")).to_have_count(1)
    bob.answers("Hello alice.")
    bob.shows("I am alice.", "Hello alice.")
    bob.opens("Dan again.")
    bob.answers("Hello dan.")
    bob.shows("I am dan.", "Dan again.", "Hello dan.")
    alice.shows("I am alice.", "Hello alice.")
    dan.shows("I am dan.", "Dan again.", "Hello dan.")


def test_filters_for_open_closed_own_and_unassigned_conversations(people: People, api: Api) -> None:
    names = {key: unique_name() for key in ("nobody's", "bob's", "carol's", "closed")}
    for name in names.values():
        api.start_conversation("Filter me.", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    carol.opens(names["carol's"])
    carol.takes()
    bob.opens(names["bob's"])
    bob.takes()
    bob.opens(names["closed"])
    bob.closes()

    shown = {
        ("Open", "All"): {"nobody's", "bob's", "carol's"},
        ("Open", "Mine"): {"bob's"},
        ("Open", "Unassigned"): {"nobody's"},
        ("Closed", "Unassigned"): {"closed"},
        ("Closed", "All"): {"closed"},
    }
    for tabs, expected in shown.items():
        for tab in tabs:
            bob.tab(tab).click()
            expect(bob.tab(tab)).to_have_attribute("aria-current", "true")
        for key, name in names.items():
            expect(bob.row(name)).to_have_count(1 if key in expected else 0)


def test_back_and_forward_navigate_through_opened_conversations(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    api.start_conversation("I am the first.", name=one)
    api.start_conversation("I am the second.", name=two)
    bob = people.agent()
    bob.opens(one)
    bob.opens(two)
    bob.page.go_back()
    bob.sees("I am the first.")
    expect(bob.page.locator(".row[aria-current]")).to_contain_text(one)
    bob.page.go_forward()
    bob.sees("I am the second.")
    bob.page.go_back()
    bob.page.go_back()
    expect(bob.page.get_by_text("Choose a conversation to read it.")).to_be_visible()
    expect(bob.page.locator(".row[aria-current]")).to_have_count(0)


@pytest.mark.parametrize("late", ["a click", "going back"])
def test_a_late_response_does_not_replace_a_newer_page(people: People, api: Api, late: str) -> None:
    one, two = unique_name(), unique_name()
    api.start_conversation("I am the first.", name=one)
    api.start_conversation("I am the second.", name=two)
    bob, held = people.agent(), list[Route]()
    bob.opens(one)
    if late == "a click":
        bob.page.route(re.compile(r"/inbox/\d+/$"), lambda route: held.append(route))
        bob.row(two).click()
    else:
        bob.opens(two)
        bob.page.route(re.compile(r"/inbox/\d+/$"), lambda route: held.append(route))
        bob.page.go_back(wait_until="commit")
    eventually(bob.page, lambda: len(held) == 1, "a conversation has been requested")
    bob.page.go_back(wait_until="commit")
    expect(bob.page.get_by_text("Choose a conversation to read it.")).to_be_visible()
    with suppress(Error):  # the page has aborted the request
        held[0].continue_()
    api.start_conversation("Somebody else", name=(last := unique_name()))
    expect(bob.row(last)).to_be_visible()  # so everything earlier has arrived, too
    expect(bob.page.get_by_text("Choose a conversation to read it.")).to_be_visible()
