"""Pages that call the API: behind a proxy that changes the host, on the developer's machine, and on other origins."""

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from conversations.actions import post_message
from conversations.models import Agent, Conversation, Token, Website
from tests.test_doorbell import closed_with, in_thread, ring_of, socket

pytestmark = pytest.mark.django_db
VITE = "http://localhost:3000"


def post(headers: dict[str, str], **body: Any) -> Any:
    """POST a message as a page does."""
    data = json.dumps({"content": "Hello", **body})
    return Client().post("/api/messages/", data, content_type="application/json", headers=headers)


def read(uuid: Any, origin: str) -> list[str]:
    """The messages that a page of this origin can read."""
    response = Client().get(f"/api/messages/{uuid}/", headers={"Origin": origin})
    items = response.json()["items"] if response.get("Access-Control-Allow-Origin") == origin else []
    return [item["content"] for item in items]


@pytest.mark.parametrize("origin", [VITE, "https://tunnel.example", "null"])
def test_our_own_page_behind_a_proxy_that_changes_the_host_may_write(origin: str, talk: Conversation) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert post(headers).status_code == 200
    files = {"files": [SimpleUploadedFile("plan.txt", b"a plan")]}
    assert Client().post(f"/api/messages/{talk.uuid}/files/", files, headers=headers).status_code == 200
    for site in ("same-site", "cross-site", "none"):
        assert post({**headers, "Sec-Fetch-Site": site}).status_code == 403


def test_a_refusal_names_both_origins_and_what_to_set(shop: Website, bob: Agent, talk: Conversation) -> None:
    detail = post({"Origin": "https://page.example"}, website="shop").json()["detail"]
    for part in ("https://page.example", "http://testserver", "“shop”", "proxy_set_header Host", "changeOrigin"):
        assert part in detail
    assert len(post({"Origin": "https://" + "x" * 10_000}).json()["detail"]) < 800
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    path, headers = f"/api/conversation/{talk.pk}/close", {"Origin": "https://page.example"}
    response = browser.patch(path, content_type="application/json", headers=headers)
    assert response.status_code == 403
    for part in ("https://page.example", "http://testserver", "CSRF_TRUSTED_ORIGINS", "X-CSRFToken", "Bearer"):
        assert part in response.json()["detail"]


@pytest.fixture
def shop() -> Website:
    """A website that lists no origin."""
    return Website.objects.create(key="shop", name="Shop")


@pytest.mark.parametrize("origin", [VITE, "http://127.0.0.1:5173", "http://[::1]:8080", "https://localhost"])
def test_in_debug_mode_pages_of_this_machine_speak_for_the_default_website(
    origin: str, settings: Any, talk: Conversation, shop: Website
) -> None:
    there = post_message(content="At the shop", website=shop).conversation
    for debug in (False, True):
        settings.DEBUG = debug
        assert post({"Origin": origin}).status_code == (200 if debug else 403)
        assert read(talk.uuid, origin) == (["Hello, is anybody there?"] if debug else [])
        facts = Client().get("/api/website/default/", headers={"Origin": origin})
        assert facts.status_code == (200 if debug else 403)
        # Other websites list their pages, in debug mode too.
        assert post({"Origin": origin}, website="shop").status_code == 403
        assert read(there.uuid, origin) == []
        assert Client().get("/api/website/shop/", headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost.evil.example",
        "http://localhost:3000.evil.example",
        "http://evil.example/localhost",
        "http://localhost:3000/",
        "http://127.0.0.1@evil.example",
        "http://mallory.localhost:3000",
        "file://localhost",
        "null",
    ],
)
def test_in_debug_mode_pages_of_other_machines_do_not(origin: str, settings: Any, talk: Conversation) -> None:
    settings.DEBUG = True
    assert post({"Origin": origin}).status_code == 403
    assert read(talk.uuid, origin) == []


@pytest.mark.django_db(transaction=True)
async def test_in_debug_mode_pages_of_this_machine_are_rung(settings: Any, talk: Conversation, shop: Website) -> None:
    settings.DEBUG = True
    there = (await in_thread(post_message)(content="At the shop", website=shop)).conversation
    async with (
        socket(f"/ws/messages/{talk.uuid}/", origin=VITE.encode()) as bell,
        socket(f"/ws/messages/{there.uuid}/", origin=VITE.encode()) as other,
        socket("/ws/inbox/", origin=VITE.encode()) as inbox,
    ):
        assert (await bell.connect())[0]
        assert (await ring_of(bell))["last"] == talk.last_message_id
        await other.connect()
        assert await closed_with(other) == 4404
        assert not (await inbox.connect())[0]


DESK = "https://desk.example"


@pytest.fixture
def desk(settings: Any) -> str:
    """The origin of an agents' tool that the operator has listed."""
    settings.AGENT_ORIGINS = [DESK]
    return DESK


def test_an_agents_tool_on_a_listed_origin_calls_with_a_token(desk: str, bob: Agent, talk: Conversation) -> None:
    preflight = Client().options(
        f"/api/conversation/{talk.pk}/close",
        headers={
            "Origin": desk,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight["Access-Control-Allow-Origin"] == desk
    assert "authorization" in preflight["Access-Control-Allow-Headers"]
    assert "PATCH" in preflight["Access-Control-Allow-Methods"]
    headers = {"Origin": desk, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {token(bob)}"}
    client = Client(headers=headers, enforce_csrf_checks=True)
    files = {"files": [SimpleUploadedFile("offer.txt", b"an offer")]}
    for response in [
        client.get("/api/conversation/"),
        client.get("/api/me"),
        client.patch(f"/api/conversation/{talk.pk}/close"),
        client.get(f"/api/messages/{talk.uuid}/"),
        post(headers, conversation=str(talk.uuid)),
        client.post(f"/api/messages/{talk.uuid}/files/", files),
        client.get("/api/website/default/"),
    ]:
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (200, desk)
        assert "Access-Control-Allow-Credentials" not in response
    assert [message.author for message in talk.messages.order_by("id")] == ["CUS", "AGE", "AGE"]
    assert Client().get("/inbox/", headers={"Origin": desk}).get("Access-Control-Allow-Origin") is None


def test_cookies_count_for_nothing_on_an_agents_tool(desk: str, bob: Agent, talk: Conversation) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    browser.get("/inbox/")
    headers = {"Origin": desk, "X-CSRFToken": browser.cookies["csrftoken"].value}
    close = browser.patch(f"/api/conversation/{talk.pk}/close", headers=headers)
    body = json.dumps({"content": "Forged", "conversation": str(talk.uuid)})
    forged = browser.post("/api/messages/", body, content_type="application/json", headers=headers)
    assert close.status_code == forged.status_code == 403
    assert "Access-Control-Allow-Credentials" not in browser.get("/api/conversation/", headers=headers)
    assert post({"Origin": desk}).status_code == 403
    assert post({"Origin": desk, "Authorization": "Bearer chat_1_wrong"}).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "http://desk.example", "https://desk.example:444", "null"])
def test_a_tool_on_another_origin_may_not_call(desk: str, origin: str, bob: Agent, talk: Conversation) -> None:
    headers = {"Origin": origin, "Authorization": f"Bearer {token(bob)}"}
    assert "Access-Control-Allow-Origin" not in Client().get("/api/conversation/", headers=headers)
    assert post(headers, conversation=str(talk.uuid)).status_code == 403


def refusals(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged about refused pages."""
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("threshold.origin")]
    caplog.clear()
    return "\n".join(lines)


def test_the_log_names_the_origin_of_a_refused_page(
    caplog: pytest.LogCaptureFixture, shop: Website, talk: Conversation
) -> None:
    evil = {"Origin": "https://evil.example"}
    shop.origins.create(origin="https://shop.example")
    shops = {"Origin": "https://shop.example"}  # listed, but by another website than the conversation's
    reads = f"/api/messages/{talk.uuid}/"
    for headers, paths in [(evil, [reads, "/api/conversation/", "/api/website/default/"]), (shops, [reads])]:
        post(headers)
        assert f"'{headers['Origin']}'" in refusals(caplog)
        for path in paths:
            Client().get(path, headers=headers)
            assert f"'{headers['Origin']}'" in refusals(caplog), path
    Client().post("/chat/messages/", {"content": "Hi"}, headers=evil)
    assert "'https://evil.example'" in refusals(caplog)
    post({"Origin": "http://testserver"})
    post({"Origin": "https://shop.example"}, website="shop")
    Client().get(f"/api/messages/{talk.uuid}/", headers={"Origin": VITE, "Sec-Fetch-Site": "same-origin"})
    assert refusals(caplog) == ""


@pytest.mark.parametrize("path", ["/api/conversation/1/close", "/api/me/", "/api/messages/"])
def test_a_refused_preflight_is_logged_as_one_and_not_as_a_method_that_is_not_allowed(
    caplog: pytest.LogCaptureFixture, desk: str, path: str
) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PATCH"}
    assert "Access-Control-Allow-Origin" not in Client().options(path, headers=headers)
    assert "Method Not Allowed" not in caplog.text
    assert "'https://evil.example'" in (logged := refusals(caplog))
    assert "AGENT_ORIGINS" in logged
    assert Client().options(path, headers={**headers, "Origin": desk})["Access-Control-Allow-Origin"] == desk
    assert caplog.text == ""


@pytest.mark.parametrize("path", ["/ws/inbox/", "/ws/chat/", "/ws/messages/3fa85f64-5717-4562-b3fc-2c963f66afa6/"])
@pytest.mark.django_db(transaction=True)
async def test_the_log_names_the_origin_of_a_refused_socket(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with socket(path, origin=b"https://evil.example") as bell:
        assert not (await bell.connect())[0]
    assert "'https://evil.example'" in refusals(caplog)


def token(agent: Agent, scope: str = "WRITE") -> str:
    """A token of the agent."""
    return Token.objects.issue(agent, "tool", scope)
