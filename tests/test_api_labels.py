"""Labels, priorities and snoozing in the JSON API: for programs of agents, and never for customers."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations.actions import close, create_label, label, post_message, prioritize, snooze
from conversations.models import Agent, Conversation, ConversationLabel, Label
from conversations.models.label import MAX_ON_CONVERSATION
from tests.test_api_agents import JSON, LIST, script

pytestmark = pytest.mark.django_db


@pytest.fixture
def bobs_script(bob: Agent) -> Client:
    """A program with a token of Bob's."""
    return script(bob)


def change(client: Client, talk: Conversation, verb: str, query: str = "", **body: Any) -> Any:
    """PATCH one of the calls that change a conversation."""
    return client.patch(f"{LIST}{talk.pk}/{verb}{query}", json.dumps(body), content_type=JSON)


def in_hours(hours: float) -> str:
    """A moment as the API writes it."""
    return (timezone.now() + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def found(client: Client, **filters: Any) -> list[int]:
    """The ids of the conversations that a list has."""
    response = client.get(LIST, filters)
    assert response.status_code == 200, response.content
    assert response.json()["count"] == len(response.json()["items"])
    return [item["id"] for item in response.json()["items"]]


def test_a_conversation_says_its_labels_priority_and_snooze(bobs_script: Client, talk: Conversation) -> None:
    item = bobs_script.get(f"{LIST}{talk.pk}/").json()
    assert (item["labels"], item["priority"], item["snoozed_until"]) == ([], None, None)
    refund, billing = create_label(name="Refund"), create_label(name="Billing")
    label(conversation=talk, add=[refund, billing])
    prioritize(conversation=talk, priority=Conversation.Priority.URGENT)
    until = datetime.fromisoformat(in_hours(1))
    snooze(conversation=talk, until=until)
    item = bobs_script.get(f"{LIST}{talk.pk}/").json()
    assert (item["labels"], item["priority"]) == (["Billing", "Refund"], "URGENT")
    assert datetime.fromisoformat(item["snoozed_until"]) == until
    assert bobs_script.get(LIST).json()["items"] == [item]
    refund.delete()
    Conversation.objects.update(snoozed_until=timezone.now() - timedelta(seconds=1))
    item = bobs_script.get(f"{LIST}{talk.pk}/").json()
    assert (item["labels"], item["snoozed_until"]) == (["Billing"], None), "what is over or deleted is not said"


def test_the_labels_of_a_list_take_one_query(bobs_script: Client, talk: Conversation) -> None:
    label(conversation=talk, add=[create_label(name="Billing")])
    bobs_script.get(LIST)
    with CaptureQueriesContext(connection) as one:
        bobs_script.get(LIST)
    for number in range(3):
        label(conversation=post_message(content="Hi").conversation, add=[create_label(name=f"Label {number}")])
    with CaptureQueriesContext(connection) as four:
        assert len(bobs_script.get(LIST).json()["items"]) == 4
    assert len(four) == len(one)


def test_lists_are_narrowed_by_label_priority_and_snooze(bobs_script: Client, talk: Conversation) -> None:
    labelled, urgent, snoozed, closed = (post_message(content="Hi").conversation for _ in range(4))
    billing = create_label(name="Billing")
    label(conversation=labelled, add=[billing, create_label(name="Refund")])
    label(conversation=closed, add=[billing])
    close(conversation=closed)
    prioritize(conversation=urgent, priority=Conversation.Priority.URGENT)
    snooze(conversation=snoozed, until=timezone.now() + timedelta(hours=1))
    for order in ("start", "activity"):
        assert found(bobs_script, label="billing", order=order) == [closed.pk, labelled.pk]
        assert found(bobs_script, label="Billing", status="OPEN", order=order) == [labelled.pk]
        assert found(bobs_script, label="Billing", after=labelled.pk) == [closed.pk]
        assert found(bobs_script, label="unknown", order=order) == []
        assert found(bobs_script, priority="URGENT", order=order) == [urgent.pk]
        assert found(bobs_script, priority="LOW", order=order) == []
        assert found(bobs_script, snoozed=True, order=order) == [snoozed.pk]
        assert snoozed.pk not in found(bobs_script, snoozed=False, status="OPEN", order=order)
        assert len(found(bobs_script, snoozed=False, order=order)) == 4, "closed ones are not snoozed"
    assert bobs_script.get(LIST, {"priority": "TOP"}).status_code == 422


def test_a_program_labels(bobs_script: Client, bob: Agent, talk: Conversation) -> None:
    for name in ("Billing", "Refund"):
        create_label(name=name)
    assert change(bobs_script, talk, "labels", add=["refund", "Billing"]).json()["labels"] == ["Billing", "Refund"]
    changed = change(bobs_script, talk, "labels", remove=["REFUND"], add=["Billing"])
    assert changed.json()["labels"] == ["Billing"]
    assert changed.json()["updated_at"] > talk.created_at.isoformat()
    kinds = list(talk.desk_entries.order_by("pk").values_list("kind", "content", "agent"))
    assert kinds[-1] == ("unlabelled", "Refund", bob.pk), "agents see who did it"
    refused = change(bobs_script, talk, "labels", add=["Billing", "Biling"])
    assert refused.status_code == 422
    [error] = refused.json()["detail"]
    assert error["loc"] == ["body", "add"]
    assert "Biling" in error["msg"]
    assert change(bobs_script, talk, "labels").json()["labels"] == ["Billing"], "nothing was asked for"
    assert change(bobs_script, talk, "labels", remove=["Biling"]).status_code == 200, "it has no such label already"


def test_no_label_is_dropped_in_silence(bobs_script: Client, talk: Conversation) -> None:
    names = [f"Label {number:02}" for number in range(MAX_ON_CONVERSATION)]
    Label.objects.bulk_create(Label(name=name, folded=name.casefold()) for name in [*names, "One more"])
    assert change(bobs_script, talk, "labels", add=names).json()["labels"] == names
    assert change(bobs_script, talk, "labels", add=["One more"]).status_code == 422
    assert ConversationLabel.objects.count() == MAX_ON_CONVERSATION
    assert change(bobs_script, talk, "labels", add=["One more"], remove=["Label 00"]).status_code == 200


def test_a_program_lists_and_makes_labels(bobs_script: Client, bob: Agent) -> None:
    assert bobs_script.get("/api/labels/").json() == {"items": [], "count": 0}
    made = bobs_script.post("/api/labels/", {"name": " Refund  due "}, JSON)
    assert (made.status_code, made.json()["name"]) == (200, "Refund due")
    assert bobs_script.post("/api/labels/", {"name": "REFUND DUE", "colour": "red"}, JSON).json() == made.json()
    bobs_script.post("/api/labels/", {"name": "Billing", "colour": "red"}, JSON)
    assert bobs_script.get("/api/labels/").json() == {
        "items": [{"name": "Billing", "colour": "red"}, made.json()],
        "count": 2,
    }
    for body in ({"name": " "}, {"name": "x" * 41}, {"name": "New", "colour": "beige"}, {}):
        assert bobs_script.post("/api/labels/", body, JSON).status_code == 422
    assert script(bob, "READ").post("/api/labels/", {"name": "New"}, JSON).status_code == 403
    assert Client().get("/api/labels/").status_code == 401


def test_a_program_sets_and_takes_away_a_priority(bobs_script: Client, talk: Conversation) -> None:
    assert change(bobs_script, talk, "priority", priority="HIGH").json()["priority"] == "HIGH"
    assert change(bobs_script, talk, "priority", priority=None).json()["priority"] is None
    for body in ({"priority": "TOP"}, {"priority": 3}, {}):
        assert change(bobs_script, talk, "priority", **body).status_code == 422


def test_a_program_snoozes_and_brings_back(bobs_script: Client, talk: Conversation) -> None:
    until = in_hours(1)
    assert change(bobs_script, talk, "snooze", until=until).json()["snoozed_until"] == until
    assert found(bobs_script, snoozed=True) == [talk.pk]
    assert change(bobs_script, talk, "snooze", until=None).json()["snoozed_until"] is None
    for wrong in (in_hours(-1), in_hours(24 * 366 * 6), "tomorrow", 17):
        assert change(bobs_script, talk, "snooze", until=wrong).status_code == 422
    assert change(bobs_script, talk, "snooze").status_code == 422
    assert found(bobs_script, snoozed=True) == []
    change(bobs_script, talk, "snooze", until=until)
    post_message(content="Are you there?", conversation=Conversation.objects.get())
    assert found(bobs_script, snoozed=True) == [], "a message of the customer brings it back"


def test_what_nobody_has_seen_or_is_closed_is_not_snoozed(bobs_script: Client, talk: Conversation) -> None:
    seen = talk.last_message_id
    post_message(content="And my number is 7", conversation=talk)
    refused = change(bobs_script, talk, "snooze", f"?last={seen}", until=in_hours(1))
    assert refused.status_code == 409
    assert "newer message" in refused.json()["detail"]
    close(conversation=talk)
    refused = change(bobs_script, talk, "snooze", until=in_hours(1))
    assert refused.status_code == 409
    assert "closed" in refused.json()["detail"]
    assert Conversation.objects.get().snoozed_until is None


def test_only_agents_who_see_it_change_it_and_no_customer_reads_it(bob: Agent, talk: Conversation) -> None:
    label(conversation=talk, add=[create_label(name="Difficult")])
    prioritize(conversation=talk, priority=Conversation.Priority.LOW)
    for verb, body in (
        ("labels", {"add": ["Difficult"]}),
        ("priority", {"priority": "LOW"}),
        ("snooze", {"until": None}),
    ):
        assert change(Client(), talk, verb, **body).status_code == 401
        assert change(script(bob, "READ"), talk, verb, **body).status_code == 403
        assert change(script(bob), Conversation(pk=999), verb, **body).status_code == 404
    for response in (
        Client().get(f"/api/messages/{talk.uuid}/"),
        Client().post("/api/messages/", {"content": "Hi", "conversation": str(talk.uuid)}, JSON),
        Client().get("/api/website/default/"),
    ):
        assert not {
            word for word in ("labels", "Difficult", "priority", "snoozed") if word in response.content.decode()
        }


@pytest.mark.parametrize("name", ["\x00", "a\ud800"])
def test_a_label_whose_name_no_database_can_store_does_not_exist(
    bobs_script: Client, talk: Conversation, name: str
) -> None:
    assert change(bobs_script, talk, "labels", add=[name]).status_code == 422
    assert change(bobs_script, talk, "labels", remove=[name]).status_code == 200
    response = bobs_script.post("/api/labels/", json.dumps({"name": name}), content_type=JSON)
    assert response.status_code == 422
    assert not Label.objects.exists()
