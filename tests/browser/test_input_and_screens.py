"""Keyboards, touch screens, time zones, text directions and screen sizes."""

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Route, expect

from tests.browser.people import Agent, Api, Customer, People, eventually, exactly, unique_name
from tests.browser.websites import Web
from tests.conftest import Server

pytestmark = pytest.mark.browser


PHONE = {"width": 360, "height": 720}


def test_the_inbox_works_with_the_keyboard_alone(people: People, api: Api) -> None:
    api.start_conversation("I was here before", name=unique_name())
    name = unique_name()
    uuid = api.start_conversation("Are you there?", name=name)
    bob = people.agent()
    row = bob.row(name)
    expect(row).to_have_count(1)
    keyboard = bob.page.keyboard
    for _ in range(24):  # tabs and filters come first
        keyboard.press("Tab")
        if bob.page.evaluate("document.activeElement.classList.contains('row')"):
            break
    expect(row).to_be_focused()  # newest first
    keyboard.press("ArrowDown")
    expect(row).not_to_be_focused()
    keyboard.press("ArrowUp")
    expect(row).to_be_focused()
    keyboard.press("Enter")
    expect(bob.field).to_be_focused()
    keyboard.type("I am, without a mouse.")
    keyboard.press("Enter")
    bob.shows("Are you there?", "I am, without a mouse.")
    assert [text for _, text in api.read(uuid)] == ["Are you there?", "I am, without a mouse."]


def test_the_focus_stays_in_the_conversation_after_taking_and_closing(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Keep your eyes here.", name=name)
    bob = people.agent()
    bob.opens(name)
    for label, then in (("Assign to me", "assigned to you"), ("Close", "Closed"), ("Reopen", "Open")):
        bob.page.get_by_role("button", name=exactly(label)).focus()
        bob.page.keyboard.press("Enter")
        expect(bob.head).to_contain_text(then)
        eventually(
            bob.page,
            lambda: bool(bob.page.evaluate("document.querySelector('.open-one').contains(document.activeElement)")),
            f"the focus is still in the conversation after {label}",
        )


def test_a_phone_shows_the_list_or_the_conversation_with_a_link_back(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Typed with a thumb.", name=name)
    bob = people.agent(viewport=PHONE, has_touch=True, is_mobile=True)
    row = bob.row(name)
    row.tap()
    expect(bob.bubble("Typed with a thumb.")).to_be_in_viewport()
    expect(bob.field).to_be_in_viewport()
    expect(row).to_be_hidden()
    bob.page.get_by_role("link", name="Back to the list").tap()
    expect(row).to_be_visible()
    expect(bob.field).to_have_count(0)
    row.tap()
    expect(bob.bubble("Typed with a thumb.")).to_be_in_viewport()
    bob.page.go_back()
    expect(row).to_be_visible()


def test_a_tablet_shows_customer_details_on_demand(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Who am I?", name=name, email="alice@example.com")
    bob = people.agent(viewport={"width": 768, "height": 1024})
    bob.opens(name)
    mail = bob.page.get_by_role("link", name="alice@example.com")
    expect(mail).to_be_hidden()
    bob.page.get_by_role("button", name=f"About {name}").click()
    expect(mail).to_be_in_viewport()
    bob.page.keyboard.press("Escape")
    expect(mail).to_be_hidden()
    bob.page.set_viewport_size({"width": 1400, "height": 900})
    expect(mail).to_be_in_viewport()


@pytest.mark.parametrize(
    ("locale", "close", "scripts"), [("en", "Close", True), ("ar", "إغلاق", True), ("en", "Close", False)]
)
def test_a_phone_has_a_button_that_closes_the_details(
    people: People, api: Api, locale: str, close: str, scripts: bool
) -> None:
    name = unique_name()
    api.start_conversation("Who am I?", name=name, email="alice@example.com")
    bob = people.agent(viewport=PHONE, locale=locale)
    bob.opens(name)
    if not scripts:
        where = bob.page.url
        bob = people.agent(viewport=PHONE, java_script_enabled=False)
        bob.page.goto(where)
    mail = bob.page.get_by_role("link", name="alice@example.com")
    opener, button = bob.page.locator(".talk-head .about"), bob.page.locator(".details").get_by_role("button")
    expect(button).to_be_hidden()
    for way in ("button", "Escape"):
        opener.click()
        expect(mail).to_be_in_viewport()
        expect(button).to_have_accessible_name(close)
        place, text = button.bounding_box(), mail.bounding_box()
        assert place
        assert text
        assert (place["width"], round(place["height"])) == (44, 44)
        assert place["x"] < text["x"] if locale == "ar" else place["x"] > text["x"] + text["width"], "on the far side"
        button.press("Tab")  # the focus is inside
        if way == "button":
            button.click()
        else:
            bob.page.keyboard.press(way)
        expect(mail).to_be_hidden()
        expect(opener).to_be_focused()
    if scripts:
        opener.click()
        with bob.page.expect_response("**/about/*"):
            bob.page.evaluate("document.body.dispatchEvent(new CustomEvent('state'))")
        expect(mail).to_be_in_viewport()
        button.click()  # it is still there
        expect(mail).to_be_hidden()
    bob.page.set_viewport_size({"width": 1400, "height": 900})
    expect(mail).to_be_in_viewport()
    expect(button).to_be_hidden()


def test_the_list_keeps_its_scroll_position_when_a_conversation_is_added(people: People, api: Api) -> None:
    for _ in range(25):
        api.start_conversation("Filler", name=unique_name())
    bob = people.agent()
    bob.is_connected()
    row = bob.page.locator(".row").nth(18)
    number = row.get_attribute("id")
    bob.page.locator("inbox-list").evaluate("(list) => { list.scrollTop = 900; }")
    where = bob.page.locator(f"#{number}").bounding_box()
    api.start_conversation("On top", name=(name := unique_name()))
    expect(bob.row(name)).to_have_count(1)
    now = bob.page.locator(f"#{number}").bounding_box()
    assert where
    assert now
    assert abs(now["y"] - where["y"]) < 2


def test_a_click_opens_its_conversation_though_the_list_changes_between_press_and_release(
    people: People, api: Api
) -> None:
    name, other = unique_name(), unique_name()
    api.start_conversation("Press me.", name=name)
    bob = people.agent()
    bob.is_connected()
    bob.row(name).hover()  # waits where the first ring replaces the list at this moment
    mouse = bob.page.mouse
    mouse.down()
    with bob.page.expect_response(lambda response: "/list/" in response.url):
        api.start_conversation("I come in between.", name=other)
    mouse.up()
    expect(bob.head).to_contain_text(name)
    expect(bob.row(other)).to_have_count(1)  # what was held back is fetched after the release


def test_the_list_is_updated_though_the_browser_reports_no_release(people: People, api: Api) -> None:
    name, other = unique_name(), unique_name()
    api.start_conversation("Press me.", name=name)
    bob = people.agent()
    bob.is_connected()
    # As where a dialog or the menu of the browser takes the release
    bob.row(name).dispatch_event("pointerdown")
    with bob.page.expect_response(lambda response: "/list/" in response.url):
        api.start_conversation("I come in between.", name=other)
    expect(bob.row(other)).to_have_count(1, timeout=8000)  # before the next heartbeat


def test_times_and_days_are_in_the_readers_time_zone(people: People, api: Api) -> None:
    uuid = api.start_conversation("What time is it?")
    clock = "() => document.querySelector('#messages .when time').textContent"
    shown = {}
    for place in ("Asia/Tokyo", "America/New_York"):
        alice: Customer = people.customer(conversation=uuid, timezone_id=place, locale="en-GB")
        shown[place] = alice.page.evaluate(clock)
        expect(alice.page.locator(".day")).to_have_text("Today")
    assert shown["Asia/Tokyo"] != shown["America/New_York"]


def choose_zone(bob: Agent, zone: str) -> None:
    """Save this time zone among the settings."""
    bob.goes("/inbox/me/")
    bob.page.get_by_label("Time zone").fill(zone)
    bob.page.get_by_role("button", name="Save the settings").click()
    expect(bob.page.get_by_text("Your settings are saved.")).to_be_visible()


@pytest.fixture
def traveller(people: People) -> Iterator[Agent]:
    """Bob in Tokyo, who has chosen the time of New York, and is as before afterwards."""
    bob = people.agent(locale="en-GB", timezone_id="Asia/Tokyo", viewport={"width": 1440, "height": 900})
    choose_zone(bob, "America/New_York")
    yield bob
    choose_zone(bob, "")


@pytest.mark.parametrize("browser", ["knows it", "does not know it"])
def test_an_agents_times_are_in_the_zone_that_they_have_chosen(
    traveller: Agent, api: Api, server: Server, browser: str
) -> None:
    """Everywhere on their pages, and days begin in it. A browser that does not know the zone shows its own."""
    name, bob, knows_it = unique_name(), traveller, browser == "knows it"
    uuid = api.start_conversation("What time is it?", name=name)
    if not knows_it:
        bob.page.add_init_script("""
            const { DateTimeFormat } = Intl;
            Intl.DateTimeFormat = function (language, options) {
                if (options?.timeZone) throw new RangeError("unknown");
                return new DateTimeFormat(language, options);
            };
        """)
    zone = ZoneInfo("America/New_York" if knows_it else "Asia/Tokyo")
    now = datetime.now(zone)
    bob.comes()
    bob.opens(name)
    api.post("Is it still today?", uuid)
    bob.sees("Is it still today?")
    expect(bob.page.locator("#messages .day")).to_have_text("Today")
    sent = datetime.fromisoformat(str(bob.page.locator("#messages .when time").first.get_attribute("datetime")))
    clock = f"{sent.astimezone(zone):%H:%M}"
    expect(bob.page.locator("#messages .when time").first).to_have_text(clock)
    expect(bob.page.locator(".details dd").filter(has_text=f"{now.year} at {clock}")).to_have_count(1)
    expect(bob.row(name).locator("time")).to_have_attribute("title", re.compile(f"{now.year} at {clock}$"))
    bob.page.locator("#messages .sent-at").first.click()
    expect(bob.page.locator("#menu .exact")).to_have_text(re.compile(f"{now.year} at {clock}$"))
    bob.page.keyboard.press("Escape")
    bob.page.locator("#menu-snooze").click()
    expect(bob.page.locator("#menu .zone")).to_contain_text("America/New_York")
    bob.page.get_by_role("button", name="Tomorrow, 9:00").click()
    nine = datetime.now(ZoneInfo("America/New_York")).replace(hour=9, minute=0) + timedelta(days=1)
    expect(bob.head).to_contain_text(re.compile(f"Snoozed until (\\w+ )?{nine.astimezone(zone):%H:%M}"))
    if knows_it:  # from midnight on in the chosen zone it was yesterday
        bob.page.clock.install(time=(now + timedelta(days=1)).replace(hour=0, minute=1))
        bob.reloads()
        expect(bob.page.locator("#messages .day")).to_have_text("Yesterday")
    # Nine days before, one message on each side of midnight in New York; the snooze is of today.
    midnight = datetime.now(ZoneInfo("America/New_York")).replace(hour=0, minute=0, second=0) - timedelta(days=9)
    for number, (pk, _text) in enumerate(api.read(uuid)):
        at = midnight + timedelta(minutes=number - 0.5)
        change = f"Message.objects.filter(pk={pk}).update(created_at='{at.isoformat()}')"
        server.manage("shell", "-c", f"from conversations.models import Message\n{change}")
    bob.reloads()
    expect(bob.page.locator("#messages .day")).to_have_count(3 if knows_it else 2)


def test_the_customers_local_time_is_updated(people: People) -> None:
    alice, name = people.customer(timezone_id="Asia/Tokyo"), unique_name()
    alice.introduces_herself(name)
    alice.says("It is late here.")
    alice.sees("It is late here.")
    bob = people.agent(locale="en-GB", timezone_id="Europe/Berlin", viewport={"width": 1440, "height": 900})
    bob.page.clock.install(time=datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    bob.reloads()
    bob.opens(name)
    clock = bob.page.locator(".details dd").filter(has_text="Asia/Tokyo")
    expect(clock).to_have_text(re.compile("^21:0. Asia/Tokyo$"))
    bob.page.clock.fast_forward("01:00:00")
    expect(clock).to_have_text(re.compile("^22:0. Asia/Tokyo$"))


TEXT_DIRECTION = """(element) => {
    const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
    const box = (at) => {
        const range = new Range();
        range.setStart(text, at);
        range.setEnd(text, at + 1);
        return range.getBoundingClientRect();
    };
    const [first, last] = [box(text.data.search(/\\S/)), box(text.data.trimEnd().length - 1)];
    const { right } = element.closest("p, dd").getBoundingClientRect();
    return { inOrder: last.left > first.left, onTheRight: right - Math.max(first.right, last.right) < 2 };
}"""
"""How a line of English is laid out: whether its last letter is right of its first, and whether it is flush right."""


def test_english_texts_of_a_website_are_laid_out_left_to_right_and_flush_right_on_an_arabic_page(
    people: People, server: Server
) -> None:
    words = {"greeting": "Welcome!", "reply_time": "We answer soon!", "away_text": "Back after the fair!"}
    day = (datetime.now(UTC) + timedelta(days=2)).strftime("%a")
    for key, hours in (("there", ""), ("away", f"{day} 11:00-12:00")):
        server.manage("addwebsite", "Bread", "--key", key)
        change = f"Website.objects.filter(key='{key}').update(office_hours='{hours}', **{words})"
        server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    alice = people.customer(locale="ar")
    for key, shown in (("there", ["greeting", "reply_time"]), ("away", ["away_text"])):
        alice.goes(f"/chat/{key}/")
        for name in shown:
            direction = alice.page.get_by_text(words[name]).evaluate(TEXT_DIRECTION)
            assert direction["inOrder"], name
            assert direction["onTheRight"] or name == "away_text", name  # which is centred


BEGINNING = """(element) => {
    const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
    const range = new Range();
    range.setStart(text, 0);
    range.setEnd(text, 1);
    const [letter, box] = [range.getBoundingClientRect(), element.getBoundingClientRect()];
    const isCut = element.scrollWidth > element.clientWidth;
    return { isCut, isSeen: letter.left > box.left - 1 && letter.right < box.right + 1 };
}"""
"""Whether a line is cut, and whether its first letter is in sight all the same."""


def test_long_english_names_are_cut_at_their_end_on_an_arabic_page(people: People, api: Api, server: Server) -> None:
    website = "The shop for bread, cakes & coffee!"
    server.manage("addwebsite", website, "--key", "long-name")
    name = f"{unique_name()} {'of the long name ' * 3}".strip()
    api.start_conversation("Hello", name=name, website="long-name")
    alice = people.customer(locale="ar", viewport={"width": 320, "height": 640})
    alice.goes("/chat/long-name/")
    bob = people.agent(locale="ar", viewport={"width": 800, "height": 800})
    bob.opens(name)
    row = bob.row(name)
    title = bob.page.locator(".talk-head h2")
    for place in (
        alice.page.locator("h1 bdi"),
        title,
        row.locator(".who"),
        row.locator(".site"),
    ):
        assert place.evaluate(BEGINNING) == {"isCut": True, "isSeen": True}, place
    bob.page.set_viewport_size({"width": 2400, "height": 800})
    edge = """(title) => {
        const range = new Range();
        range.selectNodeContents(title);
        return range.getBoundingClientRect().right;
    }"""
    assert (box := title.bounding_box())
    assert abs(title.evaluate(edge) - box["x"] - box["width"]) < 1, "flush right"


def test_on_a_phone_an_agents_buttons_stay_together_and_the_bar_has_room(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    for locale in ("en", "es", "de"):
        bob = people.agent(locale=locale, viewport={"width": 320, "height": 640})
        bob.is_connected()
        assert (mine := bob.page.locator(".my-name").bounding_box())
        assert round(mine["x"] + mine["width"]) <= 304, f"{locale}: inside the bar's padding"
        bob.opens(name)
        for width in (320, 360, 390, 430, 600):
            bob.page.set_viewport_size({"width": width, "height": 640})
            take, close = (bob.page.locator(button).bounding_box() for button in ("#take", "#close"))
            assert take
            assert close
            assert take["y"] == close["y"], f"{locale}: in one line at {width} pixels"


def test_customer_details_are_flush_right_for_an_agent_who_reads_arabic(web: Web) -> None:
    name = unique_name()
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.page.evaluate("document.title = 'Bread and cakes!'")
    alice.opens()
    alice.says(f"I am {name}.")
    alice.shows(f"I am {name}.")
    bob = web.agent(locale="ar", viewport={"width": 1440, "height": 900})
    bob.opens(name)
    for words in ("Bread and cakes!", "The shop"):
        assert bob.page.locator(".details dd").get_by_text(words).evaluate(TEXT_DIRECTION) == {
            "inOrder": True,
            "onTheRight": True,
        }, words


def test_a_conversation_that_starts_while_scripts_are_loading_is_not_missed(people: People, api: Api) -> None:
    """A ring before any script listens would be lost until the next heartbeat."""
    bob, name = people.agent(), unique_name()
    page = bob.page.context.new_page()
    page.clock.install()
    held: list[Route] = []
    page.route("**/assets/inbox.*.js", lambda route: held.append(route))
    page.goto(bob.page.url, wait_until="commit")
    eventually(page, lambda: len(held) == 1, "the script is being loaded")
    api.start_conversation("Too early?", name=name)  # the page was rendered without it
    for _ in range(5):
        page.evaluate("fetch('/chat/state/')")  # takes longer than the ring
    page.clock.fast_forward(4000)  # and past the first poll, which would hide a lost ring
    held[0].continue_()
    expect(page.locator(".row", has_text=name)).to_be_visible()  # the next heartbeat is 25 s away
    page.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_both_pages_print_the_whole_conversation_and_nothing_else(people: People, api: Api, colours: Any) -> None:
    name = unique_name()
    uuid = api.start_conversation(*[f"Line {number}\nof the story" for number in range(40)], name=name)
    alice, bob = people.customer(conversation=uuid, color_scheme=colours), people.agent(color_scheme=colours)
    bob.opens(name)
    for person in (alice, bob):
        person.sees("Line 0\nof the story")
        person.page.emulate_media(media="print")
        shown = person.page.evaluate(
            """() => {
                const bubbles = [...document.querySelectorAll("#messages .bubble")];
                const boxes = bubbles.map((bubble) => bubble.getBoundingClientRect());
                const page = document.scrollingElement.scrollHeight;
                const seen = [...document.querySelectorAll("button, textarea, .row, .tabs, door-bell, .details")];
                return {
                    apart: boxes.every((box, at) => box.height && (!at || box.top >= boxes[at - 1].bottom)),
                    inside: boxes.at(-1).bottom <= page && boxes.at(-1).bottom > innerHeight,
                    controls: seen.filter((it) => it.checkVisibility()).map((it) => it.outerHTML),
                    ground: bubbles.map((bubble) => getComputedStyle(bubble).backgroundColor).join(""),
                    ink: getComputedStyle(bubbles[0]).color,
                };
            }"""
        )
        assert shown.pop("ink").startswith("oklch(0.24"), "dark, in dark mode too"
        assert shown == {"apart": True, "inside": True, "controls": [], "ground": "rgba(0, 0, 0, 0)" * 40}, shown
        assert person.page.pdf().count(b"/Type /Page\n") >= 2


def test_a_printed_conversation_has_the_author_above_ones_own_messages(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Who answers?", "Please say.", name=name)
    alice, bob = people.customer(conversation=uuid), people.agent()
    bob.opens(name)
    bob.answers("I do.")
    height = "(author) => author.parentElement.clientHeight"
    for person, shown in ((alice, "You"), (bob, "bob")):
        person.sees("I do.")
        author = person.page.locator(".own .by .name")
        assert author.evaluate(height) == 1  # for screen readers
        person.page.emulate_media(media="print")
        expect(author).to_have_text(shown)
        assert author.evaluate(height) > 10
        expect(person.page.locator("#messages .delivery").first).to_be_hidden()  # printed ones were sent
        expect(person.page.locator(".message").first).to_have_css(
            "break-inside", "avoid"
        )  # the author stays with the text
    bob.page.set_viewport_size({"width": 700, "height": 900})
    assert (head := bob.page.locator(".talk-head h2").bounding_box())
    assert (first := bob.page.locator(".bubble").first.bounding_box())
    assert head["x"] == first["x"]
    expect(bob.page.locator(".talk-head h2")).to_have_css("white-space", "normal")  # long names are printed whole
    expect(bob.page.get_by_role("heading", name="Conversations")).to_be_hidden()


def test_stacked_marks_stay_inside_their_bubble(people: People, api: Api) -> None:
    name = ("H" + "\u0300" * 60 + unique_name())[:80]
    uuid = api.start_conversation("Above", "H" + "\u0300" * 200, name=name)
    alice, bob = people.customer(conversation=uuid), people.agent()
    for text in (alice.bubble("Above"), bob.page.locator(".row .who").first):
        expect(text).to_be_visible()
    expect(alice.page.locator(".bubble").nth(1)).to_have_css("overflow-y", "clip")
    expect(bob.page.locator(".row .who").first).to_have_css("overflow-y", "hidden")
    bob.opens(name)
    expect(bob.page.locator(".details h2")).to_have_css("overflow-y", "clip")


def test_a_name_in_the_list_uses_the_room_beside_the_time(web: Web, api: Api) -> None:
    """The marks below it, a website and an assignee, are wider than the time."""
    name = f"Ines Oliveira {secrets.token_hex(2)}"
    api.start_conversation("Hello", name=name)
    carol = web.agent("carol")
    carol.opens(name)
    carol.takes()
    bob = web.agent(viewport=PHONE)
    row = bob.row(name)
    for mark in (".taken", ".site"):
        expect(row.locator(mark)).to_be_visible()
    assert row.locator(".who").evaluate("(who) => who.scrollWidth <= who.clientWidth")


COMPOSING = """({ key, keyCode }) => {
    const init = { key, keyCode, isComposing: !keyCode, bubbles: true, cancelable: true };
    window.reached = [];
    for (const name of ["Escape", "Enter", "ArrowDown", "ArrowUp", "Tab", "x", "/"]) {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { ...init, key: name }));
    }
    return window.reached;
}"""

LISTENERS = """
    const listen = EventTarget.prototype.addEventListener;
    EventTarget.prototype.addEventListener = function (kind, handle, options) {
        if (!["keydown", "keypress"].includes(kind) || this === window) return listen.apply(this, arguments);
        window.handlers = (window.handlers ?? 0) + 1;
        const noted = function (event) {
            window.reached?.push(event.key);
            return handle.call(this, event);
        };
        return listen.call(this, kind, noted, options);
    };
"""


@pytest.mark.parametrize("code", [0, 229])
def test_no_handler_sees_keys_while_a_word_is_composed(people: People, api: Api, code: int) -> None:
    name = unique_name()
    api.start_conversation("こんにちは", name=name)
    alice, bob = people.customer(), people.agent()
    for person in (alice, bob):
        person.page.add_init_script(LISTENERS)
        person.reloads()
    bob.opens(name)
    for person, places in ((alice, ["#content", "body"]), (bob, ["#content", ".row", "body"])):
        person.field.fill("にほ")
        assert person.page.evaluate("window.handlers") > 0, "the page handles keys"
        for place in places:
            person.page.locator(place).first.evaluate("(element) => element.focus()")
            assert person.page.evaluate(COMPOSING, {"key": "", "keyCode": code}) == []
        expect(person.field).to_have_value("にほ")


LANGUAGES = ["['en-US@posix']", "['en-']", "[]", "undefined", "['en-US@posix', 'de-DE']", "[undefined]"]


@pytest.mark.parametrize("languages", LANGUAGES)
def test_whatever_languages_a_browser_says_messages_come_and_go(people: People, languages: str) -> None:
    alice = people.customer()
    alice.page.add_init_script(f"Object.defineProperty(navigator, 'languages', {{ get: () => {languages} }})")
    alice.reloads()
    alice.says("Hello from an odd browser")
    alice.shows("Hello from an odd browser")
    assert alice.page.locator("#messages local-time").first.inner_text()


@pytest.mark.parametrize("name", ["local-time", "chat-keeper", "door-bell", "message-list", "chat-composer"])
def test_the_others_are_there_if_one_script_throws(people: People, name: str) -> None:
    alice = people.customer()
    alice.page.add_init_script(f"""
        const define = customElements.define.bind(customElements);
        customElements.define = (name, element) => {{
            if (name === "{name}") throw new Error("a broken block");
            define(name, element);
        }};
    """)
    alice.page.reload()
    elements = ["local-time", "chat-keeper", "door-bell", "message-list", "chat-composer"]
    there = f"{elements}.filter((name) => customElements.get(name))"
    eventually(
        alice.page,
        lambda: bool(alice.page.evaluate(there) == [each for each in elements if each != name]),
        "all other elements are defined",
    )
    if name != "chat-composer":
        alice.says(f"Sent without {name}")
        expect(alice.page.locator("#messages")).to_contain_text(f"Sent without {name}")
    assert any("a broken block" in error for error in people.errors), "the browser reports it"
    people.errors.clear()


def test_direction_controls_around_a_link_do_not_make_it_look_like_another(people: People) -> None:
    """Shown from right to left, this address ends with that of a bank."""
    address = "https://elpmaxe.live/moc.knab.www//:sptth"
    alice = people.customer()
    alice.says(f"Go \u202e{address}\u202c now")
    link = alice.page.locator("#messages .bubble a")
    letters = """(link) => {
        const at = (index) => {
            const range = document.createRange();
            range.setStart(link.firstChild, index);
            range.setEnd(link.firstChild, index + 1);
            return range.getBoundingClientRect().left;
        };
        return at(0) < at(5) && at(5) < at(12);
    }"""
    expect(link).to_have_attribute("href", address)
    assert link.evaluate(letters)
