"""Commands that people type."""

import re

import pytest
from django.core.management import CommandError, call_command

from conversations.models import Agent, Conversation
from tests.conftest import Page

pytestmark = pytest.mark.django_db
Printed = pytest.CaptureFixture[str]


def signs_in(username: str, password: str) -> bool:
    """Whether the sign-in page takes them."""
    page = Page()
    page.post("/inbox/sign-in/", {"username": username, "password": password})
    return bool(page.get("/inbox/").status_code == 200)


def test_createagent_with_a_password() -> None:
    call_command("createagent", "bob", "--email", "bob@example.com", "--password", "correct horse battery")
    assert Agent.objects.get(username="bob").email == "bob@example.com"
    assert signs_in("bob", "correct horse battery")


def test_createagent_prints_a_random_password(capsys: Printed) -> None:
    call_command("createagent", "bob")
    password = re.search(r"with the password (\S+)\.\n", capsys.readouterr().out)
    assert password
    assert signs_in("bob", password[1])


def test_createagent_makes_an_existing_user_an_agent_and_leaves_the_password(capsys: Printed) -> None:
    call_command("createagent", "bob", "--password", "correct horse battery")
    call_command("createagent", "bob")
    assert "existed already" in capsys.readouterr().out
    assert signs_in("bob", "correct horse battery")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bob", "--password", "short"], "at least 10 characters"),
        (["bob", "--email", "nonsense"], "valid email"),
        (["b b"], "valid username"),
    ],
)
def test_createagent_says_what_will_not_do_and_makes_nobody(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("createagent", *arguments)
    assert not Agent.objects.exists()


def test_createtoken_for_nobody_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="createagent nobody"):
        call_command("createtoken", "nobody", "crm")


def test_the_demo_fills_an_empty_database_in_debug_mode_once(capsys: Printed, settings: pytest.FixtureRequest) -> None:
    call_command("demo")
    assert not Conversation.objects.exists()  # DEBUG is off
    settings.DEBUG = True  # type: ignore[attr-defined]
    call_command("demo")
    password = re.search(r"as  bob  with the password  (\S+)", capsys.readouterr().out)
    assert password
    assert signs_in("bob", password[1])
    made = Conversation.objects.count()
    assert made > 2
    call_command("demo")
    assert (Conversation.objects.count(), capsys.readouterr().out) == (made, "")
