"""Messages that SQL refuses are kept: an operator sees them, and writes them again or deletes them."""

import uuid
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command

from conversations import actions
from conversations.actions import delete_orphaned_files as deleting
from conversations.actions.replicate import Replicator
from conversations.models import Attachment, Conversation, Message, Website, settling
from conversations.models.recipients import recipients
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db(transaction=True)


def copy() -> None:
    """A replicator copies what the log has."""
    Replicator(lambda: False).step()


@pytest.fixture
def talk(message_log: ModuleType) -> Conversation:
    """A conversation that alice has begun, in SQL."""
    conversation = actions.post_message(content="Hello", name="Alice").conversation
    copy()
    return Conversation.objects.get(pk=conversation.pk)


@pytest.fixture
def dead(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> Message:
    """A message of alice that SQL has refused, though not the one after it."""
    message = actions.post_message(content="Is anybody there?", conversation=talk, client_id=uuid.uuid4())
    insert = settling._insert

    def refuse(conversation: Conversation, entry: Any) -> bool:
        if "anybody" in entry.text:
            raise ValueError("It has a bad character")
        return insert(conversation, entry)

    def refuse_all(_tails: Any) -> None:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(settling, "_insert", refuse)
        broken.setattr(settling, "_copy", refuse_all)
        actions.post_message(content="Nobody?", conversation=talk)
        copy()
    return message


def stored() -> list[str]:
    """The texts in SQL."""
    return list(Message.objects.order_by("pk").values_list("content", flat=True))


def says(capsys: Any, *arguments: str) -> str:
    """What `manage.py replicate` says."""
    call_command("replicate", *arguments)
    return str(capsys.readouterr().out)


def test_dead_letters_are_listed(dead: Message, capsys: Any) -> None:
    assert stored() == ["Hello", "Nobody?"]
    [line] = says(capsys, "--dead").splitlines()
    assert line == f"{dead.pk}  conversation {dead.conversation_id}  “Is anybody there?”  It has a bad character"


def test_a_dead_letter_is_written_again_at_the_end_where_everybody_sees_it(
    dead: Message, talk: Conversation, bobs: Page, capsys: Any
) -> None:
    last = Message.objects.last_id()
    assert says(capsys, "--retry-dead").startswith(f"{dead.pk} is message ")
    assert stored() == ["Hello", "Nobody?", "Is anybody there?"]
    assert texts(bobs.htmx(f"/inbox/{talk.pk}/messages/?since={last}")) == ["Is anybody there?"]
    assert says(capsys, "--dead") == ""
    call_command("replicate", "--dead")
    assert capsys.readouterr().err == "The database has refused no message.\n"
    talk.refresh_from_db()
    assert (talk.customer_messages, talk.last_line) == (3, "Is anybody there?")
    # Alice's page tries it again, and gets the message that it is now.
    again = actions.post_message(content=dead.content, conversation=talk, client_id=dead.client_id)
    assert again.pk > last
    assert len(stored()) == 3


def test_a_retry_that_was_interrupted_writes_nothing_twice(
    dead: Message, message_log: ModuleType, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("conversations.actions.dead_letters._remove", lambda pk: None)
        says(capsys, "--retry-dead")
    assert message_log.client().xlen(message_log.DEAD) == 1
    says(capsys, "--retry-dead")
    assert stored().count("Is anybody there?") == 1
    assert message_log.client().xlen(message_log.DEAD) == 0


def test_what_is_refused_again_is_a_dead_letter_again(talk: Conversation, message_log: ModuleType, capsys: Any) -> None:
    message_log.append(client_id=None, conversation=talk.pk, last=talk.last_message_id, values={"content": "No author"},
                       uuid=talk.uuid)  # fmt: skip
    copy()
    with pytest.raises(CommandError, match="it is refused again"):
        says(capsys, "--retry-dead")
    assert len(says(capsys, "--dead").splitlines()) == 1
    assert stored() == ["Hello"]


def test_a_conversation_that_was_refused_begins_when_it_is_tried_again(message_log: ModuleType, capsys: Any) -> None:
    shop = Website.objects.create(key="shop", name="Shop")
    talk = actions.post_message(content="Hello", website=shop).conversation
    actions.post_message(content="Is anybody there?", conversation=talk)
    pk = shop.pk
    Website.objects.filter(pk=pk).delete()
    copy()
    assert len(says(capsys, "--dead").splitlines()) == 2
    with pytest.raises(CommandError, match="it is refused again"):
        says(capsys, "--retry-dead")
    Website.objects.create(pk=pk, key="shop", name="Shop")
    says(capsys, "--retry-dead")
    assert sorted(stored()) == ["Hello", "Is anybody there?"]
    assert {message.conversation_id for message in Message.objects.all()} == {talk.pk}


def test_a_dead_letter_of_a_deleted_conversation_cannot_be_written_again(
    dead: Message, message_log: ModuleType, capsys: Any
) -> None:
    [(_, fields)] = message_log.client().xrange(message_log.DEAD)
    Conversation.objects.all().delete()
    assert says(capsys, "--dead") == ""
    message_log.client().xadd(message_log.DEAD, fields)  # Redis was away when it was deleted
    with pytest.raises(CommandError, match="its conversation does not exist"):
        says(capsys, "--retry-dead")
    says(capsys, "--forget-dead", str(dead.pk))
    assert says(capsys, "--dead") == ""


def test_the_files_of_a_dead_letter_are_kept_until_it_is_forgotten(
    talk: Conversation, message_log: ModuleType, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MEDIA_ROOT = tmp_path
    monkeypatch.setattr(deleting, "MIN_AGE", timedelta(days=-1))
    attachment = Attachment(name="photo.txt", kind="text/plain", size=2, file=ContentFile(b"Hi", "photo.txt"))
    message = actions.post_message(content="See this", conversation=talk, attachments=[attachment])
    [(_, fields)] = message_log.client().xrange(message_log.ENTRIES, f"{message.pk}-0")
    Message.objects.get(pk=message.pk).attachments.all()._raw_delete("default")  # as if it had been refused
    entry = message_log.Entry(message.pk, 0, fields["entry"])
    message_log.bury(talk.pk, entry, "It was refused")
    list(deleting.delete_orphaned_files())
    assert [path for path in tmp_path.rglob("*") if path.is_file()]
    call_command("replicate", "--forget-dead", str(message.pk))
    list(deleting.delete_orphaned_files())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_dead_letter_is_forgotten(dead: Message, capsys: Any) -> None:
    with pytest.raises(CommandError, match="There is no dead letter 1000000"):
        says(capsys, "--forget-dead", "1000000", str(dead.pk))
    assert says(capsys, "--dead") == ""
    assert stored() == ["Hello", "Nobody?"]


def test_no_message_of_a_refused_conversation_is_lost_if_the_copier_is_killed_between_two(
    message_log: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shop = Website.objects.create(name="Shop")
    talk = actions.post_message(content="one", website=shop).conversation
    actions.post_message(content="two", conversation=talk)
    shop.delete()
    bury = message_log.bury

    def bury_and_die(*arguments: Any) -> None:
        bury(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(message_log, "bury", bury_and_die)
        with pytest.raises(KeyboardInterrupt):
            copy()
    settling.settle([talk.pk])
    assert [line.split("“")[1].split("”")[0] for line in says(capsys, "--dead").splitlines()] == ["one", "two"]
    Website.objects.create(pk=talk.website_id, name="Shop")
    says(capsys, "--retry-dead")
    assert stored() == ["one", "two"]


def test_nobody_writes_to_a_conversation_that_was_refused(message_log: ModuleType, alice: Page, capsys: Any) -> None:
    """Whoever has it open begins another. Their message was acknowledged, and forgotten after an hour."""
    alice.post("/chat/messages/", {"content": "one"}, headers={"HX-Request": "true"})  # it is remembered
    [number] = message_log.numbers_of([uuid.UUID(alice.cookies["chat"].value)])
    website, remembered = Website.objects.default(), (recipients.found.copy(), recipients.websites.copy())
    Website.objects.all().delete()
    copy()
    assert f" conversation {number} " in says(capsys, "--dead")
    website.save(force_insert=True)
    recipients.found, recipients.websites = remembered  # another process has deleted the website
    secret = alice.cookies["chat"].value
    body = {"content": "two", "conversation": secret}
    assert alice.post("/api/messages/?since=1", body, "application/json").json()["items"][0]["conversation"] != secret
    copy()
    assert stored() == ["two"]
    says(capsys, "--retry-dead")
    assert sorted(stored()) == ["one", "two"]
    assert Conversation.objects.get(pk=number).uuid.hex == secret
