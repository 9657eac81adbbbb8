"""The agents' doorbell for programs and for tools on other origins: by a token, never by a cookie."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator

from chatsite.asgi import application
from conversations.actions import post_message
from conversations.live import rounds
from conversations.models import Agent, Conversation, Token, Website
from conversations.presence import agents
from tests.conftest import Page
from tests.test_doorbell import closed_with, in_thread, ring_of, session

pytestmark = pytest.mark.django_db(transaction=True)
DESK = "https://desk.example"


@asynccontextmanager
async def socket(
    *, bearer: str = "", offered: tuple[str, ...] = (), origin: str = "", cookies: str = "", path: str = "/ws/inbox/"
) -> AsyncIterator[Any]:
    """Open a socket."""
    headers = {"host": "testserver", "origin": origin, "cookie": cookies}
    headers["authorization"] = f"Bearer {bearer}" if bearer else ""
    encoded = [(name.encode(), value.encode()) for name, value in headers.items() if value]
    bell = WebsocketCommunicator(application, path, headers=encoded, subprotocols=list(offered))
    yield bell
    await bell.disconnect()


@pytest.fixture
def token(bob: Agent) -> str:
    """A token of bob."""
    return Token.objects.issue(bob, "program", "WRITE")


@pytest.fixture
def desk(settings: Any) -> str:
    """The origin of an agents' tool that the operator has listed."""
    settings.AGENT_ORIGINS = [DESK]
    return DESK


async def test_a_program_is_rung_without_an_origin(token: str, talk: Conversation) -> None:
    async with socket(bearer=token) as bell:
        assert (await bell.connect())[0]
        assert await ring_of(bell) == {"type": "messages", "last": talk.last_message_id}
        message = await in_thread(post_message)(content="Hi", conversation=talk)
        assert await ring_of(bell) == {"type": "messages", "conversation": talk.pk, "last": message.pk}


async def test_a_page_of_a_listed_origin_sends_the_token_as_a_subprotocol(
    token: str, desk: str, talk: Conversation
) -> None:
    async with socket(offered=("chat", token), origin=desk) as bell:
        assert await bell.connect() == (True, "chat")
        assert (await ring_of(bell))["last"] == talk.last_message_id
    for origin in ("https://evil.example", "http://desk.example", "null", ""):
        async with socket(offered=("chat", token), origin=origin) as bell:
            assert not (await bell.connect())[0]


async def test_only_a_refused_page_is_told_from_a_proxy_that_drops_the_port(
    token: str, talk: Conversation, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk, shop = "http://testserver:5173", "http://testserver:5174"  # our own host name, as on localhost
    settings.AGENT_ORIGINS = [desk]
    website = await in_thread(Website.objects.by_id)(talk.website_id)
    await in_thread(website.origins.create)(origin=shop)
    for path, origin in (("/ws/inbox/", desk), (f"/ws/messages/{talk.uuid}/", shop)):
        async with socket(offered=("chat", token), origin=origin, path=path) as bell:
            assert (await bell.connect())[0]
    assert "drops the port" not in caplog.text
    async with socket(origin=shop) as bell:
        assert not (await bell.connect())[0]
    assert "drops the port" in caplog.text


async def test_a_wrong_token_is_closed_like_no_token(token: str, desk: str, bobs: Page) -> None:
    attempts: list[dict[str, Any]] = [
        {"bearer": "nonsense"},
        {"bearer": token + "x"},
        {"bearer": "chat_1_"},
        {"offered": ("chat", "nonsense"), "origin": desk},
        {"offered": ("chat",), "origin": desk},
        {"origin": desk},
        # A session does not help where the token decides.
        {"origin": desk, "cookies": session(bobs)},
        {"bearer": "nonsense", "cookies": session(bobs)},
        {"bearer": "nonsense", "cookies": session(bobs), "origin": "https://evil.example"},
    ]
    for options in attempts:
        async with socket(**options) as bell:
            await bell.connect()
            assert await closed_with(bell) == 4404, options


async def test_a_token_opens_no_other_socket_of_other_origins(token: str, desk: str, talk: Conversation) -> None:
    for path in (f"/ws/messages/{talk.uuid}/", "/ws/chat/"):
        async with socket(bearer=token, path=path) as bell:
            assert not (await bell.connect())[0]
        async with socket(offered=("chat", token), origin=desk, path=path) as bell:
            assert not (await bell.connect())[0]


async def test_a_socket_is_closed_within_a_heartbeat_after_its_token_is_revoked(
    token: str, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "HEARTBEAT", 0.05)
    async with socket(bearer=token) as bell:
        await bell.connect()
        await ring_of(bell)
        await in_thread(Token.objects.all().delete)()
        assert await closed_with(bell) == 4403


async def test_a_limited_agents_program_is_rung_only_for_their_websites(talk: Conversation, bob: Agent) -> None:
    club = await in_thread(Website.objects.create)(key="club", name="The Club")
    await in_thread(club.agents.add)(bob)
    token = await in_thread(Token.objects.issue)(bob, "program", "READ")
    async with socket(bearer=token) as bell:
        await bell.connect()
        assert (await ring_of(bell))["last"] == 0
        await in_thread(post_message)(content="Hi", conversation=talk)
        assert await bell.receive_nothing()
        there = await in_thread(post_message)(content="Hi", website=club)
        assert (await ring_of(bell))["conversation"] == there.conversation_id


@pytest.mark.parametrize(("scope", "online"), [("WRITE", True), ("READ", False)])
async def test_only_a_program_that_can_answer_shows_the_agent_as_online(scope: str, online: bool, bob: Agent) -> None:
    token = await in_thread(Token.objects.issue)(bob, "program", scope)
    async with socket(bearer=token) as bell:
        await bell.connect()
        await ring_of(bell)
    assert bool(await in_thread(agents.online)([bob])) is online
