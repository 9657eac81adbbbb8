"""An agent is called when a customer writes: by a sound, on the desktop, and by a number in the icon."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, Customer, People, eventually, unique_name
from tests.browser.test_without_sockets import without_websocket
from tests.conftest import Server

pytestmark = pytest.mark.browser

SPY = """
    window.heard = 0;
    window.notified = [];
    const { start } = OscillatorNode.prototype;
    OscillatorNode.prototype.start = function (at) { window.heard += 1; start.call(this, at); };
    AudioContext.prototype.resume = async () => {};
    let permission = (location.host && localStorage.permission) || "default"; // about:blank has no storage
    window.Notification = class {
        static get permission() { return permission; }
        static async requestPermission() {
            window.asked = true;
            return (localStorage.permission = permission = "granted");
        }
        constructor(title, options) { Object.assign(this, { title, ...options }); window.notified.push(this); }
        close() {}
    };
    let away = location.host && sessionStorage.away;
    Object.defineProperty(document, "hidden", { get: () => Boolean(away) });
    document.hasFocus = () => !away;
    window.goAway = (leaves) => {
        away = sessionStorage.away = leaves ? "yes" : "";
        document.dispatchEvent(new Event("visibilitychange"));
    };
"""

NO_LOCKS = """
    delete Navigator.prototype.locks;
    window.turns = 0; // how often this tab has asked whether another one has made a sound
    const { getItem } = Storage.prototype;
    Storage.prototype.getItem = function (key) {
        window.turns += key === "chatsite-sound";
        return getItem.call(this, key);
    };
"""


def chooses(dora: Agent, **values: Any) -> None:
    """Save the settings: radio buttons by their values, boxes by True or False."""
    dora.goes("/inbox/me/")
    for name, value in values.items():
        if isinstance(value, bool):
            dora.page.locator(f"[name={name}]").set_checked(value)
        else:
            dora.page.locator(f"[name={name}][value={value}]").check()
    allow = dora.page.get_by_role("button", name="Allow notifications")
    if allow.is_visible():
        assert dora.page.evaluate("window.asked") is None  # only by a click
        allow.click()
        expect(dora.page.get_by_text("This browser may show notifications")).to_be_visible()
    dora.page.get_by_role("button", name="Save the settings").click()
    expect(dora.page.get_by_text("Your settings are saved.")).to_be_visible()


@pytest.fixture
def carol(people: People) -> Iterator[Agent]:
    """Carol, whose settings are as before afterwards."""
    carol = people.agent("carol")
    carol.page.context.add_init_script(SPY)
    yield carol
    chooses(carol, sound_when="hidden", desktop=False)


def another_tab(agent: Agent) -> Agent:
    """The same agent's inbox in another tab."""
    other = Agent(agent.page.context.new_page(), agent.url)
    other.comes()
    other.is_connected()
    return other


def total(*tabs: Agent) -> tuple[int, list[str]]:
    """How many tones were played and what was notified, in all tabs."""
    heard = [tab.page.evaluate("[window.heard, window.notified.map(({ title }) => title)]") for tab in tabs]
    return sum(tones for tones, _ in heard), [title for _, titles in heard for title in titles]


def test_one_tab_of_several_calls_and_leads_to_the_conversation(people: People, carol: Agent, api: Api) -> None:
    chooses(carol, sound_when="always", desktop=True)
    api.start_conversation("Unread for days", name=unique_name())
    carol.comes()
    carol.is_connected()
    other = another_tab(carol)
    for tab in (carol, other):
        tab.page.evaluate("goAway(true)")
        # a colleague has, for example, labelled an old conversation: what was unread before calls nobody
        tab.page.evaluate("document.querySelector('door-bell').ring({ type: 'messages', conversation: 1, last: 1 })")
    name = unique_name()
    uuid = api.start_conversation("Hello?", name=name)
    eventually(carol.page, lambda: total(carol, other) == (2, [f"New message from {name}"]), "one tab calls")
    expect(carol.page).to_have_title(re.compile(r"^\(\d+\) "))
    eventually(
        carol.page,
        lambda: carol.page.evaluate("document.querySelector('link[rel=icon]').href").startswith("data:"),
        "the icon has the number",
    )
    caller = next(tab for tab in (carol, other) if tab.page.evaluate("window.notified.length"))
    caller.page.evaluate("goAway(false); window.notified[0].onclick()")
    caller.sees("Hello?")
    caller.page.route("**/read/", lambda route: route.fulfill(status=204))  # the server does not know it yet
    last = api.post("It is visible", uuid)[-1]["id"]  # in a tab that the agent has before them
    known = f"[...document.querySelector('desk-notices').known.values()].includes({last})"
    eventually(caller.page, lambda: bool(caller.page.evaluate(known)), "the page knows of it")
    caller.sees("It is visible")
    caller.page.unroute("**/read/")
    caller.answers("Here I am")
    caller.sees("Here I am")
    assert total(carol, other)[0] == 2
    second = unique_name()
    api.start_conversation("Me too", name=second)
    eventually(carol.page, lambda: total(carol, other)[0] == 4, "only the other conversation calls")
    assert total(carol, other)[1] == [f"New message from {name}"]  # the inbox is in front
    caller.page.close()
    left = other if caller is carol else carol
    left.page.evaluate("goAway(true); window.heard = 0")
    calls = "document.querySelector('desk-notices').calls"
    eventually(left.page, lambda: bool(left.page.evaluate(calls)), "the browser tells the tab that it is alone")
    api.post("Once more", uuid)
    eventually(left.page, lambda: left.page.evaluate("window.heard") == 2, "the tab that is left calls")
    carol.page = left.page


def test_after_hours_without_a_connection_one_notification_says_how_many(carol: Agent, api: Api) -> None:
    chooses(carol, sound_when="hidden", desktop=True)
    without_websocket(carol.page.context)
    carol.comes()
    carol.page.evaluate("goAway(true)")
    since = "document.querySelector('desk-notices').since"
    ring = "document.querySelector('door-bell').ring()"
    carol.page.evaluate(ring)
    eventually(carol.page, lambda: bool(carol.page.evaluate(since)), "polls find the newest message")
    carol.page.evaluate("document.querySelector('desk-notices').looked -= 3 * 3600 * 1000")
    for _ in range(2):
        api.start_conversation("Good morning", name=unique_name())
    carol.page.evaluate(ring)
    eventually(carol.page, lambda: total(carol) == (2, ["Conversations with new messages: 2"]), "one sum")


def test_a_customer_hears_an_answer_that_they_do_not_see(people: People, server: Server) -> None:
    server.manage("addwebsite", "Loud house", "--key", "loud")
    change = "Website.objects.filter(key='loud').update(sounds=True)"
    server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    name, alice, bob = unique_name(), people.customer(), people.agent("bob")
    alice.page.context.add_init_script(SPY)
    alice.goes("/chat/loud/")
    alice.introduces_herself(name)
    alice.says("Hello?")
    bob.opens(name)
    alice.page.evaluate("goAway(true)")
    bob.answers("Are you there?")
    eventually(alice.page, lambda: alice.page.evaluate("window.heard") == 2, "a sound of two tones")
    held = "navigator.locks.query().then(({ held }) => held.some(({ name }) => name === 'chat-sound'))"
    eventually(alice.page, lambda: not alice.page.evaluate(held), "the next answer may have a sound")
    alice.page.evaluate("goAway(false)")
    bob.answers("I am here")
    eventually(alice.page, lambda: bool(alice.page.evaluate(held)), "the page takes the sound, and sees the answer")
    assert alice.page.evaluate("window.heard") == 2


def test_without_locks_one_of_a_customers_tabs_sounds(people: People, server: Server) -> None:
    server.manage("addwebsite", "Loud barn", "--key", "barn")
    change = "Website.objects.filter(key='barn').update(sounds=True)"
    server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    name, alice, bob = unique_name(), people.customer(), people.agent("bob")
    alice.page.context.add_init_script(SPY + NO_LOCKS)
    alice.goes("/chat/barn/")
    alice.introduces_herself(name)
    alice.says("Hello?")
    alice.sees("Hello?")
    tabs = [alice, Customer(alice.page.context.new_page(), alice.url)]
    tabs[1].goes("/chat/barn/")
    tabs[1].sees("Hello?")
    for tab in tabs:
        assert tab.page.evaluate("navigator.locks") is None
        tab.page.evaluate("goAway(true)")
    bob.opens(name)
    for number, answer in enumerate(("Are you there?", "Still there?"), start=1):
        bob.answers(answer)
        wait_for_turns(tabs, number)
    eventually(alice.page, lambda: sum(counted(tabs, "heard")) == 4, "one of them sounds for each answer")


def counted(tabs: list[Customer], what: str) -> list[int]:
    """What each tab has counted: its turns, or the tones that it has played."""
    return [tab.page.evaluate(f"window.{what}") for tab in tabs]


def wait_for_turns(tabs: list[Customer], number: int) -> None:
    """Wait until each tab has asked so often whether another one has made a sound."""
    eventually(tabs[0].page, lambda: counted(tabs, "turns") == [number] * len(tabs), "each has had its turn")
