"""A conversation between a customer and an agent, each in a browser of their own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Error, Route, expect

from tests.browser.cast import Api, Customer, Person, Stage, eventually, exactly, somebody, uuid_of
from tests.conftest import Server

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 720}


@contextmanager
def nothing_arrives(person: Person) -> Iterator[list[Route]]:
    """Hold what the page posts for as long as this lasts."""
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


# There and back -------------------------------------------------------------------------------------------------------


def test_a_customer_writes_and_an_agent_takes_it_and_answers(stage: Stage) -> None:
    alice, bob = stage.customer(), stage.agent()
    alice.says("Hello, is anybody there?")
    bob.opens("Hello, is anybody there?")
    bob.takes()
    bob.answers("Yes, bob is.")
    alice.shows("Hello, is anybody there?", "Yes, bob is.")
    bob.shows("Hello, is anybody there?", "Yes, bob is.")
    assert alice.screen() == bob.screen()


def test_a_new_conversation_comes_into_the_inbox_with_who_wrote_and_how_much(stage: Stage) -> None:
    alice, bob, name = stage.customer(), stage.agent(), somebody()
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
    expect(bob.page.locator(".row").first).to_contain_text(name)  # the newest is on top


def test_what_is_read_is_no_longer_counted_in_the_list_or_the_title(stage: Stage) -> None:
    alice, carol = stage.customer(), stage.agent("carol")
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


def test_who_they_are_is_asked_lightly_and_shown_to_the_agent(stage: Stage) -> None:
    alice, bob, name = stage.customer(), stage.agent(viewport={"width": 1440, "height": 900}), somebody()
    alice.introduces_herself(name, "alice@example.com")
    alice.says("Do you deliver to Gdańsk?")
    bob.opens(name)
    expect(bob.head.locator("h2")).to_have_text(name)
    expect(bob.page.locator(".details")).to_contain_text("alice@example.com")
    expect(alice.page.get_by_label("E-mail")).to_have_count(0)  # and asked once


def test_a_colleague_sees_at_once_who_has_it(stage: Stage) -> None:
    alice, bob, carol = stage.customer(), stage.agent("bob"), stage.agent("carol")
    alice.says("Who is the boss here?")
    for agent in (bob, carol):
        agent.opens("Who is the boss here?")
    carol.is_connected()
    bob.takes()
    expect(carol.head).to_contain_text("bob has it")
    expect(carol.row("Who is the boss here?").locator(".taken")).to_have_text("bob")


def test_who_takes_it_a_moment_too_late_is_told_who_was_quicker(stage: Stage) -> None:
    alice, bob, carol = stage.customer(), stage.agent("bob"), stage.agent("carol")
    alice.says("First come, first served?")
    for agent in (bob, carol):
        agent.opens("First come, first served?")
    carol.page.route("**/state/*", lambda route: route.abort())  # carol's screen has not heard of it yet
    bob.takes()
    carol.page.get_by_role("button", name="Take").click()
    expect(carol.page.get_by_role("alert").filter(has_text="bob was quicker")).to_be_visible()
    expect(carol.head).to_contain_text("bob has it")


def test_a_closed_chat_says_so_and_opens_again_when_the_customer_writes(stage: Stage) -> None:
    alice, bob = stage.customer(), stage.agent()
    alice.says("That is all, thank you.")
    bob.opens("That is all, thank you.")
    alice.is_connected()
    bob.closes()
    closed = alice.page.get_by_text("This chat is closed. Write again to reopen it.")
    expect(closed).to_be_visible()
    expect(bob.row("That is all, thank you.")).to_have_count(0)  # it has left the list of open ones
    alice.says("Wait, one more thing!")
    expect(closed).to_have_count(0)
    expect(bob.head).to_contain_text("Open")
    bob.sees("Wait, one more thing!")
    expect(bob.row("Wait, one more thing!")).to_have_count(1)


def test_an_agent_opens_a_closed_one_again(stage: Stage) -> None:
    alice, bob = stage.customer(), stage.agent()
    alice.says("Bye for now.")
    bob.opens("Bye for now.")
    alice.is_connected()
    bob.closes()
    expect(alice.page.get_by_text("This chat is closed.")).to_be_visible()
    bob.reopens()
    expect(alice.page.get_by_text("This chat is closed.")).to_have_count(0)


def test_both_see_the_same_after_a_reload(stage: Stage) -> None:
    alice, bob = stage.customer(), stage.agent()
    alice.says("One")
    alice.sees("One")
    alice.says("Reload me")
    bob.opens("Reload me")
    bob.answers("Three")
    alice.sees("Three")
    before = alice.screen()
    assert [text for _, text in before] == ["One", "Reload me", "Three"]
    alice.reloads()
    bob.reloads()
    assert alice.screen() == bob.screen() == before


def test_two_conversations_do_not_mix(stage: Stage) -> None:
    alice, dan, bob = stage.customer(), stage.customer(), stage.agent()
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


def test_the_filters_show_open_closed_mine_and_unassigned_ones(stage: Stage, api: Api) -> None:
    names = {key: somebody() for key in ("nobody's", "bob's", "carol's", "closed")}
    for name in names.values():
        api.tells("Filter me.", name=name)
    bob, carol = stage.agent("bob"), stage.agent("carol")
    carol.opens(names["carol's"])
    carol.takes()
    bob.opens(names["bob's"])
    bob.takes()
    bob.opens(names["closed"])
    bob.closes()

    def listed() -> set[str]:
        return {key for key, name in names.items() if bob.row(name).count()}

    shown = {
        ("Open", "All"): {"nobody's", "bob's", "carol's"},
        ("Open", "Mine"): {"bob's"},
        ("Open", "Unassigned"): {"nobody's"},
        ("Closed", "Unassigned"): {"closed"},
        ("Closed", "All"): {"closed"},
    }
    for tabs, expected in shown.items():
        for tab in tabs:
            bob.page.get_by_role("link", name=exactly(tab)).click()
            expect(bob.page.locator(".tabs [aria-current]", has_text=exactly(tab))).to_be_visible()
        assert listed() == expected, tabs


def test_back_and_forward_go_through_the_conversations_that_were_opened(stage: Stage, api: Api) -> None:
    one, two = somebody(), somebody()
    api.tells("I am the first.", name=one)
    api.tells("I am the second.", name=two)
    bob = stage.agent()
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
def test_where_you_went_last_is_what_you_see_whatever_arrives_late(stage: Stage, api: Api, late: str) -> None:
    one, two = somebody(), somebody()
    api.tells("I am the first.", name=one)
    api.tells("I am the second.", name=two)
    bob, held = stage.agent(), list[Route]()
    bob.opens(one)
    if late == "a click":
        bob.page.route(re.compile(r"/inbox/\d+/$"), lambda route: held.append(route))
        bob.row(two).click()
    else:
        bob.opens(two)
        bob.page.route(re.compile(r"/inbox/\d+/$"), lambda route: held.append(route))
        bob.page.go_back(wait_until="commit")
    eventually(bob.page, lambda: len(held) == 1, "a conversation is on its way")
    bob.page.go_back(wait_until="commit")
    expect(bob.page.get_by_text("Choose a conversation to read it.")).to_be_visible()
    with suppress(Error):  # the page has given it up
        held[0].continue_()
    api.tells("Somebody else", name=(last := somebody()))
    expect(bob.row(last)).to_be_visible()  # and what came before it has come
    expect(bob.page.get_by_text("Choose a conversation to read it.")).to_be_visible()


# Writing --------------------------------------------------------------------------------------------------------------


def test_enter_sends_and_shift_enter_begins_a_new_line(stage: Stage) -> None:
    alice = stage.customer()
    alice.field.press_sequentially("Roses are red")
    alice.field.press("Shift+Enter")
    alice.field.press_sequentially("violets are blue")
    expect(alice.field).to_have_value("Roses are red\nviolets are blue")
    alice.field.press("Enter")
    alice.shows("Roses are red\nviolets are blue")
    expect(alice.field).to_have_value("")
    expect(alice.field).to_be_focused()


def test_an_empty_message_is_not_sent(stage: Stage) -> None:
    alice = stage.customer()
    alice.says("   ")
    alice.says("Something")
    alice.shows("Something")


def test_what_is_typed_survives_a_reload_on_both_sides(stage: Stage) -> None:
    alice, bob = stage.customer(), stage.agent()
    alice.says("I have two questions.")
    alice.types("The second is")
    bob.opens("I have two questions.")
    bob.types("And the answ")
    alice.reloads()
    bob.reloads()
    expect(alice.field).to_have_value("The second is")
    expect(bob.field).to_have_value("And the answ")


def test_each_conversation_keeps_the_answer_that_was_begun_in_it(stage: Stage, api: Api) -> None:
    one, two = somebody(), somebody()
    api.tells("Hello", name=one)
    api.tells("Hello", name=two)
    bob = stage.agent()
    bob.opens(one)
    bob.types("For the first")
    bob.opens(two)
    expect(bob.field).to_have_value("")
    bob.opens(one)
    expect(bob.field).to_have_value("For the first")


def test_there_is_no_cookie_before_the_first_message(stage: Stage) -> None:
    alice = stage.customer()
    alice.types("Should I")
    alice.reloads()
    assert alice.page.context.cookies() == []
    alice.says("Should I?")
    alice.sees("Should I?")
    (cookie,) = alice.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("chat", True, "Lax")


def test_an_own_message_is_there_at_once_and_says_when_it_is_sent(stage: Stage) -> None:
    alice = stage.customer()
    with nothing_arrives(alice) as held:
        alice.says("At once!")
        expect(alice.pending).to_have_count(1)
        expect(alice.pending.locator(".bubble")).to_have_text("At once!")
        expect(alice.pending.locator(".fate")).to_have_text("Sending…")
        alice.says("And this behind it.")
        expect(alice.pending).to_have_count(2)
        eventually(alice.page, lambda: len(held) == 1, "the first is on its way, and the second waits for it")
        assert alice.screen() == [(None, "At once!"), (None, "And this behind it.")]
    alice.shows("At once!", "And this behind it.")
    expect(alice.page.locator("#messages .fate").last).to_have_text("Sent")


def test_an_answer_that_was_on_its_way_arrives_although_the_agent_went_to_another_conversation(
    stage: Stage, api: Api
) -> None:
    one, two = somebody(), somebody()
    uuid = api.tells("Hello", name=one)
    api.tells("Hello", name=two)
    bob = stage.agent()
    bob.opens(one)
    with nothing_arrives(bob):
        bob.answers("One moment.")
        bob.answers("Here it is.")
        bob.opens(two)
    alice = stage.customer(conversation=uuid)
    alice.shows("Hello", "One moment.", "Here it is.")
    bob.shows("Hello")
    bob.opens(one)
    bob.shows("Hello", "One moment.", "Here it is.")


# When the connection breaks -------------------------------------------------------------------------------------------


def test_what_is_written_while_the_server_is_gone_arrives_once_when_it_is_back(stage: Stage, mortal: Server) -> None:
    alice, bob = stage.customer(server=mortal), stage.agent(server=mortal)
    alice.says("Before")
    alice.sees("Before")
    alice.is_connected()
    bob.opens("Before")
    mortal.kill()
    expect(alice.connection).to_have_text("Reconnecting…")
    alice.says("While you were gone")
    alice.says("and this")
    expect(alice.pending.first.locator(".fate")).to_have_text("Not sent yet, trying again…")
    expect(alice.pending.first.get_by_role("button", name="Try again")).to_be_visible()
    alice.types("and a draft")
    mortal.start()
    alice.shows("Before", "While you were gone", "and this")
    expect(alice.connection).to_have_text("Connected")
    expect(alice.field).to_have_value("and a draft")
    bob.shows("Before", "While you were gone", "and this")
    assert alice.screen() == bob.screen()


def test_what_could_not_be_sent_is_still_there_after_a_reload(stage: Stage) -> None:
    alice = stage.customer()
    alice.says("First")
    alice.sees("First")
    alice.page.route("**/chat/messages/", lambda route: route.abort())
    alice.says("Second")
    expect(alice.pending.locator(".fate")).to_have_text("Not sent yet, trying again…")
    alice.page.unroute("**/chat/messages/")
    alice.page.context.set_offline(False)
    alice.reloads()
    alice.shows("First", "Second")


def test_an_answer_that_never_came_back_is_not_doubled_by_the_next_try(stage: Stage, api: Api) -> None:
    alice = stage.customer()
    tries = []

    def swallow_the_first_answer(route: Route) -> None:
        tries.append(route.request.post_data)
        if len(tries) == 1:
            route.fetch()  # the server has it now, and the page does not hear of it
            route.abort()
        else:
            route.continue_()

    alice.page.route("**/chat/messages/", swallow_the_first_answer)
    alice.says("Only once, please.")
    alice.shows("Only once, please.")
    assert len(tries) == 2
    assert [text for _, text in api.read(uuid_of(alice))] == ["Only once, please."]


def test_what_the_server_refuses_says_why_and_can_be_edited(stage: Stage) -> None:
    alice = stage.customer()
    alice.introduces_herself("Alice", "not an address")
    alice.says("Hello?")
    expect(alice.pending.locator(".fate")).to_have_text("Not sent. This does not look like an e-mail address.")
    alice.page.get_by_label("E-mail").fill("alice@example.com")
    alice.pending.get_by_role("button", name="Edit").click()
    expect(alice.field).to_have_value("Hello?")
    alice.says("Hello!")
    alice.shows("Hello!")


@pytest.mark.parametrize("side", ["customer", "agent"])
def test_losing_the_connection_is_one_quiet_line_and_gone_when_it_is_back(stage: Stage, side: str) -> None:
    person: Person
    if side == "customer":
        person = stage.customer()
        person.says("Can you hear me?")
    else:
        person = stage.agent()
    person.is_connected()
    expect(person.connection).to_have_text("Connected")
    person.page.context.set_offline(True)
    person.loses_the_socket()
    expect(person.connection).to_have_text("Reconnecting…")
    person.page.context.set_offline(False)
    person.is_connected()
    expect(person.connection).to_have_text("Connected")


def test_a_socket_that_drops_comes_back_with_what_was_missed(stage: Stage, api: Api) -> None:
    alice = stage.customer()
    alice.says("Still there?")
    alice.is_connected()
    alice.loses_the_socket()
    api.post("Missed", uuid_of(alice))
    alice.shows("Still there?", "Missed")
    alice.is_connected()


def test_an_agent_who_was_signed_out_is_told_and_loses_nothing_that_was_typed(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Hello", name=name)
    bob = stage.agent()
    bob.opens(name)
    bob.types("A long answer")
    bob.is_connected()
    bob.page.context.clear_cookies()
    api.tells("A ring for everybody.")
    expect(bob.connection).to_contain_text("You are signed out.")
    expect(bob.page.get_by_role("link", name="Sign in again")).to_be_visible()
    expect(bob.field).to_have_value("A long answer")


def test_two_tabs_that_begin_at_the_same_moment_begin_one_conversation(stage: Stage, api: Api) -> None:
    alice = stage.customer()
    tab = Customer(alice.page.context.new_page(), alice.url)
    tab.comes()
    alice.page.context.set_offline(True)
    alice.says("One, from the first tab")
    tab.says("Two, from the second")
    for each in (alice, tab):
        expect(each.pending.locator(".fate")).to_have_text("Not sent yet, trying again…")
    alice.page.context.set_offline(False)
    for each in (alice, tab):
        expect(each.page.locator("#messages > .message")).to_have_count(2)
        expect(each.pending).to_have_count(0)
    assert sorted(text for _, text in api.read(uuid_of(alice))) == ["One, from the first tab", "Two, from the second"]
    assert alice.screen() == tab.screen() == api.read(uuid_of(alice))


def test_a_conversation_that_begins_in_one_tab_is_alive_in_the_others(stage: Stage, api: Api) -> None:
    alice = stage.customer()
    tab = Customer(alice.page.context.new_page(), alice.url)
    tab.comes()
    alice.says("Hello from here")
    alice.shows("Hello from here")
    tab.shows("Hello from here")
    tab.is_connected()
    api.post("And from anywhere", uuid_of(alice))
    tab.shows("Hello from here", "And from anywhere")


def test_what_an_agent_did_not_send_is_not_the_next_agents(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Who are you?", name=name)
    bob, carol = stage.agent("bob"), stage.agent("carol")
    bob.opens(name)
    bob.types("I am bob, and not done")
    bob.page.context.clear_cookies()
    bob.page.context.add_cookies(carol.page.context.cookies())  # type: ignore[arg-type]  # what it gives it takes
    bob.reloads()
    expect(bob.page.locator(".my-name")).to_have_text("carol")
    expect(bob.field).to_have_value("")


def test_what_an_agent_does_in_vain_says_why(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Close me", name=name)
    bob = stage.agent()
    bob.opens(name)
    trouble = bob.page.locator("#trouble")
    bob.page.route("**/close/", lambda route: route.abort())
    bob.page.get_by_role("button", name="Close").click()
    expect(trouble).to_contain_text("That did not go through: there was no connection.")
    bob.page.unroute("**/close/")
    bob.page.locator("#state form [name=csrfmiddlewaretoken]").evaluate_all(
        "(all) => all.forEach((it) => it.value = 'old')"
    )
    bob.page.get_by_role("button", name="Close").click()
    expect(trouble).to_contain_text("This page was open for too long")
    trouble.get_by_role("link", name="Load the page again").click()
    expect(trouble).to_be_hidden()
    bob.closes()


def test_going_back_to_what_does_not_come_shows_nothing_else_in_its_place(stage: Stage, api: Api) -> None:
    one, two = somebody(), somebody()
    api.tells("I am the first.", name=one)
    api.tells("I am the second.", name=two)
    bob = stage.agent()
    bob.opens(one)
    bob.opens(two)
    bob.page.context.set_offline(True)
    bob.page.go_back(wait_until="commit")
    expect(bob.page.get_by_text("This could not be loaded.")).to_be_visible()
    assert bob.screen() == []
    bob.page.context.set_offline(False)
    bob.sees("I am the first.")


# A long conversation --------------------------------------------------------------------------------------------------


def long(api: Api, count: int = 120, name: str = "") -> tuple[str, list[str]]:
    """A conversation with many messages: its uuid and their texts."""
    texts = [f"Message number {number}" for number in range(1, count + 1)]
    return api.tells(*texts, name=name), texts


@pytest.mark.parametrize("side", ["customer", "agent"])
def test_older_messages_come_on_demand_without_moving_what_is_read(stage: Stage, api: Api, side: str) -> None:
    name = somebody()
    uuid, texts = long(api, name=name)
    person: Person
    if side == "customer":
        person = stage.customer(conversation=uuid)
    else:
        person = bob = stage.agent()
        bob.opens(name)
    person.shows(*texts[-50:])
    expect(person.bubble(texts[-1])).to_be_in_viewport()
    button = person.page.get_by_role("link", name="Show older messages")
    for most in (100, 120):
        first = person.bubble(texts[-(50 if most == 100 else 100)])
        button.scroll_into_view_if_needed()
        place = first.bounding_box()
        button.click()
        person.shows(*texts[-most:])
        now = first.bounding_box()
        assert place is not None
        assert now is not None
        assert abs(now["y"] - place["y"]) < 60  # no more than the button that was above it
        expect(first).to_be_in_viewport()
    expect(button).to_have_count(0)
    assert person.screen() == api.read(uuid)
    expect(person.page.locator(".day")).to_have_count(1)


def test_who_reads_further_up_is_told_of_new_messages_and_stays_there(stage: Stage, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = stage.customer(conversation=uuid)
    alice.is_connected()
    expect(alice.bubble(texts[-1])).to_be_in_viewport()
    top = alice.bubble(texts[0])
    top.scroll_into_view_if_needed()
    api.post("News", uuid)
    pill = alice.page.get_by_role("button", name="1 new message")
    expect(pill).to_be_visible()
    api.post("More news", uuid)
    pill = alice.page.get_by_role("button", name="2 new messages")
    expect(pill).to_be_visible()
    expect(top).to_be_in_viewport()
    pill.click()
    expect(alice.bubble("More news")).to_be_in_viewport()
    expect(pill).to_be_hidden()
    api.post("Even more", uuid)
    expect(alice.bubble("Even more")).to_be_in_viewport()  # who is at the end stays at the end


def test_more_news_than_fit_on_a_page_all_come(stage: Stage, api: Api) -> None:
    uuid = api.tells("Before the tunnel")
    alice = stage.customer(conversation=uuid)
    alice.is_connected()
    alice.page.context.set_offline(True)
    alice.loses_the_socket()
    texts = [f"In the tunnel {number}" for number in range(130)]
    for text in texts:
        api.post(text, uuid)
    alice.page.context.set_offline(False)
    alice.shows("Before the tunnel", *texts)


def test_who_reads_further_up_stays_there_while_the_composer_grows(stage: Stage, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = stage.customer(conversation=uuid)
    top = alice.bubble(texts[0])
    expect(alice.bubble(texts[-1])).to_be_in_viewport()
    top.scroll_into_view_if_needed()
    height = alice.field.bounding_box()
    alice.types("One\nTwo\nThree\nFour")
    grown = alice.field.bounding_box()
    assert height
    assert grown
    assert grown["height"] > height["height"]
    alice.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(top).to_be_in_viewport()


def test_a_text_that_is_too_long_says_so_and_loses_nothing(stage: Stage) -> None:
    alice = stage.customer()
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


# Hands and screens ----------------------------------------------------------------------------------------------------


def test_an_agent_needs_no_mouse(stage: Stage, api: Api) -> None:
    name = somebody()
    uuid = api.tells("Are you there?", name=name)
    bob = stage.agent()
    row = bob.row(name)
    expect(row).to_have_count(1)
    keyboard = bob.page.keyboard
    for _ in range(12):
        keyboard.press("Tab")
        if bob.page.evaluate("document.activeElement.classList.contains('row')"):
            break
    expect(row).to_be_focused()  # the newest conversation is the first
    keyboard.press("ArrowDown")
    expect(row).not_to_be_focused()
    keyboard.press("ArrowUp")
    expect(row).to_be_focused()
    keyboard.press("Enter")
    expect(bob.field).to_be_focused()
    keyboard.type("I am, without a mouse.")
    keyboard.press("Enter")
    bob.shows("Are you there?", "I am, without a mouse.")
    assert [text for _, text in api.read(uuid)] == ["Are you there?", "I am, without a mouse."]


def test_the_focus_is_not_lost_after_taking_and_closing(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Keep your eyes here.", name=name)
    bob = stage.agent()
    bob.opens(name)
    for label, then in (("Take", "you have it"), ("Close", "Closed"), ("Reopen", "Open")):
        bob.page.get_by_role("button", name=exactly(label)).focus()
        bob.page.keyboard.press("Enter")
        expect(bob.head).to_contain_text(then)
        eventually(
            bob.page,
            lambda: bool(bob.page.evaluate("document.querySelector('.open-one').contains(document.activeElement)")),
            f"the focus is still in the conversation after {label}",
        )


def test_on_a_phone_there_is_the_list_then_the_conversation_and_a_way_back(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Typed with a thumb.", name=name)
    bob = stage.agent(viewport=PHONE, has_touch=True, is_mobile=True)
    row = bob.row(name)
    row.tap()
    expect(bob.bubble("Typed with a thumb.")).to_be_in_viewport()
    expect(bob.field).to_be_in_viewport()
    expect(row).to_be_hidden()
    bob.page.get_by_role("link", name="Back to the list").tap()
    expect(row).to_be_visible()
    expect(bob.field).to_have_count(0)
    row.tap()
    expect(bob.bubble("Typed with a thumb.")).to_be_in_viewport()
    bob.page.go_back()
    expect(row).to_be_visible()


def test_a_tablet_shows_who_it_is_on_demand(stage: Stage, api: Api) -> None:
    name = somebody()
    api.tells("Who am I?", name=name, email="alice@example.com")
    bob = stage.agent(viewport={"width": 768, "height": 1024})
    bob.opens(name)
    mail = bob.page.get_by_role("link", name="alice@example.com")
    expect(mail).to_be_hidden()
    bob.page.get_by_role("button", name=f"About {name}").click()
    expect(mail).to_be_in_viewport()
    bob.page.keyboard.press("Escape")
    expect(mail).to_be_hidden()
    bob.page.set_viewport_size({"width": 1400, "height": 900})
    expect(mail).to_be_in_viewport()


def test_the_list_stays_where_it_was_scrolled_when_news_come(stage: Stage, api: Api) -> None:
    for _ in range(25):
        api.tells("Filler", name=somebody())
    bob = stage.agent()
    bob.is_connected()
    row = bob.page.locator(".row").nth(18)
    number = row.get_attribute("id")
    bob.page.locator("inbox-list").evaluate("(list) => { list.scrollTop = 900; }")
    where = bob.page.locator(f"#{number}").bounding_box()
    api.tells("On top", name=(name := somebody()))
    expect(bob.row(name)).to_have_count(1)
    now = bob.page.locator(f"#{number}").bounding_box()
    assert where
    assert now
    assert abs(now["y"] - where["y"]) < 2


def test_times_are_in_the_readers_own_clock_and_a_day_is_theirs(stage: Stage, api: Api) -> None:
    uuid = api.tells("What time is it?")
    clock = "() => document.querySelector('#messages .when time').textContent"
    shown = {}
    for place in ("Asia/Tokyo", "America/New_York"):
        alice: Customer = stage.customer(conversation=uuid, timezone_id=place, locale="en-GB")
        shown[place] = alice.page.evaluate(clock)
        expect(alice.page.locator(".day")).to_have_text("Today")
    assert shown["Asia/Tokyo"] != shown["America/New_York"]


def test_news_that_come_while_the_page_still_loads_its_scripts_are_not_missed(stage: Stage, api: Api) -> None:
    """The bell must not ring before anything listens to it: then only the heartbeat would bring the news."""
    bob, name = stage.agent(), somebody()
    page = bob.page.context.new_page()
    page.clock.install()
    held: list[Route] = []
    page.route("**/inbox-list.js", lambda route: held.append(route))
    page.goto(bob.page.url, wait_until="commit")
    eventually(page, lambda: len(held) == 1, "the last script is on its way")
    api.tells("Too early?", name=name)  # the page was rendered without it
    for _ in range(5):
        page.evaluate("fetch('/chat/state/')")  # by now a ring for it would have come
    page.clock.fast_forward(4000)  # and the first poll would have been, which hides a ring that was missed
    held[0].continue_()
    expect(page.locator(".row", has_text=name)).to_be_visible()  # before the heartbeat, which is 25 s away
    page.close()
