"""What agents do to a conversation stands in its thread, as an activity. Customers do not see it."""

import logging
from typing import TYPE_CHECKING

from redis import RedisError

from conversations.models import Conversation, DeskEntry
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)


def record(
    conversation: Conversation, kind: Kind, by: "User | None", about: "User | None" = None, content: str = ""
) -> None:
    """Add an activity to a locked conversation. The caller saves its `last_entry_id`.

    by: who did it; nothing is recorded without anybody, as for commands. about: to whom it was assigned.
    content: the name of a label, a priority, or until when it is snoozed.

    While the message log, which gives the ids, does not answer, only this is left out, and not what the agent does.
    """
    if by is None:
        return
    try:
        DeskEntry.objects.add(conversation, kind, by, about=about, content=content)
    except RedisError as error:
        logger.warning("The message log does not answer: it is not recorded who did what. %r", error)
