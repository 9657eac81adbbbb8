"""Two agents change the same conversations at once: nobody gets an error, and what is kept twice still agrees."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from conversations.actions import assign, create_label, label, post_message
from conversations.actions import change as change_module
from conversations.actions.change import Change, change, undo
from conversations.models import Agent, Conversation, ConversationLabel, DeskEntry, Label

pytestmark = pytest.mark.django_db(transaction=True)


def agrees() -> None:
    """Assert that the copies in the rows of labels and in the conversations are as they should be."""
    existing = set(Label.objects.values_list("pk", flat=True))
    for talk in Conversation.objects.all():
        rows = list(ConversationLabel.objects.filter(conversation=talk))
        assert sorted(row.label_id for row in rows) == sorted(existing & set(talk.labels))
        assert {(row.status, row.last_message_id) for row in rows} <= {(talk.status, talk.last_message_id)}
        assert talk.is_open or talk.snoozed_until is None


def any_change(labels: list[Label], agents: list[Agent], luck: random.Random) -> Change:
    """What an agent may do."""
    pk = luck.choice(labels).pk
    until = (timezone.now() + timedelta(hours=luck.randint(1, 9))).isoformat()
    return luck.choice(
        [
            Change("assignee", luck.choice([None, *(agent.pk for agent in agents)])),
            Change("priority", luck.choice([None, 1, 4])),
            Change("snoozed", luck.choice([None, until])),
            Change("status", luck.choice(["OPEN", "CLOSED"])),
            Change("labels", add=pk),
            Change("labels", remove=pk),
        ]
    )


def run(*works: Callable[[], Any]) -> list[BaseException]:
    """Run these at the same time; return what they have raised."""
    errors: list[BaseException] = []

    def work(each: Callable[[], Any]) -> None:
        try:
            each()
        except BaseException as error:  # whatever it is
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[each]) for each in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_agents_and_customers_at_once_get_no_error_and_leave_no_contradiction(bob: Agent, carol: Agent) -> None:
    labels = [create_label(name=name) for name in ("Billing", "Refund", "VIP")]
    talks = [post_message(content="Hello?").conversation for _ in range(4)]

    def acts(agent: Agent, seed: int) -> Callable[[], None]:
        luck = random.Random(seed)

        def work() -> None:
            for _ in range(25):
                chosen = luck.sample(talks, luck.randint(1, len(talks)))
                wanted = any_change(labels, [bob, carol], luck)
                again(partial(change_and_undo, chosen, wanted, agent, luck.random() < 0.3))

        return work

    def writes() -> None:
        for number in range(25):
            again(partial(asks, talks[number % len(talks)]))

    assert run(acts(bob, 1), acts(carol, 2), writes) == []
    agrees()


@pytest.mark.parametrize("number", [1213, 1205])
def test_a_change_that_the_database_ends_in_a_deadlock_is_made_again(
    bob: Agent, carol: Agent, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pks = [post_message(content="Hello?").conversation.pk for _ in range(3)]
    wanted, before = Change("assignee", carol.pk), [0]

    def assigns(**values: Any) -> Conversation:
        assigned = assign(**values)
        before[0] += 1
        if before[0] in {2, 7}:  # in the middle of the change, and of its undo
            raise OperationalError from Exception(number, "Deadlock found when trying to get lock")
        return assigned

    monkeypatch.setattr(change_module, "assign", assigns)
    if number != 1213:
        with pytest.raises(OperationalError):
            change(last_seen=dict.fromkeys(pks), change=wanted, by=bob)
        assert not DeskEntry.objects.exists()
        return
    changed, _unseen = change(last_seen=dict.fromkeys(pks), change=wanted, by=bob)
    assert [each.pk for each in changed] == pks
    assert {talk.assignee_id for talk in Conversation.objects.all()} == {carol.pk}
    assert DeskEntry.objects.count() == 3
    assert undo(changed=changed, by=bob) == 3
    assert {talk.assignee_id for talk in Conversation.objects.all()} == {None}
    assert DeskEntry.objects.count() == 6


def test_a_label_is_deleted_while_agents_put_it_on(bob: Agent, carol: Agent) -> None:
    talks = [post_message(content="Hello?").conversation for _ in range(4)]
    names = [f"Label {number}" for number in range(15)]

    def puts_on(agent: Agent, some: list[Conversation]) -> None:
        for name in names:
            wanted = Change("labels", add=create_label(name=name).pk)
            again(partial(change_and_undo, some, wanted, agent, False))

    def deletes() -> None:
        for name in names:
            while not (found := Label.objects.by_name(name)):
                connection.close()
            again(found.delete)

    assert run(partial(puts_on, bob, talks), partial(puts_on, carol, talks[:2]), deletes) == []
    agrees()


def test_labels_are_deleted_while_agents_close_what_has_them(bob: Agent, carol: Agent) -> None:
    talks = [post_message(content="Hello?").conversation for _ in range(12)]
    labels = [create_label(name=f"Label {number}") for number in range(12)]
    for talk in reversed(talks):  # not in the order in which they are closed
        label(conversation=talk, add=labels, by=bob)

    def closes(agent: Agent) -> None:
        for status in ("CLOSED", "OPEN") * 5:
            again(partial(change_and_undo, talks, Change("status", status), agent, False))

    def deletes() -> None:
        for each in labels:
            again(each.delete)

    assert run(partial(closes, bob), partial(closes, carol), deletes) == []
    agrees()


def change_and_undo(chosen: list[Conversation], wanted: Change, agent: Agent, takes_back: bool) -> None:
    """Change conversations, and perhaps change them back."""
    changed, _unseen = change(last_seen=dict.fromkeys([each.pk for each in chosen]), change=wanted, by=agent)
    if takes_back:
        undo(changed=changed, by=agent)


def asks(talk: Conversation) -> None:
    """Its customer writes."""
    post_message(content="And?", conversation=Conversation.objects.get(pk=talk.pk))


def again(work: Callable[[], Any]) -> None:
    """Do it; and again where SQLite is busy, or MariaDB chooses it in a deadlock, as pages and their scripts do."""
    for _ in range(20):
        try:
            work()
        except OperationalError:
            if connection.vendor == "postgresql":
                raise
        else:
            return
    raise AssertionError("It never worked.")
