"""Conversations that are longer than one page or one screen."""

import pytest
from playwright.sync_api import expect

from tests.browser.people import Api, People, Person, unique_name

pytestmark = pytest.mark.browser

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def long(api: Api, count: int = 120, name: str = "") -> tuple[str, list[str]]:
    """A conversation with many messages: its uuid and their texts."""
    texts = [f"Message number {number}" for number in range(1, count + 1)]
    return api.start_conversation(*texts, name=name), texts


@pytest.mark.parametrize("side", ["customer", "agent"])
def test_older_messages_load_on_demand_without_moving_the_text(people: People, api: Api, side: str) -> None:
    name = unique_name()
    uuid, texts = long(api, name=name)
    person: Person
    if side == "customer":
        person = people.customer(conversation=uuid)
    else:
        person = bob = people.agent()
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
        assert abs(now["y"] - place["y"]) < 60  # at most the height of the button above it
        expect(first).to_be_in_viewport()
    expect(button).to_have_count(0)
    assert person.screen() == api.read(uuid)
    expect(person.page.locator(".day")).to_have_count(1)


def test_new_messages_are_announced_and_do_not_move_a_reader_who_scrolled_up(people: People, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = people.customer(conversation=uuid)
    alice.is_connected()
    expect(alice.bubble(texts[-1])).to_be_in_viewport()
    top = alice.bubble(texts[0])
    top.scroll_into_view_if_needed()
    api.post("News", uuid)
    pill = alice.page.get_by_role("button", name="New messages: 1")
    expect(pill).to_be_visible()
    api.post("More news", uuid)
    pill = alice.page.get_by_role("button", name="New messages: 2")
    expect(pill).to_be_visible()
    expect(top).to_be_in_viewport()
    pill.click()
    expect(alice.bubble("More news")).to_be_in_viewport()
    expect(pill).to_be_hidden()
    api.post("Even more", uuid)
    expect(alice.bubble("Even more")).to_be_in_viewport()  # at the end the page follows


def test_more_new_messages_than_one_page_are_all_loaded(people: People, api: Api) -> None:
    uuid = api.start_conversation("Before the tunnel")
    alice = people.customer(conversation=uuid)
    alice.is_connected()
    alice.page.context.set_offline(True)
    alice.loses_socket()
    texts = [f"In the tunnel {number}" for number in range(130)]
    for text in texts:
        api.post(text, uuid)
    alice.page.context.set_offline(False)
    alice.shows("Before the tunnel", *texts)


def test_a_growing_composer_does_not_move_a_reader_who_scrolled_up(people: People, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = people.customer(conversation=uuid)
    top = alice.bubble(texts[0])
    expect(alice.bubble(texts[-1])).to_be_in_viewport()
    top.scroll_into_view_if_needed()
    alice.page.evaluate(TWO_FRAMES)  # people do not scroll and type in the same frame
    height = alice.field.bounding_box()
    alice.types("One\nTwo\nThree\nFour")
    grown = alice.field.bounding_box()
    assert height
    assert grown
    assert grown["height"] > height["height"]
    alice.page.evaluate(TWO_FRAMES)
    expect(top).to_be_in_viewport()


def test_a_reader_at_the_end_stays_there_while_content_above_grows(people: People, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = people.customer(conversation=uuid)
    last = alice.bubble(texts[-1])
    expect(last).to_be_in_viewport()
    alice.bubble(texts[-2]).evaluate("(bubble) => (bubble.style.minHeight = '500px')")
    expect(last).to_be_in_viewport()


@pytest.mark.parametrize("side", ["customer", "agent"])
def test_a_new_message_makes_the_page_look_only_at_new_rows(people: People, api: Api, side: str) -> None:
    uuid, texts = long(api, 50, name=(name := unique_name()))
    person: Person
    if side == "customer":
        person = people.customer(conversation=uuid)
    else:
        person = bob = people.agent()
        bob.opens(name)
    person.is_connected()
    person.sees(texts[-1])
    person.page.evaluate(
        """() => {
            window.read = new Set();
            const { get } = Object.getOwnPropertyDescriptor(HTMLElement.prototype, "dataset");
            const look = { get() { window.read.add(this); return get.call(this); } };
            Object.defineProperty(HTMLLIElement.prototype, "dataset", look);
            window.days = 0;
            const { get: format } = Object.getOwnPropertyDescriptor(Intl.DateTimeFormat.prototype, "format");
            const read = function () {
                window.days += this.resolvedOptions().locale === "sv";
                return format.call(this);
            };
            Object.defineProperty(Intl.DateTimeFormat.prototype, "format", { get: read });  // "sv": the day of a time
        }"""
    )
    api.post("News", uuid)
    person.sees("News")
    # The last row is read too: for the cursor and the day.
    assert person.page.evaluate("[window.read.size, window.days]") == [2, 2]
