"""What is only true now, said on the sockets: who is typing, who looks at a conversation, and what is not sent yet."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import channel_layers

from chatsite.serving.websocket import WebSocketConnection, text_frame
from conversations.actions import post_message, write_note
from conversations.announce import customer_group, desk_group
from conversations.live import doorbell, rounds
from conversations.live.channel_layer import RedisChannelLayer, is_known
from conversations.models import Agent, Conversation, Token, Website
from conversations.presence import looking
from conversations.presence.typing import MAX_PEEK, by_agent, by_customer, for_customer
from tests.conftest import Page
from tests.services import redis_server
from tests.test_channel_layer import eventually
from tests.test_doorbell import session, socket
from tests.test_doorbell_tokens import socket as program_socket

pytestmark = pytest.mark.django_db(transaction=True)
in_thread: Callable[..., Any] = database_sync_to_async

TYPES = {"type": "typing", "on": True}
STOPS = {"type": "typing", "on": False}


@pytest.fixture(autouse=True)
def _every_message_counts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take messages of a client without a pause between them, except where that is what is tested."""
    looking.looking.__init__()  # type: ignore[misc]  # nobody looks at anything yet
    if "real_pause" not in request.fixturenames:
        monkeypatch.setattr(doorbell, "PAUSE", -1)


@pytest.fixture
def real_pause() -> None:
    """At most one message a second counts."""


async def says(bell: Any, **said: Any) -> None:
    """Send a message."""
    await bell.send_to(text_data=json.dumps(said))


async def hears(bell: Any) -> dict[str, Any]:
    """The next message that is no ring."""
    while (heard := json.loads(await bell.receive_from(timeout=5)))["type"] == "messages":
        pass
    return dict(heard)


async def hears_nothing(bell: Any) -> None:
    """Nothing but rings."""
    while not await bell.receive_nothing(timeout=0.2):
        assert json.loads(await bell.receive_from())["type"] == "messages"


async def opened(bell: Any, looks_at: Conversation | None = None) -> Any:
    """Connect, and wait until the socket is in its groups. An agent looks at a conversation, and this was heard."""
    assert (await bell.connect())[0]
    assert json.loads(await bell.receive_from(timeout=5))["type"] == "messages"
    if looks_at is not None:
        await says(bell, type="looking", conversation=looks_at.pk)
        await in_group(looks_at)
    return bell


async def in_group(talk: Conversation, number: int = 1) -> None:
    """Wait until so many pages look at the conversation."""
    for _ in range(500):
        if len(looking.looking.looks.get(talk.pk, {})) >= number:
            return
        await in_thread(lambda: None)()
    raise AssertionError("Nobody looks at the conversation.")


def alices(talk: Conversation) -> Any:
    return socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}")


def inbox(page: Page) -> Any:
    return socket("/ws/inbox/", cookies=session(page))


async def test_a_customer_and_an_agent_see_each_other_typing(talk: Conversation, bobs: Page, bob: Agent) -> None:
    await in_thread(Agent.objects.filter(pk=bob.pk).update)(last_name="Miller", username="bob.miller")
    async with alices(talk) as alice, inbox(bobs) as agent, socket(f"/ws/messages/{talk.uuid}/") as widget:
        await opened(alice)
        await opened(widget)
        await opened(agent, talk)
        await says(alice, **TYPES)
        assert await hears(agent) == {"type": "typing", "conversation": talk.pk, "who": "customer"}
        await says(agent, **TYPES)
        assert await hears(alice) == await hears(widget) == {"type": "typing", "name": "Bob Miller", "on": True}
        await says(agent, **STOPS)
        assert await hears(alice) == {"type": "typing", "name": "Bob Miller", "on": False}
        await alice.disconnect()
        assert await hears(agent) == {"type": "typing", "conversation": talk.pk, "who": "customer", "on": False}


async def test_customers_never_see_the_username_of_an_agent(talk: Conversation, bobs: Page, bob: Agent) -> None:
    await in_thread(Agent.objects.filter(pk=bob.pk).update)(first_name="", username="secretname")
    async with alices(talk) as alice, inbox(bobs) as agent:
        await opened(alice)
        await opened(agent, talk)
        await says(agent, **TYPES)
        assert await hears(alice) == {"type": "typing", "name": "Agent", "on": True}


async def test_colleagues_see_who_looks_and_who_answers(
    talk: Conversation, bobs: Page, carols: Page, bob: Agent, carol: Agent
) -> None:
    other = (await in_thread(post_message)(content="other")).conversation
    async with inbox(bobs) as bells, inbox(carols) as hers, alices(talk) as alice:
        await opened(alice)
        await opened(bells, talk)
        await opened(hers)
        await says(hers, type="looking", conversation=talk.pk)
        assert await hears(bells) == {"type": "looking", "conversation": talk.pk, "who": ["Carol"]}
        assert await hears(hers) == {"type": "looking", "conversation": talk.pk, "who": ["Bob"]}
        await says(hers, **TYPES)
        assert await hears(bells) == {"type": "typing", "conversation": talk.pk, "who": "Carol", "agent": carol.pk}
        await hears_nothing(hers)  # not about herself
        await says(hers, type="looking", conversation=other.pk)
        assert await hears(bells) == {
            "type": "typing",
            "conversation": talk.pk,
            "who": "Carol",
            "agent": carol.pk,
            "on": False,
        }
        assert await hears(bells) == {"type": "looking", "conversation": talk.pk, "who": []}
        await in_group(other)
        await says(alice, **TYPES)
        assert (await hears(bells))["who"] == "customer"
        await hears_nothing(hers)  # she does not look at it any more
        assert [(await hears(alice))["on"] for _ in range(2)] == [True, False]


async def test_an_agent_whose_socket_closes_looks_no_more(talk: Conversation, bobs: Page, carols: Page) -> None:
    async with inbox(bobs) as bells, inbox(carols) as hers, inbox(carols) as her_other_page:
        await opened(bells, talk)
        for number, bell in enumerate((hers, her_other_page), 2):
            await opened(bell)
            await says(bell, type="looking", conversation=talk.pk)
            await in_group(talk, number)
            assert (await hears(bells))["who"] == ["Carol"]
        await hers.disconnect()
        assert (await hears(bells))["who"] == ["Carol"], "her other page still shows it"
        await her_other_page.disconnect()
        assert (await hears(bells))["who"] == []


def test_looking_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("conversations.presence.looking.time.monotonic", lambda: now)
    desk = looking.Looking()
    desk.take(5, "one", 1, "Bob", on=True)
    desk.take(5, "two", 2, "Carol", on=True)
    now += looking.SECONDS / 2
    desk.take(5, "one", 1, "Bob", on=True)
    assert desk.others(5, 1) == ["Carol"]
    now += looking.SECONDS / 2
    assert desk.others(5, None) == ["Bob"]
    assert desk.is_anybody(5)
    now += looking.SECONDS
    assert not desk.is_anybody(5)
    desk.take(6, "three", 3, "Dora", on=True)
    assert list(desk.looks) == list(desk.pages.values()) == [6], "what has ended takes no memory"
    desk.forget("unknown")


@pytest.mark.parametrize("loses", ["at first", "later"])
async def test_what_an_agent_may_not_see_they_cannot_look_at(
    talk: Conversation, bobs: Page, bob: Agent, loses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit_bob() -> None:
        Website.objects.create(name="Another", key="another").agents.add(bob)

    if loses == "at first":
        await in_thread(limit_bob)()
    else:
        monkeypatch.setattr(rounds, "HEARTBEAT", 0.05)
    async with inbox(bobs) as bells, alices(talk) as alice:
        await opened(alice)
        if loses == "at first":
            await opened(bells)
            await says(bells, type="looking", conversation=talk.pk)
        else:
            await opened(bells, talk)
            await in_thread(limit_bob)()
            for _ in range(300):
                if talk.pk not in looking.looking.looks:
                    break
                await bells.receive_from(timeout=5)
            monkeypatch.undo()
            monkeypatch.setattr(doorbell, "PAUSE", -1)
        await says(bells, **TYPES)
        await says(alice, **TYPES)
        await hears_nothing(alice)
        await hears_nothing(bells)
        assert talk.pk not in looking.looking.looks


MALFORMED = [
    "{",
    "[" * 50_000,
    '"typing"',
    "null",
    "[]",
    "{}",
    '{"type": "typing"}',
    '{"type": "typing", "on": 1}',
    '{"type": "typing", "on": "true"}',
    '{"type": ["typing"], "on": true}',
    '{"type": "looking"}',
    '{"type": "looking", "conversation": true}',
    '{"type": "looking", "conversation": "1"}',
    '{"type": "looking", "conversation": -1}',
    '{"type": "looking", "conversation": 9223372036854775808}',
    '{"type": "looking", "conversation": 1e3}',
    f'{{"type": "looking", "conversation": {"9" * 5000}}}',
    '{"type": "peek", "text": 5}',
    json.dumps({"type": "peek", "text": "x" * (MAX_PEEK + 1)}),
    '{"type": "messages", "last": 5}',
    '{"type": "recheck"}',
    '{"type": "ring", "conversation": 1, "last": 1}',
]


async def test_bad_messages_are_ignored(talk: Conversation, bobs: Page, carols: Page) -> None:
    await in_thread(Website.objects.update)(peek=True)
    async with alices(talk) as alice, inbox(bobs) as bells, inbox(carols) as hers:
        await opened(alice)
        await opened(bells, talk)
        await opened(hers, talk)
        await hears(bells)
        await hears(hers)
        for text in MALFORMED:
            for bell in (alice, bells):
                await bell.send_to(text_data=text)
        await alice.send_to(bytes_data=json.dumps(TYPES).encode())
        await says(alice, type="peek", text="\ud800\0\u202e<b>")
        assert (await hears(hers))["text"] == "\ud800\0\u202e<b>"
        await hears_nothing(hers)
        await hears_nothing(alice)


async def test_one_message_a_second_counts_and_the_others_are_ignored(
    talk: Conversation, bobs: Page, real_pause: None
) -> None:
    async with alices(talk) as alice, inbox(bobs) as bells:
        await opened(alice)
        await opened(bells, talk)
        for said in (TYPES, STOPS, TYPES, STOPS):
            await says(alice, **said)
        assert await hears(bells) == {"type": "typing", "conversation": talk.pk, "who": "customer"}
        await hears_nothing(bells)


async def test_mallory_types_and_looks_nowhere_else(talk: Conversation, bobs: Page) -> None:
    mallorys = (await in_thread(post_message)(content="mine")).conversation
    async with alices(mallorys) as mallory, inbox(bobs) as bells, alices(talk) as alice:
        await opened(mallory)
        await opened(alice)
        await opened(bells, talk)
        await says(mallory, type="typing", on=True, conversation=talk.pk, name="Bob", who="Carol")
        await says(mallory, type="looking", conversation=talk.pk)
        await hears_nothing(alice)
        await hears_nothing(bells)


async def test_a_program_that_only_listens_cannot_type(talk: Conversation, bob: Agent) -> None:
    for scope, is_heard in (("READ", False), ("WRITE", True)):
        secret = await in_thread(Token.objects.issue)(bob, "bot", scope)
        async with alices(talk) as alice:
            await opened(alice)
            async with program_socket(bearer=secret) as bot:
                await opened(bot)
                await says(bot, type="looking", conversation=talk.pk)
                if is_heard:
                    await in_group(talk)
                    await says(bot, **TYPES)
                    assert (await hears(alice))["on"]
                else:
                    await says(bot, **TYPES)
                    await hears_nothing(alice)


@pytest.mark.parametrize("is_on", [True, False])
async def test_what_is_typed_reaches_only_those_who_look_and_only_where_the_website_wants_it(
    talk: Conversation, bobs: Page, carols: Page, is_on: bool
) -> None:
    await in_thread(Website.objects.filter(pk=talk.website_id).update)(peek=is_on)
    async with alices(talk) as alice, alices(talk) as her_other_tab, inbox(bobs) as bells, inbox(carols) as hers:
        for bell in (alice, her_other_tab, hers):
            await opened(bell)
        await opened(bells, talk)
        for text in ("Hel", "Hello", "x" * MAX_PEEK):
            await says(alice, type="peek", text=text)
            if is_on:
                expected = {"type": "typing", "conversation": talk.pk, "who": "customer", "text": text}
                assert await hears(bells) == expected
        if is_on:
            await says(alice, type="peek", text="")
            assert (await hears(bells))["on"] is False
        for bell in (bells, hers, her_other_tab):
            await hears_nothing(bell)


def test_what_is_not_sent_yet_stays_in_no_memory() -> None:
    written: list[bytes] = []
    connection: Any = SimpleNamespace(state=1, STATE_OPEN=1, write_at_once=written.append)
    text_frame.cache_clear()
    for is_common in (False, True):
        WebSocketConnection.send_text(connection, "a secret", is_common=is_common)
        assert text_frame.cache_info().currsize == int(is_common)
    assert written[0] == written[1]


async def test_a_note_moves_nothing_at_the_customers(talk: Conversation, bobs: Page, bob: Agent) -> None:
    async with alices(talk) as alice, inbox(bobs) as bells:
        await opened(alice)
        await opened(bells, talk)
        await in_thread(write_note)(conversation=talk, agent=bob, content="only for agents")
        assert await alice.receive_nothing(timeout=0.3)


@pytest.mark.parametrize(
    ("event", "group", "is_taken"),
    [
        ({"type": "typing", "name": "Bob", "on": True}, "g", True),
        ({"type": "typing", "conversation": 5, "who": "customer"}, "g", True),
        ({"type": "typing", "conversation": "5", "who": "customer"}, "g", False),
        ({"type": "typing", "name": "Bob", "on": True}, None, False),
        ({"type": "looking", "conversation": 5, "agent": 1, "who": "Bob", "page": "a", "on": True}, "g", True),
        ({"type": "looking", "conversation": 5, "agent": 1, "who": "Bob", "page": "a"}, "g", False),
        ({"type": "dancing"}, "g", False),
    ],
)
def test_only_well_formed_events_of_other_processes_are_taken(event: Any, group: str | None, is_taken: bool) -> None:
    assert is_known(event, group) is is_taken


async def test_it_reaches_the_pages_of_other_processes(
    talk: Conversation, bobs: Page, bob: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    page = type("Page", (), {"tell": lambda _self, event: heard.append(event)})()
    desk = desk_group(talk.pk)
    with redis_server() as redis:
        ours, theirs = RedisChannelLayer(redis.url), RedisChannelLayer(redis.url)
        monkeypatch.setattr(channel_layers, "backends", {"default": ours})
        theirs.join(desk, page)
        async with alices(talk) as alice, inbox(bobs) as bells:
            await opened(alice)
            await opened(bells)
            await eventually(lambda: ours.open_link().is_connected and theirs.open_link().is_connected)
            carols = {
                "type": "looking",
                "conversation": talk.pk,
                "who": "Carol",
                "agent": 77,
                "page": "x-1",
                "on": True,
            }
            await theirs.group_send(desk, carols)
            await in_group(talk)
            await says(bells, type="looking", conversation=talk.pk)
            assert await hears(bells) == {"type": "looking", "conversation": talk.pk, "who": ["Carol"]}
            await theirs.group_send(desk, by_agent(talk.pk, 77, "Carol", on=True))
            assert (await hears(bells))["who"] == "Carol"
            await theirs.group_send(desk, {**carols, "on": False})
            assert (await hears(bells))["who"] == []
            await theirs.group_send(customer_group(talk.pk), for_customer("Carol", on=True))
            assert (await hears(alice))["name"] == "Carol"
            await says(alice, **TYPES)
            await eventually(lambda: by_customer(talk.pk, on=True) in heard)
        await ours.close()
        await theirs.close()


def test_the_peek_is_told_to_customers_wherever_it_is_on(talk: Conversation) -> None:
    alice, sentence = Page(), "can see what you write before you send it"
    alice.cookies["chat"] = talk.uuid.hex
    pages = [(alice, "/chat/"), (Page(), "/chat/"), (alice, "/chat/state/")]
    for is_on in (False, True):
        Website.objects.update(peek=is_on)
        for page, path in pages:
            assert (sentence in page.get(path).content.decode()) is is_on


def test_a_page_loads_the_module_only_with_a_conversation(talk: Conversation) -> None:
    alice = Page()
    assert "chat-live" not in alice.get("/chat/").content.decode()
    alice.cookies["chat"] = talk.uuid.hex
    for path in ("/chat/", "/chat/state/"):
        [url] = re.findall(r'data-module="([^"]+live[^"]+)"', alice.get(path).content.decode())
        assert alice.get(url).headers["Content-Type"].startswith("text/javascript")
