"""The chat on other websites' pages remembers its customer, or says that the browser does not allow it."""

import contextlib
import hmac
import json
import re
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import BrowserContext, Error, Route, expect

from tests.browser.people import Agent, Api, Customer, eventually, unique_name, wait_for_same_screen
from tests.browser.websites import (
    HMAC_SECRET,
    KINDS,
    NO_STORAGE,
    SAME_AND_CROSS_SITE,
    EmbeddedCustomer,
    Requests,
    Site,
    Web,
    block_cookies,
    token,
)
from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser


# Who keeps what -------------------------------------------------------------------------------------------------------


@SAME_AND_CROSS_SITE
@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_survives_a_reload_or_the_page_says_that_it_will_not(web: Web, kind: str, where: str) -> None:
    hello = f"Hello from {unique_name()}"
    origin = web.shop.cross_site if where == "cross_site" else web.shop.same_site
    alice = web.customer_on(origin, web.shop.page(), context=web.browser_of_kind(kind))
    bob = web.agent()
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    bob.opens(hello)
    bob.answers("How can I help?")
    alice.shows(hello, "How can I help?")
    if kind == "no cookies":
        expect(alice.not_remembered).to_be_visible()
        continues_in_a_new_window(alice, bob)
        return
    expect(alice.not_remembered).to_be_hidden()
    alice.reloads()
    alice.shows(hello, "How can I help?")
    alice.says("Do you have bread?")
    alice.shows(hello, "How can I help?", "Do you have bread?")
    bob.sees("Do you have bread?")
    bob.answers("Always.")
    for person in (alice, bob):
        person.shows(hello, "How can I help?", "Do you have bread?", "Always.")
    wait_for_same_screen(alice, bob)
    alice.is_connected()


def continues_in_a_new_window(alice: EmbeddedCustomer, bob: Agent) -> None:
    """Where nothing is stored, the chat continues in a new window, by a code that works once."""
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
    wait_for_same_screen(window, bob)
    assert "code" not in window.page.url
    [code] = codes
    another = Customer(alice.page.context.new_page(), window.page.url.partition("/chat/")[0])
    another.goes("/chat/")  # our own page, from which codes are accepted
    another.page.evaluate("(address) => location.assign(address)", f"{window.page.url}#code={code}")
    expect(another.page.get_by_role("alert").filter(has_text="has expired")).to_be_visible()
    assert another.screen() == []


@pytest.mark.parametrize("kind", [*KINDS, "private window"])
def test_each_kind_of_browser_blocks_what_its_name_says(web: Web, kind: str) -> None:
    context = web.browser() if kind == "private window" else web.browser_of_kind(kind)
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    alice.opens()
    alone = alice.page.context.new_page()
    alone.goto(f"{web.server.url}/chat/")
    cookie = "(document.cookie = 'third=1; SameSite=None; Secure', document.cookie.includes('third=1'))"
    assert alice.inside.evaluate(cookie) == (kind in {"ordinary", "nothing partitioned"})
    note = "(name) => { try { localStorage.setItem(name, 1); return localStorage.third } catch { return 'nothing' } }"
    alone.evaluate(note, "third")
    seen = {"no cookies": "nothing", "nothing partitioned": "1"}.get(kind)
    assert alice.inside.evaluate(note, "fourth") == seen


@SAME_AND_CROSS_SITE
@pytest.mark.parametrize("keeper", ["the page around it", "the frame itself"])
def test_without_cookies_the_secret_is_stored_elsewhere(web: Web, keeper: str, where: str) -> None:
    origin = web.shop.cross_site if where == "cross_site" else web.shop.same_site
    context = web.browser()
    block_cookies(context, web.server.url)
    if keeper == "the frame itself":
        context.add_init_script(f"if (window === top) {{ {NO_STORAGE} }}")
    alice = web.customer_on(origin, web.shop.page(), context=context)
    hello = f"Hello from {unique_name()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    expect(alice.not_remembered).to_be_hidden()
    assert alice.cookies() == []
    in_the_frame = alice.inside.evaluate("() => Object.values(localStorage).join()")
    if keeper == "the frame itself":
        secret = in_the_frame
    else:
        secret = json.loads(alice.local_storage()["chatsite shop"])["chat"]
        assert secret not in in_the_frame
    assert len(secret) == 32
    alice.reloads()
    if keeper == "the frame itself":
        alice.opens()  # the page has no storage: closed again
    alice.shows(hello)
    bob = web.agent()
    bob.opens(hello)
    bob.answers("How can I help?")
    alice.shows(hello, "How can I help?")
    alice.says("Do you have bread?")
    alice.shows(hello, "How can I help?", "Do you have bread?")
    bob.sees("Do you have bread?")
    alice.is_connected()
    assert secret not in alice.inside.content() + alice.page.content()


def keeps_in_the_page(web: Web) -> tuple[BrowserContext, EmbeddedCustomer]:
    """A browser that ignores cookies of the chat, and a customer in it who has not written yet."""
    context = web.browser()
    block_cookies(context, web.server.url)
    return context, web.customer_on(web.shop.cross_site, web.shop.page(), context=context)


def test_two_tabs_without_cookies_share_one_conversation(web: Web) -> None:
    context, first = keeps_in_the_page(web)
    second = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    for tab in (first, second):
        tab.opens()
    hello = f"From the first tab, {unique_name()}"
    first.says(hello)
    first.shows(hello)
    second.says("From the second tab")
    second.shows(hello, "From the second tab")
    first.shows(hello, "From the second tab")


def test_a_stored_secret_survives_a_server_error(web: Web) -> None:
    context, alice = keeps_in_the_page(web)
    hello = f"Hello from {unique_name()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    stumbles = {"once": True}

    def stumble(route: Route) -> None:
        if "x-chat" in route.request.headers and stumbles.pop("once", False):
            return route.fulfill(status=503, body="")
        return route.fallback()

    context.route(f"{web.server.url}/chat/shop/?**", stumble)
    alice.reloads()
    expect(alice.field).to_be_visible()
    eventually(alice.page, lambda: not stumbles, "the server has stumbled")
    alice.reloads()
    alice.shows(hello)


def test_an_unsent_message_is_sent_to_its_conversation_after_a_reload(web: Web) -> None:
    context, alice = keeps_in_the_page(web)
    hello = f"Hello from {unique_name()}"
    alice.opens()
    alice.says(hello)
    alice.shows(hello)
    gone = {"is": True}

    def lose(route: Route) -> None:
        return route.abort() if gone["is"] and route.request.method == "POST" else route.fallback()

    context.route(f"{web.server.url}/chat/shop/messages/*", lose)
    alice.says("Written in a tunnel")
    expect(alice.pending).to_have_count(1)
    alice.reloads()
    gone["is"] = False
    alice.shows(hello, "Written in a tunnel")
    bob = web.agent()
    bob.opens("Written in a tunnel")
    bob.shows(hello, "Written in a tunnel")


def test_a_code_is_accepted_only_from_a_chat_page(web: Web, api: Api) -> None:
    headers = {"X-Chat": api.start_conversation("Mallory's conversation")}
    with urlopen(Request(f"{web.server.url}/chat/code/", b"", headers), timeout=30) as answer:
        code = answer.read().decode()
    page = web.browser().new_page()
    page.goto(f"{web.server.url}/inbox/sign-in/?next=/chat/%23code={code}")
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#content")).to_be_visible()
    eventually(page, lambda: page.url == f"{web.server.url}/chat/", "the code is taken from the URL")
    expect(page.locator("#messages .bubble")).to_have_count(0)
    assert page.request.get(f"{web.server.url}/chat/known/").headers["x-known"] == "no"


# Going, and coming as somebody ----------------------------------------------------------------------------------------


@SAME_AND_CROSS_SITE
@pytest.mark.parametrize("keeper", ["cookie", "page"])
def test_shutdown_clears_everything_and_ends_the_secret(web: Web, api: Api, keeper: str, where: str) -> None:
    context = web.browser()
    if keeper == "page":
        block_cookies(context, web.server.url)
    alice = web.customer_on(
        web.shop.cross_site if where == "cross_site" else web.shop.same_site, web.shop.page(), context=context
    )
    alice.opens()
    alice.says("Forget me")
    alice.shows("Forget me")
    [secret] = [cookie["value"] for cookie in alice.cookies()] or [
        json.loads(alice.local_storage()["chatsite shop"])["chat"]
    ]
    assert [text for _, text in api.read(secret)] == ["Forget me"]
    alice.page.evaluate("Chatsite.shutdown()")
    expect(alice.panel).to_be_hidden()
    eventually(alice.page, lambda: alice.local_storage() == {"chatsite shop": '{"fresh":1}'}, "nothing of hers is kept")
    assert (alice.cookies(), api.read(secret)) == ([], [])
    alice.reloads()
    expect(alice.panel).to_be_hidden()
    alice.opens()
    alice.shows()
    alice.says("Somebody new")
    alice.shows("Somebody new")
    assert api.read(secret) == []


@SAME_AND_CROSS_SITE
@pytest.mark.parametrize("storage", ["storage", "no storage"])
def test_shutdown_in_one_tab_applies_to_all_tabs(web: Web, storage: str, where: str) -> None:
    origin, path = web.shop.cross_site if where == "cross_site" else web.shop.same_site, web.shop.page()
    context = web.browser()
    if storage == "no storage":
        context.add_init_script(f"if (window === top) {{ {NO_STORAGE} }}")
    alice, tab = (web.customer_on(origin, path, context=context) for _ in range(2))
    alice.opens()
    alice.says("Private")
    alice.shows("Private")
    tab.opens()
    tab.shows("Private")
    tab.types("Half a sen")
    alice.calls("shutdown")
    if storage == "storage":
        expect(tab.panel).to_be_hidden()
        tab.opens()
    tab.shows()
    expect(tab.field).to_have_value("")
    alice.opens()
    alice.says("I am another")
    tab.shows("I am another")
    tab.says("In this tab too")
    wait_for_same_screen(alice, tab)
    alice.shows("I am another", "In this tab too")


def test_messages_of_the_next_person_are_never_shown_below_those_of_the_previous_one(web: Web) -> None:
    context = web.browser()
    context.add_init_script(
        f"if (window === top) {{ {NO_STORAGE} }}"
    )  # so that the pages get no storage events of each other
    alice, tab = (web.customer_on(web.shop.cross_site, web.shop.page(), context=context) for _ in range(2))
    alice.opens()
    alice.says("Private")
    alice.shows("Private")
    tab.opens()
    tab.shows("Private")
    seen = tab.inside.evaluate_handle("""() => {
        const seen = new Set();
        new MutationObserver(() => seen.add(document.querySelector("#messages").innerText.replace(/\\s+/g, " ")))
            .observe(document.querySelector("#messages"), { childList: true });
        return seen;
    }""")
    alice.page.evaluate("Chatsite.shutdown()")
    alice.opens()
    alice.says("I am another")
    alice.shows("I am another")
    tab.shows("I am another")
    assert not [text for text in seen.evaluate("(seen) => [...seen]") if "Private" in text and "another" in text]


def test_a_retry_after_shutdown_is_not_posted_for_the_next_person(web: Web) -> None:
    context = web.browser()
    context.add_init_script(f"if (window === top) {{ {NO_STORAGE} }}")
    alice, tab = (web.customer_on(web.shop.cross_site, web.shop.page(), context=context) for _ in range(2))
    alice.opens()
    alice.says("Private")
    alice.shows("Private")
    tab.opens()
    tab.shows("Private")
    held: list[Route] = []
    address = "**/messages/?host=*"
    tab.page.route(address, lambda route: held.append(route) if route.request.method == "POST" else route.abort())
    tab.says("Private too")
    eventually(tab.page, lambda: len(held) == 1, "it is on its way")
    alice.page.evaluate("Chatsite.shutdown()")
    alice.opens()
    alice.says("I am another")
    alice.shows("I am another")
    held[0].continue_()
    tab.page.unroute(address)
    tab.shows("I am another")
    alice.says("Nothing else came")
    alice.shows("I am another", "Nothing else came")


def test_after_shutdown_the_next_person_is_asked_for_name_and_email(web: Web, inn: Site) -> None:
    context = web.browser()
    context.add_init_script(f"if (window === top) {{ {NO_STORAGE} }}")
    path = inn.page(script=inn.script("inn"))
    alice, tab = (web.customer_on(inn.cross_site, path, context=context) for _ in range(2))
    alice.opens()
    tab.opens()
    tab.frame.get_by_label("Name").fill("Alice")
    tab.frame.get_by_label("E-mail").fill("alice@example.com")
    tab.says("Private")
    tab.shows("Private")
    expect(tab.frame.get_by_label("Name")).to_have_count(0)
    alice.shows("Private")
    alice.calls("shutdown")
    tab.shows()
    for label, word in (("Name", "Bea"), ("E-mail", "bea@example.com")):
        expect(tab.frame.get_by_label(label)).to_have_value("")
        tab.frame.get_by_label(label).fill(word)
    tab.says("I am another")
    tab.shows("I am another")


@pytest.mark.parametrize("moment", ["the first message", "the second message"])
def test_a_request_in_flight_during_shutdown_does_not_restore_the_conversation(web: Web, moment: str) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    if moment == "the second message":
        alice.says("Hello")
        alice.shows("Hello")
    held: list[Route] = []
    address = "**/messages/?host=*"
    alice.page.route(address, lambda route: held.append(route) if route.request.method == "POST" else route.fallback())
    alice.says("Private")
    eventually(alice.page, lambda: len(held) == 1, "it is on its way")
    alice.page.evaluate("Chatsite.shutdown()")
    alice.page.unroute(address)
    with contextlib.suppress(Error):  # it is not waited for any more
        held[0].continue_()
    alice.reloads()
    alice.opens()
    alice.shows()
    alice.says("I am another")
    alice.shows("I am another")


def test_a_secret_restored_after_shutdown_is_wiped_before_anything_is_shown(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.says("Private")
    alice.shows("Private")
    alice.page.evaluate("""localStorage.setItem("chatsite shop", '{"fresh":1}')""")  # as it is until all is wiped
    alice.reloads()
    shown: list[str] = []
    alice.page.on("response", lambda answer: shown.append(answer.text()) if "/chat/shop/?host" in answer.url else None)
    alice.opens()
    alice.shows()
    assert shown
    assert not [page for page in shown if "Private" in page]


def test_if_wiping_fails_after_shutdown_the_chat_is_not_shown(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.says("Private")
    alice.shows("Private")
    alice.page.evaluate("""localStorage.setItem("chatsite shop", '{"fresh":1}')""")
    alice.page.route("**/forget/**", lambda route: route.fulfill(status=429))
    alice.reloads()
    alice.button.click()
    expect(alice.unreachable).to_be_visible()
    assert "chat" not in (alice.panel.locator("iframe").get_attribute("src") or "")
    alice.page.unroute("**/forget/**")
    alice.closes()
    alice.opens()
    alice.shows()


def test_identifying_again_moves_nothing_on_the_screen(web: Web, members: Site, api: Api) -> None:
    sub = unique_name()
    alice = web.customer_on(members.cross_site, members.page(script=members.script("members")))
    asked = Requests(alice.page, web.server.url)
    alice.calls("identify", token(sub))
    alice.opens()
    eventually(alice.page, lambda: bool(asked.ended("/identify/")), "the page has sent her proof")
    assert len([path for _, path, _ in asked.all if "/chat/" in path]) <= 6
    alice.says("Hello")
    alice.shows("Hello")
    row = alice.frame.locator("#messages > .message").element_handle()
    before = len(asked.ended("/identify/"))
    alice.calls("identify", token(sub))
    eventually(alice.page, lambda: len(asked.ended("/identify/")) > before, "she has been vouched for once more")
    alice.says("Still here")
    alice.shows("Hello", "Still here")
    assert row.evaluate("(row) => row.isConnected")


@pytest.mark.parametrize("store", ["cookie", "page"])
def test_identification_renews_the_secret_and_neither_tab_notices(
    web: Web, members: Site, api: Api, store: str
) -> None:
    sub, path = unique_name(), members.page(script=members.script("members"))
    phone = web.customer_on(members.cross_site, path)
    phone.calls("identify", token(sub))
    phone.opens()
    phone.says("From my phone")
    phone.shows("From my phone")
    context = web.browser()
    if store == "page":
        block_cookies(context, web.server.url)
    alice, tab = (web.customer_on(members.cross_site, path, context=context) for _ in range(2))

    def secret() -> str:
        [cookie] = alice.cookies() or [{"value": json.loads(alice.local_storage()["chatsite members"])["chat"]}]
        return str(cookie["value"])

    long_message = "\n".join(f"Line {number}" for number in range(60))
    alice.opens()
    alice.says(long_message)
    alice.shows(long_message)
    tab.opens()
    tab.shows(long_message)
    tab.types("Half a sen")
    alice.is_connected()
    row = alice.frame.locator("#messages > .message").element_handle()
    alice.frame.locator("message-list").evaluate("(list) => { list.scrollTop = 300; }")
    top = row.evaluate("(row) => row.getBoundingClientRect().top")
    before = secret()
    alice.calls("identify", token(sub))
    expect(alice.frame.locator(".earlier")).to_be_visible()
    assert api.read(before) == []
    assert len(api.read(secret())) == 1
    assert row.evaluate("(row) => row.isConnected && row.getBoundingClientRect().top") == top
    alice.says("Now as a member")
    alice.shows(long_message, "Now as a member")
    tab.shows(long_message, "Now as a member")
    expect(tab.field).to_have_value("Half a sen")
    tab.says("From the second tab")
    wait_for_same_screen(alice, tab)
    alice.shows(long_message, "Now as a member", "From the second tab")
    alice.frame.locator(".earlier summary").click()
    alice.frame.get_by_role("button", name="From my phone").click()
    alice.shows("From my phone")


def test_a_message_in_flight_while_another_tab_identifies_is_sent_to_the_same_conversation(
    web: Web, members: Site
) -> None:
    path, context = members.page(script=members.script("members")), web.browser()
    block_cookies(context, web.server.url)
    alice, tab = (web.customer_on(members.cross_site, path, context=context) for _ in range(2))
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    tab.opens()
    tab.shows("Hello")
    held: list[Route] = []
    address = "**/messages/?host=*"
    tab.page.route(address, lambda route: held.append(route) if route.request.method == "POST" else route.fallback())
    tab.says("On its way")
    eventually(tab.page, lambda: len(held) == 1, "it is on its way")
    alice.calls("identify", token(unique_name()))
    alice.says("Now as a member")
    alice.shows("Hello", "Now as a member")
    held.pop().continue_()
    tab.page.unroute(address)
    for page in (alice, tab):
        page.shows("Hello", "Now as a member", "On its way")


def test_an_identified_customer_has_the_same_conversation_on_every_device(web: Web, members: Site) -> None:
    alice_sub, carol_sub = unique_name(), unique_name()
    hello = f"Hello from {alice_sub}"
    path = members.page(script=members.script("members"))
    laptop, phone = web.customer_on(members.cross_site, path), web.customer_on(members.cross_site, path)
    laptop.calls("identify", token(alice_sub))
    laptop.opens()
    laptop.says(hello)
    laptop.shows(hello)
    phone.opens()
    phone.shows()
    phone.calls("identify", token(alice_sub))
    phone.shows(hello)
    bob = web.agent()
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


def test_an_identified_customer_is_connected_from_the_first_message_on(web: Web, members: Site) -> None:
    alice = web.customer_on(members.cross_site, members.page(script=members.script("members")))
    alice.calls("identify", token(unique_name()))
    alice.opens()
    alice.says("Hello")
    alice.is_connected()


def test_hmac_proofs_work_with_ids_in_any_script(web: Web, members: Site) -> None:
    sub = f"愛麗絲 100% {unique_name()}"
    signed = {"id": sub, "hmac": hmac.new(HMAC_SECRET.encode(), sub.encode(), "sha256").hexdigest()}
    laptop, phone = (
        web.customer_on(members.cross_site, members.page(script=members.script("members"))) for _ in range(2)
    )
    for device in (laptop, phone):
        device.calls("identify", signed)
        device.opens()
    laptop.says("Hello from the laptop")
    laptop.shows("Hello from the laptop")
    phone.reloads()
    phone.calls("identify", signed)
    phone.shows("Hello from the laptop")


@pytest.mark.parametrize("wrong", ["a token of somebody else's making", "no token at all", "日本"])
def test_an_invalid_token_is_refused_and_the_chat_stays_anonymous(web: Web, members: Site, wrong: str) -> None:
    alice = web.customer_on(members.cross_site, members.page(script=members.script("members")))
    alice.page.evaluate("Chatsite.on('refused', (why) => document.title = `Refused: ${why}`)")
    alice.calls("identify", token("alice", "not-the-secret-" * 4) if wrong.startswith("a token") else wrong)
    alice.opens()
    expect(alice.page).to_have_title(re.compile("Refused: We could not confirm your identity"))
    alice.says("I am nobody")
    alice.shows("I am nobody")


def test_where_identity_is_required_there_is_a_composer_only_for_customers_who_are_signed_in(
    web: Web, members: Site
) -> None:
    alice = web.customer_on(members.cross_site, members.page(script=members.script("club")))
    sentence = alice.frame.get_by_text("Please sign in to The club to send a message.")
    greeting = alice.frame.get_by_text("How can we help?")

    def may_write(allowed: bool) -> None:
        (expect(alice.field).to_be_visible if allowed else expect(alice.field).to_be_hidden)()
        (expect(sentence).to_be_hidden if allowed else expect(sentence).to_be_visible)()
        (expect(greeting).to_be_visible if allowed else expect(greeting).to_be_hidden)()

    proof = token(unique_name())
    alice.button.click()
    alice.is_connected_to_host()
    may_write(False)
    alice.calls("identify", proof)
    may_write(True)
    alice.says("Let me in")
    alice.shows("Let me in")
    alice.types("Half a sen\n\ntence")
    height = alice.field.evaluate("(field) => field.offsetHeight")
    alice.calls("identify", "a proof that the server refuses")
    may_write(False)
    alice.calls("identify", proof)
    may_write(True)
    expect(alice.field).to_have_value("Half a sen\n\ntence")
    assert alice.field.evaluate("(field) => field.offsetHeight") == height > 60

    alice.inside.evaluate("document.querySelector('chat-keeper').headers['X-Identity'] = 'expired'")
    alice.inside.evaluate("document.querySelector('chat-keeper').proof = 'expired'")
    alice.says("Too late")
    expect(alice.pending.locator(".delivery")).to_contain_text("Not sent. We could not confirm your identity.")
    may_write(False)
    alice.calls("identify", proof)
    may_write(True)
    alice.pending.get_by_role("button", name="Try again").click()
    alice.shows("Let me in", "Too late")

    alice.page.route("**/identify/**", lambda route: route.abort())
    alice.reloads()
    may_write(True)  # before the page around the chat sends its proof
    alice.says("Without a proof")
    expect(alice.pending.locator(".delivery")).to_have_text(
        "Not sent. Please sign in on the website first, then write to us."
    )
    may_write(False)


def test_where_identity_is_required_the_chat_in_its_own_window_has_no_composer(web: Web, members: Site) -> None:
    alice = web.customer()
    alice.goes("/chat/club/")
    expect(alice.page.get_by_text("Please sign in to The club to send a message.")).to_be_visible()
    expect(alice.field).to_be_hidden()
