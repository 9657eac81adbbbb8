"""An agent changes several conversations at once, and can undo it."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from django.db import transaction

from conversations.actions.assign import assign
from conversations.actions.close import UnseenMessage, close
from conversations.actions.label import label
from conversations.actions.prioritize import prioritize
from conversations.actions.reopen import reopen
from conversations.actions.snooze import snooze
from conversations.models import Agent, Conversation, Label
from conversations.models.deadlock import repeat_if_deadlocked

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Field = Literal["assignee", "priority", "snoozed", "status", "labels"]
Value = int | str | None | list[int]
"""As JSON: an agent's id, a priority, a moment in ISO 8601, a status, or the ids of labels."""

AT_ONCE = 100
"""Conversations that are changed in one transaction: they stay locked until all of them are."""


class Change(NamedTuple):
    """What an agent wants of conversations."""

    field: Field
    value: Value = None
    add: int | None = None  # the id of a label, with the field `labels`
    remove: int | None = None  # likewise


class Changed(NamedTuple):
    """What has become of one conversation."""

    pk: int
    field: Field
    before: Value
    after: Value
    last: int | None = None  # the last message then


def change(*, last_seen: dict[int, int | None], change: Change, by: "User") -> tuple[list[Changed], int]:
    """Change these conversations, and return what has changed, and how many were left open for a new message.

    last_seen: the last message that the agent has seen, by conversation, or None if it is not known: see `close`
    and `snooze`.
    Those that were deleted meanwhile, or are as wanted already, are passed over.
    """
    changed, unseen = list[Changed](), 0
    pks = sorted(last_seen)  # always in this order: so two agents never wait for each other
    for start in range(0, len(pks), AT_ONCE):
        some = pks[start : start + AT_ONCE]
        more, left = repeat_if_deadlocked(partial(_change, some, last_seen, change, by))
        changed, unseen = changed + more, unseen + left
    return changed, unseen


@transaction.atomic
def _change(
    pks: Iterable[int], last_seen: dict[int, int | None], change: Change, by: "User"
) -> tuple[list[Changed], int]:
    changed, unseen = [], 0
    Label.objects.lock([change.add] if change.add else [])
    for pk in pks:
        conversation = Conversation.objects.lock_if_exists(pk)
        if conversation is None:
            continue
        before = value_of(conversation, change.field)
        try:
            after = value_of(_apply(conversation, change, last_seen[pk], by), change.field)
        except UnseenMessage:
            unseen += 1
            continue
        if before != after:
            changed.append(Changed(pk, change.field, before, after, conversation.last_message_id))
    return changed, unseen


def undo(*, changed: Iterable[Changed], by: "User") -> int:
    """Change conversations back that are still as they were left, and return how many.

    None is closed or snoozed again in which the customer has written since: nobody would look for it there.
    """
    ordered = sorted(changed, key=lambda each: each.pk)
    parts = [ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE)]
    return sum(repeat_if_deadlocked(partial(_undo, part, by)) for part in parts)


@transaction.atomic
def _undo(changed: Sequence[Changed], by: "User") -> int:
    undone = 0
    Label.objects.lock({pk for each in changed if each.field == "labels" for pk in _ids(each.before)})
    for each in changed:
        conversation = Conversation.objects.lock_if_exists(each.pk)
        if conversation is None:
            continue
        now = value_of(conversation, each.field)
        if each.field == "labels":
            undone += _undo_labels(conversation, each, by)
        elif now == each.after:
            with suppress(UnseenMessage):
                changed_back = _apply(conversation, Change(each.field, each.before), each.last, by)
                undone += value_of(changed_back, each.field) != now
    return undone


def value_of(conversation: Conversation, field: Field) -> Value:
    """What a change of this field changes, and an undo brings back."""
    if field == "labels":
        return conversation.labels
    until = conversation.snoozed_until.isoformat() if conversation.snoozed_until else None
    if field == "snoozed":
        return until
    if field == "status":  # closing ends a snooze
        return f"{conversation.status} {until}" if conversation.is_snoozed else str(conversation.status)
    return conversation.assignee_id if field == "assignee" else conversation.priority


def _apply(conversation: Conversation, change: Change, last_seen: int | None, by: "User") -> Conversation:
    value = change.value
    if change.field == "assignee":
        if value is None:
            return assign(conversation=conversation, to=None, by=by)
        to = Agent.objects.filter(pk=value).first() if isinstance(value, int) else None
        if to is None or not to.visible_conversations().visible_ids([conversation.pk]):
            return conversation  # this agent has left, or does not see its website
        return assign(conversation=conversation, to=to, by=by)
    if change.field == "priority":
        return prioritize(conversation=conversation, priority=value if isinstance(value, int) else None, by=by)
    if change.field == "snoozed":
        until = datetime.fromisoformat(value) if isinstance(value, str) else None
        return snooze(conversation=conversation, until=until, last_seen=last_seen, by=by)
    if change.field == "status":
        if value == Conversation.Status.CLOSED:
            return close(conversation=conversation, last_seen=last_seen, by=by)
        conversation = reopen(conversation=conversation, by=by)
        _status, _space, snoozed = str(value).partition(" ")
        return _apply(conversation, Change("snoozed", snoozed), last_seen, by) if snoozed else conversation
    add, remove = (Label.objects.filter(pk=pk) if pk else () for pk in (change.add, change.remove))
    return label(conversation=conversation, add=list(add), remove=list(remove), by=by)


def _undo_labels(conversation: Conversation, changed: Changed, by: "User") -> bool:
    """Take off the labels that were put on, and put those back that were taken off; others have been changed since."""
    before, after = _ids(changed.before), _ids(changed.after)
    add = Label.objects.filter(pk__in=before - after)
    remove = Label.objects.filter(pk__in=after - before)
    was = conversation.labels
    return label(conversation=conversation, add=list(add), remove=list(remove), by=by).labels != was


def _ids(value: Value) -> set[int]:
    return set(value) if isinstance(value, list) else set()
