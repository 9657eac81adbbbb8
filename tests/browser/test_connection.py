"""Lost connections and several tabs: nothing is lost, and the page says what is wrong."""

import time

import pytest
from playwright.sync_api import Route, expect

from tests.browser.people import Api, Customer, People, Person, eventually, unique_name, uuid_of
from tests.conftest import Server

pytestmark = pytest.mark.browser


def test_messages_written_while_the_server_is_down_arrive_once_when_it_is_back(
    people: People, killable_server: Server
) -> None:
    alice, bob = people.customer(server=killable_server), people.agent(server=killable_server)
    alice.says("Before")
    alice.sees("Before")
    alice.is_connected()
    bob.opens("Before")
    killable_server.kill()
    expect(alice.connection).to_have_text("Reconnecting…")
    alice.says("While you were gone")
    alice.says("and this")
    expect(alice.pending.first.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    expect(alice.pending.first.get_by_role("button", name="Try again")).to_be_visible()
    alice.types("and a draft")
    killable_server.start()
    alice.shows("Before", "While you were gone", "and this")
    expect(alice.connection).to_have_text("Connected")
    expect(alice.field).to_have_value("and a draft")
    bob.shows("Before", "While you were gone", "and this")
    assert alice.screen() == bob.screen()


def test_an_unsent_message_survives_a_reload(people: People) -> None:
    alice = people.customer()
    alice.says("First")
    alice.sees("First")
    alice.page.route("**/chat/messages/", lambda route: route.abort())
    alice.says("Second")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    alice.page.unroute("**/chat/messages/")
    alice.page.context.set_offline(False)
    alice.reloads()
    alice.shows("First", "Second")


def test_a_retry_after_a_lost_response_does_not_duplicate_the_message(people: People, api: Api) -> None:
    alice = people.customer()
    tries = []

    def drop_first_response(route: Route) -> None:
        tries.append(route.request.post_data)
        if len(tries) == 1:
            route.fetch()  # the server has saved it, but the page gets no response
            route.abort()
        else:
            route.continue_()

    alice.page.route("**/chat/messages/", drop_first_response)
    alice.says("Only once, please.")
    alice.shows("Only once, please.")
    assert len(tries) == 2
    assert [text for _, text in api.read(uuid_of(alice))] == ["Only once, please."]


def test_a_refused_message_says_why_and_can_be_edited(people: People) -> None:
    alice = people.customer()
    alice.introduces_herself("Alice", "not an address")
    alice.says("Hello?")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent. This does not look like an e-mail address.")
    alice.page.get_by_label("E-mail").fill("alice@example.com")
    alice.pending.get_by_role("button", name="Edit").click()
    expect(alice.field).to_have_value("Hello?")
    alice.says("Hello!")
    alice.shows("Hello!")


@pytest.mark.parametrize("side", ["customer", "agent"])
def test_a_lost_connection_is_shown_in_one_line_until_it_is_back(people: People, side: str) -> None:
    person: Person
    if side == "customer":
        person = people.customer()
        person.says("Can you hear me?")
    else:
        person = people.agent()
    person.is_connected()
    expect(person.connection).to_have_text("Connected")
    person.page.context.set_offline(True)
    person.loses_socket()
    expect(person.connection).to_have_text("Reconnecting…")
    person.page.context.set_offline(False)
    person.is_connected()
    expect(person.connection).to_have_text("Connected")


def test_a_dropped_socket_reconnects_and_missed_messages_are_fetched(people: People, api: Api) -> None:
    alice = people.customer()
    alice.says("Still there?")
    alice.is_connected()
    alice.loses_socket()
    api.post("Missed", uuid_of(alice))
    alice.shows("Still there?", "Missed")
    alice.is_connected()


@pytest.mark.parametrize("code", [1012, 1006])
def test_pages_of_a_server_that_ends_come_back_at_random_moments(people: People, code: int) -> None:
    alice = people.customer()
    alice.says("Still there?")
    alice.is_connected()
    alice.page.wait_for_load_state("networkidle")
    times: list[float] = []
    alice.page.on("request", lambda request: times.append(time.monotonic()) if "since=" in request.url else None)
    alice.page.evaluate("Math.random = () => 0.3")  # of ten seconds
    with alice.page.expect_websocket():
        began = time.monotonic()
        alice.page.evaluate(
            """(code) => {
                const socket = document.querySelector("door-bell").socket;
                const { onclose } = socket;
                socket.onclose = () => onclose({ code });
                socket.close();
            }""",
            code,
        )
    assert time.monotonic() - began > 2.9
    eventually(alice.page, lambda: bool(times), "The page looks for new messages.")
    assert times[0] - began > 2.9


def test_a_signed_out_agent_sees_that_and_keeps_the_draft(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    bob.types("A long answer")
    bob.is_connected()
    bob.page.context.clear_cookies()
    api.start_conversation("A ring for everybody.")
    expect(bob.connection).to_contain_text("You are signed out.")
    expect(bob.page.get_by_role("link", name="Sign in again")).to_be_visible()
    expect(bob.field).to_have_value("A long answer")


def test_two_tabs_that_write_at_the_same_moment_start_one_conversation(people: People, api: Api) -> None:
    alice = people.customer()
    tab = Customer(alice.page.context.new_page(), alice.url)
    tab.comes()
    alice.page.context.set_offline(True)
    alice.says("One, from the first tab")
    tab.says("Two, from the second")
    for each in (alice, tab):
        expect(each.pending.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    alice.page.context.set_offline(False)
    for each in (alice, tab):
        expect(each.page.locator("#messages > .message")).to_have_count(2)
        expect(each.pending).to_have_count(0)
    assert sorted(text for _, text in api.read(uuid_of(alice))) == ["One, from the first tab", "Two, from the second"]
    assert alice.screen() == tab.screen() == api.read(uuid_of(alice))


def test_a_conversation_started_in_one_tab_is_live_in_the_others(people: People, api: Api) -> None:
    alice = people.customer()
    tab = Customer(alice.page.context.new_page(), alice.url)
    tab.comes()
    alice.says("Hello from here")
    alice.shows("Hello from here")
    tab.shows("Hello from here")
    tab.is_connected()
    api.post("And from anywhere", uuid_of(alice))
    tab.shows("Hello from here", "And from anywhere")


def test_the_next_agent_in_the_same_browser_does_not_see_the_last_ones_draft(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Who are you?", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    bob.opens(name)
    bob.types("I am bob, and not done")
    bob.page.context.clear_cookies()
    bob.page.context.add_cookies(carol.page.context.cookies())  # type: ignore[arg-type]  # it accepts its own output
    bob.reloads()
    expect(bob.page.locator(".my-name")).to_have_text("carol")
    expect(bob.field).to_have_value("")


def test_what_failed_without_a_connection_is_not_said_any_longer_with_one(people: People, api: Api) -> None:
    name, other = unique_name(), unique_name()
    api.start_conversation("Hello", name=name)
    api.start_conversation("Hello", name=other)
    bob = people.agent()
    bob.is_connected()
    error = bob.page.locator("#error")
    bob.page.context.set_offline(True)
    bob.loses_socket()
    bob.row(other).click()
    expect(error).to_contain_text("There is no connection.")
    bob.page.keyboard.press("/")
    bob.page.keyboard.type(name)
    with bob.page.expect_event("requestfailed", lambda request: "/list/" in request.url):
        pass  # the search
    bob.page.context.set_offline(False)
    expect(bob.connection).to_have_text("Connected")
    expect(error).to_be_hidden()
    expect(bob.page.locator(".results")).to_contain_text(name)  # it has searched again


def test_a_failed_action_of_an_agent_says_why(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Close me", name=name)
    bob = people.agent()
    bob.opens(name)
    error = bob.page.locator("#error")
    bob.page.route("**/close/", lambda route: route.abort())
    bob.head.get_by_role("button", name="Close").click()
    expect(error).to_contain_text("There is no connection.")
    bob.page.unroute("**/close/")
    bob.page.locator("#state form [name=csrfmiddlewaretoken]").evaluate_all(
        "(all) => all.forEach((it) => it.value = 'old')"
    )
    bob.head.get_by_role("button", name="Close").click()
    expect(error).to_contain_text("This page has expired")
    error.get_by_role("link", name="Reload the page").click()
    expect(error).to_be_hidden()
    bob.closes()


def test_a_page_without_messages_shows_no_connection_state(people: People) -> None:
    alice = people.customer()
    alice.page.context.set_offline(True)
    with alice.page.expect_event("requestfailed"):
        alice.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    alice.page.context.set_offline(False)
    expect(alice.connection).to_be_empty()
    alice.says("Hello")
    alice.is_connected()


def test_a_failed_navigation_back_can_be_retried(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    api.start_conversation("I am the first.", name=one)
    api.start_conversation("I am the second.", name=two)
    bob = people.agent()
    number = bob.opens(one)
    bob.opens(two)
    bob.page.route(f"**/inbox/{number}/", lambda route: route.fulfill(status=503))
    bob.page.go_back(wait_until="commit")
    expect(bob.page.get_by_text("This could not be loaded.")).to_be_visible()
    bob.opens(two)
    bob.page.evaluate("window.sameAsBefore = true")
    bob.is_connected()
    bob.page.context.set_offline(True)
    bob.loses_socket()
    expect(bob.connection).to_have_text("Reconnecting…")
    bob.page.context.set_offline(False)
    bob.is_connected()
    api.start_conversation("Somebody else", name=(last := unique_name()))
    expect(bob.row(last)).to_be_visible()
    assert bob.page.evaluate("window.sameAsBefore")  # the page was not reloaded


def test_navigating_back_to_a_failing_page_shows_no_other_conversation(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    api.start_conversation("I am the first.", name=one)
    api.start_conversation("I am the second.", name=two)
    bob = people.agent()
    bob.opens(one)
    bob.opens(two)
    bob.page.context.set_offline(True)
    bob.page.go_back(wait_until="commit")
    expect(bob.page.get_by_text("This could not be loaded.")).to_be_visible()
    assert bob.screen() == []
    bob.page.context.set_offline(False)
    bob.sees("I am the first.")
