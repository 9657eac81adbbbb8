"""Conversations that are longer than a screen."""

import pytest
from playwright.sync_api import expect

from tests.browser.cast import Api, Person, Stage, somebody

pytestmark = pytest.mark.browser

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


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
    alice.page.evaluate(TWO_FRAMES)  # nobody scrolls and types in the same one
    height = alice.field.bounding_box()
    alice.types("One\nTwo\nThree\nFour")
    grown = alice.field.bounding_box()
    assert height
    assert grown
    assert grown["height"] > height["height"]
    alice.page.evaluate(TWO_FRAMES)
    expect(top).to_be_in_viewport()


def test_who_is_at_the_end_stays_there_while_what_is_above_grows(stage: Stage, api: Api) -> None:
    uuid, texts = long(api, 50)
    alice = stage.customer(conversation=uuid)
    last = alice.bubble(texts[-1])
    expect(last).to_be_in_viewport()
    alice.bubble(texts[-2]).evaluate("(bubble) => (bubble.style.minHeight = '500px')")
    expect(last).to_be_in_viewport()
