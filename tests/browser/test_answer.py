"""An agent's answer: canned replies, and what happens if a colleague has answered meanwhile."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, eventually, unique_name
from tests.browser.test_accessibility import TOUCH, check
from tests.conftest import Server

pytestmark = pytest.mark.browser

NEWS = re.compile(r"/messages/\?.*since=")
QUESTION = "carol has just answered. Send yours too?"


def loses_news(agent: Agent) -> None:
    """From now on the page hears nothing of new messages."""
    agent.page.route(NEWS, lambda route: route.abort())


def test_the_second_of_two_answers_waits_for_its_writer(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    for agent in (bob, carol):
        agent.opens(name)
    loses_news(bob)
    carol.answers("We are here")
    carol.shows("Hello?", "We are here")
    bob.answers("Yes, I am")
    asked = bob.page.locator(".message.asks")
    expect(asked).to_contain_text(QUESTION)
    expect(asked.locator(".bubble")).to_have_text("Yes, I am")
    bob.page.unroute(NEWS)
    bob.reloads()  # it is still asked
    bob.sees("We are here")
    expect(asked).to_contain_text(QUESTION)
    asked.get_by_role("button", name="Keep editing").click()
    expect(bob.field).to_have_value("Yes, I am")
    expect(bob.pending).to_have_count(0)
    bob.field.press("Enter")  # now everything was seen
    bob.shows("Hello?", "We are here", "Yes, I am")


def test_an_answer_can_be_sent_although_a_colleague_has_answered(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob"), people.agent("carol")
    for agent in (bob, carol):
        agent.opens(name)
    loses_news(bob)
    carol.answers("We are here")
    carol.shows("Hello?", "We are here")
    bob.answers("Yes, I am")
    expect(bob.pending).to_contain_text(QUESTION)
    bob.page.unroute(NEWS)
    bob.page.get_by_role("button", name="Send anyway").click()
    bob.shows("Hello?", "We are here", "Yes, I am")


def writes_replies(server: Server, **replies: str) -> None:
    """Let there be exactly these shared replies."""
    code = "from conversations.models import CannedReply as C; C.objects.all().delete()"
    for name, content in replies.items():
        code += f"; C.objects.create(name={name!r}, content={content!r})"
    server.manage("shell", "-c", code)


def test_a_slash_opens_the_list_of_canned_replies_for_the_keyboard(people: People, api: Api, server: Server) -> None:
    writes_replies(server, hello="Hello {{ customer.name }}!", help="How can I help?", money="We send it back.\nHelp!")
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob = people.agent("bob")
    bob.opens(name)
    options = bob.page.locator("#replies").get_by_role("option")
    bob.field.press_sequentially("Yes.")
    bob.field.press("Shift+Enter")
    bob.field.press_sequentially("/")
    expect(options).to_have_count(3)
    expect(bob.field).to_have_attribute("aria-controls", "replies")
    expect(bob.field).to_have_attribute("aria-activedescendant", str(options.first.get_attribute("id")))
    expect(bob.page.get_by_text("Canned replies: 3")).to_have_role("status")
    bob.field.press_sequentially("HEL")
    expect(options).to_have_text([f"helloHello {name}!", "helpHow can I help?", "moneyWe send it back. Help!"])
    bob.field.press_sequentially("l")
    expect(options).to_have_count(1)
    bob.field.press("Escape")
    expect(options.first).to_be_hidden()
    bob.field.press_sequentially("o")
    expect(options.first).to_be_hidden()  # until the slash is typed anew
    for _letter in "/hello":
        bob.field.press("Backspace")
    bob.field.press_sequentially("/hel")
    expect(options).to_have_count(3)
    bob.field.press("ArrowDown")
    bob.field.press("ArrowUp")
    bob.field.press("Enter")
    expect(bob.field).to_have_value(f"Yes.\nHello {name}!")
    expect(options.first).to_be_hidden()
    assert bob.field.get_attribute("aria-activedescendant") is None
    bob.shows("Hello?")  # nothing is sent yet
    bob.field.press("Control+z")
    expect(bob.field).to_have_value("Yes.\n/hel")
    bob.field.fill("/etc/hosts")  # no reply: Enter sends
    bob.field.press("Enter")
    bob.shows("Hello?", "/etc/hosts")
    bob.page.get_by_role("button", name="Canned replies").click()
    options.filter(has_text="money").click()
    expect(bob.field).to_have_value("We send it back.\nHelp!")


def test_a_draft_is_on_the_agents_other_device(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    desk, phone = people.agent("bob"), people.agent("bob")
    pk = desk.opens(name)
    with desk.page.expect_response("**/draft/"):
        desk.types("I am looking")
    desk.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    phone.opens(name)
    expect(phone.field).to_have_value("I am looking")
    phone.page.keyboard.type(" for it")  # it goes on where it ends
    expect(phone.field).to_have_value("I am looking for it")
    phone.comes()  # leaving saves at once, though nobody waits for it
    draft = f"{desk.url}/inbox/{pk}/draft/"
    eventually(desk.page, lambda: desk.page.request.get(draft).text() == "I am looking for it", "it is saved")
    desk.page.evaluate("dispatchEvent(new Event('focus'))")
    expect(desk.field).to_have_value("I am looking for it")
    with desk.page.expect_response("**/messages/"):  # with it the draft has ended; a ring may show the answer earlier
        desk.field.press("Enter")
    desk.shows("Hello?", "I am looking for it")
    phone.goes(f"/inbox/{pk}/")
    phone.sees("I am looking for it")
    expect(phone.field).to_have_value("")
    desk.reloads()
    desk.sees("I am looking for it")
    expect(desk.field).to_have_value("")


def test_what_was_typed_without_a_connection_stays_and_the_later_draft_wins(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    desk, phone = people.agent("bob"), people.agent("bob")
    desk.opens(name)
    desk.page.route("**/draft/", lambda route: route.abort())
    desk.types("Typed in the train")
    phone.opens(name)
    phone.page.wait_for_timeout(50)  # later than the other one
    with phone.page.expect_response("**/draft/"):
        phone.types("Typed at home")
    desk.page.unroute("**/draft/")
    desk.page.evaluate("dispatchEvent(new Event('online'))")
    expect(desk.field).to_have_value("Typed at home")
    desk.page.get_by_role("button", name="Use the other draft").click()
    expect(desk.field).to_have_value("Typed in the train")
    desk.reloads()
    expect(desk.field).to_have_value("Typed in the train")


def test_canned_replies_and_the_question_are_accessible(people: People, api: Api, server: Server) -> None:
    long = "x" * 40
    writes_replies(server, hello="Hello {{ customer.name }}!", **{long: "y" * 300})
    name = unique_name()
    api.start_conversation("Hello?", name=name)
    bob, carol = people.agent("bob", **TOUCH), people.agent("carol")
    bob.goes("/inbox/replies/")
    check(bob.page)
    bob.goes("/inbox/replies/new/")
    bob.page.get_by_role("textbox", name="Text").fill("{{ order.id }}")
    bob.page.get_by_role("button", name="Save").click()
    expect(bob.page.get_by_text("{{ order.id }} does not exist.")).to_be_visible()
    check(bob.page)
    for agent in (bob, carol):
        agent.comes()
        agent.opens(name)
    loses_news(bob)
    carol.answers("We are here")
    carol.shows("Hello?", "We are here")
    bob.answers("Yes, I am")
    expect(bob.pending).to_contain_text(QUESTION)
    bob.field.press_sequentially("/")
    expect(bob.page.locator("#replies").get_by_role("option")).to_have_count(2)
    check(bob.page)
