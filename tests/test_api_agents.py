"""Programs of agents: who answered, who the agents are, assigning, and lists that skip no conversation."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations.actions import close, post_message, renew_secret, reopen, take
from conversations.models import Agent, Conversation, Token, Website
from conversations.presence import agents

pytestmark = pytest.mark.django_db
LIST = "/api/conversation/"
JSON = "application/json"


def script(agent: Agent, scope: str = "WRITE") -> Client:
    """A program with a token of the agent."""
    return Client(headers={"Authorization": f"Bearer {Token.objects.issue(agent, 'script', scope)}"})


def assign(client: Client, conversation: Conversation, agent: Any) -> Any:
    """PATCH assign."""
    body = json.dumps({"agent": agent})
    return client.patch(f"{LIST}{conversation.pk}/assign", body, content_type="application/json")


@pytest.fixture
def club() -> Website:
    """A second website."""
    return Website.objects.create(key="club", name="The Club")


@pytest.fixture
def dora(club: Website) -> Agent:
    """An agent who is limited to the club."""
    dora = Agent.objects.promote(User.objects.create_user("dora", password="secret of dora"))
    dora.websites.add(club)
    return Agent.objects.get(pk=dora.pk)


def test_a_message_says_who_answered_by_the_name_that_customers_see(
    talk: Conversation, dora: Agent, bob: Agent
) -> None:
    User.objects.filter(pk=bob.pk).update(last_name="Baker")
    post_message(content="Hello", conversation=talk, agent=bob)
    post_message(content="Hello", conversation=talk, agent=dora)  # who has only a username
    expected = [None, {"name": "Bob Baker"}, {"name": "Agent"}]
    for response in [
        Client().get(f"/api/messages/{talk.uuid}/"),
        script(bob).get(f"{LIST}{talk.pk}/messages/"),
        Client().get(f"/api/messages/{talk.uuid}/?limit=5"),
    ]:
        assert [item["agent"] for item in response.json()["items"]] == expected
        assert "dora" not in response.content.decode()


def test_the_name_of_the_agent_costs_no_query(talk: Conversation, bob: Agent, carol: Agent) -> None:
    for agent in (bob, carol, bob):
        post_message(content="Hello", conversation=talk, agent=agent)
    for since in (0, Conversation.objects.get(pk=talk.pk).last_message_id):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            Client().get(f"/api/messages/{talk.uuid}/?since={since}")
        assert len(queries) == 1


def test_closing_page_by_page_skips_none(bob: Agent) -> None:
    made = [post_message(content=f"{number}").conversation for number in range(7)]
    for order, cursor in [("start", "id"), ("activity", "last_message_id")]:
        Conversation.objects.update(status="OPEN")
        client, seen, before = script(bob), [], ""
        while items := client.get(f"{LIST}?status=OPEN&order={order}&limit=2{before}").json()["items"]:
            for item in items:
                assert client.patch(f"{LIST}{item['id']}/close").status_code == 200
            seen += [item["id"] for item in items]
            before = f"&before={items[-1][cursor]}"
        assert seen == [conversation.pk for conversation in reversed(made)]


def test_the_order_by_activity_and_what_came_after_a_cursor(bob: Agent) -> None:
    first, second, third = (post_message(content="Hi").conversation for _ in range(3))
    last = post_message(content="Again", conversation=first).pk
    third_last = third.last_message_id

    def ids(query: str) -> list[int]:
        return [item["id"] for item in script(bob).get(LIST + query).json()["items"]]

    assert ids("?order=activity") == [first.pk, third.pk, second.pk]
    assert ids("?order=start") == ids("") == [third.pk, second.pk, first.pk]
    assert ids(f"?after={first.pk}&limit=1") == [second.pk]
    assert ids(f"?after={first.pk}") == [third.pk, second.pk]
    assert ids(f"?order=activity&after={third_last}") == [first.pk]
    assert ids(f"?order=activity&after={last}") == []
    assert script(bob).get(f"{LIST}?before={third.pk}").json()["count"] == 2
    for query in ("?before=-1", "?before=x", "?after=99999999999999999999", "?order=name"):
        assert script(bob).get(LIST + query).status_code == 422


def test_an_agent_assigns_a_conversation_to_another_and_releases_it(
    bob: Agent, carol: Agent, talk: Conversation
) -> None:
    assert assign(script(bob), talk, carol.pk).json()["assignee"] == carol.pk
    talk.refresh_from_db()
    assert talk.assignee_id == carol.pk
    response = script(bob).patch(f"{LIST}{talk.pk}/release")
    assert (response.status_code, response.json()["assignee"]) == (200, None)
    assert script(bob).patch(f"{LIST}{talk.pk}/release").status_code == 200
    close(conversation=talk)
    assert assign(script(bob), talk, bob.pk).json()["status"] == "CLOSED"


def test_a_conversation_is_assigned_only_to_agents_who_see_it(
    bob: Agent, dora: Agent, talk: Conversation, club: Website
) -> None:
    customer = User.objects.create_user("alice")
    User.objects.filter(pk=Agent.objects.promote(User.objects.create_user("former")).pk).update(is_active=False)
    for number in (dora.pk, customer.pk, User.objects.get(username="former").pk, 999_999, 0, 2**62):
        response = assign(script(bob), talk, number)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body", "agent"]
    for invalid in (None, "x", -1, 2**70):
        assert assign(script(bob), talk, invalid).status_code == 422
    assert assign(script(dora), talk, dora.pk).status_code == 404
    talk.refresh_from_db()
    assert talk.assignee is None
    there = post_message(content="Hi", website=club).conversation
    assert assign(script(dora), there, bob.pk).json()["assignee"] == bob.pk


def test_agents_see_the_colleagues_with_whom_they_share_a_website(bob: Agent, carol: Agent, dora: Agent) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    shop.agents.add(carol)
    carol = Agent.objects.get(pk=carol.pk)
    agents.mark_online(bob)

    def names(agent: Agent, query: str = "") -> list[str]:
        return [item["name"] for item in script(agent).get(f"/api/agents/{query}").json()["items"]]

    assert sorted(names(bob)) == ["Bob", "Carol", "dora"]
    assert sorted(names(carol)) == ["Bob", "Carol"]
    assert sorted(names(dora)) == ["Bob", "dora"]
    assert sorted(names(bob, "?website=club")) == ["Bob", "dora"]
    assert names(bob, "?website=unknown") == names(carol, "?website=club") == []
    found = {item["name"]: item for item in script(bob).get("/api/agents/").json()["items"]}
    assert found["Bob"] == {"id": bob.pk, "name": "Bob", "online": True}
    assert found["Carol"]["online"] is False


def test_a_program_learns_who_it_is(bob: Agent, dora: Agent) -> None:
    me = {"id": bob.pk, "name": "Bob", "public_name": "Bob", "websites": ["default", "club"], "read_only": False}
    found = script(bob).get("/api/me/").json()
    assert {**found, "websites": sorted(found["websites"])} == {**me, "websites": ["club", "default"]}
    found = script(dora, "READ").get("/api/me").json()
    assert found == {"id": dora.pk, "name": "dora", "public_name": "Agent", "websites": ["club"], "read_only": True}


def test_only_agents_learn_who_the_agents_are(bob: Agent) -> None:
    client = Client()
    client.force_login(User.objects.create_user("alice"))
    for caller in (Client(), client):
        for path in ("/api/agents/", "/api/me/"):
            response = caller.get(path)
            assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})


def test_updated_since_finds_what_has_changed_whatever_it_was(bob: Agent) -> None:
    changes: list[Callable[[Conversation], Any]] = [
        lambda talk: post_message(content="Again", conversation=talk),
        lambda talk: close(conversation=talk),
        lambda talk: reopen(conversation=close(conversation=talk)),
        lambda talk: take(conversation=talk, by=bob),
        lambda talk: script(bob).patch(f"{LIST}{talk.pk}/assign", f'{{"agent": {bob.pk}}}', content_type=JSON),
        lambda talk: renew_secret(conversation=talk),
    ]
    made = [post_message(content="Hi").conversation for _ in [*changes, "unchanged"]]
    earlier = timezone.now() - timedelta(hours=1)
    Conversation.objects.update(updated_at=earlier, last_message_at=earlier)
    Conversation.objects.filter(pk=made[-1].pk).update(updated_at=None)  # as before an upgrade
    since = timezone.now() - timedelta(minutes=1)
    for change, talk in zip(changes, made, strict=False):
        change(talk)
    query = {"updated_since": since.isoformat()}
    found = script(bob).get(LIST, query).json()
    assert [item["id"] for item in found["items"]] == [talk.pk for talk in reversed(made[:-1])]
    assert found["count"] == len(changes)
    assert all(item["updated_at"] > since.isoformat() for item in found["items"])
    for text, count in [("2020-01-01T00:00", len(made)), ("0001-01-01T00:00:00Z", len(made)), ("9999-12-31T00:00Z", 0)]:
        assert script(bob).get(LIST, {"updated_since": text}).json()["count"] == count
    for invalid in ("yesterday", "0.5", "1700000000", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert script(bob).get(LIST, {"updated_since": invalid}).status_code == 422
