"""Who types and who looks, on the screens of alice, bob and carol."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.people import Agent, Api, Customer, People, Person, eventually, unique_name
from tests.conftest import Server

pytestmark = pytest.mark.browser


def typing_line(person: Person) -> Locator:
    """Who is typing, below the messages."""
    return person.page.locator("typing-line [role=status]")


def desk_line(agent: Agent) -> Locator:
    """Which colleagues look, and who answers."""
    return agent.page.locator("who-is-here [role=status]")


def types_slowly(person: Person, text: str) -> None:
    """Type, as a person does: with events of each key."""
    person.field.press_sequentially(text)


@pytest.fixture
def trio(people: People) -> tuple[Customer, Agent, Agent]:
    """Alice writes, and bob and carol have opened it."""
    name, alice = unique_name(), people.customer()
    alice.introduces_herself(name)
    alice.says("Hello?")
    bob, carol = people.agent("bob"), people.agent("carol")
    for agent in (bob, carol):
        agent.opens(name)
        agent.is_connected()
    alice.is_connected()
    return alice, bob, carol


def test_all_see_who_types_and_who_looks(trio: tuple[Customer, Agent, Agent]) -> None:
    alice, bob, carol = trio
    expect(desk_line(bob)).to_have_text("carol is looking")
    expect(desk_line(carol)).to_have_text("bob is looking")
    types_slowly(alice, "My order")
    for agent in (bob, carol):
        expect(typing_line(agent)).to_contain_text("is typing…")
    alice.field.press("Enter")
    for agent in (bob, carol):
        agent.sees("My order")
        expect(typing_line(agent)).to_have_text("", timeout=1000)
    # A note is nobody's business.
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(bob.page.locator("#writing.note")).to_be_visible()
    types_slowly(bob, "She is a VIP")
    bob.field.press("Enter")
    carol.sees("She is a VIP")
    bob.page.get_by_role("link", name="Reply", exact=True).click()
    expect(bob.page.locator("#writing:not(.note)")).to_be_visible()
    alice.page.evaluate("window.heard = []; document.body.addEventListener('said', (e) => heard.push(e.detail))")
    types_slowly(bob, "It is on")
    expect(typing_line(alice)).to_have_text("Agent is typing…")
    expect(desk_line(carol)).to_have_text("bob is answering")
    assert len(alice.page.evaluate("heard")) == 1, "nothing was heard of the note, and each key is not told"
    bob.field.press("Enter")
    alice.sees("It is on")
    for line in (typing_line(alice), desk_line(carol).and_(carol.page.locator(".answering"))):
        expect(line.filter(has_text="bob")).to_have_count(0, timeout=1500)
    expect(typing_line(alice)).to_have_text("", timeout=1000)
    # The socket of a page dies.
    types_slowly(bob, "More")
    expect(typing_line(alice)).to_have_text("Agent is typing…")
    alice.page.evaluate("document.querySelector('door-bell').drop()")
    alice.page.evaluate("document.querySelector('door-bell').ring()")
    expect(typing_line(alice)).to_have_text("")
    bob.page.close()
    expect(desk_line(carol)).to_have_text("")


def test_typing_ends_with_the_text_and_with_the_typing(trio: tuple[Customer, Agent, Agent]) -> None:
    alice, bob, carol = trio

    def begins(person: Person, *others: Locator) -> None:
        types_slowly(person, "Well")
        for line in others:
            expect(line).to_have_text(re.compile("typing|answering"))

    bobs_line, alices_line, carols_line = typing_line(bob), typing_line(alice), desk_line(carol)
    begins(alice, bobs_line)
    alice.field.fill("")
    expect(bobs_line).to_have_text("", timeout=4000)
    # Drafts that are left alone.
    for person in (alice, bob):
        person.page.evaluate("window.heard = []; document.body.addEventListener('said', (e) => heard.push(e.detail))")
    begins(alice, bobs_line)
    begins(bob, alices_line, carols_line)
    ended = "heard.some(({ type, on }) => type === 'typing' && on === false)"
    eventually(
        bob.page, lambda: bool(alice.page.evaluate(ended) and bob.page.evaluate(ended)), "both have stopped typing"
    )
    for line in (alices_line, bobs_line):
        expect(line).to_have_text("")
    expect(carols_line).to_have_text("bob is looking")
    # What was an answer becomes a note.
    begins(bob, alices_line)
    bob.page.get_by_role("link", name="Note", exact=True).click()
    expect(alices_line).to_have_text("", timeout=4000)


@pytest.fixture(scope="module")
def open_house(server: Server) -> str:
    """The chat of a website that shows receipts, and agents what customers type."""
    server.manage("addwebsite", "Open house", "--key", "house")
    change = "Website.objects.filter(key='house').update(peek=True, receipts=True)"
    server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    return "/chat/house/"


def test_the_peek_is_shown_to_who_looks(people: People, open_house: str) -> None:
    name, alice, bob = unique_name(), people.customer(), people.agent("bob")
    alice.goes(open_house)
    expect(alice.page.locator("#peeked")).to_be_visible()
    expect(alice.page.locator("#peeked")).to_have_text("We can see what you write before you send it.")
    zoe = people.customer(java_script_enabled=False)
    zoe.goes(open_house)
    expect(zoe.page.locator("#peeked")).to_be_hidden()  # nobody can see it without a script
    alice.introduces_herself(name)
    alice.says("Hello?")
    bob.opens(name)
    bob.is_connected()
    types_slowly(alice, "half a <b>thought")
    peek = bob.page.locator("typing-line .peek")
    expect(peek).to_have_text("half a <b>thought")
    alice.field.press("Enter")
    bob.sees("half a <b>thought")
    expect(peek).to_be_hidden()


def test_each_side_sees_that_the_other_has_seen_it(people: People, open_house: str) -> None:
    name, alice, bob = unique_name(), people.customer(), people.agent("bob")
    alice.goes(open_house)
    alice.introduces_herself(name)
    alice.says("Hello?")
    hers, his = alice.page.locator("seen-line"), bob.page.locator("seen-line")
    expect(hers).to_have_count(0)
    bob.opens(name)
    expect(hers).to_have_text(re.compile(r"^Seen \d"))
    bob.answers("Hi!")
    alice.sees("Hi!")
    expect(hers).to_have_count(0)
    expect(his).to_have_text(re.compile(r"^Reply seen \d"))
    bob.reloads()
    expect(his).to_have_text(re.compile(r"^Reply seen \d"))
    alice.page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    bob.answers("Are you there?")
    expect(his).to_have_text("")
    alice.sees("Are you there?")
    alice.page.wait_for_timeout(700)  # longer than the glance for which a message must be shown
    expect(his).to_have_text("")
    alice.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(his).to_have_text(re.compile(r"^Reply seen \d"))
    alice.says("Yes")
    bob.sees("Yes")
    expect(his).to_have_text("")
    expect(hers).to_have_text(re.compile(r"^Seen \d"))


def test_without_javascript_receipts_are_on_the_page(people: People, open_house: str) -> None:
    name, alice = unique_name(), people.customer(java_script_enabled=False)
    alice.goes(f"{open_house}?write=1")
    alice.introduces_herself(name)
    alice.page.locator("#content").fill("Hello?")
    alice.page.locator(".send").click()
    bob = people.agent("bob")
    bob.opens(name)
    bob.answers("Hi!")
    expect(bob.pending).to_have_count(0)
    alice.goes(open_house)
    expect(bob.page.locator("seen-line")).to_have_text(re.compile(r"^Reply seen \d"))


def test_what_is_typed_beside_a_conversation_survives_what_others_change(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    for agent in (bob, carol):
        agent.opens(name)
        agent.is_connected()
    form = bob.page.locator("details-form")
    form.locator("summary").click()
    expect(form.get_by_label("Name")).to_be_focused()
    form.get_by_label("Name").fill(f"{name} Smith")
    carol.takes()
    expect(bob.head).to_contain_text("assigned to carol")
    form.get_by_label("E-mail").fill("nonsense")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_have_text("This does not look like an e-mail address.")
    form.get_by_label("E-mail").fill("alice@shop.example")
    form.get_by_role("button", name="Save").click()
    for agent in (bob, carol):
        expect(agent.head.locator("h2")).to_have_text(f"{name} Smith")
        expect(agent.page.locator("#about h2")).to_contain_text(f"{name} Smith")
        expect(agent.page.locator("#messages .activity").last).to_contain_text(
            "corrected the customer's name and e-mail"
        )
    expect(form.locator("summary")).to_be_focused()


def test_a_corrected_name_stands_everywhere_without_a_reload(people: People, api: Api) -> None:
    name = unique_name()
    talk = api.start_conversation("Hello?", name=name)
    bob, carol, polling = people.agent("bob"), people.agent("carol"), people.agent("carol")
    polling.page.context.add_init_script("window.WebSocket = class { constructor() { throw new Error('not here'); } }")
    polling.reloads()
    bob.opens(name)
    bob.answers("Hi!")
    api.post("Who are you?", talk)
    for agent in (carol, polling):
        agent.opens(name)
    for agent in (bob, carol, polling):
        expect(agent.page.locator(".theirs .name")).to_have_text([name, name])
    form, corrected = bob.page.locator("details-form"), f"Zoë {name[::-1]}"
    form.locator("summary").click()
    form.get_by_label("Name").fill(corrected)
    form.get_by_role("button", name="Save").click()
    for agent in (bob, carol, polling):
        main = agent.page.locator("main")
        expect(main.locator("#messages .activity").last).to_contain_text("corrected the customer's name")
        expect(main.locator(".theirs .name")).to_have_text([corrected] * 2)
        expect(main.locator("typing-line")).to_have_attribute("data-name", corrected)
        expect(main.locator("#about h2")).to_have_text(corrected)
        expect(main.locator("#list [aria-current]")).to_contain_text(corrected)
        names = main.locator(".theirs .by").evaluate_all("all => all.map((each) => each.innerHTML)")
        shown = main.aria_snapshot()
        assert name not in shown
        assert f'region "Conversation with {corrected}"' in shown
        agent.reloads()
        expect(main.locator(".theirs .name")).to_have_text([corrected] * 2)
        assert main.locator(".theirs .by").evaluate_all("all => all.map((each) => each.innerHTML)") == names
        assert main.aria_snapshot().count(corrected) == shown.count(corrected)
