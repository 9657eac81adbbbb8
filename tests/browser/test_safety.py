"""Markup in messages, names and addresses is shown as text on every page."""

import json

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.people import Api, People, eventually, unique_name, uuid_of

pytestmark = pytest.mark.browser

# Scripts, links, htmx attributes, and out-of-band swaps.
PAYLOADS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '"><svg onload="window.hacked = 1">',
    "</textarea></title><script>window.hacked = 1</script>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "{{ 7|add:7 }}{% debug %}${7*7}",
    "<div hx-get='/chat/' hx-trigger='load' hx-target='body'>x</div>",
    "<div data-hx-get='/chat/' data-hx-trigger='load'>x</div>",
    "<p hx-on:click='window.hacked = 1' hx-on::load='window.hacked = 1'>x</p>",
    "<li id='messages' hx-swap-oob='true'>all gone</li>",
    "</div></li></ol><ol id='messages' hx-swap-oob='innerHTML'><li>all gone</li></ol>",
    "<meta http-equiv='refresh' content='0;url=/api/docs'><base href='//evil.example'>",
    "<style>body { display: none }</style><link rel=stylesheet href=//evil.example/x.css>",
]
NO_LINKS = [
    "[x](javascript:window.hacked=1)",
    "javascript:window.hacked=1",
    "java\tscript:window.hacked=1",
    "java\nscript:window.hacked=1",
    "JaVaScRiPt://example.com/%0awindow.hacked=1",
    "data:text/html,<script>window.hacked=1</script>",
    "vbscript:msgbox(1)",
]
NAMES = ["<script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>", "'\"><svg onload=alert(1)>"]


def is_unharmed(page: Page) -> None:
    """No script has run, and no element or attribute comes from a message."""
    assert page.evaluate("window.hacked") is None
    for selector in ("img", "iframe", "script:not([src])", "style", "[onerror]", "[onload]", "[hx-swap-oob]", "base"):
        assert page.locator(f"body {selector}").count() == 0, selector
    assert page.locator(".bubble [hx-get], .bubble [data-hx-get], .bubble li, #messages #messages").count() == 0
    assert page.locator("#messages").count() == 1


def test_markup_in_messages_is_shown_as_text_on_both_sides(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Before", *PAYLOADS, name=name)
    alice, bob = people.customer(conversation=uuid), people.agent()
    bob.opens(name)
    for person in (alice, bob):
        person.shows("Before", *PAYLOADS)
        person.is_connected()
    for payload in PAYLOADS:  # and once more as new messages, which htmx swaps in
        api.post(f"{payload} again", uuid)
    again = [f"{payload} again" for payload in PAYLOADS]
    for person in (alice, bob):
        person.shows("Before", *PAYLOADS, *again)
        is_unharmed(person.page)
    expect(bob.row(name).locator(".line")).to_have_text(again[-1])


def test_typed_markup_is_shown_as_text_on_both_sides(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    alice.says("I am about to misbehave.")
    bob.opens("I am about to misbehave.")
    for payload in PAYLOADS[:3]:
        alice.says(f"{payload} by me")
        bob.answers(f"{payload} by bob")
    for person in (alice, bob):
        for payload in PAYLOADS[:3]:
            person.sees(f"{payload} by me")
            person.sees(f"{payload} by bob")
        is_unharmed(person.page)
        person.types(PAYLOADS[0])
        person.reloads()
        expect(person.field).to_have_value(PAYLOADS[0])
        is_unharmed(person.page)


def test_no_link_runs_a_script(people: People, api: Api) -> None:
    uuid = api.start_conversation(*NO_LINKS, "https://example.com/?a=1&b=2 is one")
    alice = people.customer(conversation=uuid)
    alice.shows(*NO_LINKS, "https://example.com/?a=1&b=2 is one")
    links = alice.page.locator(".bubble a")
    addresses = [link.get_attribute("href") for link in links.all()]
    assert addresses[-1] == "https://example.com/?a=1&b=2"
    assert all(address and address.startswith(("http://", "https://", "mailto:")) for address in addresses), addresses
    assert links.last.get_attribute("rel") == "noopener noreferrer nofollow ugc"
    is_unharmed(alice.page)


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_shown_as_text(people: People, api: Api, name: str) -> None:
    uuid = api.start_conversation(f"My name is {unique_name()}", name=name)
    (_, text) = api.read(uuid)[0]
    bob = people.agent(viewport={"width": 1440, "height": 900})
    bob.is_connected()
    bob.opens(text)
    for place in (".talk-head h2", ".details h2", ".row[aria-current] .who"):
        expect(bob.page.locator(place)).to_have_text(name)
    is_unharmed(bob.page)
    api.post("Once more", uuid)
    bob.sees("Once more")
    is_unharmed(bob.page)


def test_markup_in_a_valid_email_address_is_shown_as_text(people: People, api: Api) -> None:
    email = "&amp'onload='hacked=1'@example.com"
    name = unique_name()
    api.start_conversation("Write to me.", name=name, email=email)
    bob = people.agent(viewport={"width": 1440, "height": 900})
    bob.opens(name)
    expect(bob.page.locator(".details dd a").first).to_have_text(email)
    is_unharmed(bob.page)


def test_the_content_security_policy_blocks_injected_scripts(people: People, api: Api) -> None:
    alice = people.customer(conversation=api.start_conversation("Hello"))
    alice.page.evaluate("""() => {
        const box = document.createElement("div");
        box.innerHTML = "<img src=x onerror='window.hacked = 1'>";
        document.body.append(box);
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.body.append(script);
    }""")
    eventually(alice.page, lambda: len(people.errors) >= 2, "two violations are logged")
    assert alice.page.evaluate("window.hacked") is None
    people.errors.clear()


def test_the_customers_secret_is_only_in_its_cookie(people: People) -> None:
    asked: list[Request] = []
    sockets: list[str] = []
    alice, bob = people.customer(), people.agent()
    for person in (alice, bob):
        person.page.on("request", lambda request: asked.append(request))
        person.page.on("websocket", lambda socket: sockets.append(socket.url))
    alice.says("Keep my secret.")
    alice.sees("Keep my secret.")
    alice.is_connected()
    bob.opens("Keep my secret.")
    bob.answers("I don't even know it.")
    alice.sees("I don't even know it.")
    secret = uuid_of(alice)
    dashed = "-".join((secret[:8], secret[8:12], secret[12:16], secret[16:20], secret[20:]))
    alice.reloads()
    alice.is_connected()
    visible = "() => JSON.stringify([document.cookie, location.href, {...sessionStorage}, {...localStorage}])"
    seen = [request.url + request.headers.get("referer", "") for request in asked] + sockets
    assert sockets
    for person in (alice, bob):
        seen += [person.page.content(), person.page.evaluate(visible)]
    for text in seen:
        assert secret not in text
        assert dashed not in text


def test_text_that_is_slow_to_render_is_shown(people: People, api: Api) -> None:
    hard = [
        "*a_" * 6000,
        "[" * 20_000,
        "> " * 10_000,
        "e" + "\u0301" * 5000,
        "\u202e\u2066abc\u2069\u202c",
        "www." * 5000,
    ]
    uuid = api.start_conversation(*hard)
    alice = people.customer(conversation=uuid)
    for shown in (hard[3:], hard[1:], hard):  # each response has 50 kB
        alice.shows(*shown)
        if shown is not hard:
            alice.page.get_by_role("link", name="Show older messages").click()
    alice.says("Still alive")
    alice.sees("Still alive")
    is_unharmed(alice.page)


def test_the_inbox_cannot_be_framed_and_the_chat_only_by_its_own_site(people: People, api: Api) -> None:
    page = people.browser().new_page()
    page.goto(f"{people.server.url}/")
    page.get_by_role("button", name="Chat").click()
    expect(page.frame_locator("iframe").get_by_role("textbox", name="Write a message")).to_be_visible()
    bob = people.agent()
    bob.goes("/")
    bob.page.evaluate(
        """(url) => {
        const frame = document.createElement("iframe");
        frame.src = url;
        frame.id = "stolen";
        document.body.append(frame);
    }""",
        "/inbox/",
    )
    stolen = bob.page.frame_locator("#stolen")
    eventually(bob.page, lambda: bool(people.errors), "the refused frame is logged")
    assert "frame-ancestors" in json.dumps(people.errors)
    expect(stolen.locator(".bar")).to_have_count(0)
    people.errors.clear()
