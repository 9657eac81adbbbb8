"""An agent's own password, and a new one by mail."""

import logging
import re
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.utils.translation import gettext, override

from chatsite.logs import SecretMaskingFormatter
from conversations.agent import passwords
from conversations.models import Agent, Token
from tests.conftest import PASSWORD, Page
from tests.services import Chat

pytestmark = pytest.mark.django_db
ACCOUNT, FORGOTTEN, SIGN_IN = "/inbox/me/", "/inbox/forgotten/", "/inbox/sign-in/"
NEW = "staple battery horse"


@pytest.fixture
def limited(settings: Any) -> None:
    """Rate limits on, as in production."""
    settings.RATE_LIMITS = True


@pytest.fixture
def mailed(transactional_db: None) -> None:
    """A database that other threads see, for mails."""
    User.objects.filter(username="bob").update(email="bob@example.com")


def signs_in(username: str, password: str) -> bool:
    """Whether the sign-in page accepts the password."""
    page = Page()
    page.post(SIGN_IN, {"username": username, "password": password})
    return bool(page.get("/inbox/").status_code == 200)


def changes(page: Page, old: str, new: str, again: str = "") -> Any:
    """Submit the form for one's own password."""
    return page.post(ACCOUNT, {"old_password": old, "new_password1": new, "new_password2": again or new})


def forgets(page: Page, email: str, **headers: str) -> Any:
    """Ask for a mail, and wait until it is sent."""
    response = page.post(FORGOTTEN, {"email": email}, headers=headers)
    passwords.wait_for_mails(10)
    return response


def mailed_link() -> str:
    """The link in the last mail, without the host."""
    link = re.search(r"https?://[^/]+(/\S+)", str(mail.outbox[-1].body))
    assert link
    return link[1]


def test_the_inbox_links_to_ones_own_account(bobs: Page) -> None:
    assert f'href="{ACCOUNT}"' in bobs.get("/inbox/").content.decode()
    assert "Bob" in bobs.get(ACCOUNT).content.decode()
    assert Page().get(ACCOUNT)["Location"] == f"{SIGN_IN}?next={ACCOUNT}"


def test_a_new_password_ends_the_other_sessions_and_tokens_but_not_this_one(bob: Agent, bobs: Page) -> None:
    other = Page()
    other.force_login(bob)
    Token.objects.issue(bob, "bot", Token.Scope.WRITE)
    assert changes(bobs, PASSWORD, NEW)["Location"] == ACCOUNT
    assert "Your password is changed" in bobs.get(ACCOUNT).content.decode()
    assert bobs.get("/inbox/").status_code == 200
    assert other.get("/inbox/").status_code == 302
    assert not Token.objects.exists()
    assert signs_in("bob", NEW)
    assert not signs_in("bob", PASSWORD)


@pytest.mark.parametrize(
    ("old", "new", "again", "sentence"),
    [
        ("wrong", NEW, NEW, "Your old password was entered incorrectly"),
        (PASSWORD, NEW, "another one", "The two password fields didn’t match"),
        (PASSWORD, "short", "short", "at least 10 characters"),
        (PASSWORD, "password1234", "password1234", "too common"),
    ],
)
def test_a_refused_password_says_why(bobs: Page, old: str, new: str, again: str, sentence: str) -> None:
    response = changes(bobs, old, new, again)
    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert PASSWORD not in response.content.decode()
    assert signs_in("bob", PASSWORD)


def test_the_old_password_cannot_be_guessed_in_an_open_session(bob: Agent, bobs: Page, limited: None) -> None:
    for number in range(10):
        changes(bobs, f"guess {number}", NEW)
    refused = changes(bobs, PASSWORD, NEW)
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert "Too many attempts" in refused.content.decode()
    assert bobs.post(ACCOUNT, {"email": "mallory@example.com", "old_password": PASSWORD}).status_code == 429


def test_a_right_old_password_uses_up_no_tries(bobs: Page, limited: None) -> None:
    for _ in range(12):
        assert changes(bobs, PASSWORD, "short").status_code == 200


def test_the_address_is_changed_with_the_password_only(bob: Agent, bobs: Page) -> None:
    refused = bobs.post(ACCOUNT, {"email": "mallory@example.com", "old_password": "wrong"})
    assert "entered incorrectly" in refused.content.decode()
    invalid = bobs.post(ACCOUNT, {"email": "nonsense", "old_password": PASSWORD})
    assert "This does not look like an e-mail address." in invalid.content.decode()
    bob.refresh_from_db()
    assert bob.email == ""
    assert bobs.post(ACCOUNT, {"email": "bob@example.com", "old_password": PASSWORD}).status_code == 302
    bob.refresh_from_db()
    assert bob.email == "bob@example.com"
    assert "bob@example.com" in bobs.get(ACCOUNT).content.decode()


def test_the_forms_need_their_csrf_tokens(bob: Agent) -> None:
    page = Page(enforce_csrf_checks=True)
    page.force_login(bob)
    assert changes(page, PASSWORD, NEW).status_code == 403
    assert page.post(FORGOTTEN, {"email": "bob@example.com"}).status_code == 403


def test_a_forgotten_password_is_replaced_once_with_a_mailed_link(bob: Agent, mailed: None) -> None:
    page = Page()
    assert FORGOTTEN in page.get(SIGN_IN).content.decode()
    assert forgets(page, "BOB@example.com").status_code == 200
    assert mail.outbox[0].to == ["bob@example.com"]
    assert "testserver" in mail.outbox[0].subject
    assert "bob" in mail.outbox[0].body
    link = mailed_link()
    # From a mail in a browser this is a request from another site, for which no session is saved.
    assert page.get(link, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    refused = page.post(link, {"new_password1": "short", "new_password2": "short"})
    assert "at least 10 characters" in refused.content.decode()
    assert page.post(link, {"new_password1": NEW, "new_password2": NEW})["Location"] == SIGN_IN
    assert "Your password is changed" in page.get(SIGN_IN).content.decode()
    assert signs_in("bob", NEW)
    again = page.post(link, {"new_password1": "mallory was here", "new_password2": "mallory was here"})
    assert again.status_code == 404
    assert "not valid any more" in again.content.decode()
    assert signs_in("bob", NEW)


def test_every_address_gets_the_same_answer(bob: Agent, mailed: None) -> None:
    User.objects.create_user("dora", "dora@example.com", PASSWORD)  # no agent
    for name, email in [("eve", "eve@example.com"), ("bot", "bot@example.com")]:
        Agent.objects.promote(User.objects.create_user(name, email, PASSWORD))
    User.objects.filter(username="eve").update(is_active=False)
    bot = User.objects.get(username="bot")
    bot.set_unusable_password()
    bot.save()
    answers = set()
    for name in ("bob", "nobody", "dora", "eve", "bot"):
        response = forgets(Page(), f"{name}@example.com")
        answers.add((response.status_code, response.content.decode().replace(f"{name}@", "NAME@")))
    assert len(answers) == 1
    assert [message.to for message in mail.outbox] == [["bob@example.com"]]


def test_the_answer_does_not_wait_for_the_mail_server(
    bob: Agent, mailed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    waited: list[bool] = []

    def slow(self: Any, *args: Any, **more: Any) -> None:
        waited.append(answered.wait(10))

    monkeypatch.setattr(passwords.ForgottenForm, "send_mail", slow)
    assert Page().post(FORGOTTEN, {"email": "bob@example.com"}).status_code == 200
    answered.set()
    passwords.wait_for_mails(10)
    assert waited == [True]


def test_a_mail_server_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path, migrated: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mails = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        database = f"sqlite:///{tmp_path / 'db.sqlite3'}"
        chat = Chat(tmp_path, {"DATABASE_URL": database, "RATE_LIMITS": "off", "EMAIL_URL": mails})
        shutil.copy(migrated, tmp_path / "db.sqlite3")
        chat.manage("createagent", "bob", "--password", PASSWORD)
        set_email = "from django.contrib.auth.models import User; User.objects.update(email='bob@example.com')"
        chat.manage("shell", "--verbosity", "0", "-c", set_email)
        chat.start()
        for _ in range(6):
            chat.forgets("bob@example.com")
        started = time.monotonic()
        assert chat.stop() == 0
        assert time.monotonic() - started < 9


def test_a_mail_server_that_fails_is_logged_without_the_link(
    bob: Agent, mailed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Any) -> None:
        raise ConnectionRefusedError("The mail server is away.")

    monkeypatch.setattr("django.core.mail.EmailMultiAlternatives.send", fails)
    assert forgets(Page(), "bob@example.com").status_code == 200
    assert "The mail server is away." in caplog.text
    assert "/inbox/forgotten/" not in caplog.text
    monkeypatch.undo()
    assert forgets(Page(), "bob@example.com").status_code == 200
    assert len(mail.outbox) == 1


def test_a_mail_server_that_says_nothing_is_given_up(
    bob: Agent, mailed: None, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert 0 < settings.EMAIL_TIMEOUT <= 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.EMAIL_TIMEOUT = 0.2
        assert forgets(Page(), "bob@example.com").status_code == 200
    assert "Failed to send" in caplog.text


def test_waiting_mails_are_bounded(
    bob: Agent, mailed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(passwords, "places", threading.BoundedSemaphore(1))
    passwords.places.acquire()
    assert forgets(Page(), "bob@example.com").status_code == 200
    assert "are waiting already" in caplog.text
    assert not mail.outbox


def test_links_lead_to_our_own_hosts_only(bob: Agent, mailed: None) -> None:
    assert forgets(Page(), "bob@example.com", host="evil.example").status_code == 400
    forgets(Page(), "bob@example.com", x_forwarded_host="evil.example")
    assert [re.findall(r"https?://([^/]+)/", str(message.body)) for message in mail.outbox] == [["testserver"]]


def test_mails_are_limited_by_address_and_by_account(bob: Agent, mailed: None, limited: None) -> None:
    for _ in range(3):
        assert forgets(Page(), "bob@example.com").status_code == 200
        assert forgets(Page(), "nobody@example.com").status_code == 200
    for email in ("Bob@example.com", "nobody@example.com"):
        refused = forgets(Page(), email)
        assert refused.status_code == 429
        assert "Too many attempts" in refused.content.decode()
    assert len(mail.outbox) == 3
    for number in range(4):
        assert forgets(Page(), f"{number}@example.com").status_code == 200
    assert forgets(Page(), "another@example.com").status_code == 429


@pytest.mark.parametrize("change", [{"is_active": False}, {"email": "new@example.com"}])
def test_a_link_ends_when_the_account_changes(bob: Agent, mailed: None, change: dict[str, Any]) -> None:
    forgets(Page(), "bob@example.com")
    User.objects.filter(username="bob").update(**change)
    assert Page().get(mailed_link()).status_code == 404


def test_a_link_ends_after_an_hour_and_cannot_be_guessed(bob: Agent, mailed: None, settings: Any) -> None:
    forgets(Page(), "bob@example.com")
    link = mailed_link()
    assert Page().get(link).status_code == 200
    assert Page().get(link[:-2] + ("a/" if link[-2] != "a" else "b/")).status_code == 404
    for other in ("AAAA", "LTE", "4pyo", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        assert Page().get(f"{FORGOTTEN}{other}/{link.split('/')[-2]}/").status_code == 404
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert Page().get(link).status_code == 404


def test_without_mail_no_link_is_offered(bob: Agent, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert FORGOTTEN not in Page().get(SIGN_IN).content.decode()
    assert Page().get(FORGOTTEN).status_code == 404


def test_the_token_in_a_link_is_masked_in_logs(bob: Agent) -> None:
    token = default_token_generator.make_token(bob)
    line = f"Not Found: {FORGOTTEN}MQ/{token}/"
    record = logging.LogRecord("django.request", logging.WARNING, "", 1, line, (), None)
    assert token.partition("-")[2] not in SecretMaskingFormatter("%(message)s").format(record)


def test_the_mail_is_in_the_language_of_the_page(bob: Agent, mailed: None) -> None:
    forgets(Page(), "bob@example.com", accept_language="de")
    with override("de"):
        assert gettext("Inbox") != "Inbox"
        expected = gettext("A new password for Chatsite on %(domain)s") % {"domain": "testserver"}
    assert mail.outbox[0].subject == expected
