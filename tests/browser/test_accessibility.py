"""For everybody: no violation that axe finds, in light and dark, on a phone and on a desk; and nothing out of place."""

import re
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Page, expect

from tests.browser.cast import Api, Options, Stage, unique_name

pytestmark = pytest.mark.browser

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WIDTHS = (360, 1280)
TOUCH: Options = {"has_touch": True}
PHONE: Options = {"viewport": {"width": 360, "height": 720}, "has_touch": True, "is_mobile": True}

# Links in a sentence are as high as the sentence; everything else that a thumb should hit is at least 44 px high.
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
    """Axe's violations on the page as it is. Evaluated and not injected, because the policy lets no script in."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE)
    violations: list[dict[str, Any]] = page.evaluate(
        "() => axe.run({ resultTypes: ['violations'] }).then((results) => results.violations)"
    )
    return [f"{each['id']}: {node['html'][:200]}" for each in violations for node in each["nodes"]]


def is_fine(page: Page) -> None:
    """Nothing to object to, in light and dark, at both widths."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert found_by_axe(page) == [], (page.url, scheme, width)
            assert page.evaluate(WIDER) == [], (page.url, scheme, width)
            assert page.evaluate(SMALL) == [], (page.url, scheme, width)


def test_the_chat_before_the_first_message(stage: Stage) -> None:
    alice = stage.customer(**TOUCH)
    is_fine(alice.page)
    alice.page.get_by_text("Add your name").click()
    is_fine(alice.page)


def test_the_chat_with_messages_and_closed(stage: Stage, api: Api) -> None:
    name = unique_name()
    texts = [f"Message {number}, see https://example.com/{number}" for number in range(60)]
    uuid = api.start_conversation(*texts, "👋", "x" * 300, name=name)
    alice, bob = stage.customer(conversation=uuid, **TOUCH), stage.agent(**TOUCH)
    alice.is_connected()
    bob.opens(name)
    bob.answers("An answer")
    alice.sees("An answer")
    is_fine(alice.page)
    bob.closes()
    expect(alice.page.get_by_text("This chat is closed.")).to_be_visible()
    is_fine(alice.page)


def test_the_chat_while_a_message_cannot_be_sent(stage: Stage) -> None:
    alice = stage.customer(**TOUCH)
    alice.says("Hello")
    alice.sees("Hello")
    alice.is_connected()
    alice.page.context.set_offline(True)
    alice.loses_socket()
    alice.says("Into the void")
    expect(alice.pending.locator(".fate")).to_have_text("Not sent yet, trying again…")
    expect(alice.connection).to_have_text("Reconnecting…")
    is_fine(alice.page)


def test_signing_in_and_failing_to(stage: Stage) -> None:
    page = stage.browser(**TOUCH).new_page()
    page.goto(f"{stage.server.url}/inbox/")
    is_fine(page)
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("don't match")
    is_fine(page)


def test_the_inbox_full_and_empty(stage: Stage, api: Api) -> None:
    for number in range(3):
        api.start_conversation(f"Conversation {number}", name="Somebody with quite a long name " * 2)
    bob = stage.agent(**TOUCH)
    is_fine(bob.page)
    bob.comes("?status=closed&whose=mine")
    is_fine(bob.page)
    carol = stage.agent("carol", "?status=closed&whose=mine", **TOUCH)
    expect(carol.page.get_by_text("None of yours is closed.")).to_be_visible()
    is_fine(carol.page)


def test_a_conversation_in_the_inbox(stage: Stage, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("One", "Two", name=name, email="alice@example.com")
    bob = stage.agent(**TOUCH)
    bob.opens(name)
    bob.answers("Three")
    bob.sees("Three")
    api.post("Four", uuid)
    bob.sees("Four")
    is_fine(bob.page)
    bob.takes()
    bob.closes()
    is_fine(bob.page)


def test_the_demo_shop(stage: Stage) -> None:
    page = stage.browser(**TOUCH).new_page()
    page.goto(stage.server.url)
    is_fine(page)


def test_an_error(stage: Stage) -> None:
    bob = stage.agent(**TOUCH)
    bob.page.locator(".me [name=csrfmiddlewaretoken]").evaluate("(field) => field.remove()")
    bob.page.get_by_role("button", name="Sign out").click()
    expect(bob.page.get_by_role("heading", name="You can't go in here")).to_be_visible()
    is_fine(bob.page)


def test_without_script_there_is_nothing_to_object_to_either(stage: Stage, api: Api) -> None:
    """Axe itself is a script: it runs where the page's own scripts did not come."""
    uuid = api.start_conversation("Hello")
    context = stage.browser(**TOUCH)
    context.route("**/*.js", lambda route: route.abort())
    context.add_cookies([{"name": "chat", "value": uuid, "url": stage.server.url}])
    page = context.new_page()
    page.goto(f"{stage.server.url}/chat/")
    is_fine(page)


LONGEST = ("lorem ipsum dolor sit amet " * 800)[:20_480]
WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def test_long_messages_words_and_names_stay_within_a_phone(stage: Stage, api: Api) -> None:
    name = ("Wolfeschlegelsteinhausenbergerdorff " * 3)[:80].strip()
    text = f"Long things {unique_name()}"
    uuid = api.start_conversation(WORD, LONGEST, "https://example.com/" + "a" * 500, "W" * 2000, text, name=name)
    alice = stage.customer(conversation=uuid, **PHONE)
    bob = stage.agent(**PHONE)
    assert bob.page.evaluate(WIDER) == []
    bob.opens(text)
    for person in (alice, bob):
        person.sees(text)
        assert person.page.evaluate(WIDER) == []
        assert person.page.evaluate("document.documentElement.scrollWidth") == 360
        assert person.page.evaluate(SMALL) == []
        person.page.evaluate("document.dir = 'rtl'")
        assert person.page.evaluate(WIDER) == []


def test_the_composer_grows_to_six_lines_and_no_further(stage: Stage) -> None:
    alice = stage.customer()
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
def test_the_focus_is_visible_wherever_the_tab_key_leads(stage: Stage, path: str) -> None:
    person = stage.agent() if path == "/inbox/" else stage.customer()
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


def test_new_messages_are_announced_politely(stage: Stage, api: Api) -> None:
    uuid = api.start_conversation("Hello")
    alice = stage.customer(conversation=uuid)
    log = alice.page.get_by_role("log", name="Messages")
    alice.is_connected()
    api.post("News", uuid)
    expect(log).to_contain_text("News")
    expect(log.locator(".pending")).to_have_count(0)
    expect(alice.page.get_by_role("status").first).to_have_text(re.compile("Connected"))
