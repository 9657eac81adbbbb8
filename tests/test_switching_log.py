"""The message log is switched on and off on a database with messages: ids rise, and nothing is lost."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chatsite.log_checks import find_log_problems
from conversations import actions
from conversations.actions import switch_log
from conversations.actions.replicate import Replicator
from conversations.actions.switch_log import prepare_ids, raise_sequences
from conversations.management.in_use import used
from conversations.message_log import ENTRIES, Drained
from conversations.models import Conversation, Message
from tests.conftest import ROOT, default_database, server_database, use_new_client
from tests.services import Chat, Service

pytestmark = pytest.mark.django_db(transaction=True)


def write(text: str, conversation: Conversation | None = None, **more: Any) -> Message:
    """A customer writes a message."""
    return actions.post_message(content=text, conversation=conversation, **more)


def copy() -> None:
    """A replicator copies what the log has, and ends."""
    replicator = Replicator(lambda: False)
    replicator.step()
    replicator.leave()


def drain(capsys: Any) -> str:
    """Switch the log off; returns what the command says."""
    call_command("replicate", "--drain")
    return str(capsys.readouterr().out)


def stored() -> list[str]:
    """The texts in SQL."""
    return list(Message.objects.order_by("pk").values_list("content", flat=True))


def left(log: ModuleType) -> set[str]:
    """The keys that Redis still has of the log."""
    return set(log.client().scan_iter("{log}:*"))


def test_ids_rise_when_the_log_is_switched_on_and_off_and_on(
    message_log: ModuleType, settings: Any, capsys: Any
) -> None:
    settings.MESSAGE_LOG = False
    prepare_ids()
    messages = [write("Before the log")]
    talk = messages[0].conversation
    conversations = [talk.pk]
    for number in range(2):
        settings.MESSAGE_LOG = True
        use_new_client()
        prepare_ids()
        messages += [write(f"In the log {number}", talk), write("Another", client_id=uuid.uuid4())]
        conversations.append(messages[-1].conversation.pk)
        assert "In the log" not in stored()[-1]
        assert "switched off" in drain(capsys)
        assert left(message_log) == {"{log}:drained"}
        settings.MESSAGE_LOG = False
        prepare_ids()
        messages += [write(f"After the log {number}", talk), write("A new one")]
        conversations.append(messages[-1].conversation.pk)
    assert stored() == [message.content for message in messages]
    for ids in ([message.pk for message in messages], conversations):
        assert ids == sorted(set(ids))
    talk.refresh_from_db()
    assert (talk.customer_messages, talk.last_message_id) == (5, messages[-2].pk)


def test_a_new_id_is_never_one_that_the_log_has_given_even_if_its_conversation_was_deleted(
    message_log: ModuleType, settings: Any, capsys: Any
) -> None:
    last = write("Soon deleted")
    copy()
    Conversation.objects.all().delete()
    drain(capsys)
    settings.MESSAGE_LOG = False
    after = write("After the log")
    assert after.pk > last.pk
    assert after.conversation.pk > last.conversation.pk


def test_the_log_is_not_drained_while_another_process_copies_from_it(message_log: ModuleType, capsys: Any) -> None:
    other = Replicator(lambda: False)
    other.step()
    write("Hello")
    with pytest.raises(CommandError, match="is running, or was a few seconds ago"):
        drain(capsys)
    assert not stored()
    other.leave()
    drain(capsys)
    assert stored() == ["Hello"]


def test_the_log_is_not_drained_while_a_server_runs_that_copies_nothing(message_log: ModuleType) -> None:
    write("Hello")
    with used(), pytest.raises(CommandError, match="Stop all processes of Chatsite"):
        call_command("replicate", "--drain")
    assert message_log.client().exists(message_log.MESSAGES)


def test_the_log_gives_no_id_that_sql_is_to_begin_above(message_log: ModuleType) -> None:
    last = write("Hello")
    copy()
    far, further = last.pk + 20_000, last.conversation.pk + 100
    raise_sequences(far, further)  # as a restore does, for pages that know what came after the backup
    message_log.client().flushall()  # it was drained, or lost
    restored = write("After the restore")
    assert restored.pk > far
    assert restored.conversation.pk > further


def test_the_log_is_not_drained_while_another_process_writes_to_it(
    message_log: ModuleType, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("Hello")

    def write_late(*_last: int) -> None:
        monkeypatch.undo()
        write("A moment later")

    monkeypatch.setattr(switch_log, "raise_sequences", write_late)
    with pytest.raises(CommandError, match="has just written to the log"):
        drain(capsys)
    drain(capsys)
    assert stored() == ["Hello", "A moment later"]


def test_a_process_that_has_missed_the_end_of_the_log_cannot_write_to_it(
    message_log: ModuleType, settings: Any, capsys: Any
) -> None:
    talk = write("Hello").conversation
    drain(capsys)
    with pytest.raises(Drained):
        write("Too late", talk)
    use_new_client()  # its connections are new, and it is still the same process
    with pytest.raises(Drained):
        write("Too late", talk)
    prepare_ids()  # another process starts, with MESSAGE_LOG=redis
    write("In time", talk)
    copy()
    assert stored() == ["Hello", "In time"]


def test_dead_letters_are_not_deleted(message_log: ModuleType, capsys: Any) -> None:
    talk = write("Hello").conversation
    message_log.bury(talk.pk, message_log.tail(talk.pk, 0).entries[0], "It has no author")
    with pytest.raises(CommandError, match="has refused 1 message"):
        drain(capsys)
    assert message_log.client().xlen(message_log.DEAD) == 1


def test_what_another_reader_has_not_read_is_kept_until_it_has(message_log: ModuleType, capsys: Any) -> None:
    write("Hello")
    client = message_log.client()
    client.xgroup_create(ENTRIES, "analysis", "0")
    assert "the reader analysis has not read" in drain(capsys)
    [[_, rows]] = client.xreadgroup("analysis", "one", {ENTRIES: ">"})
    assert "the reader analysis has not read" in drain(capsys)
    client.xack(ENTRIES, "analysis", *[number for number, _ in rows])
    assert "not read" not in drain(capsys)
    assert left(message_log) == {"{log}:drained"}


def test_a_log_in_a_redis_that_may_lose_it_can_be_drained(message_log: ModuleType, capsys: Any) -> None:
    write("Hello")
    message_log.client().config_set("appendfsync", "no")
    try:
        with pytest.raises(CommandError, match="CONFIG SET appendfsync always"):
            call_command("replicate")
        drain(capsys)
    finally:
        message_log.client().config_set("appendfsync", "always")
    assert stored() == ["Hello"]


def test_without_a_log_nothing_starts_while_redis_has_one(message_log: ModuleType, settings: Any, capsys: Any) -> None:
    settings.MESSAGE_LOG = False
    assert find_log_problems() == []
    settings.MESSAGE_LOG = True
    write("Hello")
    settings.MESSAGE_LOG = False
    [said] = find_log_problems()
    assert "may lack 1 of its messages" in said
    assert "MESSAGE_LOG=redis manage.py replicate --drain" in said
    settings.MESSAGE_LOG = True
    drain(capsys)
    settings.MESSAGE_LOG = False
    assert find_log_problems() == []


def test_the_counters_are_raised_at_a_start_if_redis_is_from_an_older_copy(message_log: ModuleType) -> None:
    last = write("Hello")
    copy()
    message_log.client().mset({message_log.MESSAGES: 1, message_log.CONVERSATIONS: 0})
    prepare_ids()
    again = write("After that")
    assert again.pk > last.pk
    assert again.conversation.pk > last.conversation.pk


def test_without_drain_postgresql_gives_no_id_twice_either(message_log: ModuleType, settings: Any) -> None:
    last = write("Hello")
    copy()
    settings.MESSAGE_LOG = False  # and Redis was thrown away
    prepare_ids()
    assert write("Again").pk > last.pk


def test_a_start_leaves_the_next_ids_alone(message_log: ModuleType, settings: Any) -> None:
    settings.MESSAGE_LOG = False
    first = write("Hello").pk
    prepare_ids()
    assert write("Again").pk == first + 1
    settings.MESSAGE_LOG = True
    prepare_ids()
    second = write("In the log").pk
    prepare_ids()
    assert write("Again").pk == second + 1
    connection.close()


# Real processes -------------------------------------------------------------------------------------------------------


def test_servers_switch_the_log_off_and_on_without_losing_a_message(
    tmp_path: Path, log_service: Service, message_log: ModuleType
) -> None:
    for url in server_database(tmp_path):
        with_log = {"DATABASE_URL": url, "REDIS_URL": log_service.url, "MESSAGE_LOG": "redis", "REPLICATING": "off"}
        chat = Chat(tmp_path, with_log)
        chat.manage("migrate", "--verbosity", "0")
        with default_database(url):
            chat.start()
            talk = chat.begin()
            chat.poll(talk)  # which copies it
            assert chat.post(talk)[0] == 200
            chat.kill()  # and only the log has the message
            assert len(stored()) == 1
            chat.environment["MESSAGE_LOG"] = "sql"
            refused = subprocess.run([sys.executable, *chat.command], cwd=ROOT, env=chat.environment, timeout=60)
            assert refused.returncode == 1
            assert "Redis has a message log, and the database may lack" in chat.log
            chat.environment["MESSAGE_LOG"] = "redis"
            assert "switched off" in chat.manage("replicate", "--drain")
            assert len(stored()) == 2
            for mode, copies in (("sql", "off"), ("redis", "on")):
                chat.environment |= {"MESSAGE_LOG": mode, "REPLICATING": copies}
                chat.start()
                assert chat.post(talk)[0] == 200
                assert chat.stop() == 0
            ids = [message["id"] for message in json.loads(_all_of(chat, talk))["items"]]
            assert ids == sorted(set(ids))
            assert len(ids) == 4


def _all_of(chat: Chat, talk: str) -> bytes:
    """All messages of a conversation, as its widget gets them."""
    chat.start()
    content = chat.poll(talk)[3]
    chat.stop()
    return content
