"""The composer: drafts are kept, and messages are sent once and in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Route, expect

from tests.browser.people import Api, People, Person, eventually, unique_name

pytestmark = pytest.mark.browser


@contextmanager
def nothing_arrives(person: Person) -> Iterator[list[Route]]:
    """Hold back all POST requests of the page within this context."""
    held: list[Route] = []
    holding = True

    def hold(route: Route) -> None:
        if holding and route.request.method == "POST":
            held.append(route)
        else:
            route.continue_()

    person.page.route("**/messages/*", hold)
    yield held
    holding = False
    for route in held:
        route.continue_()


def test_enter_sends_and_shift_enter_starts_a_new_line(people: People) -> None:
    alice = people.customer()
    alice.field.press_sequentially("Roses are red")
    alice.field.press("Shift+Enter")
    alice.field.press_sequentially("violets are blue")
    expect(alice.field).to_have_value("Roses are red\nviolets are blue")
    alice.field.press("Enter")
    alice.shows("Roses are red\nviolets are blue")
    expect(alice.field).to_have_value("")
    expect(alice.field).to_be_focused()


def test_the_field_grows_with_its_text_and_scrolls_only_at_its_maximum(people: People) -> None:
    alice = people.customer()
    hidden = "(field) => field.scrollHeight - field.clientHeight"
    for count in range(1, 7):
        alice.types("\n".join(["Line"] * count))
        assert alice.field.evaluate(hidden) <= 0
    alice.types("\n".join(["Line"] * 7))
    assert alice.field.evaluate(hidden) > 0


def test_an_empty_message_is_not_sent(people: People) -> None:
    alice = people.customer()
    alice.says("   ")
    alice.says("Something")
    alice.shows("Something")


def test_a_draft_survives_a_reload_on_both_sides(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("I have two questions.")
    alice.types("The second is")
    bob.opens("I have two questions.")
    bob.types("And the answ")
    alice.reloads()
    bob.reloads()
    expect(alice.field).to_have_value("The second is")
    expect(bob.field).to_have_value("And the answ")


def test_each_conversation_keeps_its_own_draft(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    api.start_conversation("Hello", name=one)
    api.start_conversation("Hello", name=two)
    bob = people.agent()
    bob.opens(one)
    bob.types("For the first")
    bob.opens(two)
    expect(bob.field).to_have_value("")
    bob.opens(one)
    expect(bob.field).to_have_value("For the first")


def test_there_is_no_cookie_before_the_first_message(people: People) -> None:
    alice = people.customer()
    alice.types("Should I")
    alice.reloads()
    assert alice.page.context.cookies() == []
    alice.says("Should I?")
    alice.sees("Should I?")
    (cookie,) = alice.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("chat", True, "Lax")


def test_an_own_message_is_shown_at_once_and_marked_when_sent(people: People) -> None:
    alice = people.customer()
    with nothing_arrives(alice) as held:
        alice.says("At once!")
        expect(alice.pending).to_have_count(1)
        expect(alice.pending.locator(".bubble")).to_have_text("At once!")
        expect(alice.pending.locator(".delivery")).to_have_text("Sending…")
        alice.says("And this behind it.")
        expect(alice.pending).to_have_count(2)
        eventually(alice.page, lambda: len(held) == 1, "the first is on its way, and the second waits for it")
        assert alice.screen() == [(None, "At once!"), (None, "And this behind it.")]
    alice.shows("At once!", "And this behind it.")
    expect(alice.page.locator("#messages .delivery").last).to_have_text("Sent")


def test_an_answer_is_sent_although_the_agent_opens_another_conversation_meanwhile(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    uuid = api.start_conversation("Hello", name=one)
    api.start_conversation("Hello", name=two)
    bob = people.agent()
    bob.opens(one)
    with nothing_arrives(bob):
        bob.answers("One moment.")
        bob.answers("Here it is.")
        bob.opens(two)
    alice = people.customer(conversation=uuid)
    alice.shows("Hello", "One moment.", "Here it is.")
    bob.shows("Hello")
    bob.opens(one)
    bob.shows("Hello", "One moment.", "Here it is.")


def test_a_text_that_is_too_long_is_refused_and_kept(people: People) -> None:
    alice = people.customer()
    text = "🌱" * 20_490
    alice.types(text)
    alice.field.press("Enter")
    expect(alice.page.get_by_role("alert")).to_have_text(
        "That is 10 characters too long. Please send it in parts of 20,480."
    )
    assert alice.screen() == []
    expect(alice.field).to_have_value(text)
    alice.types("🌱" * 20_480)
    expect(alice.page.get_by_role("alert")).to_be_hidden()
    alice.field.press("Enter")
    alice.shows("🌱" * 20_480)


def never_takes(person: Person, answer: Callable[[Route], None]) -> None:
    """Answer all POST requests of the page with this response."""
    person.page.mouse.move(0, 0)  # so that nothing is visible only because the pointer is over it
    person.page.route(
        "**/messages/*", lambda route: answer(route) if route.request.method == "POST" else route.continue_()
    )


def test_each_refused_message_says_why_and_has_its_own_buttons(people: People) -> None:
    alice = people.customer()
    never_takes(alice, lambda route: route.fulfill(status=422, body="Not now.", content_type="text/plain"))
    for text in ("One", "Two", "Three"):
        alice.says(text)
    expect(alice.page.get_by_role("button", name="Edit")).to_have_count(3)
    for number in range(3):
        expect(alice.pending.nth(number).locator(".when")).to_have_css("opacity", "1")
        expect(alice.pending.nth(number).locator(".delivery")).to_have_text("Not sent. Not now.")
    alice.page.unroute("**/messages/*")
    alice.pending.first.get_by_role("button", name="Try again").click()  # waits until the button can be clicked
    alice.sees("One")
    alice.pending.first.get_by_role("button", name="Edit").click()
    expect(alice.field).to_have_value("Two")
    expect(alice.pending).to_have_count(1)


def test_a_retried_message_says_so_although_another_one_is_queued(people: People) -> None:
    alice = people.customer()
    never_takes(alice, lambda route: route.abort())
    alice.says("One")
    alice.says("Two")
    first = alice.pending.first
    expect(first.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    expect(first.locator(".when")).to_have_css("opacity", "1")
    first.get_by_role("button", name="Try again").click()
    alice.page.unroute("**/messages/*")
    alice.shows("One", "Two")
