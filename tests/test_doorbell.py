"""Doorbell sockets: who may connect, what they are sent, and what they are never sent."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.contrib.sessions.backends import db
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from chatsite.asgi import application
from chatsite.sessions import SessionStore
from conversations.actions import close, post_message, renew_secret, take, write_note
from conversations.announce import AGENTS, announce_customer, customer_group
from conversations.live import doorbell, open_sockets, rounds
from conversations.live.channel_layer import ProcessChannelLayer, RedisChannelLayer
from conversations.models import Agent, Conversation, Website
from tests.conftest import Page, promote
from tests.services import redis_server
from tests.test_channel_layer import NO_RINGS, eventually

pytestmark = pytest.mark.django_db(transaction=True)
OURS = b"http://testserver"
in_thread: Callable[..., Any] = database_sync_to_async


@asynccontextmanager
async def socket(path: str, *, cookies: str = "", origin: bytes | None = OURS) -> AsyncIterator[Any]:
    """Open a socket as a browser does."""
    headers = [(b"host", b"testserver"), (b"cookie", cookies.encode())]
    if origin is not None:
        headers.append((b"origin", origin))
    bell = WebsocketCommunicator(application, path, headers=headers)
    yield bell
    await bell.disconnect()
    await in_thread(connections.close_all)()  # the communicator of Channels keeps old ones open


async def ring_of(bell: Any) -> dict[str, Any]:
    """The next ring."""
    ring: dict[str, Any] = json.loads(await bell.receive_from(timeout=5))
    return ring


def session(page: Page) -> str:
    """The cookie header of a signed-in browser."""
    return f"sessionid={page.cookies['sessionid'].value}"


async def closed_with(bell: Any) -> int:
    """The code with which the server closes, after any rings."""
    while (event := await bell.receive_output(timeout=5))["type"] != "websocket.close":
        pass
    return int(event["code"])


async def test_all_sockets_ring_on_connect_and_for_every_message(talk: Conversation, bobs: Page, bob: Agent) -> None:
    first = talk.last_message_id
    async with (
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice_socket,
        socket(f"/ws/messages/{talk.uuid}/") as widget_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, widget_socket, bob_socket):
            assert (await bell.connect())[0]
        assert await ring_of(alice_socket) == await ring_of(widget_socket) == {"type": "messages", "last": first}
        assert await ring_of(bob_socket) == {"type": "messages", "last": first}
        for writer in (None, bob):
            message = await in_thread(post_message)(content="Hi", conversation=talk, agent=writer)
            assert (
                await ring_of(alice_socket) == await ring_of(widget_socket) == {"type": "messages", "last": message.pk}
            )
            ring = {"type": "messages", "conversation": talk.pk, "last": message.pk}
            assert await ring_of(bob_socket) == ring


async def test_customers_are_rung_when_a_conversation_closes_but_not_when_an_agent_takes_it(
    talk: Conversation, bobs: Page, bob: Agent
) -> None:
    async with (
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, bob_socket):
            await bell.connect()
            await ring_of(bell)
        await in_thread(take)(conversation=talk, by=bob)
        assert (await ring_of(bob_socket))["conversation"] == talk.pk
        assert await alice_socket.receive_nothing()
        await in_thread(close)(conversation=talk)
        assert await ring_of(alice_socket) == {"type": "messages", "last": talk.last_message_id}


async def test_a_socket_is_not_rung_for_another_conversation(talk: Conversation) -> None:
    other = (await in_thread(post_message)(content="other")).conversation
    async with socket(f"/ws/messages/{talk.uuid}/") as bell:
        await bell.connect()
        await ring_of(bell)
        await in_thread(post_message)(content="for others", conversation=other)
        assert await bell.receive_nothing()
        await in_thread(post_message)(content="for alice", conversation=talk)
        assert (await ring_of(bell))["last"] > other.last_message_id


@pytest.mark.parametrize(
    ("path", "cookies"),
    [
        ("/ws/chat/", ""),
        ("/ws/chat/", "chat=nonsense"),
        ("/ws/chat/", "chat=3fa85f6457174562b3fc2c963f66afa6"),
        ("/ws/messages/3fa85f64-5717-4562-b3fc-2c963f66afa6/", ""),
        ("/ws/messages/nonsense/", ""),
        ("/ws/inbox/", ""),
        ("/ws/inbox/", "sessionid=nonsense"),
        ("/ws/inbox/", "chat={uuid}"),
    ],
)
async def test_a_forbidden_and_an_unknown_conversation_are_both_closed_with_4404(
    talk: Conversation, path: str, cookies: str
) -> None:
    async with socket(path, cookies=cookies.format(uuid=talk.uuid.hex)) as bell:
        assert (await bell.connect())[0]
        assert await closed_with(bell) == 4404


async def test_the_secret_of_one_conversation_gives_no_access_to_another(talk: Conversation) -> None:
    mallorys = (await in_thread(post_message)(content="mine")).conversation
    async with socket("/ws/chat/", cookies=f"chat={mallorys.uuid.hex}") as bell:
        await bell.connect()
        assert (await ring_of(bell))["last"] == mallorys.last_message_id
        await in_thread(post_message)(content="for alice", conversation=talk)
        assert await bell.receive_nothing()


@pytest.mark.parametrize("key", ["\0" * 32, "x" * 31 + "\xff", "'; --------", "short"])
def test_a_cookie_that_cannot_be_a_session_key_is_ignored(key: str) -> None:
    assert SessionStore(key).session_key is None


async def test_a_signed_in_user_who_is_not_an_agent_is_refused() -> None:
    page = Page()
    await in_thread(lambda: page.force_login(User.objects.create_user("dora")))()
    async with socket("/ws/inbox/", cookies=session(page)) as bell:
        await bell.connect()
        assert await closed_with(bell) == 4404


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"http://testserver.evil.example",
        b"http://eviltestserver",
        b"https://testserver",
        b"http://testserver:81",
        b"http://localhost",  # another of our hosts than the one in the Host header
        b"http://[",
        b"null",
        b"",
        None,
    ],
)
@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/inbox/", "/ws/messages/{uuid}/"])
async def test_a_foreign_origin_is_refused_at_the_handshake(
    talk: Conversation, path: str, origin: bytes | None
) -> None:
    cookies = f"chat={talk.uuid.hex}"
    async with socket(path.format(uuid=talk.uuid), cookies=cookies, origin=origin) as bell:
        assert not (await bell.connect())[0]  # daphne answers 403


@pytest.mark.parametrize("path", ["/ws/messages/{uuid}", "/ws/messages/{uuid}/x/", "/ws/nowhere/", "/ws/", "/", "/a\n"])
async def test_an_unknown_path_is_refused_without_an_error(talk: Conversation, path: str) -> None:
    async with socket(path.format(uuid=talk.uuid)) as bell:
        assert not (await bell.connect())[0]


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send heartbeats every 50 milliseconds instead of every 25 seconds."""
    monkeypatch.setattr(rounds, "HEARTBEAT", 0.05)


def sign_out(page: Page, bob: Agent) -> None:
    """Sign out in the browser."""
    page.post("/inbox/sign-out/")


def leave_the_group(page: Page, bob: Agent) -> None:
    """Be removed from the group of agents."""
    bob.groups.clear()


def be_disabled(page: Page, bob: Agent) -> None:
    """Have the account disabled."""
    User.objects.filter(pk=bob.pk).update(is_active=False)


def change_the_password(page: Page, bob: Agent) -> None:
    """Have a new password set elsewhere."""
    bob.set_password("another horse battery")
    bob.save()


@pytest.mark.parametrize("end", [sign_out, leave_the_group, be_disabled, change_the_password])
async def test_a_socket_is_closed_when_its_agent_loses_access(
    bobs: Page, bob: Agent, end: Any, quick_heartbeat: None
) -> None:
    async with socket("/ws/inbox/", cookies=session(bobs)) as bell:
        await bell.connect()
        assert await ring_of(bell) == await ring_of(bell)  # heartbeats while access lasts
        await in_thread(end)(bobs, bob)
        assert await closed_with(bell) == 4403
    page_answer = await in_thread(bobs.get)("/api/conversation/")
    assert page_answer.status_code == 401


async def test_a_socket_is_closed_also_if_its_ended_session_cannot_be_deleted(
    bobs: Page, bob: Agent, quick_heartbeat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_arguments: Any) -> None:
        raise OperationalError("database is locked")

    async with socket("/ws/inbox/", cookies=session(bobs)) as bell:
        await bell.connect()
        await ring_of(bell)
        monkeypatch.setattr(db.SessionStore, "delete", locked)
        await in_thread(change_the_password)(bobs, bob)
        assert await closed_with(bell) == 4403


def test_revocation_takes_less_than_thirty_seconds() -> None:
    assert rounds.HEARTBEAT + rounds.HEARTBEAT / rounds.SLOTS < 30


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/messages/{uuid}/"], ids=["page", "widget"])
async def test_a_renewed_secret_closes_sockets_of_the_old_one_at_once(talk: Conversation, path: str) -> None:
    def opened(uuid: Any) -> Any:
        return socket(path.format(uuid=uuid), cookies=f"chat={uuid.hex}")

    async with opened(talk.uuid) as old, opened(talk.uuid) as other_tab:
        for bell in (old, other_tab):
            await bell.connect()
            await ring_of(bell)
        renewed = await in_thread(renew_secret)(conversation=talk)
        async with opened(renewed.uuid) as new:
            await new.connect()
            await ring_of(new)
            for bell in (old, other_tab):
                assert await closed_with(bell) == doorbell.REVOKED  # the next heartbeat would be 25 s away
            message = await in_thread(post_message)(content="Still here", conversation=renewed)
            while (await ring_of(new))["last"] < message.pk:
                pass


async def test_a_deleted_conversation_closes_its_socket(talk: Conversation, quick_heartbeat: None) -> None:
    async with socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as bell:
        await bell.connect()
        await ring_of(bell)
        await in_thread(talk.delete)()
        assert await closed_with(bell) == 4403


@pytest.mark.parametrize("error", [DatabaseError, InterfaceError, RuntimeError, TimeoutError])
async def test_heartbeats_go_on_after_an_error_of_any_kind(
    talk: Conversation, quick_heartbeat: None, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    look_up, failed = doorbell.look_up, threading.Event()

    def fail_once(bells: Any) -> Any:
        if rung and not failed.is_set():
            failed.set()
            raise error("gone for a moment")
        return look_up(bells)

    rung: list[Any] = []
    monkeypatch.setattr(doorbell, "look_up", fail_once)
    async with socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as bell:
        await bell.connect()
        rung.append(await ring_of(bell))
        await eventually(failed.is_set)
        for _ in range(3):
            assert (await ring_of(bell))["last"] == talk.last_message_id


async def test_an_error_of_one_socket_does_not_concern_those_that_are_checked_with_it(
    talk: Conversation, bobs: Page, quick_heartbeat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, bob_socket):
            await bell.connect()
            await ring_of(bell)

        def fail(self: Any, conversations: Any) -> None:
            raise RuntimeError("broken")

        with monkeypatch.context() as broken:
            broken.setattr(doorbell.AgentDoorbell, "subscription", fail)
            for _ in range(3):
                await ring_of(alice_socket)
        for _ in range(3):
            await ring_of(bob_socket)


def after_the_query(monkeypatch: pytest.MonkeyPatch, write: Callable[[], object]) -> None:
    """Write once when a socket that opens has been looked up, and before it has joined its groups."""
    look_up, left = doorbell.look_up, [write]

    def look_up_and_write(bells: Any) -> Any:
        found = look_up(bells)
        if left:
            left.pop()()
        return found

    monkeypatch.setattr(doorbell, "look_up", look_up_and_write)


async def test_a_message_that_is_written_while_a_socket_opens_rings_it(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    after_the_query(monkeypatch, lambda: written.append(post_message(content="Just now", conversation=talk).pk))
    async with socket(f"/ws/messages/{talk.uuid}/") as bell:
        await bell.connect()
        while (await ring_of(bell))["last"] != written[0]:
            pass


async def test_all_that_is_written_while_an_inbox_opens_rings_it(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write() -> None:
        message = post_message(content="Just now", conversation=talk)
        other = post_message(content="I am somebody else.")
        announce_customer(other.conversation)
        written.extend([message.pk, other.pk, other.pk])

    after_the_query(monkeypatch, write)
    async with socket("/ws/inbox/", cookies=session(bobs)) as bell:
        await bell.connect()
        await ring_of(bell)
        assert [(await ring_of(bell))["last"] for _ in written] == written


async def test_a_secret_that_is_renewed_before_a_message_while_a_socket_opens_closes_it_at_once(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_the_query(monkeypatch, lambda: post_message(content="Just now", conversation=renew_secret(conversation=talk)))
    async with socket(f"/ws/messages/{talk.uuid}/") as bell:
        await bell.connect()
        assert await closed_with(bell) == doorbell.REVOKED


class Listener:
    """A socket that does something when it hears."""

    slot: int | None = None

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then

    def hear(self, _found: object) -> None:
        """Do it."""
        self.then()


async def test_a_socket_that_opens_when_the_others_have_just_been_looked_up_is_looked_up_too() -> None:
    every = rounds.Rounds(lambda listeners: [None] * len(listeners))
    heard = asyncio.Event()
    late = Listener(heard.set)
    every.look_up([Listener(lambda: asyncio.get_running_loop().call_soon(every.look_up, [late]))])
    await asyncio.wait_for(heard.wait(), 5)


async def test_whatever_a_client_sends_is_ignored(talk: Conversation) -> None:
    async with socket(f"/ws/messages/{talk.uuid}/") as bell, socket(f"/ws/messages/{talk.uuid}/") as other:
        for each in (bell, other):
            await each.connect()
            await ring_of(each)
        for text in ["{", "[]", '{"type": "ring", "last": 9}', '{"type": "websocket.close"}', "x" * 60_000]:
            await bell.send_to(text_data=text)
        await bell.send_to(bytes_data=b"\x00\xff")
        for _ in range(1000):
            await bell.send_to(text_data="{}")
        message = await in_thread(post_message)(content="still here", conversation=talk)
        assert (await ring_of(bell))["last"] == (await ring_of(other))["last"] == message.pk


async def test_events_of_a_later_version_are_ignored(talk: Conversation) -> None:
    layer: Any = get_channel_layer()
    async with socket(f"/ws/messages/{talk.uuid}/") as bell:
        await bell.connect()
        await ring_of(bell)
        for event in ({"type": "dancing", "who": 7}, {"type": "close"}, {}):
            await layer.group_send(customer_group(talk.pk), event)
        await layer.group_send(customer_group(talk.pk), {"type": "ring", "last": 7})
        assert (await ring_of(bell))["last"] == 7


@pytest.mark.parametrize("path", ["/ws/messages/{}/", "/ws/inbox/"])
async def test_a_socket_outlives_whatever_a_stranger_writes_to_redis(
    talk: Conversation, bobs: Page, bob: Agent, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    with redis_server() as redis:
        ours, theirs = RedisChannelLayer(redis.url), RedisChannelLayer(redis.url)
        monkeypatch.setattr(channel_layers, "backends", {"default": ours})
        group = AGENTS if "inbox" in path else customer_group(talk.pk)
        async with socket(path.format(talk.uuid), cookies=session(bobs)) as bell:
            await bell.connect()
            await ring_of(bell)
            await eventually(lambda: ours.link and ours.link.is_connected)
            await eventually(lambda: theirs.open_link().is_connected)
            for event in NO_RINGS:
                await theirs.group_send(group, event)
            await theirs.group_send(group, {"type": "ring", "last": 7})
            assert (await ring_of(bell))["last"] == 7
            assert await bell.receive_nothing(0.2)
        await ours.close()
        await theirs.close()


async def test_a_socket_that_cannot_be_opened_in_time_is_closed(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "TIMEOUT", 0.1)
    monkeypatch.setattr(doorbell, "look_up", lambda _bells: time.sleep(0.5))
    async with socket(f"/ws/messages/{talk.uuid}/") as bell:
        await bell.connect()
        assert await closed_with(bell) == doorbell.INTERNAL_ERROR


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/messages/{uuid}/", "/ws/inbox/"], ids=["page", "widget", "agent"])
@pytest.mark.parametrize("failing", ["hear", "tell", "ring"])
async def test_a_socket_leaves_no_task_and_no_count_behind_whatever_fails(
    talk: Conversation, bobs: Page, monkeypatch: pytest.MonkeyPatch, path: str, failing: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("gone for a moment")

    before = asyncio.all_tasks()
    cookies = f"chat={talk.uuid.hex}; {session(bobs)}"
    headers = [(b"host", b"testserver"), (b"origin", OURS), (b"cookie", cookies.encode())]
    bell = WebsocketCommunicator(application, path.format(uuid=talk.uuid), headers=headers)
    await bell.connect()
    await ring_of(bell)
    original = getattr(doorbell.Doorbell, failing)
    monkeypatch.setattr(doorbell.Doorbell, failing, fail)
    await in_thread(post_message)(content="Hi", conversation=talk)  # rings
    get_channel_layer().send_soon([AGENTS, customer_group(talk.pk)], {"type": "recheck"})
    with suppress(ConnectionError):
        await bell.send_to(text_data="{}")
        await bell.disconnect()
    await get_channel_layer().close()  # ends the link to Redis
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left or not (await asyncio.wait(left, timeout=5))[1]
    assert not open_sockets._open
    assert not get_channel_layer().groups
    monkeypatch.setattr(doorbell.Doorbell, failing, original)


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/messages/{uuid}/", "/ws/inbox/"], ids=["page", "widget", "agent"])
async def test_sockets_beyond_the_limit_are_closed_with_1013(
    talk: Conversation, bobs: Page, settings: Any, path: str
) -> None:
    def opened() -> Any:
        return socket(path.format(uuid=talk.uuid), cookies=f"chat={talk.uuid.hex}; {session(bobs)}")

    settings.RATE_LIMITS = True
    settings.SOCKETS = {"sockets of one address": 2, "sockets of one conversation": 9}
    async with opened() as first, opened() as third:
        async with opened() as second:
            for bell in (first, second):
                await bell.connect()
                await ring_of(bell)
            await third.connect()
            assert await closed_with(third) == doorbell.TRY_AGAIN_LATER
        async with opened() as next_one:
            await next_one.connect()
            await ring_of(next_one)
        settings.RATE_LIMITS = False
        async with opened() as fourth, opened() as fifth:
            for bell in (fourth, fifth):
                await bell.connect()
                await ring_of(bell)


async def test_a_ring_contains_neither_text_nor_uuid(talk: Conversation, bobs: Page) -> None:
    async with socket("/ws/inbox/", cookies=session(bobs)) as bell:
        await bell.connect()
        await ring_of(bell)
        await in_thread(post_message)(content="my secret", conversation=talk)
        ring = await bell.receive_from(timeout=5)
        assert json.loads(ring)["last"] > talk.last_message_id
        assert "secret" not in ring
        assert talk.uuid.hex not in ring.replace("-", "")


def test_a_message_is_saved_although_the_channel_layer_fails(
    alice: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def group_send(self, group: str, event: Any) -> None:
            raise ConnectionError("no channel layer")

        def send_soon(self, groups: list[str], event: Any) -> None:
            raise ConnectionError("no channel layer")

    monkeypatch.setattr("conversations.announce.get_channel_layer", Broken)
    assert alice.says("Hello").status_code == 302
    assert Conversation.objects.count() == 1
    assert "no channel layer" in caplog.text


# Websites -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(db: None) -> Website:
    """A website on https://shop.example."""
    website = Website.objects.create(key="shop", name="Shop")
    website.origins.create(origin="https://shop.example")
    return website


async def test_widgets_of_a_listed_origin_may_listen_to_conversations_of_their_website_only(
    shop: Website, talk: Conversation
) -> None:
    theirs = (await in_thread(post_message)(content="Hi", website=shop)).conversation
    async with socket(f"/ws/messages/{theirs.uuid}/", origin=b"https://shop.example") as widget:
        assert (await widget.connect())[0]
        assert (await ring_of(widget))["last"] == theirs.last_message_id
    async with socket(f"/ws/messages/{talk.uuid}/", origin=b"https://shop.example") as widget:
        assert (await widget.connect())[0]
        assert await closed_with(widget) == doorbell.NOT_FOUND


@pytest.mark.parametrize("path", ["/ws/chat/", "/ws/chat/shop/", "/ws/inbox/"])
async def test_a_listed_origin_opens_no_other_socket(path: str, shop: Website, talk: Conversation) -> None:
    async with socket(path, cookies=f"chat={talk.uuid.hex}", origin=b"https://shop.example") as bell:
        assert not (await bell.connect())[0]


async def test_a_page_without_cookies_sends_its_secret_as_a_subprotocol(shop: Website) -> None:
    theirs = (await in_thread(post_message)(content="Hi", website=shop)).conversation
    headers = [(b"host", b"testserver"), (b"origin", OURS)]
    path = "/ws/chat/shop/?host=https%3A%2F%2Fshop.example"
    bell = WebsocketCommunicator(application, path, headers=headers, subprotocols=["chat", theirs.uuid.hex])
    assert await bell.connect(timeout=5) == (True, "chat")
    assert (await ring_of(bell))["last"] == theirs.last_message_id
    await bell.disconnect()
    wrong = WebsocketCommunicator(application, path, headers=headers, subprotocols=["chat", "0" * 32])
    await wrong.connect(timeout=5)
    assert await closed_with(wrong) == doorbell.NOT_FOUND
    await wrong.disconnect()


async def test_a_limited_agent_is_rung_only_for_their_own_websites(
    shop: Website, bobs: Page, bob: Agent, carols: Page, carol: Agent
) -> None:
    await in_thread(shop.agents.add)(await in_thread(User.objects.get)(pk=bob.pk))
    theirs = (await in_thread(post_message)(content="Hi", website=shop)).conversation
    async with (
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
        socket("/ws/inbox/", cookies=session(carols)) as carol_socket,
    ):
        await bob_socket.connect()
        await carol_socket.connect()
        await ring_of(bob_socket)
        await ring_of(carol_socket)
        other = (await in_thread(post_message)(content="Elsewhere")).conversation
        await in_thread(post_message)(content="More", conversation=theirs)
        assert (await ring_of(carol_socket))["conversation"] == other.pk
        assert (await ring_of(carol_socket))["conversation"] == theirs.pk
        assert (await ring_of(bob_socket))["conversation"] == theirs.pk


async def test_limiting_an_agent_takes_effect_with_the_next_heartbeat(
    shop: Website, bobs: Page, bob: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "HEARTBEAT", 0.05)
    async with socket("/ws/inbox/", cookies=session(bobs)) as bob_socket:
        await bob_socket.connect()
        await ring_of(bob_socket)
        await in_thread(shop.agents.add)(await in_thread(User.objects.get)(pk=bob.pk))
        for _ in range(3):
            await ring_of(bob_socket)
        other = (await in_thread(post_message)(content="Elsewhere")).conversation
        for _ in range(4):
            assert (await ring_of(bob_socket)).get("conversation") != other.pk


async def test_a_ring_names_the_mentioned_agents_to_agents_only(talk: Conversation, bobs: Page, bob: Agent) -> None:
    carol = await in_thread(promote)("carol", "Carol")
    async with (
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, bob_socket):
            assert (await bell.connect())[0]
            await ring_of(bell)
        for text, mentions in (("@carol @bob look", {"mentions": [carol.pk]}), ("no names", {})):
            await in_thread(write_note)(conversation=talk, agent=bob, content=text)
            ring = {"type": "messages", "conversation": talk.pk, "last": talk.last_message_id, "beside": True}
            assert await ring_of(bob_socket) == ring | mentions
        assert await alice_socket.receive_nothing(0.05)


def test_a_later_ring_does_not_replace_one_that_mentions_somebody() -> None:
    layer = ProcessChannelLayer()
    layer.recent = {}
    ring = {"type": "ring", "conversation": 1, "last": 2, "beside": True}
    for event in ({**ring, "mentions": [7]}, {**ring, "mentions": (8,)}, ring, ring):
        layer.deliver(AGENTS, event)
    assert len(layer.recent[AGENTS]) == 3
