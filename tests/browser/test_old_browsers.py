"""The oldest browsers of docs/embedding.md: what they lack is taken away from the browser of the tests."""

import re

import pytest
from playwright.sync_api import BrowserContext, Error, Route, expect

from tests.browser.people import Api, unique_name
from tests.browser.websites import Site, Web, token

pytestmark = pytest.mark.browser

NO_SHEETS = """
    window.CSSStyleSheet = class { constructor() { throw new TypeError("Illegal constructor") } };
    delete ShadowRoot.prototype.adoptedStyleSheets;
    delete Document.prototype.adoptedStyleSheets;
"""

# What came after Chrome 111, Firefox 113 or Safari 15.4, or with one of them, and what pages lack on http.
NO_NEWS = f"""{{
    {NO_SHEETS}
    const lacks = (object, names) => names.split(" ").forEach((name) => delete object[name]);
    lacks(window, "structuredClone BroadcastChannel requestIdleCallback cancelIdleCallback");
    lacks(Navigator.prototype, "locks userActivation storage");
    lacks(Element.prototype, "ariaLabel ariaExpanded ariaCurrent moveBefore checkVisibility");
    lacks(HTMLElement.prototype, "popover showPopover hidePopover togglePopover inert");
    lacks(HTMLFormElement.prototype, "requestSubmit");
    lacks(Crypto.prototype, "randomUUID");
    lacks(AbortSignal, "timeout any");
    lacks(URL, "canParse");
    lacks(Promise, "withResolvers");
    lacks(Object, "groupBy");
    lacks(Document.prototype, "startViewTransition");
    lacks(Array.prototype, "toSorted toReversed toSpliced with findLast findLastIndex");
    for (const kind of [Document, DocumentFragment, Element])
        for (const name of ["querySelector", "querySelectorAll", "matches", "closest"]) {{
            const original = kind.prototype[name];
            if (original) kind.prototype[name] = function (selector) {{
                if (/:(has|popover-open|dir)\\b/.test(selector)) throw new DOMException(selector, "SyntaxError");
                return original.call(this, selector);
            }};
        }}
}}"""

NEW_STYLE = re.compile(r":(?=(has|popover-open|dir)\b)|(?=(color-mix|popover-open)\b)|(?<=overflow:)\s*clip")


def age(context: BrowserContext) -> BrowserContext:
    """Take away what the oldest browsers lack: from scripts, from styles and from HTML."""
    context.add_init_script(NO_NEWS)

    def answer(route: Route) -> None:
        try:
            response = route.fetch(max_redirects=0)
            kind = response.headers.get("content-type", "")
            if kind.startswith("text/css"):
                route.fulfill(response=response, body=NEW_STYLE.sub(lambda found: f"{found[0]}no-", response.text()))
            elif kind.startswith("text/html"):
                route.fulfill(response=response, body=response.text().replace(" popover ", " "))
            else:
                route.fulfill(response=response)
        except Error:  # the page was closed
            pass

    context.route(re.compile(r"/inbox/|/chat/(?!static)|\.css"), answer)
    return context


def test_alice_writes_and_bob_answers_in_the_oldest_browsers(web: Web) -> None:
    context = age(web.browser())
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    expect(alice.page.get_by_role("button", name="Chat")).to_be_visible()
    alice.opens()
    hello, answer = unique_name(), unique_name()
    alice.says(hello)
    alice.shows(hello)
    bob = web.agent()
    age(bob.page.context)
    bob.reloads()
    bob.opens(hello)
    bob.answers(answer)
    bob.shows(hello, answer)
    alice.shows(hello, answer)


def test_a_customer_signs_in_and_writes_in_the_oldest_browsers(web: Web, members: Site) -> None:
    page = members.page(script=members.script("club"))
    alice = web.customer_on(members.cross_site, page, context=age(web.browser()))
    alice.button.click()
    alice.is_connected_to_host()
    expect(alice.field).to_be_hidden()
    alice.calls("identify", token(unique_name()))
    expect(alice.field).to_be_visible()
    alice.says("Let me in")
    alice.shows("Let me in")


@pytest.mark.parametrize(("policy", "position"), [("style-src 'nonce-abc'", "fixed"), ("style-src 'self'", "static")])
def test_an_old_browser_has_the_button_under_a_strict_policy(web: Web, policy: str, position: str) -> None:
    """A nonce lets its style pass; without one, the button is a plain one, and the chat still works."""
    chat = web.server.url
    context = web.browser()
    context.add_init_script(f"if (window === top) {{ {NO_SHEETS} }}")
    script = web.shop.script().replace("<script", '<script nonce="abc"')
    policy += f"; script-src {chat}; frame-src {chat}; connect-src {chat}; default-src 'none'"
    alice = web.customer_on(web.shop.cross_site, web.shop.page(script=script, policy=policy), context=context)
    expect(alice.button).to_have_css("position", position)
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    if position == "static":
        web.errors[:] = [error for error in web.errors if "style-src" not in error]  # what the browser says about it


def test_an_agent_with_an_old_phone_sees_the_list_the_conversation_and_the_details(web: Web, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Typed with a thumb.", name=name, email="alice@example.com")
    bob = web.agent(viewport={"width": 360, "height": 720})
    age(bob.page.context)
    bob.reloads()
    bob.opens(name)
    for part in (bob.row(name), bob.bubble("Typed with a thumb."), bob.field):
        expect(part).to_be_in_viewport()
    mail = bob.page.get_by_role("link", name="alice@example.com")
    expect(mail).to_be_hidden()
    about = bob.page.get_by_role("button", name=f"About {name}")
    about.click()
    expect(mail).to_be_visible()
    expect(bob.field).to_be_in_viewport()
    about.click()
    expect(mail).to_be_hidden()


def test_the_focus_is_seen_without_mixed_colours(web: Web) -> None:
    alice = web.customer()
    age(alice.page.context)
    alice.reloads()
    alice.field.focus()
    expect(alice.field).not_to_have_css("box-shadow", "none")
    alice.page.keyboard.press("Shift+Tab")
    expect(alice.page.locator(".attach svg")).to_have_css("outline-style", "solid")
