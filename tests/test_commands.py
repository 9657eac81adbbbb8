"""Management commands."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from conversations.models import Agent, Conversation, Website
from tests.conftest import Page, Server

pytestmark = pytest.mark.django_db
Printed = pytest.CaptureFixture[str]


def signs_in(username: str, password: str) -> bool:
    """Return whether the sign-in page accepts the password."""
    page = Page()
    page.post("/inbox/sign-in/", {"username": username, "password": password})
    return bool(page.get("/inbox/").status_code == 200)


def test_createagent_with_a_password() -> None:
    call_command("createagent", "bob", "--email", "bob@example.com", "--password", "correct horse battery")
    assert Agent.objects.get(username="bob").email == "bob@example.com"
    assert signs_in("bob", "correct horse battery")


def test_createagent_takes_the_addresses_that_browsers_take() -> None:
    for address in ("a..b@docomo.ne.jp", "jürgen@example.de"):
        call_command("createagent", "bob", "--email", address)
        assert Agent.objects.get(username="bob").email == address
        call_command("createagent", "bob", "--name", "Bob")  # and leaves them


def test_createagent_prints_a_random_password(capsys: Printed) -> None:
    call_command("createagent", "bob")
    password = re.search(r"with the password (\S+)\.\n", capsys.readouterr().out)
    assert password
    assert signs_in("bob", password[1])


def test_createagent_sets_the_name_that_customers_see(capsys: Printed) -> None:
    call_command("createagent", "bob.the.builder")
    assert "createagent bob.the.builder --name NAME" in capsys.readouterr().out
    call_command("createagent", "bob.the.builder", "--name", " Bob ")
    assert "--name" not in capsys.readouterr().out
    call_command("createagent", "bob.the.builder", "--email", "bob@example.com")
    assert Agent.objects.get().get_full_name() == "Bob"


def test_createagent_makes_an_existing_user_an_agent_and_leaves_the_password(capsys: Printed) -> None:
    call_command("createagent", "bob", "--password", "correct horse battery")
    call_command("createagent", "bob")
    assert "existed already" in capsys.readouterr().out
    assert signs_in("bob", "correct horse battery")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bob", "--password", "short"], "at least 10 characters"),
        (["bob", "--email", "nonsense"], "e-mail address"),
        (["b b"], "valid username"),
        (["bob", "--name", "B" * 151], "at most 150 characters"),
    ],
)
def test_createagent_names_the_invalid_value_and_creates_nobody(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("createagent", *arguments)
    assert not Agent.objects.exists()


def test_createtoken_for_an_unknown_agent_names_createagent() -> None:
    with pytest.raises(CommandError, match="createagent nobody"):
        call_command("createtoken", "nobody", "crm")


def test_the_demo_fills_an_empty_database_in_debug_mode_once(capsys: Printed, settings: pytest.FixtureRequest) -> None:
    call_command("demo")
    assert not Conversation.objects.exists()  # DEBUG is off
    settings.DEBUG = True  # type: ignore[attr-defined]
    call_command("demo")
    password = re.search(r"the inbox and the settings as  bob  with the password  (\S+)", capsys.readouterr().out)
    assert password
    assert signs_in("bob", password[1])
    made = Conversation.objects.count()
    assert made > 2
    call_command("demo")
    assert (Conversation.objects.count(), capsys.readouterr().out) == (made, "")


def test_the_demo_makes_the_tables_too_if_it_is_asked_to(tmp_path: Path) -> None:
    server = Server({"DEBUG": "on", "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"})
    assert "A demo has been made" in server.manage("demo", "--migrate")


def test_addwebsite_prints_a_secret_for_each_kind_of_proof_once(capsys: Printed) -> None:
    call_command("addwebsite", "Shop", "--key", "shop")
    shop = Website.objects.get(key="shop")
    assert (shop.verifies_identity, "ecret" in capsys.readouterr().out) == (False, False)
    call_command("addwebsite", "Shop", "--key", "shop", "--new-identity-secret", "--new-hmac-secret")
    shop.refresh_from_db()
    output = capsys.readouterr().out
    assert f"Secret for signed tokens: {shop.identity_secret}\n" in output
    assert f"Secret for the HMAC of user ids: {shop.hmac_secret}\n" in output
    assert (shop.token_secrets, shop.hmac_secrets) == ([shop.identity_secret], [shop.hmac_secret])
    assert not shop.shares_secret


def test_addwebsite_makes_no_hmac_secret_while_tokens_share_the_old_one() -> None:
    Website.objects.create(key="shop", name="Shop", identity_secret="s" * 64, hmac_secret="s" * 64)
    with pytest.raises(CommandError, match="share a secret"):
        call_command("addwebsite", "Renamed", "--key", "shop", "--new-hmac-secret")
    shop = Website.objects.get(key="shop")
    assert (shop.name, shop.hmac_secret, shop.accepts_hmac) == ("Shop", "s" * 64, False)


def test_the_demo_shop_has_the_chat_on_another_port_too(settings: Any) -> None:
    settings.DEBUG = True
    for port in (8000, 8001):
        settings.PORT = port
        call_command("demo")
        loader = Page().get("/chat.js", headers={"Referer": f"http://localhost:{port}/"})
        assert "may not show" not in loader.content.decode()
    assert Agent.objects.count() == 1


def test_a_command_collects_garbage_and_does_not_load_the_server() -> None:
    script = "import gc, sys; print(gc.isenabled(), gc.get_freeze_count() > 0, 'twisted' in sys.modules)"
    assert Server({"DEBUG": "on"}).manage("shell", "--verbosity", "0", "-c", script).split() == [
        "True",
        "True",
        "False",
    ]
