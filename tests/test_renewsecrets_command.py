"""`manage.py renewsecrets`: a stored uuid of a conversation gives no access afterwards."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from conversations import actions
from conversations.actions import post_message
from conversations.management.commands import renewsecrets
from conversations.models import Agent, Contact, Conversation, Website

pytestmark = pytest.mark.django_db


def run(*args: str) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("renewsecrets", *args, stdout=out, stderr=out)
    return out.getvalue()


@pytest.fixture
def talks(talk: Conversation) -> list[Conversation]:
    """Five conversations: talk, three more of the default website, one of another."""
    club = Website.objects.create(key="club", name="The Club")
    more = [post_message(content=f"{number}").conversation for number in range(3)]
    return [talk, *more, post_message(content="in the club", website=club).conversation]


def renewed(talks: list[Conversation]) -> list[bool]:
    """Which of them have new uuids."""
    return [not Conversation.objects.filter(uuid=talk.uuid).exists() for talk in talks]


def test_without_yes_it_says_what_it_costs_and_changes_nothing(talks: list[Conversation]) -> None:
    contact = Contact.objects.create(website=talks[0].website, sub="alice")
    Conversation.objects.filter(pk=talks[0].pk).update(contact=contact)
    output = run("--all")
    assert "the secrets of 5 conversations" in output
    assert "1 of verified customers" in output
    assert "4 of anonymous customers: their browsers lose the conversation" in output
    assert "Nothing is changed yet" in output
    assert renewed(talks) == [False] * 5


def test_a_renewed_uuid_neither_reads_nor_writes(talk: Conversation) -> None:
    run("--conversation", str(talk.pk), "--yes")
    assert Client().get(f"/api/messages/{talk.uuid}/").json() == {"items": [], "count": 0}
    body = {"content": "Forged", "conversation": str(talk.uuid)}
    assert Client().post("/api/messages/", body, content_type="application/json").status_code == 200
    assert talk.messages.count() == 1


def test_only_what_the_agent_could_see_is_renewed(bob: Agent, talks: list[Conversation]) -> None:
    bob.websites.add(talks[0].website)
    output = run("--seen-by", "bob", "--yes")
    assert "bob is still an agent" in output
    assert f"sees only conversations of: {talks[0].website}. If they saw others before, renew --all." in output
    assert renewed(talks) == [True, True, True, True, False]


def test_a_disabled_agent_of_all_websites_saw_everything(bob: Agent, talks: list[Conversation]) -> None:
    bob.is_active = False
    bob.save()
    assert "still an agent" not in run("--seen-by", "bob", "--yes")
    assert renewed(talks) == [True] * 5


def test_it_may_be_stopped_and_continued(talks: list[Conversation], monkeypatch: pytest.MonkeyPatch) -> None:
    renew_secret = actions.renew_secret

    def stop_at_the_third(*, conversation: Conversation) -> Any:
        if conversation.pk == talks[2].pk:
            raise KeyboardInterrupt
        return renew_secret(conversation=conversation)

    monkeypatch.setattr(renewsecrets, "renew_secret", stop_at_the_third)
    monkeypatch.setattr(renewsecrets, "BATCH_SIZE", 1)
    out = StringIO()
    with pytest.raises(KeyboardInterrupt):
        call_command("renewsecrets", "--all", "--yes", stdout=out, stderr=out)
    assert f"To go on, add --after {talks[1].pk}" in out.getvalue()
    assert renewed(talks) == [True, True, False, False, False]
    monkeypatch.setattr(renewsecrets, "renew_secret", renew_secret)
    for talk in talks:
        talk.refresh_from_db()
    assert f"3 renewed, up to conversation {talks[4].pk}" in run("--all", "--after", str(talks[1].pk), "--yes")
    assert renewed(talks) == [False, False, True, True, True]


def test_a_conversation_that_is_deleted_meanwhile_is_skipped(
    talks: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    renew_secret = actions.renew_secret

    def delete_first(*, conversation: Conversation) -> Any:
        if conversation.pk == talks[1].pk:
            Conversation.objects.filter(pk=conversation.pk).delete()
        return renew_secret(conversation=conversation)

    monkeypatch.setattr(renewsecrets, "renew_secret", delete_first)
    run("--all", "--yes")
    assert renewed(talks) == [True] * 5


@pytest.mark.parametrize(
    "args", [[], ["--seen-by", "nobody"], ["--conversation", "999"], ["--all", "--seen-by", "bob"]]
)
def test_a_wrong_choice_is_an_error_and_changes_nothing(talk: Conversation, bob: Agent, args: list[str]) -> None:
    with pytest.raises(CommandError):
        run(*args, "--yes")
    assert renewed([talk]) == [False]
