"""An agent's answer: what happens if a colleague has answered meanwhile."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, unique_name

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
