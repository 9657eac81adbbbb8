"""Receipts in the JSON API: a widget and a tool of agents say what was seen, and read what the other side has seen."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from conversations import actions
from conversations.api.schemas import iso_utc
from conversations.models import Agent, Conversation, Token, Website
from tests.conftest import Page
from tests.test_doorbell import in_thread, ring_of, session, socket
from tests.test_receipts import answer, now, receipt_of

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "application/json"


@pytest.fixture(autouse=True)
def _receipts() -> None:
    Website.objects.update(receipts=True)


def tool(agent: Agent, scope: str = "WRITE") -> Client:
    """A program of an agent."""
    return Client(headers={"Authorization": f"Bearer {Token.objects.issue(agent, 'tool', scope)}"})


def of_customer(talk: Conversation) -> str:
    return f"/api/messages/{talk.uuid}/"


def of_agents(talk: Conversation) -> str:
    return f"/api/conversation/{talk.pk}/"


def sees(client: Client, path: str, last: Any, **more: Any) -> int:
    """Say that this message was seen."""
    return client.post(f"{path}seen", json.dumps({"last": last}), content_type=JSON, **more).status_code


def seen(client: Client, path: str, since: int = 0) -> Any:
    """What a poll says of what the other side has seen; None if it says nothing."""
    return client.get(path, {"since": since}).json().get("seen")


def test_a_widget_says_what_the_customer_has_seen(talk: Conversation, bob: Agent, bobs: Page) -> None:
    first = answer(talk, bob)
    assert sees(Client(), of_customer(talk), first) == 204
    at = now(talk).seen_at
    assert at
    assert receipt_of(bobs, f"/inbox/{talk.pk}/"), "the inbox shows it"
    assert seen(tool(bob), f"{of_agents(talk)}messages/") == {"id": first, "at": iso_utc(at)}
    assert seen(Client(), of_customer(talk)) is None, "it is not a message of the customer"
    answer(talk, bob, "And another")
    assert seen(tool(bob), f"{of_agents(talk)}messages/") is None
    assert sees(Client(), of_customer(talk), first) == 204
    assert not now(talk).is_seen, "that is not the last one any more"
    actions.take_back(conversation=now(talk), pk=now(talk).last_message_id, by=bob)
    last = Client().get(of_customer(talk)).headers["X-Last-Message"]
    assert sees(Client(), of_customer(talk), int(last)) == 204
    assert now(talk).is_seen


def test_a_widget_reads_what_an_agent_has_seen(talk: Conversation, bob: Agent) -> None:
    last = talk.last_message_id
    assert seen(Client(), of_customer(talk)) is None
    assert sees(tool(bob), of_agents(talk), last) == 204
    found = Client().get(of_customer(talk)).json()
    assert found["seen"]["id"] == last
    assert Client().get(of_customer(talk), {"since": last}).json() == {"items": [], "count": 0, "seen": found["seen"]}
    assert seen(tool(bob), f"{of_agents(talk)}messages/") is None, "it is not a message of an agent"
    actions.post_message(conversation=now(talk), content="One more thing")
    assert seen(Client(), of_customer(talk), last) is None
    unread = now(talk).customer_messages - 1
    assert bob.readings.get(conversation=talk).customer_messages == unread, "it is read for Bob, too"


def test_an_agent_who_says_it_to_the_customers_address_has_read_it_as_an_agent(talk: Conversation, bob: Agent) -> None:
    assert sees(tool(bob), of_customer(talk), talk.last_message_id) == 204
    assert seen(Client(), of_customer(talk))["id"] == talk.last_message_id
    last = answer(talk, bob)
    assert sees(tool(bob), of_customer(talk), last) == 204
    assert not now(talk).is_seen, "the customer has not seen it"


def test_nothing_is_written_twice_or_where_there_is_nothing_to_see(talk: Conversation, bob: Agent) -> None:
    last = answer(talk, bob)
    sees(Client(), of_customer(talk), last)
    with CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            assert sees(Client(), of_customer(talk), last) == 204
        assert sees(Client(), of_customer(talk), last - 1) == 204
    assert not [query for query in queries if (query["sql"] or "").startswith(("UPDATE", "INSERT"))]
    before = Conversation.objects.count()
    response = Client().post("/api/messages/3fa85f64-5717-4562-b3fc-2c963f66afa6/seen", {"last": 1}, JSON)
    assert (response.status_code, response.content, response.cookies) == (204, b"", {}), "nobody learns what exists"
    assert Conversation.objects.count() == before


def test_where_the_website_shows_none_nothing_is_stored_or_said(talk: Conversation, bob: Agent) -> None:
    sees(tool(bob), of_agents(talk), talk.last_message_id)
    assert seen(Client(), of_customer(talk))
    website = Website.objects.default()
    website.receipts = False
    website.save()
    assert seen(Client(), of_customer(talk)) is None, "what was stored before is not said"
    last = answer(talk, bob)
    assert sees(Client(), of_customer(talk), last) == 204
    assert not now(talk).is_seen


def test_only_pages_that_may_speak_for_the_customer_say_it(talk: Conversation, bob: Agent) -> None:
    last = answer(talk, bob)
    assert sees(Client(), of_customer(talk), last, headers={"Origin": "https://evil.example"}) == 204
    assert not now(talk).is_seen
    Website.objects.default().origins.create(origin="https://shop.example")
    assert sees(Client(), of_customer(talk), last, headers={"Origin": "https://shop.example"}) == 204
    assert now(talk).is_seen


def test_wrong_input_and_wrong_callers_are_refused(talk: Conversation, bob: Agent) -> None:
    for wrong in (None, "x", -1, 2**70):
        assert sees(Client(), of_customer(talk), wrong) == 422
    assert sees(Client(), of_agents(talk), 1) == 401
    assert sees(tool(bob, "READ"), of_agents(talk), 1) == 403
    assert sees(tool(bob, "READ"), of_customer(talk), 1) == 403
    assert sees(tool(bob), of_agents(Conversation(pk=999)), 1) == 404
    assert not now(talk).is_seen


async def test_the_other_side_is_rung(talk: Conversation, bob: Agent, bobs: Page) -> None:
    async with (
        socket(f"/ws/messages/{talk.uuid}/", origin=b"http://testserver") as alice_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, bob_socket):
            await bell.connect()
            await ring_of(bell)
        program = await in_thread(tool)(bob)
        await in_thread(sees)(program, of_agents(talk), talk.last_message_id)
        assert (await ring_of(alice_socket))["last"] == talk.last_message_id
        last = await in_thread(answer)(talk, bob)
        await ring_of(alice_socket)
        while not await bob_socket.receive_nothing():
            await ring_of(bob_socket)
        await in_thread(sees)(Client(), of_customer(talk), last)
        assert (await ring_of(bob_socket))["beside"] is True
