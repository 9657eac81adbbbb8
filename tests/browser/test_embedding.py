"""The chat on other websites' pages: it remembers where it may, says so where it may not, and harms nobody."""

import hmac
import json
import re
import time
from urllib.request import Request, urlopen

import jwt
import pytest
from playwright.sync_api import BrowserContext, Frame, Page, Route, expect

from tests.browser.cast import Agent, Api, Customer, eventually, somebody
from tests.browser.hosts import KINDS, Guest, Requests, Site, Sites, Street
from tests.browser.test_accessibility import AXE
from tests.conftest import Server, free_port

pytestmark = pytest.mark.browser

NEAR_AND_FAR = pytest.mark.parametrize("where", ["near", "far"])


# Who keeps what -------------------------------------------------------------------------------------------------------


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
    if kind == "no cookies":
        expect(alice.forgetful).to_be_visible()
        goes_on_in_a_window(alice, bob)
        return
    expect(alice.forgetful).to_be_hidden()
    alice.reloads()
    alice.shows(hello, "How can I help?")
    alice.says("Do you have bread?")
    alice.shows(hello, "How can I help?", "Do you have bread?")
    bob.sees("Do you have bread?")
    bob.answers("Always.")
    for person in (alice, bob):
        person.shows(hello, "How can I help?", "Do you have bread?", "Always.")
    assert alice.screen() == bob.screen()
    alice.is_connected()


def goes_on_in_a_window(alice: Guest, bob: Agent) -> None:
    """Where nothing is kept, a window of its own remembers for as long as it is open; its code holds once."""
    before = alice.screen()
    codes: list[str] = []
    alice.page.context.on("response", lambda answer: codes.append(answer.text()) if "/code/" in answer.url else None)
    with alice.page.context.expect_page() as opened:
        alice.frame.get_by_role("button", name="Open in a new window").click()
    opened.value.wait_for_url("**/chat/shop/**")
    window = Customer(opened.value, alice.url)
    window.shows(*[text for _, text in before])
    window.says("Now I am here.")
    bob.sees("Now I am here.")
    bob.answers("I can see that.")
    window.shows(*[text for _, text in before], "Now I am here.", "I can see that.")
    assert window.screen() == bob.screen()
    assert "code" not in window.page.url
    [code] = codes
    another = Customer(alice.page.context.new_page(), window.page.url.partition("/chat/")[0])
    another.goes("/chat/")  # a page of ours, whose codes are believed
    another.page.evaluate("(address) => location.assign(address)", f"{window.page.url}#code={code}")
    expect(another.page.get_by_role("alert").filter(has_text="opened too late")).to_be_visible()
    assert another.screen() == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_browsers_of_these_tests_are_what_they_are_called(street: Street, kind: str) -> None:
    alice = street.guest(street.shop.far, street.shop.page(), context=street.browser_that_is(kind))
    alice.opens()
    alone = alice.page.context.new_page()
    alone.goto(f"{street.server.url}/chat/")
    cookie = "(document.cookie = 'third=1; SameSite=None; Secure', document.cookie.includes('third=1'))"
    assert alice.inside.evaluate(cookie) == (kind in {"ordinary", "nothing partitioned"})
    note = "(name) => { try { localStorage.setItem(name, 1); return localStorage.third } catch { return 'nothing' } }"
    alone.evaluate(note, "third")
    seen = {"no cookies": "nothing", "nothing partitioned": "1"}.get(kind)
    assert alice.inside.evaluate(note, "fourth") == seen


def refuses_cookies(context: BrowserContext, chat: str) -> None:
    """A browser that takes no cookie of the chat, though its storages work."""

    def answer_without_cookies(route: Route) -> None:
        asked = route.request
        if asked.is_navigation_request():
            return route.continue_()  # it sets none; and a page that was made up here may open no socket
        body = asked.post_data_buffer
        headers = {name: value for name, value in asked.headers.items() if name not in {"cookie", "accept-encoding"}}
        with urlopen(Request(asked.url, body, headers, method=asked.method), timeout=30) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "set-cookie"}
            return route.fulfill(status=answer.status, headers=kept, body=answer.read())

    context.route(f"{chat}/chat/**", answer_without_cookies)


NO_STORAGE = (
    """Object.defineProperty(window, "localStorage", { get() { throw new DOMException("No", "SecurityError") } })"""
)


@NEAR_AND_FAR
@pytest.mark.parametrize("keeper", ["the page around it", "the frame itself"])
def test_without_a_cookie_the_next_best_keeps_the_conversation(street: Street, keeper: str, where: str) -> None:
    origin = street.shop.far if where == "far" else street.shop.near
    context = street.browser()
    refuses_cookies(context, street.server.url)
    if keeper == "the frame itself":
        context.add_init_script(f"if (window === top) {{ {NO_STORAGE} }}")
    alice = street.guest(origin, street.shop.page(), context=context)
    hello = f"Hello from {somebody()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    expect(alice.forgetful).to_be_hidden()
    assert alice.cookies() == []
    in_the_frame = alice.inside.evaluate("() => Object.values(localStorage).join()")
    if keeper == "the frame itself":
        secret = in_the_frame
    else:
        secret = json.loads(alice.kept()["chatsite shop"])["chat"]
        assert secret not in in_the_frame
    assert len(secret) == 32
    alice.reloads()
    if keeper == "the frame itself":
        alice.opens()  # nobody remembers that it was open
    alice.shows(hello)
    bob = street.agent()
    bob.opens(hello)
    bob.answers("How can I help?")
    alice.shows(hello, "How can I help?")
    alice.says("Do you have bread?")
    alice.shows(hello, "How can I help?", "Do you have bread?")
    bob.sees("Do you have bread?")
    alice.is_connected()
    assert secret not in alice.inside.content() + alice.page.content()


def keeps_in_the_page(street: Street) -> tuple[BrowserContext, Guest]:
    """A browser that takes no cookie of the chat, and a customer in it who has not written yet."""
    context = street.browser()
    refuses_cookies(context, street.server.url)
    return context, street.guest(street.shop.far, street.shop.page(), context=context)


def test_two_tabs_without_a_cookie_are_one_conversation(street: Street) -> None:
    context, first = keeps_in_the_page(street)
    second = street.guest(street.shop.far, street.shop.page(), context=context)
    for tab in (first, second):
        tab.opens()
    hello = f"From the first tab, {somebody()}"
    first.says(hello)
    first.shows(hello)
    second.says("From the second tab")
    second.shows(hello, "From the second tab")
    first.shows(hello, "From the second tab")


def test_what_is_kept_outlives_a_server_that_stumbles(street: Street) -> None:
    context, alice = keeps_in_the_page(street)
    hello = f"Hello from {somebody()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    stumbles = {"once": True}

    def stumble(route: Route) -> None:
        if "x-chat" in route.request.headers and stumbles.pop("once", False):
            return route.fulfill(status=503, body="")
        return route.fallback()

    context.route(f"{street.server.url}/chat/shop/?*", stumble)
    alice.reloads()
    expect(alice.field).to_be_visible()
    eventually(alice.page, lambda: not stumbles, "the server has stumbled")
    alice.reloads()
    alice.shows(hello)


def test_a_message_that_waited_over_a_reload_goes_where_it_belongs(street: Street) -> None:
    context, alice = keeps_in_the_page(street)
    hello = f"Hello from {somebody()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    gone = {"is": True}

    def lose(route: Route) -> None:
        return route.abort() if gone["is"] and route.request.method == "POST" else route.fallback()

    context.route(f"{street.server.url}/chat/shop/messages/*", lose)
    alice.says("Written in a tunnel")
    expect(alice.pending).to_have_count(1)
    alice.reloads()
    gone["is"] = False
    alice.shows(hello, "Written in a tunnel")
    bob = street.agent()
    bob.opens("Written in a tunnel")
    bob.shows(hello, "Written in a tunnel")


# Whose pages may have it, and what their policies say -----------------------------------------------------------------


def test_a_page_that_is_not_listed_shows_no_chat_and_goes_on_unharmed(street: Street) -> None:
    page = street.browser().new_page()
    alice = Guest(page, street.mallory.far)
    page.clock.install()
    alice.comes(street.mallory.page(body="<button onclick=\"this.textContent = 'Bought'\">Buy</button>"))
    alice.button.click()
    expect(alice.panel).to_be_visible()
    page.clock.run_for(9_000)
    expect(alice.trouble).to_be_hidden()
    page.clock.run_for(2_000)
    expect(alice.trouble).to_contain_text("The chat cannot be reached right now.")
    expect(alice.frame.locator("body")).not_to_contain_text("The shop")
    alice.trouble.get_by_role("button", name="Close").click()
    alice.button.click()
    expect(alice.trouble).to_be_hidden()
    page.clock.run_for(11_000)
    alice.trouble.get_by_role("button", name="Close").click()
    expect(alice.panel).to_be_hidden()
    page.get_by_role("button", name="Buy").click()
    expect(page.get_by_role("button", name="Bought")).to_be_visible()
    assert alice.kept() == {"chatsite shop": '{"open":0}'}


@NEAR_AND_FAR
def test_a_page_with_a_strict_policy_need_allow_nothing_but_the_chat(street: Street, where: str) -> None:
    site = street.shop
    policy = f"default-src 'self' {street.server.url}; require-trusted-types-for 'script'; trusted-types 'none'"
    alice = street.guest(site.far if where == "far" else site.near, site.page(policy=policy))
    alice.opens()
    alice.says("Hello from behind a policy")
    alice.shows("Hello from behind a policy")
    alice.page.evaluate("history.pushState(null, '', '/elsewhere')")
    expect(alice.button).to_have_css("position", "fixed")
    box = alice.button.bounding_box()
    assert box is not None
    assert box["width"] == box["height"] == 56
    alice.closes()
    alice.opens()
    alice.shows("Hello from behind a policy")
    assert street.complaints == []  # not even one thing was refused


@pytest.mark.parametrize("origins", ["two of one site", "two of two sites"])
def test_two_websites_pages_never_share_a_conversation(street: Street, origins: str) -> None:
    one, other = street.shop.near, street.rival.near if origins == "two of one site" else street.shop.far
    alice = street.guest(one, street.shop.page())
    path = street.rival.page() if origins == "two of one site" else street.shop.page()
    elsewhere = street.guest(other, path, context=alice.page.context)
    alice.opens()
    alice.says("I am here")
    alice.shows("I am here")
    elsewhere.opens()
    elsewhere.shows()
    elsewhere.says("and here I am another")
    elsewhere.shows("and here I am another")
    for guest, text in ((alice, "I am here"), (elsewhere, "and here I am another")):
        guest.reloads()
        guest.shows(text)
    assert len({cookie["value"] for cookie in alice.cookies()}) == 2


def test_two_chats_of_one_website_are_two_conversations(street: Street) -> None:
    shop = street.shop
    alice = street.guest(shop.far, shop.page())
    alice.opens()
    alice.says("To the shop")
    alice.shows("To the shop")
    baker = street.guest(shop.far, shop.page(script=shop.script("bakery")), context=alice.page.context)
    baker.opens()
    expect(baker.frame.get_by_role("heading", name="The bakery")).to_be_visible()
    baker.shows()
    baker.says("To the bakery")
    baker.shows("To the bakery")
    alice.reloads()
    alice.shows("To the shop")


# The button and the panel ---------------------------------------------------------------------------------------------


def test_a_page_asks_for_one_file_until_somebody_wants_to_chat(street: Street) -> None:
    page = street.browser().new_page()
    page.clock.install()
    asked = Requests(page, street.server.url)
    alice = Guest(page, street.shop.far)
    alice.comes(street.shop.page())
    page.clock.run_for(300_000)
    page.evaluate("history.pushState(null, '', '/another')")
    page.clock.run_for(5_000)
    assert [path for _, path, _ in asked.all] == ["/chat.js"]
    alice.opens()
    assert any(path.startswith("/chat/shop/?host=") for _, path, _ in asked.all)


def test_hands_on_the_keyboard_open_and_close_the_chat(street: Street) -> None:
    alice = street.guest(street.shop.far, street.shop.page())
    keyboard = alice.page.keyboard
    expect(alice.button).to_have_accessible_name("Chat")
    expect(alice.button).to_have_attribute("aria-expanded", "false")
    keyboard.press("Tab")
    expect(alice.button).to_be_focused()
    keyboard.press("Enter")
    expect(alice.button).to_have_attribute("aria-expanded", "true")
    expect(alice.page.locator(".panel iframe")).to_have_attribute("title", "Chat")
    expect(alice.field).to_be_focused()
    keyboard.type("By hand")
    keyboard.press("Enter")
    alice.shows("By hand")
    keyboard.press("Escape")
    expect(alice.panel).to_be_hidden()
    expect(alice.button).to_be_focused()
    expect(alice.button).to_have_attribute("aria-expanded", "false")
    keyboard.press("Space")
    expect(alice.field).to_be_focused()
    alice.frame.get_by_role("button", name="Close").click()
    expect(alice.panel).to_be_hidden()
    expect(alice.button).to_be_focused()


def test_whoever_opens_the_chat_types_at_once_also_where_no_frame_may_take_the_focus(street: Street) -> None:
    alice = street.guest(street.shop.far, street.shop.page())
    alice.button.press("Enter")
    expect(alice.field).to_be_focused()
    alice.inside.evaluate("document.activeElement.blur()")  # as in Safari
    alice.page.keyboard.press("Tab")
    expect(alice.field).not_to_be_focused()
    alice.button.press("Enter")
    alice.button.press("Enter")
    expect(alice.field).to_be_focused()
    alice.inside.evaluate("document.activeElement.blur()")
    alice.page.keyboard.type("At once")
    expect(alice.field).to_have_value("At once")


def test_on_a_phone_the_chat_takes_the_whole_screen_and_gives_it_back(street: Street) -> None:
    alice = street.guest(street.shop.far, street.shop.page(), viewport={"width": 360, "height": 720}, has_touch=True)
    alice.opens()
    whole = {"x": 0, "y": 0, "width": 360, "height": 720}
    assert alice.page.locator(".panel iframe").bounding_box() == whole
    assert alice.page.evaluate("document.documentElement.scrollWidth") == 360
    alice.frame.get_by_role("button", name="Close").click()
    expect(alice.panel).to_be_hidden()


def test_what_is_answered_while_the_chat_is_closed_is_on_the_button(street: Street) -> None:
    hello = f"Hello from {somebody()}"
    alice, bob = street.guest(street.shop.far, street.shop.page()), street.agent()
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    alice.closes()
    expect(alice.badge).to_be_hidden()
    bob.opens(hello)
    bob.answers("One")
    expect(alice.badge).to_have_text("1")
    bob.answers("Two")
    expect(alice.badge).to_have_text("2")
    expect(alice.button).to_have_accessible_name("Chat (2)")
    alice.reloads()
    expect(alice.badge).to_have_text("2")
    expect(alice.panel).to_be_hidden()
    bob.answers("Three")
    expect(alice.badge).to_have_text("3")
    alice.button.click()
    alice.shows(hello, "One", "Two", "Three")
    expect(alice.badge).to_be_hidden()
    expect(alice.button).to_have_accessible_name("Chat")
    alice.closes()
    with alice.page.expect_response("**/here/**") as answer:
        alice.reloads()
    assert answer.value.json() == {"unread": 0}
    expect(alice.badge).to_be_hidden()


def test_an_open_chat_is_open_on_the_next_page_and_a_closed_one_is_closed(street: Street) -> None:
    search = street.shop.page(body='<input type="search" autofocus aria-label="Search">')
    alice = street.guest(street.shop.far, street.shop.page())
    alice.opens()
    expect(alice.field).to_be_focused()
    alice.comes(search)
    expect(alice.panel).to_be_visible()
    expect(alice.field).to_be_visible()
    expect(alice.button).to_have_attribute("aria-expanded", "true")
    alice.has_met_the_page()
    expect(alice.page.get_by_role("searchbox")).to_be_focused()
    alice.page.keyboard.type("bread")
    expect(alice.page.get_by_role("searchbox")).to_have_value("bread")
    alice.calls("close")
    expect(alice.panel).to_be_hidden()
    expect(alice.page.get_by_role("searchbox")).to_be_focused()
    alice.comes(search)
    expect(alice.panel).to_be_hidden()


def test_the_line_twice_on_a_page_is_one_chat(street: Street) -> None:
    shop = street.shop
    alice = street.guest(shop.far, shop.page(script=shop.script() + shop.script() + shop.script("bakery")))
    alice.page.wait_for_load_state("load")
    expect(alice.button).to_have_count(1)
    alice.opens()
    assert len(alice.page.frames) == 2


def test_what_was_called_before_the_chat_came_is_done_when_it_has(street: Street) -> None:
    early = """<script>
        window.Chatsite = [["on", "open", () => (document.title = "It is open")], ["open"], ["nonsense"], null];
    </script>"""
    alice = street.guest(street.shop.far, street.shop.page(script=early + street.shop.script()))
    expect(alice.field).to_be_visible()
    expect(alice.page).to_have_title("It is open")
    alice.calls("push", ["close"])
    expect(alice.panel).to_be_hidden()
    alice.calls("toggle")
    expect(alice.panel).to_be_visible()


def test_a_page_that_changes_without_loading_keeps_the_chat_and_says_where_it_is(street: Street) -> None:
    hello = f"Hello from {somebody()}"
    alice, bob = street.guest(street.shop.far, street.shop.page()), street.agent()
    asked = Requests(alice.page, street.server.url)
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    alice.types("and half a sentence")
    with alice.page.expect_request(lambda request: "/here/" in request.url and "/cakes" in (request.post_data or "")):
        alice.page.evaluate("""() => {
            history.pushState(null, "", "/cakes");
            document.title = "Cakes";
            const body = document.createElement("body");
            body.innerHTML = "<h1>Cakes</h1>";
            document.body.replaceWith(body);
        }""")
    said = asked.to("/here/")[-1]
    assert (said["url"], said["title"]) == (f"{street.shop.far}/cakes", "Cakes")
    expect(alice.button).to_have_count(1)
    expect(alice.field).to_have_value("and half a sentence")
    bob.opens(hello)
    expect(bob.page.get_by_role("link", name="Cakes")).to_have_attribute("href", f"{street.shop.far}/cakes")
    bob.answers("Welcome")
    alice.shows(hello, "Welcome")
    alice.page.evaluate("document.documentElement.replaceChildren(document.createElement('body'))")
    expect(alice.button).to_be_visible()
    alice.shows(hello, "Welcome")  # the frame was moved, and so it loaded anew


def test_a_page_has_one_name_more_and_nothing_else(street: Street) -> None:
    names = "() => Object.keys(window).sort()"
    page = street.browser().new_page()
    page.goto(street.shop.far + street.shop.page(script=""))
    before = page.evaluate(names)
    alice = street.guest(street.shop.far, street.shop.page())
    alice.opens()
    assert sorted({*alice.page.evaluate(names)} - {*before}) == ["Chatsite"]


@pytest.mark.parametrize(
    "lack",
    [f"if (window === top) {{ {NO_STORAGE} }}", "if (window === top) delete window.fetch"],
    ids=["no storage", "no fetch"],
)
def test_a_page_that_lacks_something_has_a_chat_all_the_same(street: Street, lack: str) -> None:
    context = street.browser()
    context.add_init_script(lack)
    alice = street.guest(street.shop.far, street.shop.page(), context=context)
    alice.opens()
    alice.says("Hello all the same")
    alice.shows("Hello all the same")
    alice.page.evaluate("history.pushState(null, '', '/another')")
    alice.closes()
    alice.calls("identify", "nonsense")
    alice.opens()
    alice.calls("shutdown")
    expect(alice.panel).to_be_hidden()
    alice.opens()
    expect(alice.field).to_be_visible()


def test_a_page_is_unharmed_when_the_chat_is_out_of_reach(street: Street, mortal: Server) -> None:
    shop = street.shop
    line = shop.script().replace(street.server.url, mortal.url)
    page = street.browser().new_page()
    page.clock.install()
    alice = Guest(page, shop.far)
    alice.comes(shop.page(script=line))
    mortal.kill()
    alice.button.click()
    page.clock.run_for(11_000)
    expect(alice.trouble).to_contain_text("The chat cannot be reached right now.")
    alice.calls("shutdown")
    expect(alice.panel).to_be_hidden()
    alice.button.click()
    page.clock.run_for(11_000)
    mortal.start()
    alice.trouble.get_by_role("button", name="Close").click()
    alice.button.click()
    expect(alice.field).to_be_visible()
    page.clock.run_for(11_000)
    expect(alice.trouble).to_be_hidden()


def test_a_page_is_unharmed_when_the_script_does_not_come(street: Street) -> None:
    page = street.browser().new_page()
    nowhere = f"http://127.0.0.1:{free_port()}"
    line = street.shop.script().replace(street.server.url, nowhere)
    with page.expect_event("requestfailed", lambda request: request.url.startswith(nowhere)):
        page.goto(street.shop.far + street.shop.page(script=line))
    expect(page.get_by_role("heading", name="Bread and cakes")).to_be_visible()
    assert page.evaluate("typeof Chatsite") == "undefined"


# What others say to it ------------------------------------------------------------------------------------------------

GREET_AGAIN = """(target) => new Promise((answered) => {
    const { port1, port2 } = new MessageChannel();
    window.mallorys = port1;
    port1.onmessage = ({ data }) => answered(data);
    target.contentWindow.postMessage("chatsite", "*", [port2]);
})"""

NONSENSE = """(target) => {
    const much = "x".repeat(5_000_000);
    const words = [null, 7, "chatsite", much, [], { hello: true, open: false }, { keep: much }, { kept: "yes" }];
    for (const word of words) target.contentWindow.postMessage(word, "*");
    target.contentWindow.postMessage("chat", "*", [new MessageChannel().port2]);
}"""

NONSENSE_BY_PORT = """() => {
    const much = "x".repeat(5_000_000);
    const words = [null, 7, much, [], {}, { seen: much }, { seen: 1e99 }, { open: "no" }, { kept: 1 }, { proof: 5 },
        { chat: much, hello: true }, { proof: much }, { proof: "日本" }, { hello: true, chat: { a: 1 }, seen: [] }];
    for (const word of words) window.mallorys.postMessage(word);
}"""


def test_nonsense_from_the_page_around_it_does_nothing(street: Street) -> None:
    alice = street.guest(street.shop.far, street.shop.page())
    alice.opens()
    alice.says("Before")
    alice.shows("Before")
    asked = Requests(alice.page, street.server.url)
    chat = alice.page.locator(".panel iframe")
    chat.evaluate(NONSENSE)
    assert chat.evaluate(GREET_AGAIN) == {"ready": True}  # all of it was heard before this
    # The chat looks for news, and the page says where it is, whenever they like: what they do so is no answer.
    assert [path for method, path, _ in asked.all if method == "POST" and "/here/" not in path] == []
    alice.page.evaluate(NONSENSE_BY_PORT)
    alice.says("After")
    alice.shows("Before", "After")
    assert max(len(body) for _, _, body in asked.all) < 1000


def test_another_pages_words_to_the_page_with_the_chat_do_nothing(street: Street) -> None:
    attack = """<script>
        const words = [{ ready: true }, { keep: "0".repeat(32) }, { close: true }, { unread: 99 }, { known: true },
            { event: "identified" }, "chatsite", "x".repeat(5_000_000)];
        for (const word of words) parent.postMessage(word, "*", [new MessageChannel().port2]);
        parent.postMessage("done", "*");
    </script>"""
    advertisement = street.mallory.near + street.mallory.page(script=attack)
    heard = "<script>addEventListener('message', ({ data }) => data === 'done' && (document.title = 'Done'))</script>"
    alice = street.guest(street.shop.far, street.shop.page(body=heard))
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    kept = alice.kept()
    alice.page.evaluate(
        "(src) => document.body.append(Object.assign(document.createElement('iframe'), { src }))", advertisement
    )
    expect(alice.page).to_have_title("Done")
    expect(alice.panel).to_be_visible()
    expect(alice.badge).to_be_hidden()
    alice.says("Still here")
    alice.shows("Hello", "Still here")
    assert {**json.loads(alice.kept()["chatsite shop"]), "seen": 0} == {**json.loads(kept["chatsite shop"]), "seen": 0}


ATTACK = """<script>
    window.answers = [], window.tries = 0;
    const attack = (chat) => setInterval(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data }) => answers.push(data);
        chat.postMessage("chatsite", "*", [port2]);
        tries++;
    }, 50);
</script>"""


def learns_nothing(mallory: Page | Frame, page: Page) -> None:
    """She tries again and again, and nobody answers."""
    tried = mallory.evaluate("tries")
    eventually(page, lambda: mallory.evaluate("tries") > tried + 10, "mallory tried again and again")
    assert mallory.evaluate("answers") == []


def test_mallory_may_open_the_chat_in_a_window_and_learns_nothing_from_it(street: Street) -> None:
    mallory = street.mallory
    page = street.browser().new_page()
    page.goto(mallory.far + mallory.page(script=ATTACK))
    with page.expect_popup() as opened:
        page.evaluate(f"void attack(open('{street.server.url}/chat/shop/?host={mallory.far}'))")
    opened.value.wait_for_load_state()
    alice = Customer(opened.value, street.server.url)
    alice.says("Hello")
    alice.shows("Hello")
    learns_nothing(page, page)
    expect(alice.page.locator("body.in-a-panel")).to_have_count(0)


def test_mallory_in_a_frame_beside_the_chat_learns_nothing_from_it(street: Street) -> None:
    shop, mallory = street.shop, street.mallory
    chat = f'<iframe src="{street.server.url}/chat/shop/?host={shop.far}"></iframe>'
    attack = ATTACK.replace("</script>", "attack(parent.frames[0]);</script>")
    advertisement = f'<iframe src="{mallory.near}{mallory.page(script=attack)}"></iframe>'
    page = street.browser().new_page()
    page.goto(shop.far + shop.page(script="", body=chat + advertisement))
    expect(page.frame_locator("iframe").first.locator("#content")).to_be_visible()
    _, _, beside = page.frames
    assert beside.url.startswith(mallory.near)
    learns_nothing(beside, page)
    assert page.locator("iframe").first.evaluate(GREET_AGAIN) == {"ready": True}  # the page itself may


def test_a_frame_is_for_the_pages_of_the_host_it_names_alone(street: Street) -> None:
    shop, rival, mallory = street.shop, street.rival, street.mallory

    def framed_by(site: Site, host: str) -> str:
        frame = f'<iframe src="{street.server.url}/chat/shop/?host={host}"></iframe>'
        page = street.browser().new_page()
        with page.expect_response(lambda answer: "/chat/shop/" in answer.url):
            page.goto(site.far + site.page(script="", body=frame))
        chat = page.locator("iframe").element_handle().content_frame()
        assert chat is not None
        chat.wait_for_load_state("load")
        return str(chat.evaluate("document.querySelector('h1')?.textContent"))

    assert framed_by(rival, rival.far) == "The shop"
    assert framed_by(rival, shop.far) != "The shop"
    assert framed_by(mallory, mallory.far) != "The shop"


# Going, and coming as somebody ----------------------------------------------------------------------------------------


@NEAR_AND_FAR
@pytest.mark.parametrize("keeper", ["cookie", "page"])
def test_after_leaving_nothing_is_kept_and_the_old_secret_is_worth_nothing(
    street: Street, api: Api, keeper: str, where: str
) -> None:
    context = street.browser()
    if keeper == "page":
        refuses_cookies(context, street.server.url)
    alice = street.guest(street.shop.far if where == "far" else street.shop.near, street.shop.page(), context=context)
    alice.opens()
    alice.says("Forget me")
    alice.shows("Forget me")
    [secret] = [cookie["value"] for cookie in alice.cookies()] or [json.loads(alice.kept()["chatsite shop"])["chat"]]
    assert [text for _, text in api.read(secret)] == ["Forget me"]
    alice.page.evaluate("Chatsite.shutdown()")
    expect(alice.panel).to_be_hidden()
    assert (alice.kept(), alice.cookies(), api.read(secret)) == ({}, [], [])
    alice.reloads()
    expect(alice.panel).to_be_hidden()
    alice.opens()
    alice.shows()
    alice.says("Somebody new")
    alice.shows("Somebody new")
    assert api.read(secret) == []


SECRET = "only-for-tests-" * 4


def token(sub: str, secret: str = SECRET) -> str:
    """What the website's own server says of somebody who is signed in there."""
    now = int(time.time())
    return jwt.encode({"sub": sub, "iat": now, "exp": now + 600, "name": sub.title()}, secret, "HS256")


@pytest.fixture(scope="module")
def members(server: Server, sites: Sites) -> Site:
    """The shop's chat for its members, and its club where only members may write."""
    shop = sites[0]
    for key in ("members", "club"):
        server.manage("addwebsite", f"The {key}", shop.near, shop.far, "--key", key)
    server.manage(
        "shell",
        "-c",
        "from conversations.models import Website\n"
        f"Website.objects.filter(key__in=['members', 'club']).update(identity_secret='{SECRET}')\n"
        "Website.objects.filter(key='club').update(identity_required=True)",
    )
    return shop


def test_a_members_conversation_comes_along_and_is_nobody_elses(street: Street, members: Site) -> None:
    alice_sub, carol_sub = somebody(), somebody()
    hello = f"Hello from {alice_sub}"
    path = members.page(script=members.script("members"))
    laptop, phone = street.guest(members.far, path), street.guest(members.far, path)
    laptop.calls("identify", token(alice_sub))
    laptop.opens()
    laptop.says(hello)
    laptop.shows(hello)
    phone.opens()
    phone.shows()
    phone.calls("identify", token(alice_sub))
    phone.shows(hello)
    bob = street.agent()
    bob.opens(hello)
    bob.answers("I see you are a member.")
    for device in (laptop, phone):
        device.shows(hello, "I see you are a member.")
    phone.says("I am.")
    laptop.shows(hello, "I see you are a member.", "I am.")
    laptop.calls("identify", token(carol_sub))
    laptop.shows()
    laptop.says("I am somebody else")
    laptop.shows("I am somebody else")
    laptop.reloads()
    laptop.calls("identify", token(carol_sub))
    laptop.shows("I am somebody else")
    phone.shows(hello, "I see you are a member.", "I am.")
    laptop.calls("identify", token(alice_sub))
    laptop.shows(hello, "I see you are a member.", "I am.")


def test_a_member_who_has_never_written_is_connected_from_the_first_message_on(street: Street, members: Site) -> None:
    alice = street.guest(members.far, members.page(script=members.script("members")))
    alice.calls("identify", token(somebody()))
    alice.opens()
    alice.says("Hello")
    alice.is_connected()


def test_an_older_servers_signed_id_is_proof_too_in_any_script(street: Street, members: Site) -> None:
    sub = f"愛麗絲 100% {somebody()}"
    signed = {"id": sub, "hmac": hmac.new(SECRET.encode(), sub.encode(), "sha256").hexdigest()}
    laptop, phone = (street.guest(members.far, members.page(script=members.script("members"))) for _ in range(2))
    for device in (laptop, phone):
        device.calls("identify", signed)
        device.opens()
    laptop.says("Hello from the laptop")
    laptop.shows("Hello from the laptop")
    phone.reloads()
    phone.calls("identify", signed)
    phone.shows("Hello from the laptop")


@pytest.mark.parametrize("wrong", ["a token of somebody else's making", "no token at all", "日本"])
def test_a_wrong_token_is_refused_and_the_chat_goes_on(street: Street, members: Site, wrong: str) -> None:
    alice = street.guest(members.far, members.page(script=members.script("members")))
    alice.page.evaluate("Chatsite.on('refused', (why) => document.title = `Refused: ${why}`)")
    alice.calls("identify", token("alice", "not-the-secret-" * 4) if wrong.startswith("a token") else wrong)
    alice.opens()
    expect(alice.page).to_have_title(re.compile("Refused: We could not make sure who you are"))
    alice.says("I am nobody")
    alice.shows("I am nobody")


def test_where_only_members_may_write_others_are_told_and_members_can(street: Street, members: Site) -> None:
    alice = street.guest(members.far, members.page(script=members.script("club")))
    alice.opens()
    alice.says("Let me in")
    expect(alice.pending.locator(".fate")).to_have_text(
        "Not sent. Please sign in on the website first, then write to us."
    )
    alice.calls("identify", token(somebody()))
    expect(alice.frame.get_by_text("Please sign in on The club to write.")).to_have_count(0)
    alice.pending.get_by_role("button", name="Try again").click()
    alice.shows("Let me in")
    alice.says("Thank you")
    alice.shows("Let me in", "Thank you")


# Widgets of others' making --------------------------------------------------------------------------------------------

WIDGET = """async ([chat, content]) => {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content, website: "shop" });
    const posted = await fetch(`${chat}/api/messages/`, { method: "POST", headers, body }).then((it) => it.json());
    const uuid = posted.items[0].conversation;
    const read = await fetch(`${chat}/api/messages/${uuid}/?since=0`).then((it) => it.json());
    const ring = await new Promise((answered) => {
        const socket = new WebSocket(`${chat.replace("http", "ws")}/ws/messages/${uuid}/`);
        socket.onmessage = ({ data }) => answered(JSON.parse(data));
        socket.onclose = ({ code }) => answered(code);
    });
    return [uuid, read.items.map((item) => item.content), ring];
}"""

REFUSALS = """async ([chat, uuid]) => {
    const asked = (path, more) => fetch(chat + path, more).then(({ status }) => status, () => "refused");
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content: "Psst", website: "shop", conversation: uuid });
    return [
        await asked("/api/messages/", { method: "POST", headers, body }),
        await asked("/api/messages/", { method: "POST", body }),
        await asked(`/api/messages/${uuid}/?since=0`),
        await new Promise((answered) => {
            const socket = new WebSocket(`${chat.replace("http", "ws")}/ws/messages/${uuid}/`);
            socket.onopen = () => answered("open");
            socket.onclose = ({ code }) => answered(code);
        }),
    ];
}"""


def test_a_widget_works_on_a_listed_page_and_on_no_other(street: Street, api: Api) -> None:
    page = street.browser().new_page()
    page.goto(street.shop.far + street.shop.page(script=""))
    uuid, read, ring = page.evaluate(WIDGET, [street.server.url, "Hello from a widget"])
    assert read == ["Hello from a widget"]
    assert ring == {"type": "messages", "last": api.read(uuid)[-1][0]}
    errors: list[str] = []
    page.on("websocket", lambda socket: socket.on("socketerror", lambda error: errors.append(str(error))))
    page.goto(street.mallory.far + street.mallory.page(script=""))
    assert page.evaluate(REFUSALS, [street.server.url, uuid]) == ["refused", "refused", "refused", 1006]
    for origin, allowed in ((street.shop.far, street.shop.far), (street.mallory.far, None)):
        with urlopen(Request(f"{api.url}{uuid}/?since=0", headers={"Origin": origin}), timeout=30) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == allowed
            assert (uuid in answer.read().decode()) == (allowed is not None)
    assert "403" in errors[0]
    assert [text for _, text in api.read(uuid)] == ["Hello from a widget"]


# For everybody --------------------------------------------------------------------------------------------------------


def objections(guest: Guest) -> list[str]:
    """What axe finds on the page and, apart, in the chat: words between the two would be the page's own."""
    found = []
    frames = [guest.page.main_frame]
    if guest.panel.is_visible() and guest.trouble.is_hidden():
        frames.append(guest.inside)
    for where in frames:
        if not where.evaluate("typeof axe === 'object'"):
            where.evaluate(AXE)
        violations = where.evaluate(
            "() => axe.run({ iframes: false, resultTypes: ['violations'] }).then((results) => results.violations)"
        )
        found += [f"{each['id']}: {node['html'][:200]}" for each in violations for node in each["nodes"]]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("html", ['lang="en"', 'lang="ar" dir="rtl"'])
def test_axe_finds_nothing_on_the_page_nor_in_the_chat(street: Street, scheme: str, html: str) -> None:
    is_arabic = "rtl" in html
    line = street.shop.script(**({"language": "ar"} if is_arabic else {}))
    alice = street.guest(street.shop.far, street.shop.page(html=html, script=line))
    alice.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    assert objections(alice) == []
    alice.opens()
    assert alice.inside.evaluate("[document.documentElement.lang, document.dir]") == (
        ["ar", "rtl"] if is_arabic else ["en", "ltr"]
    )
    alice.says("Hello")
    alice.shows("Hello")
    alice.is_connected()
    assert objections(alice) == []
    for element in (alice.button, alice.panel):
        box = element.bounding_box()
        assert box is not None
        assert (box["x"] < 100) == is_arabic  # at the end of the line, wherever that is


def test_axe_finds_nothing_where_the_chat_does_not_come_or_is_not_remembered(street: Street) -> None:
    context = street.browser()
    refuses_cookies(context, street.server.url)
    context.add_init_script(NO_STORAGE)
    alice = street.guest(street.shop.far, street.shop.page(), context=context)
    alice.opens()
    alice.says("Hello")
    expect(alice.forgetful).to_be_visible()
    page = street.browser().new_page()
    page.clock.install()
    lost = Guest(page, street.mallory.far)
    lost.comes(street.mallory.page())
    lost.button.click()
    page.clock.run_for(11_000)
    expect(lost.trouble).to_be_visible()
    page.clock.resume()
    for guest in (alice, lost):
        for scheme in ("light", "dark"):
            guest.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            assert objections(guest) == []
