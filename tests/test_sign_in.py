"""Signing in and out, and what guessing a password meets."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory

from conversations.agent.sign_in import KNOWN_BROWSER, count_attempt, known_account
from conversations.models import Agent
from conversations.threshold import limits
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
    assert "The name or the password is wrong" in answers.pop()[1]


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
        assert "Too many attempts" in response.content.decode()
    assert sign_in(Page(REMOTE_ADDR="198.51.100.7"), "bob", PASSWORD).status_code == 302  # bob himself, elsewhere


@pytest.mark.parametrize("name", ["bob", "nobody"])
def test_other_spellings_of_a_name_share_its_limit(bob: Agent, limited: None, name: str) -> None:
    invisible = ["\u200b", "\u00ad", "\u2060", "\ufe0f", "\u0001", "\u0308"]
    spellings = [name, f" {name}", f"{name}\t", name.upper(), "".join(chr(ord(letter) + 0xFEE0) for letter in name)]
    spellings += [f"{name[0]}{letter}{name[1:]}" for letter in invisible]
    assert [sign_in(Page(), spelling, "wrong").status_code for spelling in spellings] == [200] * 6 + [429] * 5


def test_one_address_cannot_try_many_names(limited: None, db: None) -> None:
    page = Page()
    answers = [sign_in(page, f"name{number}", "wrong").status_code for number in range(31)]
    assert answers == [200] * 30 + [429]


def guesses(name: str, addresses: list[str], each: int = 9) -> int:
    """How many guesses at a password are checked, if each of the addresses tries some."""
    checked = 0
    for address in addresses:
        request = RequestFactory().post(SIGN_IN, REMOTE_ADDR=address)
        for _ in range(each):
            with suppress(limits.RateLimitExceeded):
                count_attempt(request, name)
                checked += 1
    return checked


@pytest.mark.parametrize("networks", [10, 100])
@pytest.mark.parametrize("network", ["203.0.113.{}", "2001:db8:{:x}::1"])
@pytest.mark.parametrize("name", ["bob", "nobody"])
def test_an_agent_signs_in_with_the_right_password_while_many_networks_guess(
    bob: Agent, limited: None, networks: int, network: str, name: str
) -> None:
    checked = guesses(name, [network.format(number) for number in range(networks)])
    assert 60 <= checked <= 60 + 2 * networks
    page = Page(REMOTE_ADDR="198.51.100.7")
    assert sign_in(page, name, "wrong").status_code == 200
    assert sign_in(page, name, PASSWORD).status_code == (302 if name == "bob" else 200)


def test_one_large_network_has_few_guesses_at_an_account_under_attack(bob: Agent, limited: None) -> None:
    assert guesses("bob", [f"2001:db8:0:{number:x}::1" for number in range(100)]) == 60 + 2


def test_all_networks_together_have_a_bounded_number_of_guesses(bob: Agent, limited: None, settings: Any) -> None:
    settings.LIMITS = {**settings.LIMITS, "sign-ins as an agent under attack": (50, 3600)}
    known = Page()
    assert sign_in(known, "bob", PASSWORD).status_code == 302
    known.post("/inbox/sign-out/")
    assert guesses("bob", [f"203.0.113.{number}" for number in range(100)]) == 60 + 50
    assert sign_in(Page(REMOTE_ADDR="198.51.100.7"), "bob", PASSWORD).status_code == 429
    assert sign_in(known, "bob", PASSWORD).status_code == 302


def test_a_known_browser_signs_in_where_others_are_refused(bob: Agent, carol: Agent, limited: None) -> None:
    known = Page()
    assert sign_in(known, "bob", PASSWORD).status_code == 302
    cookie = known.cookies[KNOWN_BROWSER]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", SIGN_IN)
    known.post("/inbox/sign-out/")
    for number in range(31):  # somebody in the same office
        sign_in(Page(), f"name{number // 6}" if number > 6 else "bob", "wrong")
    assert sign_in(Page(), "bob", PASSWORD).status_code == 429
    assert sign_in(Page(), "carol", PASSWORD).status_code == 429
    assert sign_in(known, "carol", PASSWORD).status_code == 429  # known for bob alone
    for _ in range(5):
        assert sign_in(known, "bob", "wrong").status_code == 200
    assert sign_in(known, "bob", PASSWORD).status_code == 302
    known.post("/inbox/sign-out/")
    assert [sign_in(known, "bob", "wrong").status_code for _ in range(2)] == [200, 429]


def test_a_browser_is_known_for_all_who_have_signed_in_there(bob: Agent, carol: Agent, limited: None) -> None:
    shared = Page()
    for _ in range(2):
        for name in ["bob", "carol"]:
            assert sign_in(shared, name, PASSWORD).status_code == 302
            shared.post("/inbox/sign-out/")
    _browser, *accounts = shared.cookies[KNOWN_BROWSER].value.split(":")[0].split()
    assert accounts == [known_account(carol), known_account(bob)]


def test_a_new_password_makes_all_browsers_unknown(bob: Agent, limited: None) -> None:
    known = Page()
    sign_in(known, "bob", PASSWORD)
    known.post("/inbox/sign-out/")
    bob.set_password("another horse battery")
    bob.save()
    assert [sign_in(Page(), "bob", "wrong").status_code for _ in range(7)] == [200] * 6 + [429]
    assert sign_in(known, "bob", "wrong").status_code == 429


@pytest.mark.parametrize("forge", ["", "x", "browser {pk}", "browser {pk}:1tC0:signature", "{pk}", "browser x:y:z"])
def test_a_forged_cookie_does_not_make_a_browser_known(bob: Agent, limited: None, forge: str) -> None:
    page = Page()
    page.cookies[KNOWN_BROWSER] = forge.format(pk=bob.pk)
    assert [sign_in(page, "bob", "wrong").status_code for _ in range(7)] == [200] * 6 + [429]
    assert sign_in(Page(), "bob", PASSWORD).status_code == 429


def test_failures_of_one_colleague_do_not_refuse_another_at_the_same_address(
    bob: Agent, carol: Agent, limited: None
) -> None:
    assert [sign_in(Page(), "bob", "wrong").status_code for _ in range(7)] == [200] * 6 + [429]
    assert sign_in(Page(), "carol", PASSWORD).status_code == 302


def test_signing_in_uses_up_no_limit(bob: Agent, limited: None) -> None:
    for _ in range(40):
        assert sign_in(Page(), "bob", PASSWORD).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_guesses_at_the_same_moment_do_not_exceed_the_limit(
    bob: Agent, limited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    all_asked = threading.Barrier(12)

    def slow_hash(self: Any, request: Any, **more: Any) -> None:
        checked.append(more["username"])
        all_asked.wait(10)

    monkeypatch.setattr(ModelBackend, "authenticate", slow_hash)

    def guess(_number: int) -> int:
        answer = sign_in(Page(), "bob", "wrong").status_code
        connection.close()
        if answer == 429:
            all_asked.wait(10)
        return int(answer)

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(guess, range(12))) == [200] * 6 + [429] * 6
    assert len(checked) == 6


def test_the_old_password_cannot_be_guessed_in_an_open_session(bob: Agent, limited: None) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    page = Page()
    page.force_login(bob)
    new = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    for _ in range(2):
        assert page.post("/admin/password_change/", {"old_password": PASSWORD, **new}).status_code == 302
    for _ in range(10):
        page.post("/admin/password_change/", {"old_password": "wrong", **new})
    response = page.post("/admin/password_change/", {"old_password": PASSWORD, **new})
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 900


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
    assert "no access to the admin" in response.content.decode()


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
