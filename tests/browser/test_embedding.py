"""The chat on other websites' pages: its button and its panel, and that it never breaks the page."""

from io import BytesIO
from itertools import count
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.people import eventually, unique_name
from tests.browser.test_accessibility import AXE
from tests.browser.websites import NO_STORAGE, SAME_AND_CROSS_SITE, EmbeddedCustomer, Requests, Site, Web, block_cookies
from tests.conftest import Server, free_port

pytestmark = pytest.mark.browser


# Whose pages may have it, and what their policies say -----------------------------------------------------------------


def test_a_page_of_an_unlisted_origin_shows_no_button_and_is_told_why(web: Web) -> None:
    page = web.browser().new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    site = web.mallory
    body = """<button onclick="Chatsite.open(); Chatsite.shutdown(); this.textContent = 'Bought'">Buy</button>"""
    page.goto(site.cross_site + site.page(body=body, script=site.script() * 2))
    page.wait_for_load_state("load")
    page.get_by_role("button", name="Buy").click()
    expect(page.get_by_role("button", name="Bought")).to_be_visible()
    expect(page.locator("button.launcher, iframe")).to_have_count(0)
    [warning] = [text for text in said if text.startswith("warning")]
    assert warning == (
        f'warning: Chatsite: {site.cross_site} may not show the chat of the website "shop". Check the key, and add '
        f"{site.cross_site} to the allowed origins of this website, in {site.chat}/admin/conversations/website/"
    )
    assert page.evaluate("localStorage.length") == 0


@pytest.mark.parametrize("where", ["wrong key", "file"])
def test_a_page_with_a_wrong_key_or_without_a_server_shows_no_button_and_is_told_why(
    web: Web, where: str, tmp_path: Path
) -> None:
    page = web.browser().new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    shop = web.shop
    if where == "file":
        (tmp_path / "page.html").write_text(shop.script())
        page.goto(f"file://{tmp_path}/page.html")
        warning = "warning: Chatsite: a page of file:// may not show the chat. Open it from a web server."
    else:
        page.goto(shop.cross_site + shop.page(script="<script>Chatsite = [['open']]</script>" + shop.script("nobody")))
        warning = (
            f'warning: Chatsite: {shop.cross_site} may not show the chat of the website "nobody". Check the key, and '
            f"add {shop.cross_site} to the allowed origins of this website, in {shop.chat}/admin/conversations/website/"
        )
    page.wait_for_function("!Array.isArray(window.Chatsite ?? [])")
    eventually(page, lambda: warning in said, "the warning")
    expect(page.locator("button.launcher, iframe")).to_have_count(0)


def test_a_tag_manager_may_name_the_website_in_the_address_of_the_script(web: Web) -> None:
    shop = web.shop
    tag = f"""<script nonce="x">document.head.append(Object.assign(
        document.createElement("script"), {{ src: "{shop.chat}/chat.js?website=shop" }}))</script>"""
    alice = web.customer_on(shop.cross_site, shop.page(script=tag))
    alice.opens()
    expect(alice.frame.locator("body")).to_contain_text("The shop")


def test_the_chat_works_on_a_page_that_sends_no_referrer(web: Web) -> None:
    path = web.shop.page()
    body, headers = web.shop.pages[path]
    web.shop.pages[path] = (body, {**headers, "Referrer-Policy": "no-referrer"})
    alice = web.customer_on(web.shop.cross_site, path)
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")


def test_the_chat_works_in_a_frame_whose_page_is_written_into_an_attribute(web: Web) -> None:
    """The URL of such a page is about:srcdoc; its origin is that of the page around it."""
    shop = web.shop
    inner = shop.script().replace('"', "'")
    page = web.browser().new_page()
    body = f'<iframe width="600" height="500" srcdoc="{inner}"></iframe>'
    page.goto(shop.cross_site + shop.page(script="", body=body))
    around = page.frame_locator("iframe")
    around.locator(".launcher").click()
    chat = around.frame_locator("iframe")
    chat.get_by_role("textbox", name="Write a message").fill("Hello")
    chat.get_by_role("button", name="Send").click()
    expect(chat.get_by_role("log")).to_contain_text("Hello")


def test_the_chat_works_on_a_page_that_isolates_itself(web: Web) -> None:
    """A page with COEP, as for SharedArrayBuffer, embeds only what says that it may be embedded there."""
    path = web.shop.page()
    body, headers = web.shop.pages[path]
    isolation = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}
    web.shop.pages[path] = (body, {**headers, **isolation})
    alice = web.customer_on(web.shop.cross_site, path)
    assert alice.page.evaluate("crossOriginIsolated")
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")


SOON = 8_000  # milliseconds, less than the ten seconds for which a chat that says nothing is waited for


def test_a_chat_that_fails_to_load_says_so_and_can_be_closed_on_a_phone(web: Web) -> None:
    site = web.shop
    path = site.page(script=site.script("nobody"))
    site.pages[path] = (site.pages[path][0], {"Referrer-Policy": "no-referrer"})  # hides the origin
    alice = web.customer_on(site.cross_site, path, viewport={"width": 360, "height": 720}, has_touch=True)
    with alice.page.expect_console_message(lambda message: "Chatsite" in message.text) as warned:
        alice.button.click()
    assert f'{site.cross_site} may not show the chat of the website "nobody"' in warned.value.text
    expect(alice.unreachable).to_be_visible(timeout=SOON)
    alice.unreachable.get_by_role("button", name="Close").click()
    expect(alice.panel).to_be_hidden()


def test_a_chat_that_loads_slowly_can_be_closed_on_a_phone(web: Web) -> None:
    alice = web.customer_on(
        web.shop.cross_site, web.shop.page(), viewport={"width": 360, "height": 720}, has_touch=True
    )
    held: list[Route] = []
    alice.page.route("**/chat/shop/?host=**", lambda route: held.append(route))
    alice.button.click()
    eventually(alice.page, lambda: len(held) == 1, "the chat is on its way")
    alice.button.click()
    expect(alice.panel).to_be_hidden()
    held[0].continue_()
    alice.button.click()
    alice.is_connected_to_host()
    expect(alice.button).to_be_hidden()


# The page around the chat is answered when the test says so, as by a script that is long in coming.
HESITATES = """if (window !== top) addEventListener("message", (event) => {
    if (!event.isTrusted) return;
    event.stopImmediatePropagation();
    const { data, origin, source, ports } = event;
    window.answer = () => dispatchEvent(new MessageEvent("message", { data, origin, source, ports: [...ports] }));
}, true)"""


def test_a_chat_that_loads_late_is_shown(web: Web) -> None:
    context = web.browser()
    context.add_init_script(HESITATES)
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    alice.button.click()
    expect(alice.unreachable).to_be_visible(timeout=SOON)
    alice.inside.evaluate("answer()")
    expect(alice.unreachable).to_be_hidden()
    alice.says("Hello after all")
    alice.shows("Hello after all")


def test_an_empty_key_means_the_default_website(web: Web) -> None:
    """The shop's pages are not listed there."""
    page = web.browser().new_page()
    alice = EmbeddedCustomer(page, web.shop.cross_site)
    with page.expect_console_message(lambda message: message.type == "warning") as warned:
        alice.page.goto(alice.url + web.shop.page(script=web.shop.script("")))
    assert 'the website "default"' in warned.value.text
    expect(alice.button).to_have_count(0)


@SAME_AND_CROSS_SITE
def test_a_page_with_a_strict_csp_only_has_to_allow_the_chat(web: Web, where: str) -> None:
    site = web.shop
    policy = f"default-src 'self' {web.server.url}; require-trusted-types-for 'script'; trusted-types 'none'"
    alice = web.customer_on(site.cross_site if where == "cross_site" else site.same_site, site.page(policy=policy))
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
    assert web.errors == []  # not even one thing was refused


@pytest.mark.parametrize("origins", ["two of one site", "two of two sites"])
def test_two_websites_pages_never_share_a_conversation(web: Web, origins: str) -> None:
    one, other = web.shop.same_site, web.rival.same_site if origins == "two of one site" else web.shop.cross_site
    alice = web.customer_on(one, web.shop.page())
    path = web.rival.page() if origins == "two of one site" else web.shop.page()
    elsewhere = web.customer_on(other, path, context=alice.page.context)
    alice.opens()
    alice.says("I am here")
    alice.shows("I am here")
    elsewhere.opens()
    elsewhere.shows()
    elsewhere.says("and here I am another")
    elsewhere.shows("and here I am another")
    for customer, text in ((alice, "I am here"), (elsewhere, "and here I am another")):
        customer.reloads()
        customer.shows(text)
    assert len({cookie["value"] for cookie in alice.cookies()}) == 2


def test_two_chats_of_one_website_are_two_conversations(web: Web) -> None:
    shop = web.shop
    alice = web.customer_on(shop.cross_site, shop.page())
    alice.opens()
    alice.says("To the shop")
    alice.shows("To the shop")
    baker = web.customer_on(shop.cross_site, shop.page(script=shop.script("bakery")), context=alice.page.context)
    baker.opens()
    expect(baker.frame.get_by_role("heading", name="The bakery")).to_be_visible()
    baker.shows()
    baker.says("To the bakery")
    baker.shows("To the bakery")
    alice.reloads()
    alice.shows("To the shop")


# The button and the panel ---------------------------------------------------------------------------------------------


def test_a_page_loads_one_file_until_the_chat_is_opened(web: Web) -> None:
    page = web.browser().new_page()
    page.clock.install()
    asked = Requests(page, web.server.url)
    alice = EmbeddedCustomer(page, web.shop.cross_site)
    alice.comes(web.shop.page())
    page.clock.run_for(300_000)
    page.evaluate("history.pushState(null, '', '/another')")
    page.clock.run_for(5_000)
    assert [path for _, path, _ in asked.all] == ["/chat.js"]
    alice.opens()
    assert any(path.startswith("/chat/shop/?host=") for _, path, _ in asked.all)


def test_the_chat_is_opened_and_closed_by_keyboard(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
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


def test_opening_the_chat_focuses_the_text_field(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
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


def test_on_a_phone_the_chat_covers_the_whole_screen_until_closed(web: Web) -> None:
    alice = web.customer_on(
        web.shop.cross_site, web.shop.page(), viewport={"width": 360, "height": 720}, has_touch=True
    )
    alice.opens()
    whole = {"x": 0, "y": 0, "width": 360, "height": 720}
    assert alice.page.locator(".panel iframe").bounding_box() == whole
    assert alice.page.evaluate("document.documentElement.scrollWidth") == 360
    alice.frame.get_by_role("button", name="Close").click()
    expect(alice.panel).to_be_hidden()


LOW = {
    "a phone on its side": (740, 340),
    "a screen at 200 %": (640, 360),
    "a low window": (1366, 500),
    "a screen at 400 %": (320, 256),
}


# Whether a finger in the middle of it would touch it: it is on the screen, and nothing is in front of it.
IN_REACH = """(element) => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""


def turns_the_wheel(page: Page, x: float, y: float, by: int, until: Locator) -> None:
    """Scroll near this point until the element is in view. Moving the pointer lets the browser choose what scrolls."""
    steps = count()

    def in_reach() -> bool:
        page.mouse.move(x + 40 * (next(steps) % 2), y)
        page.mouse.wheel(0, by)
        return bool(until.evaluate(IN_REACH))

    eventually(page, in_reach, f"{until} is in reach")


@pytest.mark.parametrize("screen", LOW)
def test_all_of_the_panel_is_reachable_on_a_low_screen(web: Web, inn: Site, screen: str) -> None:
    width, height = LOW[screen]
    alice = web.customer_on(
        inn.cross_site, inn.page(script=inn.script("inn")), viewport={"width": width, "height": height}
    )
    alice.opens()
    box = alice.page.locator(".panel iframe").bounding_box()
    assert box is not None
    if height < 480:
        assert (box["width"], box["height"]) == (width, height)
    middle, top, bottom = box["x"] + box["width"] / 2, box["y"] + 10, box["y"] + box["height"] - 10
    name, mail = alice.frame.get_by_label("Name"), alice.frame.get_by_label("E-mail")
    turns_the_wheel(alice.page, middle, top, 900, alice.frame.locator(".away span").last)
    turns_the_wheel(alice.page, middle, top, -900, alice.frame.get_by_role("button", name="Close"))
    turns_the_wheel(alice.page, middle, bottom, -900, name)
    turns_the_wheel(alice.page, middle, bottom, -900, mail)
    turns_the_wheel(alice.page, middle, bottom, 900, alice.field)
    name.fill("Alice")
    mail.fill("alice@example.com")
    alice.says("Hello")
    alice.shows("Hello")
    assert alice.field.evaluate(IN_REACH)


@pytest.mark.parametrize("screen", LOW)
def test_all_of_the_standalone_page_is_reachable_on_a_low_screen(web: Web, inn: Site, screen: str) -> None:
    width, height = LOW[screen]
    page = web.browser(viewport={"width": width, "height": height}).new_page()
    page.goto(f"{web.server.url}/chat/inn/")
    turns_the_wheel(page, width / 2, height - 10, 900, page.locator("#content"))
    turns_the_wheel(page, width / 2, 10, 900, page.locator(".away span").last)
    turns_the_wheel(page, width / 2, 10, -900, page.get_by_role("heading", name="The inn"))


def test_unread_messages_are_counted_on_the_button(web: Web) -> None:
    hello = f"Hello from {unique_name()}"
    alice, bob = web.customer_on(web.shop.cross_site, web.shop.page()), web.agent()
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


def test_the_chat_stays_open_or_closed_on_the_next_page(web: Web) -> None:
    search = web.shop.page(body='<input type="search" autofocus aria-label="Search">')
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    expect(alice.field).to_be_focused()
    alice.comes(search)
    expect(alice.panel).to_be_visible()
    expect(alice.field).to_be_visible()
    expect(alice.button).to_have_attribute("aria-expanded", "true")
    alice.is_connected_to_host()
    expect(alice.page.get_by_role("searchbox")).to_be_focused()
    alice.page.keyboard.type("bread")
    expect(alice.page.get_by_role("searchbox")).to_have_value("bread")
    alice.calls("close")
    expect(alice.panel).to_be_hidden()
    expect(alice.page.get_by_role("searchbox")).to_be_focused()
    alice.comes(search)
    expect(alice.panel).to_be_hidden()


def test_the_script_twice_on_a_page_makes_one_chat(web: Web) -> None:
    shop = web.shop
    alice = web.customer_on(shop.cross_site, shop.page(script=shop.script() + shop.script() + shop.script("bakery")))
    alice.page.wait_for_load_state("load")
    expect(alice.button).to_have_count(1)
    alice.opens()
    assert len(alice.page.frames) == 2


def test_calls_before_the_loader_came_are_queued(web: Web) -> None:
    early = """<script>
        window.Chatsite = [["on", "open", () => (document.title = "It is open")], ["open"], ["nonsense"], null];
    </script>"""
    alice = web.customer_on(web.shop.cross_site, web.shop.page(script=early + web.shop.script()))
    expect(alice.field).to_be_visible()
    expect(alice.page).to_have_title("It is open")
    alice.calls("push", ["close"])
    expect(alice.panel).to_be_hidden()
    alice.calls("toggle")
    expect(alice.panel).to_be_visible()


def test_single_page_apps_keep_the_chat_and_report_their_pages(web: Web) -> None:
    hello = f"Hello from {unique_name()}"
    alice, bob = web.customer_on(web.shop.cross_site, web.shop.page()), web.agent()
    asked = Requests(alice.page, web.server.url)
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
    report = asked.to("/here/")[-1]
    assert (report["url"], report["title"]) == (f"{web.shop.cross_site}/cakes", "Cakes")
    expect(alice.button).to_have_count(1)
    expect(alice.field).to_have_value("and half a sentence")
    bob.opens(hello)
    expect(bob.page.get_by_role("link", name="Cakes")).to_have_attribute("href", f"{web.shop.cross_site}/cakes")
    alice.page.evaluate("document.title = 'Cakes and pies'")
    expect(bob.page.get_by_role("link", name="Cakes and pies")).to_be_visible()
    bob.answers("Welcome")
    alice.shows(hello, "Welcome")
    alice.page.evaluate("document.documentElement.replaceChildren(document.createElement('body'))")
    expect(alice.button).to_be_visible()
    alice.shows(hello, "Welcome")  # the frame was moved in the page, so it loaded again


def test_an_agent_sees_when_the_customer_leaves_the_page_and_comes_back(web: Web) -> None:
    hello = f"Hello from {unique_name()}"
    alice, bob = web.customer_on(web.shop.cross_site, web.shop.page()), web.agent()
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    page = alice.page.title()
    bob.opens(hello)
    expect(bob.page.get_by_role("link", name=page)).to_be_visible()
    expect(bob.page.get_by_text("Left the page")).to_have_count(0)
    alice.page.goto("about:blank")
    expect(bob.page.get_by_text("Left the page")).to_be_visible()
    expect(bob.page.get_by_role("link", name=page)).to_be_visible()
    alice.page.go_back()
    expect(bob.page.get_by_text("Left the page")).to_have_count(0)


def test_a_customer_who_stays_on_a_page_is_reported_as_present(web: Web) -> None:
    page = web.browser().new_page()
    page.clock.install()
    asked = Requests(page, web.server.url)
    alice = EmbeddedCustomer(page, web.shop.cross_site)
    alice.comes(web.shop.page())
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    before = len(asked.to("/here/"))
    page.clock.run_for(130_000)
    eventually(page, lambda: len(asked.to("/here/")) >= before + 2, "the page says once a minute that it is looked at")


def test_the_loader_adds_one_global_and_nothing_else(web: Web) -> None:
    names = "() => Object.keys(window).sort()"
    page = web.browser().new_page()
    page.goto(web.shop.cross_site + web.shop.page(script=""))
    before = page.evaluate(names)
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    assert sorted({*alice.page.evaluate(names)} - {*before}) == ["Chatsite"]


@pytest.mark.parametrize(
    "lack",
    [f"if (window === top) {{ {NO_STORAGE} }}", "if (window === top) delete window.fetch"],
    ids=["no storage", "no fetch"],
)
def test_the_chat_works_on_pages_that_lack_a_browser_feature(web: Web, lack: str) -> None:
    context = web.browser()
    context.add_init_script(lack)
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
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


def test_a_page_is_unharmed_when_the_chat_server_is_down(web: Web, killable_server: Server) -> None:
    shop = web.shop
    line = shop.script().replace(web.server.url, killable_server.url)
    page = web.browser().new_page()
    page.clock.install()
    alice = EmbeddedCustomer(page, shop.cross_site)
    alice.comes(shop.page(script=line))
    killable_server.kill()
    alice.button.click()
    page.clock.run_for(11_000)
    expect(alice.unreachable).to_contain_text("The chat cannot be reached right now.")
    alice.calls("shutdown")
    expect(alice.panel).to_be_hidden()
    alice.button.click()
    page.clock.run_for(11_000)
    killable_server.start()
    alice.unreachable.get_by_role("button", name="Close").click()
    alice.button.click()
    expect(alice.field).to_be_visible()
    page.clock.run_for(11_000)
    expect(alice.unreachable).to_be_hidden()


# What is to be seen of the frame, at each time when the browser draws.
WATCH_THE_FRAME = """() => {
    window.seen = new Set();
    const look = () => {
        const panel = [...document.documentElement.children].find((element) => element.shadowRoot).shadowRoot;
        const frame = panel.querySelector("iframe");
        if (frame) window.seen.add(getComputedStyle(frame).visibility);
        requestAnimationFrame(look);
    };
    look();
}"""


@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_the_error_page_of_the_browser_is_never_shown_in_the_panel(
    web: Web, killable_server: Server, when: str
) -> None:
    shop = web.shop
    line = shop.script().replace(web.server.url, killable_server.url)
    alice = web.customer_on(shop.cross_site, shop.page(script=line))
    if when == "while it is open":
        alice.opens()
        inside = alice.inside
        killable_server.kill()
        inside.evaluate("setTimeout(() => location.reload())")
    else:
        killable_server.kill()
        alice.page.evaluate(WATCH_THE_FRAME)
        alice.button.click()
        expect(alice.panel).to_be_focused()
    expect(alice.unreachable).to_contain_text("The chat cannot be reached right now.", timeout=SOON)
    expect(alice.page.locator(".panel iframe")).to_be_hidden()
    if when == "before it is opened":
        assert alice.page.evaluate("[...seen]") == ["hidden"]
    alice.page.keyboard.press("Tab")
    expect(alice.unreachable.get_by_role("button", name="Close")).to_be_focused()
    alice.page.keyboard.press("Escape")
    expect(alice.panel).to_be_hidden()


@pytest.mark.parametrize("why", ["policy", "ad blocker"])
def test_a_chat_whose_frame_is_blocked_says_so_once_in_the_console(web: Web, why: str) -> None:
    shop, chat = web.shop, web.server.url
    policy = f"script-src {chat}; connect-src {chat}; frame-src 'self'" if why == "policy" else ""
    alice = web.customer_on(shop.cross_site, shop.page(policy=policy))
    said: list[str] = []
    alice.page.on("console", lambda message: said.append(message.text) if "Chatsite" in message.text else None)
    if why == "ad blocker":
        alice.page.route("**/chat/shop/**", lambda route: route.abort("blockedbyclient"))
    for _ in range(2):
        alice.button.click()
        expect(alice.unreachable).to_be_visible(timeout=SOON)
        alice.unreachable.get_by_role("button", name="Close").click()
    assert said == [
        f'Chatsite: the chat of the website "shop" did not load in its frame on {shop.cross_site}. If your pages have '
        f"a Content-Security-Policy, its frame-src must list {chat}. It may also be an ad blocker, or the network."
    ]
    web.errors[:] = [error for error in web.errors if "frame-src" not in error]  # what the browser says about it


def test_a_page_in_a_sandboxed_frame_is_told_why_it_has_no_chat(web: Web) -> None:
    shop = web.shop
    around = shop.page(script="", body=f'<iframe sandbox="allow-scripts" src="{shop.page()}"></iframe>')
    page = web.browser().new_page()
    with page.expect_console_message(lambda message: message.type == "warning") as warned:
        page.goto(shop.cross_site + around)
    sentence = "a page in a sandboxed frame may not show the chat. Put the script into the page around the frame."
    assert warned.value.text == f"Chatsite: {sentence}"


def test_a_page_is_unharmed_when_the_loader_fails_to_load(web: Web) -> None:
    page = web.browser().new_page()
    nowhere = f"http://127.0.0.1:{free_port()}"
    line = web.shop.script().replace(web.server.url, nowhere)
    with page.expect_event("requestfailed", lambda request: request.url.startswith(nowhere)):
        page.goto(web.shop.cross_site + web.shop.page(script=line))
    expect(page.get_by_role("heading", name="Bread and cakes")).to_be_visible()
    assert page.evaluate("typeof Chatsite") == "undefined"


@pytest.mark.parametrize(
    ("accent", "ground", "ink"),
    [
        ("#ffee00", "rgb(255, 238, 0)", "rgb(22, 22, 29)"),
        ("navy", "rgb(0, 0, 128)", "rgb(255, 255, 255)"),
        ("#0a7d4f", "rgb(10, 125, 79)", "rgb(255, 255, 255)"),
        ("no colour; }", "rgb(74, 81, 199)", "rgb(255, 255, 255)"),
    ],
)
def test_the_button_has_the_accent_colour_of_its_page_with_readable_contrast(
    web: Web, accent: str, ground: str, ink: str
) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page(script=web.shop.script(accent=accent)))
    expect(alice.button).to_have_css("background-color", ground)
    assert alice.button.evaluate("(e) => getComputedStyle(e, '::before').backgroundColor") == ink


def test_the_chat_is_not_printed(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.page.emulate_media(media="print")
    expect(alice.button).to_be_hidden()
    expect(alice.panel).to_be_hidden()
    alice.page.emulate_media(media="screen")
    expect(alice.field).to_be_visible()


def colours_in(locator: Locator) -> int:
    """The number of colours that it is drawn in, without those of antialiased edges."""
    with Image.open(BytesIO(locator.screenshot())) as picture:
        found = picture.convert("RGB").getcolors(1_000_000) or []
        least = picture.width * picture.height / 100
    return len([colour for times, colour in found if times > least])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_button_and_the_panel_are_visible_with_forced_colours(web: Web, scheme: str) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    assert colours_in(alice.button) >= 3  # the page, the button, what is on it
    alice.page.emulate_media(forced_colors="active", color_scheme="dark" if scheme == "dark" else "light")
    assert colours_in(alice.button) >= 2
    assert alice.button.evaluate(
        "(e) => getComputedStyle(e, '::before').backgroundColor !== getComputedStyle(e).backgroundColor"
    )
    for element in (alice.button, alice.panel):
        expect(element).to_have_css("border-top-width", "2px")
        expect(element).to_have_css("border-top-style", "solid")


# For everybody --------------------------------------------------------------------------------------------------------


def objections(customer: EmbeddedCustomer) -> list[str]:
    """The violations that axe finds on the page and, in a separate run, in the chat."""
    found = []
    frames = [customer.page.main_frame]
    if customer.panel.is_visible() and customer.unreachable.is_hidden():
        frames.append(customer.inside)
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
def test_axe_finds_nothing_on_the_page_nor_in_the_chat(web: Web, scheme: str, html: str) -> None:
    is_arabic = "rtl" in html
    line = web.shop.script(**({"language": "ar"} if is_arabic else {}))
    alice = web.customer_on(web.shop.cross_site, web.shop.page(html=html, script=line))
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


def test_axe_finds_nothing_in_the_error_and_the_not_remembered_notice(web: Web) -> None:
    context = web.browser()
    block_cookies(context, web.server.url)
    context.add_init_script(NO_STORAGE)
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    alice.opens()
    alice.says("Hello")
    expect(alice.not_remembered).to_be_visible()
    lost = EmbeddedCustomer(web.browser().new_page(), web.shop.cross_site)
    path = web.shop.page(script=web.shop.script("nobody"))
    web.shop.pages[path] = (web.shop.pages[path][0], {"Referrer-Policy": "no-referrer"})
    lost.comes(path)
    lost.button.click()
    expect(lost.unreachable).to_be_visible(timeout=SOON)
    for customer in (alice, lost):
        for scheme in ("light", "dark"):
            customer.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            assert objections(customer) == []
