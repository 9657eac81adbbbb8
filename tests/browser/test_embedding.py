"""The chat on other websites' pages: it remembers where it may, says so where it may not, and harms nobody."""

import pytest
from playwright.sync_api import expect

from tests.browser.cast import somebody
from tests.browser.hosts import KINDS, Street

pytestmark = pytest.mark.browser

NEAR_AND_FAR = pytest.mark.parametrize("where", ["near", "far"])


# Who keeps what --------------------------------------------------------------------------------------------------------


@NEAR_AND_FAR
@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_outlives_the_page_or_says_that_it_will_not(street: Street, kind: str, where: str) -> None:
    hello = f"Hello from {somebody()}"
    origin = street.shop.far if where == "far" else street.shop.near
    alice = street.guest(origin, street.shop.page(), context=street.browser_that_is(kind))
    bob = street.agent()
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    bob.opens(hello)
    bob.answers("How can I help?")
    alice.shows(hello, "How can I help?")
    print(kind, where, alice.cookies())
    if kind == "no cookies":
        expect(alice.forgetful).to_be_visible()
        return
    expect(alice.forgetful).to_be_hidden()
    alice.reloads()
    alice.shows(hello, "How can I help?")
    alice.says("Do you have bread?")
    alice.shows(hello, "How can I help?", "Do you have bread?")
    bob.sees("Do you have bread?")
    bob.answers("Always.")
    alice.shows(hello, "How can I help?", "Do you have bread?", "Always.")
    assert alice.screen() == bob.screen()
    alice.is_connected()
