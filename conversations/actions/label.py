"""An agent puts labels on a conversation, or takes them off."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Conversation, ConversationLabel, Label
from conversations.models.desk_entry import Kind
from conversations.models.label import MAX_ON_CONVERSATION

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def label(
    *,
    conversation: Conversation,
    add: Collection[Label] = (),
    remove: Collection[Label] = (),
    by: "User | None" = None,
) -> Conversation:
    """Put labels on a conversation, and take others off. It keeps at most MAX_ON_CONVERSATION of them.

    What it has already, or has not, is passed over: the last word of several agents counts.
    """
    add = Label.objects.lock(each.pk for each in add)  # those that still exist
    conversation = Conversation.objects.lock(conversation.pk)
    gone = {each.pk for each in remove}
    ids = [pk for pk in conversation.labels if pk not in gone]
    ids += [each.pk for each in add if each.pk not in ids]
    # Others may have been deleted long ago.
    names = dict(Label.objects.filter(pk__in=ids).values_list("pk", "folded"))
    ids = sorted([pk for pk in ids if pk in names][:MAX_ON_CONVERSATION], key=lambda pk: names[pk])
    if ids != conversation.labels:
        rows = ConversationLabel.objects.filter(conversation=conversation)
        rows.exclude(label__in=ids).delete()
        known = set(rows.values_list("label_id", flat=True))
        # Only of those that are locked: another may be deleted right now.
        new = [each.pk for each in add if each.pk in ids and each.pk not in known]
        ConversationLabel.objects.bulk_create(
            ConversationLabel(
                conversation=conversation,
                label_id=pk,
                status=conversation.status,
                last_message_id=conversation.last_message_id,
            )
            for pk in new
        )
        before, now = set(conversation.labels), set(ids)
        conversation.label_ids = " ".join(map(str, ids)) or None
        shown = {each.pk: each.name for each in (*add, *remove)}
        for kind, changed in ((Kind.LABELLED, now - before), (Kind.UNLABELLED, before - now)):
            for pk in sorted(changed & shown.keys()):
                record(conversation, kind, by, content=shown[pk])
        conversation.save_changes("label_ids", "last_entry_id")
    announce_to_agents(conversation)  # also again: the first time it may have been labelled without that
    return conversation
