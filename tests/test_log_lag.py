"""While SQL does not have what was written yet, sockets hear of it."""

import uuid

import pytest

from conversations import actions
from conversations.models import Conversation
from tests.test_message_log import talk

__all__ = ["talk"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_socket_that_is_opened_hears_of_the_last_message(talk: Conversation) -> None:
    other = actions.post_message(content="Another customer").conversation
    last = actions.post_message(content="One more thing", conversation=talk).pk
    known = Conversation.objects.by_uuids([talk.uuid, other.uuid, uuid.uuid4()])
    assert {each.pk: each.last_message_id for each in known.values()} == {
        talk.pk: last,
        other.pk: other.last_message_id,
    }
