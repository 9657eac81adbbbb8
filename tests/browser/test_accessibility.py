"""Accessibility: no axe violations in light and dark mode, on phones and desktops; no overflow, no small targets."""

import re
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Api, Options, People, unique_name

pytestmark = pytest.mark.browser

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WIDTHS = (360, 1280)
TOUCH: Options = {"has_touch": True}
PHONE: Options = {"viewport": {"width": 360, "height": 720}, "has_touch": True, "is_mobile": True}

# Everything that can be tapped is at least 44 px high, except inline links.
SMALL = """() => [...document.querySelectorAll("a[href], button, summary, input:not([type=hidden]), textarea, select")]
    .filter((element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
    .filter((element) => getComputedStyle(element).display !== "inline")
    .map((element) => [element, element.getBoundingClientRect()])
    .filter(([element, box]) => box.height > 1 && box.height < 43.5)
    .map(([element, box]) => `${element.outerHTML.slice(0, 120)} is ${box.height} px high`)"""

WIDER = """() => [document.documentElement, document.body, ...document.querySelectorAll("body *")]
    .filter((element) => element.scrollWidth > element.clientWidth + 1)
    .filter((element) => ["visible", "auto", "scroll"].includes(getComputedStyle(element).overflowX))
    .filter((element) => element.clientWidth > 1 && getComputedStyle(element).display !== "inline")
    .map((element) => `${element.tagName}.${element.className} ${element.scrollWidth} > ${element.clientWidth}`)"""


def found_by_axe(page: Page) -> list[str]:
    """The violations that axe finds on the page. Our policy forbids injected scripts, so axe is evaluated."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE)
    violations: list[dict[str, Any]] = page.evaluate(
        "() => axe.run({ resultTypes: ['violations'] }).then((results) => results.violations)"
    )
    return [f"{each['id']}: {node['html'][:200]}" for each in violations for node in each["nodes"]]


def check(page: Page) -> None:
    """Assert that there is no violation, in light and dark mode and at both widths."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert found_by_axe(page) == [], (page.url, scheme, width)
            assert page.evaluate(WIDER) == [], (page.url, scheme, width)
            assert page.evaluate(SMALL) == [], (page.url, scheme, width)


def test_the_chat_before_the_first_message_is_accessible(people: People) -> None:
    alice = people.customer(**TOUCH)
    check(alice.page)
    alice.page.get_by_text("Name and e-mail").click()
    check(alice.page)


def test_an_open_and_a_closed_chat_are_accessible(people: People, api: Api) -> None:
    name = unique_name()
    texts = [f"Message {number}, see https://example.com/{number}" for number in range(60)]
    uuid = api.start_conversation(*texts, "👋", "x" * 300, name=name)
    alice, bob = people.customer(conversation=uuid, **TOUCH), people.agent(**TOUCH)
    alice.is_connected()
    bob.opens(name)
    bob.answers("An answer")
    alice.sees("An answer")
    check(alice.page)
    bob.closes()
    expect(alice.page.get_by_text("This chat is closed.")).to_be_visible()
    check(alice.page)


def test_the_chat_is_accessible_while_offline(people: People) -> None:
    alice = people.customer(**TOUCH)
    alice.says("Hello")
    alice.sees("Hello")
    alice.is_connected()
    alice.page.context.set_offline(True)
    alice.loses_socket()
    alice.says("Into the void")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent yet, trying again…")
    expect(alice.connection).to_have_text("Reconnecting…")
    check(alice.page)


def test_the_sign_in_page_is_accessible_with_and_without_an_error(people: People) -> None:
    page = people.browser(**TOUCH).new_page()
    page.goto(f"{people.server.url}/inbox/")
    check(page)
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("is wrong")
    check(page)


def test_a_full_and_an_empty_inbox_are_accessible(people: People, api: Api) -> None:
    for number in range(3):
        api.start_conversation(f"Conversation {number}", name="Somebody with quite a long name " * 2)
    bob = people.agent(**TOUCH)
    check(bob.page)
    bob.comes("?status=closed&whose=mine")
    check(bob.page)
    carol = people.agent("carol", "?status=closed&whose=mine", **TOUCH)
    expect(carol.page.get_by_text("None of the conversations assigned to you is closed.")).to_be_visible()
    check(carol.page)


def test_an_open_conversation_in_the_inbox_is_accessible(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Her earlier conversation", name="Alice", email="alice@example.com")
    uuid = api.start_conversation("One", "Two", name=name, email="alice@example.com")
    bob = people.agent(**TOUCH)
    bob.opens(name)
    bob.answers("Three")
    bob.sees("Three")
    api.post("Four", uuid)
    bob.sees("Four")
    check(bob.page)
    expect(bob.head).to_contain_text("assigned to you")  # by answering
    expect(bob.page.locator(".past").get_by_text("Her earlier conversation")).to_have_count(1)
    bob.closes()
    check(bob.page)


def test_the_demo_shop_is_accessible(people: People) -> None:
    page = people.browser(**TOUCH).new_page()
    page.goto(people.server.url)
    check(page)


def test_the_pages_for_passwords_are_accessible(people: People) -> None:
    bob = people.agent(**TOUCH)
    bob.page.locator(".my-name").click()
    expect(bob.page.get_by_role("heading", name="Password")).to_be_visible()
    check(bob.page)
    page = people.browser(**TOUCH).new_page()
    page.goto(f"{people.server.url}/inbox/sign-in/")
    page.get_by_role("link", name="Forgot your password?").click()
    check(page)
    page.goto(f"{people.server.url}/inbox/forgotten/MQ/nonsense/")
    expect(page.get_by_role("heading", name="This link is not valid any more")).to_be_visible()
    check(page)


def test_an_error_page_is_accessible(people: People) -> None:
    bob = people.agent(**TOUCH)
    bob.page.locator(".me [name=csrfmiddlewaretoken]").evaluate("(field) => field.remove()")
    bob.page.get_by_role("button", name="Sign out").click()
    expect(bob.page.get_by_role("heading", name="You do not have access to this page")).to_be_visible()
    check(bob.page)


def test_the_chat_without_javascript_is_accessible(people: People, api: Api) -> None:
    """Axe needs JavaScript, so only our own scripts are blocked."""
    uuid = api.start_conversation("Hello")
    context = people.browser(**TOUCH)
    context.route("**/*.js", lambda route: route.abort())
    context.add_cookies([{"name": "chat", "value": uuid, "url": people.server.url}])
    page = context.new_page()
    page.goto(f"{people.server.url}/chat/")
    check(page)


LONGEST = ("lorem ipsum dolor sit amet " * 800)[:20_480]
WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def test_long_messages_words_and_names_stay_within_a_phone(people: People, api: Api) -> None:
    name = ("Wolfeschlegelsteinhausenbergerdorff " * 3)[:80].strip()
    text = f"Long things {unique_name()}"
    uuid = api.start_conversation(WORD, LONGEST, "https://example.com/" + "a" * 500, "W" * 2000, text, name=name)
    alice = people.customer(conversation=uuid, **PHONE)
    bob = people.agent(**PHONE)
    assert bob.page.evaluate(WIDER) == []
    bob.opens(text)
    for person in (alice, bob):
        person.sees(text)
        assert person.page.evaluate(WIDER) == []
        assert person.page.evaluate("document.documentElement.scrollWidth") == 360
        assert person.page.evaluate(SMALL) == []
        person.page.evaluate("document.dir = 'rtl'")
        assert person.page.evaluate(WIDER) == []


def test_the_composer_grows_to_six_lines_and_no_further(people: People) -> None:
    alice = people.customer()
    heights = []
    for lines in (1, 3, 6, 7, 30):
        alice.types("\n".join(["line"] * lines))
        heights.append(alice.field.evaluate("(field) => field.offsetHeight"))
    one, three, six, seven, thirty = heights
    assert one < three < six
    assert seven == thirty
    assert thirty - six < 10
    alice.types("")
    assert alice.field.evaluate("(field) => field.offsetHeight") == one


@pytest.mark.parametrize("path", ["/chat/", "/inbox/", "/inbox/sign-in/", "/"])
def test_the_focus_is_visible_wherever_the_tab_key_leads(people: People, path: str) -> None:
    person = people.agent() if path == "/inbox/" else people.customer()
    person.goes(path)
    person.page.evaluate("document.activeElement.blur()")
    seen = set()
    for _ in range(12):
        person.page.keyboard.press("Tab")
        focused = person.page.evaluate("""() => {
            const element = document.activeElement.shadowRoot?.activeElement ?? document.activeElement;
            const style = getComputedStyle(element);
            const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
            return [element.outerHTML.slice(0, 80), element.tagName, ring || style.boxShadow !== "none"];
        }""")
        html, tag, visible = focused
        if tag in ("BODY", "IFRAME"):
            continue
        seen.add(html)
        assert visible, html
    assert len(seen) >= 2


def test_new_messages_are_announced_politely(people: People, api: Api) -> None:
    uuid = api.start_conversation("Hello")
    alice = people.customer(conversation=uuid)
    log = alice.page.get_by_role("log", name="Messages")
    alice.is_connected()
    api.post("News", uuid)
    expect(log).to_contain_text("News")
    expect(log.locator(".pending")).to_have_count(0)
    expect(alice.page.get_by_role("status").first).to_have_text(re.compile("Connected"))
