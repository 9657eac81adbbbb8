"""Websites: each has its own chat, which only its own pages may embed. Agents may be limited to some websites."""

import base64
import hashlib
import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from conversations.actions import post_message, renew_secret
from conversations.models import Agent, Conversation, Website
from conversations.models.website import RESERVED_KEYS, normalize_origin
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db
SHOP = "https://shop.example"
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def shop() -> Website:
    """A website on https://shop.example, with the key shop."""
    website = Website.objects.create(key="shop", name="Fern & Fired")
    website.origins.create(origin=SHOP)
    return website


@pytest.fixture
def club() -> Website:
    """A website on https://club.example, with the key club."""
    website = Website.objects.create(key="club", name="Tennis Club")
    website.origins.create(origin="https://club.example")
    return website


def post(page: Page, **body: Any) -> Any:
    """A call of the API."""
    headers = body.pop("headers", {})
    return page.post("/api/messages/", json.dumps(body), content_type="application/json", headers=headers)


def test_there_is_a_default_website_from_the_start(alice: Page) -> None:
    assert Website.objects.get().key == "default"
    alice.says("Hello")
    assert Conversation.objects.get().website.is_default


def test_each_website_has_its_own_chat(alice: Page, shop: Website, club: Website) -> None:
    assert "Fern &amp; Fired" in alice.get("/chat/shop/").content.decode()
    alice.post("/chat/shop/messages/", {"content": "Hello shop"})
    alice.post("/chat/club/messages/", {"content": "Hello club"})
    assert texts(alice.get("/chat/shop/")) == ["Hello shop"]
    assert texts(alice.get("/chat/club/")) == ["Hello club"]
    assert texts(alice.get("/chat/")) == []
    assert {one.website.key for one in Conversation.objects.all()} == {"shop", "club"}


def test_a_conversation_of_one_website_is_unknown_to_another(alice: Page, shop: Website, club: Website) -> None:
    alice.post("/chat/shop/messages/", {"content": "Hello shop"})
    secret = Conversation.objects.get().uuid.hex
    assert texts(alice.get("/chat/shop/", headers={"X-Chat": secret})) == ["Hello shop"]
    assert texts(alice.get("/chat/club/", headers={"X-Chat": secret})) == []
    alice.post("/chat/club/messages/", {"content": "And here?"}, headers={"X-Chat": secret})
    assert Conversation.objects.count() == 2


def test_a_website_that_does_not_exist_is_404(alice: Page) -> None:
    for path in ("/chat/nowhere/", "/chat/nowhere/known/"):
        assert alice.get(path).status_code == 404, path
    assert alice.post("/chat/nowhere/messages/", {"content": "Hi"}).status_code == 404
    assert not Conversation.objects.exists()


def test_in_debug_mode_a_wrong_key_is_named_on_our_own_page(alice: Page, talk: Conversation, settings: Any) -> None:
    settings.DEBUG = True
    html = alice.get("/chat/nowhere/").content.decode()
    assert "Page not found" in html
    assert "There is no website with the key “nowhere”. All websites and their keys are in /admin/" in html
    assert "Check the address." in alice.get(f"/chat/files/{talk.uuid}/").content.decode()
    settings.DEBUG = False
    assert "/admin/" not in alice.get("/chat/nowhere/").content.decode()


def test_no_row_and_no_cookie_before_the_first_message(alice: Page, shop: Website) -> None:
    response = alice.get(f"/chat/shop/?host={SHOP}")
    assert response.status_code == 200
    assert not response.cookies
    assert not Conversation.objects.exists()


# In the pages of a host ----------------------------------------------------------------------------------------------


def ancestors(response: Any) -> list[str]:
    """The origins whose pages may embed the response in a frame."""
    found = re.search(r"frame-ancestors ([^;]*)", response["Content-Security-Policy"])
    return found[1].split() if found else []


def test_a_page_may_be_framed_by_the_host_it_names_if_that_is_listed(alice: Page, shop: Website, club: Website) -> None:
    shop.origins.create(origin="https://other.example")
    assert ancestors(alice.get(f"/chat/shop/?host={SHOP}")) == ["'self'", SHOP]
    everybody = ["'self'", SHOP, "https://other.example"]
    assert ancestors(alice.get("/chat/shop/")) == everybody
    for foreign in (
        "https://evil.example",
        "https://shop.example.evil.example",
        "null",
        "x" * 3000,
        "https://club.example",
    ):
        assert ancestors(alice.get("/chat/shop/", {"host": foreign})) == everybody
    assert "X-Frame-Options" not in alice.get("/chat/shop/")


def test_the_cookie_in_a_host_page_is_partitioned_and_the_hosts_own(alice: Page, shop: Website) -> None:
    shop.origins.create(origin="https://other.example")
    response = alice.post(f"/chat/shop/messages/?host={SHOP}", {"content": "From the shop"})
    [cookie] = response.cookies.values()
    text = cookie.OutputString()
    assert all(word in text for word in ("HttpOnly", "Secure", "SameSite=None", "Partitioned"))
    assert texts(alice.get(f"/chat/shop/?host={SHOP}")) == ["From the shop"]
    assert texts(alice.get("/chat/shop/?host=https://other.example")) == []
    assert texts(alice.get("/chat/shop/")) == []


def test_on_its_own_page_the_cookie_is_lax(alice: Page, shop: Website) -> None:
    [cookie] = alice.post("/chat/shop/messages/", {"content": "Hi"}).cookies.values()
    assert cookie["samesite"] == "Lax"
    assert "Partitioned" not in cookie.OutputString()


def test_the_secret_goes_to_a_script_only_if_it_asks(alice: Page, shop: Website) -> None:
    name = "5d5d3a41-3a5b-4a0e-8f6e-0d8a8f6c1f00"
    response = alice.post("/chat/shop/messages/", {"content": "Hi", "client_id": name})
    assert "X-Secret" not in response
    assert alice.get("/chat/shop/known/")["X-Known"] == "yes"
    bare = Page()
    assert bare.get("/chat/shop/known/")["X-Known"] == "no"
    asked = bare.post("/chat/shop/messages/", {"content": "Hi", "client_id": name}, headers={"X-Keep": "yes"})
    assert asked["X-Secret"] == Conversation.objects.get().uuid.hex


def test_without_javascript_redirects_keep_the_host_and_the_language(alice: Page, shop: Website) -> None:
    response = alice.post(f"/chat/shop/messages/?host={SHOP}&language=de", {"content": "Hallo"})
    assert response["Location"] == "/chat/shop/?host=https%3A%2F%2Fshop.example&language=de"
    page = alice.get(response["Location"]).content.decode()
    assert '<html lang="de"' in page
    assert 'action="/chat/shop/messages/?host=https%3A%2F%2Fshop.example&amp;language=de"' in page


def test_a_website_uses_its_own_languages(alice: Page, shop: Website) -> None:
    shop.languages = "fr en"
    shop.save()
    for accepted, language in (("en", "en"), ("fr-CA", "fr"), ("de", "fr"), ("", "fr")):
        page = alice.get("/chat/shop/", headers={"Accept-Language": accepted})
        assert f'<html lang="{language}"' in page.content.decode(), accepted


# Another window ------------------------------------------------------------------------------------------------------


def test_a_code_opens_one_window_once_and_does_not_contain_the_secret(alice: Page, shop: Website) -> None:
    alice.post("/chat/shop/messages/", {"content": "Remember me"})
    code = alice.post("/chat/shop/code/").content.decode()
    payload = base64.urlsafe_b64decode(code.split(":")[0] + "===").decode()
    assert Conversation.objects.get().uuid.hex not in payload
    window, mallory = Page(), Page()
    assert window.post("/chat/shop/enter/", {"code": code, "window": "1"}).status_code == 204
    assert texts(window.get("/chat/shop/")) == ["Remember me"]
    assert mallory.post("/chat/shop/enter/", {"code": code, "window": "2"}).status_code == 403
    assert texts(mallory.get("/chat/shop/")) == []


# What a website asks -------------------------------------------------------------------------------------------------


def test_required_fields_are_required_with_the_first_message_only(alice: Page, shop: Website) -> None:
    shop.ask_name, shop.ask_email = Website.Ask.REQUIRED, Website.Ask.REQUIRED
    shop.save()
    page = alice.get("/chat/shop/").content.decode()
    assert re.search(r'name="email"[^>]* required', page)
    refused = alice.htmx("/chat/shop/messages/", {"content": "Hi", "name": "Alice"})
    assert refused.status_code == 422
    assert "e-mail" in refused.content.decode()
    assert not Conversation.objects.exists()
    first = {"content": "Hi", "name": "Alice", "email": "alice@example.com"}
    assert alice.htmx("/chat/shop/messages/", first).status_code == 204
    assert alice.htmx("/chat/shop/messages/", {"content": "More"}).status_code == 204


def test_the_api_requires_the_same_fields(alice: Page, shop: Website) -> None:
    shop.ask_email = Website.Ask.REQUIRED
    shop.save()
    assert post(alice, content="Hi", website="shop").status_code == 422
    assert not Conversation.objects.exists()
    assert post(alice, content="Hi", website="shop", email="alice@example.com").status_code == 200


def test_fields_that_are_off_are_not_on_the_page(alice: Page, shop: Website) -> None:
    shop.ask_name, shop.ask_email = Website.Ask.OFF, Website.Ask.OFF
    shop.save()
    assert 'name="email"' not in alice.get("/chat/shop/").content.decode()


# The API and other origins -------------------------------------------------------------------------------------------


def test_the_api_takes_a_websites_key(alice: Page, shop: Website) -> None:
    assert post(alice, content="Hi", website="shop").status_code == 200
    assert Conversation.objects.get().website == shop
    assert post(alice, content="Hi", website="\x00").status_code == 422
    nowhere = post(alice, content="Hi", website="nowhere")
    assert nowhere.status_code == 422
    assert nowhere.json()["detail"][0]["loc"][-1] == "website"
    assert Conversation.objects.count() == 1


def preflight(page: Page, origin: str) -> Any:
    """Send the preflight request of a browser, before a page of this origin may post JSON."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return page.options("/api/messages/", headers=asked)


def test_widgets_of_listed_origins_may_call_and_no_others(alice: Page, shop: Website) -> None:
    allowed = preflight(alice, SHOP)
    assert allowed["Access-Control-Allow-Origin"] == SHOP
    assert "Access-Control-Allow-Credentials" not in allowed
    answer = post(alice, content="Hi", website="shop", headers={"Origin": SHOP})
    assert answer["Access-Control-Allow-Origin"] == SHOP
    uuid = answer.json()["items"][0]["conversation"]
    read = alice.get(f"/api/messages/{uuid}/?since=0", headers={"Origin": SHOP})
    assert read["Access-Control-Allow-Origin"] == SHOP
    assert read.json()["count"] == 1
    for foreign in ("https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"):
        assert "Access-Control-Allow-Origin" not in preflight(alice, foreign)
        assert "Access-Control-Allow-Origin" not in alice.get(f"/api/messages/{uuid}/", headers={"Origin": foreign})
        assert post(alice, content="Hi", website="shop", headers={"Origin": foreign}).status_code == 403
    assert "Access-Control-Allow-Origin" not in alice.get("/api/conversation/", headers={"Origin": SHOP})


def test_widgets_may_read_retry_after_and_content_disposition(alice: Page, shop: Website, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "messages of one address": (1, 60)}
    assert post(alice, content="Hi", website="shop", headers={"Origin": SHOP}).status_code == 200
    refused = post(alice, content="Hi", website="shop", headers={"Origin": SHOP})
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    exposed = refused["Access-Control-Expose-Headers"].split(", ")
    assert {"Retry-After", "Content-Disposition"} <= set(exposed)


def test_an_origin_reads_and_writes_on_its_own_websites_only(alice: Page, shop: Website, club: Website) -> None:
    theirs = post(alice, content="At the club", website="club").json()["items"][0]["conversation"]
    assert alice.get(f"/api/messages/{theirs}/", headers={"Origin": SHOP}).json()["count"] == 0
    assert alice.get(f"/api/messages/{theirs}/?since=0", headers={"Origin": SHOP}).json()["count"] == 0
    assert post(alice, content="Hi", website="club", headers={"Origin": SHOP}).status_code == 403
    assert post(alice, content="Hi", conversation=theirs, headers={"Origin": SHOP}).status_code == 403
    assert alice.get(f"/api/messages/{theirs}/", headers={"Origin": "https://club.example"}).json()["count"] == 1


# Agents --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_the_shop(bob: Agent, shop: Website) -> Agent:
    """Bob, who is limited to the shop."""
    shop.agents.add(User.objects.get(pk=bob.pk))
    return Agent.objects.get(pk=bob.pk)


def test_agents_see_the_website_and_choose_one(bobs: Page, shop: Website, club: Website) -> None:
    post_message(content="At the shop", website=shop)
    post_message(content="At the club", website=club)
    everything = bobs.get("/inbox/").content.decode()
    assert "At the shop" in everything
    assert '<span class="site" dir="auto">Tennis Club</span>' in everything
    assert '<option value="club">Tennis Club</option>' in everything
    chosen = bobs.get("/inbox/?website=club").content.decode()
    assert "At the club" in chosen
    assert "At the shop" not in chosen


def test_with_one_website_the_inbox_has_no_website_filter(bobs: Page, talk: Conversation) -> None:
    page = bobs.get("/inbox/").content.decode()
    assert 'class="site"' not in page
    assert "All websites" not in page


def test_an_agent_who_is_limited_sees_no_other_website(
    bobs: Page, of_the_shop: Agent, shop: Website, club: Website
) -> None:
    mine = post_message(content="At the shop", website=shop).conversation
    other = post_message(content="At the club", website=club).conversation
    page = bobs.get("/inbox/").content.decode()
    assert "At the shop" in page
    assert "At the club" not in page
    assert "Tennis Club" not in page
    assert "At the club" not in bobs.get("/inbox/?website=club").content.decode()
    assert bobs.get(f"/inbox/{mine.pk}/").status_code == 200
    hidden, nothing = bobs.get(f"/inbox/{other.pk}/"), bobs.get("/inbox/999999/")
    assert hidden.status_code == nothing.status_code == 404
    assert hidden.content == nothing.content
    for action in ("take", "close", "open", "read", "messages"):
        assert bobs.post(f"/inbox/{other.pk}/{action}/", {"content": "x", "last": 1}).status_code == 404, action
    assert bobs.get("/api/conversation/").json()["count"] == 1
    assert bobs.get(f"/inbox/{other.pk}/about/").status_code == 404
    other.refresh_from_db()
    assert other.assignee is None
    assert other.messages.count() == 1


def test_over_the_api_a_limited_agent_writes_in_no_other_website(
    of_the_shop: Agent, alice: Page, club: Website
) -> None:
    from conversations.models import Token

    other = post_message(content="At the club", website=club).conversation
    token = Token.objects.issue(User.objects.get(pk=of_the_shop.pk), "bot", Token.Scope.WRITE)
    bearer = {"Authorization": f"Bearer {token}"}
    post(alice, content="Psst", conversation=str(other.uuid), headers=bearer)
    assert post(alice, content="Psst", website="club", headers=bearer).status_code == 422
    assert other.messages.count() == 1


# Setting them up -----------------------------------------------------------------------------------------------------


def test_addwebsite_prints_the_script_tag(capsys: Printed) -> None:
    call_command(
        "addwebsite", "Shop", "https://Shop.example/", "http://localhost:3000", "--key", "shop", "--accent", "#0a7d4f"
    )
    line = capsys.readouterr().out
    assert line == '<script src="https://chat.example.com/chat.js" data-website="shop" async></script>\n'
    website = Website.objects.get(key="shop")
    assert website.accent == "#0a7d4f"
    assert {origin.origin for origin in website.origins.all()} == {SHOP, "http://localhost:3000"}
    call_command("addwebsite", "Shop", "https://new.example", "--key", "shop")
    assert Website.objects.get(key="shop").origins.count() == 3


@pytest.mark.parametrize(
    "at",
    [
        "chat.example.com",
        "https://chat.example.com/",
        "https://chat.example.com/chat.js",
        " HTTPS://Chat.example.com:443 ",
    ],
)
def test_addwebsite_normalizes_the_address_of_chatsite(capsys: Printed, at: str) -> None:
    call_command("addwebsite", "Shop", SHOP, "--key", "shop", "--at", at)
    line = '<script src="https://chat.example.com/chat.js" data-website="shop" async></script>\n'
    assert capsys.readouterr().out == line


def test_addwebsite_without_origins_prints_only_a_link(capsys: Printed) -> None:
    call_command("addwebsite", "Shop", "--key", "shop", "--at", "http://localhost:8000")
    _line, sentence = capsys.readouterr().out.splitlines()
    assert sentence.startswith("No page may embed this chat")
    assert sentence.endswith(" http://localhost:8000/chat/shop/")
    call_command("addwebsite", "Shop", SHOP, "--key", "shop")
    call_command("addwebsite", "The shop", "--key", "shop")
    assert "No page" not in capsys.readouterr().out
    call_command("addwebsite", "Shop", SHOP, "--key", "shop")  # which it has already
    assert Website.objects.get(key="shop").origins.count() == 1


NO_HOSTS = [
    "https://.",
    "https://shop..example",
    "https://.shop.example",
    "https://shop.example:0",
    "https://999.999.999.999",
    "https://1.2.3",
    "https://[::g]",
    "https://[1:2]",
    f"https://{'a' * 64}.example",
    f"https://{'ü' * 60}.example",
    "https://bü cher.example",
    "https://xn--bücher.example",
    "https://ümlaut@shop.example",
    "https://bücher.example/path",
    "https://b%C3%BCcher.example",
    "https://bü\u202echer.example",
    "https://1.0x7f",
    "https://shop.example.",
    "https://user:pw@shop.example",
    "https://[::1%eth0]",
    "https://[fe80::ü]",
]
LONG = "https://" + ".".join(["a" * 60] * 4) + ".example"  # a host of which there could be one, too long for us


@pytest.mark.parametrize("wrong", [*NO_HOSTS, LONG])
def test_invalid_origins_are_refused(client: Any, admin_user: User, shop: Website, wrong: str) -> None:
    with pytest.raises(CommandError, match=r"\w+ \w+ .*"):
        call_command("addwebsite", "Shop", wrong, "--key", "other")
    assert not Website.objects.filter(key="other").exists()
    client.force_login(admin_user)
    refused = saves(client, shop, wrong)
    assert refused.status_code == 200
    assert "origin" in refused.context["inline_admin_formsets"][0].formset.forms[-1].errors
    assert [origin.origin for origin in shop.origins.all()] == [SHOP]


@pytest.mark.parametrize(
    "wrong",
    [
        ["Shop", SHOP, "--at", "https://chat.example.com/somewhere"],
        ["Shop", SHOP, "--at", ""],
        ["Shop", "shop.example"],
        ["Shop", "https://shop.example/path"],
        ["Shop", "https://*.shop.example"],
        ["Shop", "javascript:alert(1)"],
        ["Shop", "https://user@shop.example"],
        ["Shop", SHOP, "--key", "messages"],
        ["Shop", SHOP, "--key", "Ümlaut"],
        ["Shop", SHOP, "--accent", "red"],
        ["", SHOP],
    ],
)
def test_addwebsite_refuses_invalid_values_and_changes_nothing(wrong: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("addwebsite", *wrong)
    assert Website.objects.count() == 1


def test_every_path_of_the_chat_is_a_reserved_key() -> None:
    from conversations.customer.urls import urlpatterns

    used = {str(pattern.pattern).split("/")[0] for pattern in urlpatterns}
    assert used - {""} <= RESERVED_KEYS


def test_origins_are_normalized_as_browsers_do() -> None:
    assert normalize_origin("HTTPS://Shop.Example:443/") == SHOP
    assert normalize_origin("http://[::1]:3000") == "http://[::1]:3000"
    assert normalize_origin("http://[0:0:0:0:0:0:0:1]") == "http://[::1]"
    assert normalize_origin("http://192.168.0.7:80") == "http://192.168.0.7"
    for wrong in ("", "shop", "ftp://x.example", "https://", "https://x.example:99999999", "https://x y.example"):
        with pytest.raises(ValidationError):
            normalize_origin(wrong)


def test_no_name_takes_long_to_encode() -> None:
    name = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    started = time.process_time()
    for _ in range(5):
        with pytest.raises(ValidationError):
            normalize_origin(f"https://{name}.example")
    assert time.process_time() - started < 0.1


# What `new URL(…).origin` is in Chromium.
INTERNATIONAL = {
    "https://bücher.example": "https://xn--bcher-kva.example",
    " HTTPS://BÜCHER.example:443/ ": "https://xn--bcher-kva.example",
    "https://bu\u0308cher.example": "https://xn--bcher-kva.example",
    "https://straße.example": "https://xn--strae-oqa.example",
    "http://例え.テスト:8080": "http://xn--r8jz45g.xn--zckzah:8080",
    "https://例え。テスト": "https://xn--r8jz45g.xn--zckzah",
    "https://ｓｈｏｐ.example": "https://shop.example",
    "https://مثال.example": "https://xn--mgbh0fb.example",
    "https://☕.example": "https://xn--53h.example",
    "https://my_shop.bücher.example": "https://my_shop.xn--bcher-kva.example",
    "http://１２７.0.0.1": "http://127.0.0.1",
    "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
}


@pytest.mark.parametrize("written", INTERNATIONAL)
def test_international_names_are_stored_as_browsers_send_them(written: str) -> None:
    call_command("addwebsite", "Shop", written, "--key", "shop", "--at", written)
    [origin] = Website.objects.get(key="shop").origins.all()
    assert origin.origin == INTERNATIONAL[written]


def test_an_international_name_in_the_admin_is_stored_as_browsers_send_it(
    client: Any, admin_user: User, shop: Website
) -> None:
    client.force_login(admin_user)
    assert saves(client, shop, "https://Bücher.example/").status_code == 302
    assert shop.origins.filter(origin="https://xn--bcher-kva.example").exists()
    assert saves(client, shop, "https://xn--bcher-kva.example").status_code == 200  # a duplicate


def saves(client: Any, website: Website, *origins: str) -> Any:
    """Save a website in the admin unchanged, but with these origins added."""
    path = f"/admin/conversations/website/{website.pk}/change/"
    page = client.get(path)
    form = page.context["adminform"].form
    values = {name: form[name].value() or "" for name in form.fields if name != "agents"}
    there = list(website.origins.all())
    values |= {"origins-TOTAL_FORMS": len(there) + len(origins), "origins-INITIAL_FORMS": len(there)}
    for number, written in enumerate([*(origin.origin for origin in there), *origins]):
        values |= {f"origins-{number}-origin": written, f"origins-{number}-website": website.pk}
    values |= {f"origins-{number}-id": origin.pk for number, origin in enumerate(there)}
    return client.post(path, {name: value for name, value in values.items() if value is not False})


@pytest.mark.parametrize(
    "origins",
    [
        ["https://New.example", "https://new.example/"],
        ["https://new.example", "https://new.example:443"],
        ["HTTPS://Shop.example/"],
    ],
)
def test_the_same_origin_in_two_spellings_is_refused(
    client: Any, admin_user: User, shop: Website, origins: list[str]
) -> None:
    client.force_login(admin_user)
    refused = saves(client, shop, *origins)
    assert refused.status_code == 200
    assert "duplicate" in str(refused.context["inline_admin_formsets"][0].formset.non_form_errors())
    assert [origin.origin for origin in shop.origins.all()] == [SHOP]
    assert saves(client, shop, "https://New.example/").status_code == 302
    assert {origin.origin for origin in shop.origins.all()} == {SHOP, "https://new.example"}


def test_staff_with_view_permission_neither_see_nor_renew_identity_secrets(client: Any, shop: Website) -> None:
    shop.identity_secret, shop.identity_secret_before = "5ecret" * 9, "0lder5ecret" * 5
    shop.save()
    carol = User.objects.create_user("carol", is_staff=True)
    carol.user_permissions.add(Permission.objects.get(codename="view_website"))
    client.force_login(carol)
    page = client.get(f"/admin/conversations/website/{shop.pk}/change/").content.decode()
    assert "Fern &amp; Fired" in page
    assert shop.identity_secret not in page
    assert shop.identity_secret_before not in page
    client.post("/admin/conversations/website/", {"action": "rotate_identity_secret", "_selected_action": [shop.pk]})
    assert Website.objects.get(pk=shop.pk).identity_secret == shop.identity_secret
    carol.user_permissions.add(Permission.objects.get(codename="change_website"))
    assert shop.identity_secret in client.get(f"/admin/conversations/website/{shop.pk}/change/").content.decode()


def test_staff_set_up_a_website_in_the_admin(client: Any, admin_user: User) -> None:
    client.force_login(admin_user)
    page = client.get("/admin/conversations/website/add/")
    assert page.status_code == 200
    form = page.context["adminform"].form
    values = {name: form[name].value() or "" for name in form.fields if name != "agents"}
    values |= {"name": "Shop", "key": "shop", "office_hours": "Mon-Fri 9:00-17:00", "time_zone": "Europe/Berlin"}
    values |= {"origins-TOTAL_FORMS": "1", "origins-INITIAL_FORMS": "0", "origins-0-origin": "https://Shop.example"}
    values = {name: value for name, value in values.items() if value is not False}
    saved = client.post("/admin/conversations/website/add/", values)
    assert saved.status_code == 302, saved.context["adminform"].form.errors
    website = Website.objects.get(key="shop")
    assert [origin.origin for origin in website.origins.all()] == [SHOP]
    change = client.get(f"/admin/conversations/website/{website.pk}/change/").content.decode()
    assert "http://testserver/chat.js" in change
    assert "data-website=&quot;shop&quot;" in change
    for field, wrong in (
        ("office_hours", "whenever"),
        ("office_hours", "Mon 24:00-0:00"),
        ("office_hours", "Mon 24:00-8:00"),
        ("time_zone", "Mars/Base"),
        ("time_zone", "Factory"),
        ("time_zone", "localtime"),
        ("accent", "red"),
        ("languages", "xx"),
    ):
        refused = client.post("/admin/conversations/website/add/", {**values, "key": "other", field: wrong})
        assert refused.status_code == 200, field
        assert field in refused.context["adminform"].form.errors


def test_a_new_identity_secret_keeps_the_previous_one_valid(client: Any, admin_user: User, shop: Website) -> None:
    client.force_login(admin_user)
    form = {"action": "rotate_identity_secret", "_selected_action": [shop.pk]}
    for _ in range(2):
        client.post("/admin/conversations/website/", form)
    shop.refresh_from_db()
    assert len(shop.identity_secret) == len(shop.identity_secret_before) == 64
    assert shop.identity_secret != shop.identity_secret_before


def test_the_default_website_cannot_be_deleted(client: Any, admin_user: User) -> None:
    client.force_login(admin_user)
    default = Website.objects.default()
    client.post(f"/admin/conversations/website/{default.pk}/delete/", {"post": "yes"})
    assert Website.objects.filter(pk=default.pk).exists()


def test_old_conversations_are_deleted_when_their_website_says_so(shop: Website, capsys: Printed) -> None:
    old, new = (post_message(content=text, website=shop).conversation for text in ("Old", "New"))
    kept = post_message(content="Kept for ever").conversation
    long_ago = timezone.now() - timedelta(days=31)
    Conversation.objects.filter(pk__in=[old.pk, kept.pk]).update(last_message_at=long_ago)
    shop.retention_days = 30
    shop.save()
    for _ in range(2):
        call_command("forgetold")
    assert set(Conversation.objects.all()) == {new, kept}
    assert capsys.readouterr().out == "Fern & Fired: 1 deleted.\n"


def test_the_api_filters_conversations_by_website(bobs: Page, shop: Website) -> None:
    mine = post_message(content="At the shop", website=shop).conversation
    post_message(content="Elsewhere")
    found = bobs.get("/api/conversation/?website=shop").json()
    assert [item["id"] for item in found["items"]] == [mine.pk]
    assert found["items"][0]["website"] == "shop"
    assert bobs.get("/api/conversation/?website=nowhere").json()["count"] == 0


def test_a_page_whose_secret_was_renewed_is_triggered_to_reload(alice: Page, shop: Website) -> None:
    alice.post("/chat/shop/messages/", {"content": "Hi"})
    poll = "/chat/shop/messages/?since=99&state=OPEN"
    assert "HX-Trigger" not in alice.get(poll)
    renew_secret(conversation=Conversation.objects.get())
    assert alice.get(poll)["HX-Trigger"] == "stranger"
    assert "HX-Trigger" not in Page().get(poll)


def test_a_page_that_shows_another_conversation_gets_no_messages_of_this_one(
    alice: Page, mallory: Page, shop: Website
) -> None:
    def shown(page: Page) -> str:
        found = re.search(r'id="shown-state" name="state" value="([^"]*)"', page.get("/chat/shop/").content.decode())
        assert found
        return found[1]

    assert shown(alice) == ""
    alice.post("/chat/shop/messages/", {"content": "Private of alice"})
    mallory.post("/chat/shop/messages/", {"content": "Private of mallory"})
    hers: dict[str, str | int] = {"state": shown(alice)}
    poll = "/chat/shop/messages/"
    assert "Private of alice" in alice.get(poll, hers).content.decode()
    for page in (mallory, Page()):  # as if alice's tab were still open in their browser
        for asked in ({**hers, "since": 1}, {**hers, "before": 99}):
            answer = page.get(poll, asked)
            assert (answer.status_code, answer["HX-Trigger"], answer.content) == (204, "another", b"")
        assert page.get("/chat/shop/state/", hers)["HX-Trigger"] == "another"
        late = page.post(poll, {**hers, "content": "Written by alice before she left"}, headers={"HX-Request": "true"})
        assert (late.status_code, late["X-Another"], "X-Message" in late) == (204, "yes", False)
    assert "Written by alice" not in mallory.get(poll).content.decode()
    assert Conversation.objects.count() == 2
    assert alice.post(poll, {**hers, "content": "Mine"}, headers={"HX-Request": "true"})["X-Message"]


def test_a_page_from_before_the_update_that_sends_a_digest_of_its_secret_goes_on(
    alice: Page, mallory: Page, shop: Website
) -> None:
    alice.post("/chat/shop/messages/", {"content": "Before the update"})
    poll, conversation = "/chat/shop/messages/", Conversation.objects.get()
    state = f"OPEN {hashlib.sha256(conversation.uuid.bytes).hexdigest()[:8]}"
    assert "Before the update" in alice.get(poll, {"state": state, "since": "0"}).content.decode()
    assert alice.post(poll, {"state": state, "content": "After it"}, headers={"HX-Request": "true"})["X-Message"]
    mallory.post(poll, {"content": "Hi"})
    assert mallory.get(poll, {"state": state, "since": "0"})["HX-Trigger"] == "another"
