"""What an agent's page calls them for."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from conversations.actions import assign, close, post_message, snooze, take_back, write_note
from conversations.models import Agent, AgentProfile, Conversation, Website
from tests.conftest import Page

pytestmark = pytest.mark.django_db


def begin(text: str = "Hello", name: str = "Alice", **more: Any) -> Conversation:
    """A conversation of a customer."""
    return post_message(content=text, name=name, **more).conversation


def called(page: Page, since: int = 0, **more: str) -> list[str]:
    """What the page is called for."""
    return [call["text"] for call in page.get("/inbox/calls/", {"since": str(since), **more}).json()["calls"]]


def test_an_agent_is_called_for_what_customers_write(bobs: Page, carol: Agent) -> None:
    first = begin()
    answer = bobs.get("/inbox/calls/").json()
    assert answer == {"last": first.last_message_id, "quiet": False, "calls": []}
    second = begin("Where is it?", "Dora")
    [call] = bobs.get(f"/inbox/calls/?since={answer['last']}").json()["calls"]
    assert call == {"conversation": second.pk, "last": second.last_message_id, "text": "New message from Dora"}
    post_message(content="And another", conversation=second)
    assert called(bobs, answer["last"]) == ["New message from Dora"]
    assert called(bobs, second.last_message_id + 1) == []


def test_nothing_else_calls_an_agent(bobs: Page, bob: Agent, carol: Agent) -> None:
    answered, read, closed, noted = begin(), begin(), begin(), begin()
    post_message(content="Hi", conversation=answered, agent=carol)
    bobs.post(f"/inbox/{read.pk}/read/", {"last": read.last_message_id})
    close(conversation=closed, by=carol)
    since = noted.last_message_id
    write_note(conversation=noted, agent=carol, content="For later")
    post_message(content="I am bob's bot", conversation=noted, agent=bob)
    assert called(bobs, since) == []
    assert called(bobs) == []


def test_a_customer_who_writes_again_ends_the_snooze_and_calls(bobs: Page, bob: Agent) -> None:
    talk = begin()
    snooze(conversation=talk, until=timezone.now() + timedelta(days=1), by=bob)
    post_message(content="Are you there?", conversation=talk)
    assert called(bobs, talk.last_message_id) == ["New message from Alice"]


def test_a_message_that_is_taken_back_calls_nobody(bobs: Page, carol: Agent) -> None:
    talk = begin()
    wrong = post_message(content="I was wrong", conversation=talk, agent=carol)
    last = post_message(content="Which one?", conversation=talk)
    take_back(conversation=talk, pk=wrong.pk, by=carol)
    assert called(bobs, last.pk) == []
    assert called(bobs, wrong.pk) == ["New message from Alice"]


def test_what_a_colleague_assigns_calls_an_agent(bobs: Page, bob: Agent, carol: Agent) -> None:
    talk, own, taken_back = begin(), begin(), begin()
    since = taken_back.last_message_id
    assign(conversation=talk, to=bob, by=carol)
    assign(conversation=own, to=bob, by=bob)
    assign(conversation=taken_back, to=bob, by=carol)
    assign(conversation=taken_back, to=carol, by=carol)
    assert called(bobs, since) == ["Assigned to you: Alice"]
    AgentProfile.objects.change(bob, about="mentions")
    assert called(bobs, since) == []


@pytest.mark.parametrize(
    ("about", "names"), [("all", ["Mine", "Hers", "Free"]), ("mine", ["Mine", "Free"]), ("mentions", [])]
)
def test_an_agent_chooses_what_calls_them(bobs: Page, bob: Agent, carol: Agent, about: str, names: list[str]) -> None:
    AgentProfile.objects.change(bob, about=about)
    assign(conversation=begin(name="Mine"), to=bob, by=bob)
    assign(conversation=begin(name="Hers"), to=carol, by=carol)
    begin(name="Free")
    assert called(bobs) == [f"New message from {name}" for name in reversed(names)]


@pytest.mark.parametrize("way", ["deactivated", "out of the group", "without the website", "deleted"])
def test_customers_of_a_colleague_who_has_left_call_those_who_hear_of_unassigned_ones(
    bobs: Page, bob: Agent, carol: Agent, way: str
) -> None:
    AgentProfile.objects.change(bob, about="mine")
    hers = begin(name="Hers")
    assign(conversation=hers, to=carol, by=carol)
    assert called(bobs) == []
    if way == "deactivated":
        carol.is_active = False
        carol.save()
    elif way == "out of the group":
        carol.groups.clear()
    elif way == "without the website":
        Website.objects.create(name="Another", key="another").agents.add(carol)
    else:
        User.objects.get(pk=carol.pk).delete()
    assert called(bobs) == ["New message from Hers"]
    post_message(content="Is nobody there?", conversation=hers)
    assert called(bobs, hers.last_message_id) == ["New message from Hers"]


def test_a_mention_calls_whoever_is_mentioned(bobs: Page, carols: Page, bob: Agent, carol: Agent) -> None:
    AgentProfile.objects.change(bob, about="mentions")
    talk = begin()
    since = talk.last_message_id
    write_note(conversation=talk, agent=carol, content="Look at this, @bob")
    assert called(bobs, since) == ["A colleague mentions you: Alice"]
    assert called(carols, since) == []
    bobs.get(f"/inbox/{talk.pk}/", headers={"Sec-Fetch-Site": "same-origin"})
    assert called(bobs, since) == []


def test_a_limited_agent_is_called_only_for_their_own_websites(bobs: Page, bob: Agent, db: None) -> None:
    mine = Website.objects.create(name="Mine", key="mine")
    mine.agents.add(bob)
    hers = begin("A secret", "Dora")
    ours = begin(name="Alice", website=mine)
    answer = bobs.get("/inbox/calls/?since=0").json()
    assert [call["conversation"] for call in answer["calls"]] == [ours.pk]
    post_message(content="More", conversation=hers)
    assert bobs.get("/inbox/calls/").json()["last"] == ours.last_message_id


def test_quiet_hours_are_in_the_agents_time_zone(bobs: Page, bob: Agent) -> None:
    now = timezone.now()
    ends = {"quiet_from": (now - timedelta(minutes=5)).time(), "quiet_until": (now + timedelta(minutes=5)).time()}
    AgentProfile.objects.change(bob, **ends)
    read = [bobs.get("/inbox/calls/", {"zone": zone}).json()["quiet"] for zone in ("UTC", "Asia/Tokyo", "x/../y")]
    assert read == [True, False, True]
    AgentProfile.objects.change(bob, time_zone="Asia/Tokyo")
    assert not bobs.get("/inbox/calls/", {"zone": "UTC"}).json()["quiet"]


def test_many_customers_are_few_calls(bobs: Page) -> None:
    for number in range(25):
        begin(name=f"Customer {number}")
    assert len(called(bobs)) == 20


@pytest.mark.parametrize("since", ["", "x", "-1", "9" * 30, "9223372036854775807"])
def test_a_number_that_makes_no_sense_calls_for_nothing(bobs: Page, talk: Conversation, since: str) -> None:
    response = bobs.get(f"/inbox/calls/?since={since}")
    assert response.status_code in {200, 400, 422}
    if response.status_code == 200:
        assert response.json()["calls"] == []


def test_only_agents_ask(mallory: Page, talk: Conversation) -> None:
    assert mallory.get("/inbox/calls/?since=0").status_code == 302


def test_the_cost_does_not_grow(bobs: Page, django_assert_num_queries: Any) -> None:
    for number in range(25):
        begin(name=f"Customer {number}")
    called(bobs)
    with django_assert_num_queries(6):  # session, agent, newest message, mentions, what was assigned, conversations
        called(bobs)


def test_customers_load_nothing_of_it_unless_their_website_has_sounds(alice: Page) -> None:
    alice.says("Hello")
    page = alice.get("/chat/").content.decode()
    assert "notices" not in page
    assert "sounds" not in page
    Website.objects.update(sounds=True)
    assert re.search(r'data-sounds="/chat/sounds\.en\.\w+\.js"', alice.get("/chat/").content.decode())
