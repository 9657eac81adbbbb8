"""Signing in and out, and what guessing a password meets."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from conversations.models import Agent
from tests.conftest import PASSWORD, Page

pytestmark = pytest.mark.django_db
SIGN_IN = "/inbox/sign-in/"


@pytest.fixture
def limited(settings: Any) -> None:
    """Rate limits on, as in production."""
    settings.RATE_LIMITS = True


def sign_in(page: Client, username: str, password: str, **more: Any) -> Any:
    """Submit the sign-in form."""
    return page.post(SIGN_IN, {"username": username, "password": password, **more})


def test_an_agent_signs_in_and_out(bob: Agent) -> None:
    page = Page()
    assert sign_in(page, "bob", PASSWORD)["Location"] == "/inbox/"
    assert page.get("/inbox/").status_code == 200
    assert page.get(SIGN_IN)["Location"] == "/inbox/"
    assert page.post("/inbox/sign-out/")["Location"] == SIGN_IN
    assert page.get("/inbox/").status_code == 302


def test_signing_out_takes_a_post(bobs: Page) -> None:
    assert bobs.get("/inbox/sign-out/").status_code == 405
    assert bobs.get("/inbox/").status_code == 200


def test_the_form_needs_its_csrf_token(bob: Agent) -> None:
    page = Client(enforce_csrf_checks=True)
    response = sign_in(page, "bob", PASSWORD)
    assert response.status_code == 403
    assert "Reload it and try again" in response.content.decode()


def test_signing_in_renews_the_session_key(bob: Agent) -> None:
    page = Page()
    session = page.session
    session["set"] = "by mallory"
    session.save()
    planted = session.session_key or ""
    page.cookies["sessionid"] = planted
    sign_in(page, "bob", PASSWORD)
    assert page.cookies["sessionid"].value != planted
    stolen = Page()
    stolen.cookies["sessionid"] = planted
    assert stolen.get("/inbox/").status_code == 302


def test_every_failed_sign_in_gets_the_same_answer(bob: Agent) -> None:
    User.objects.create_user("dora", password=PASSWORD)  # no agent
    User.objects.create_user("eve", password=PASSWORD, is_active=False)
    answers = set()
    for username, password in [("bob", "wrong"), ("nobody", "wrong"), ("dora", PASSWORD), ("eve", PASSWORD)]:
        response = sign_in(Page(), username, password)
        html = response.content.decode().replace(username, "NAME")
        answers.add((response.status_code, re.sub(r'value="[A-Za-z0-9]{64}"', "TOKEN", html)))
    assert len(answers) == 1
    assert "Name and password don&#x27;t match" in answers.pop()[1]


def test_an_unknown_name_costs_a_password_hash_as_a_known_one_does(bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    from django.contrib.auth import hashers

    encode = hashers.MD5PasswordHasher.encode

    def counted(self: Any, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", counted)
    sign_in(Page(), "bob", "wrong")
    known = len(hashed)
    sign_in(Page(), "nobody", "wrong")
    assert len(hashed) - known == known > 0


def test_guessing_is_limited_for_known_and_unknown_names_alike(bob: Agent, limited: None) -> None:
    for username in ["bob", "nobody"]:
        page = Page(REMOTE_ADDR=f"192.0.2.{len(username)}")
        for _ in range(6):
            assert sign_in(page, username, "wrong").status_code == 200
        response = sign_in(page, username, PASSWORD)
        assert response.status_code == 429
        assert int(response["Retry-After"]) > 0
        assert "Too many tries" in response.content.decode()
    assert sign_in(Page(REMOTE_ADDR="198.51.100.7"), "bob", PASSWORD).status_code == 302  # bob himself, elsewhere


def test_other_spellings_of_a_name_share_its_limit(bob: Agent, limited: None) -> None:
    spellings = ["bob", " bob", "bob\t", "ｂｏｂ", "BOB", "b\u00f6b"]
    for spelling in spellings:
        assert sign_in(Page(), spelling, "wrong").status_code == 200
    assert {sign_in(Page(), spelling, "wrong").status_code for spelling in spellings} == {429}


def test_one_address_cannot_try_many_names(limited: None, db: None) -> None:
    page = Page()
    answers = [sign_in(page, f"name{number}", "wrong").status_code for number in range(31)]
    assert answers == [200] * 30 + [429]


def test_many_addresses_cannot_try_one_name_for_ever(bob: Agent, limited: None) -> None:
    for number in range(60):
        sign_in(Page(REMOTE_ADDR=f"203.0.113.{number}"), "BOB" if number % 2 else "bob", "wrong")
    assert sign_in(Page(REMOTE_ADDR="198.51.100.7"), "bob", "wrong").status_code == 429


@pytest.mark.parametrize(
    "following", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "https:evil.example"]
)
def test_next_redirects_to_our_own_pages_only(bob: Agent, following: str) -> None:
    assert sign_in(Page(), "bob", PASSWORD, next=following)["Location"] == "/inbox/"
    assert sign_in(Page(), "bob", PASSWORD, next="/inbox/7/")["Location"] == "/inbox/7/"


def test_the_admin_uses_the_same_sign_in_page(bob: Agent) -> None:
    page = Page()
    assert page.get("/admin/", follow=True).redirect_chain[-1][0] == f"{SIGN_IN}?next=%2Fadmin%2F"
    User.objects.create_superuser("root", password=PASSWORD)
    assert sign_in(page, "root", PASSWORD, next="/admin/")["Location"] == "/admin/"
    assert page.get("/admin/").status_code == 200


def test_an_agent_who_is_not_staff_gets_403_at_the_admin(bobs: Page) -> None:
    response = bobs.get("/admin/", follow=True)
    assert response.status_code == 403
    assert "The admin is for staff" in response.content.decode()


def test_a_changed_password_ends_the_other_sessions(bob: Agent, bobs: Page) -> None:
    assert bobs.get("/inbox/").status_code == 200
    bob.set_password("another horse battery")
    bob.save()
    assert bobs.get("/inbox/").status_code == 302
    assert bobs.get("/api/conversation/").status_code == 401


@pytest.mark.parametrize("change", [{"is_active": False}, {"groups": []}])
def test_a_disabled_agent_loses_access_at_once(bob: Agent, bobs: Page, change: dict[str, Any]) -> None:
    assert bobs.get("/api/conversation/").status_code == 200
    if "groups" in change:
        bob.groups.clear()
    else:
        User.objects.filter(pk=bob.pk).update(**change)
    assert bobs.get("/inbox/").status_code in {302, 403}
    assert bobs.get("/api/conversation/").status_code == 401
