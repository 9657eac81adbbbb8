"""The channel layer: rings within one process and between processes, also while Redis is stopped or hangs."""

import asyncio
import gc
import json
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from conversations.live import channel_layer
from conversations.live.channel_layer import MAX_WAITING, RECHECK, SLICE, Event, ProcessChannelLayer, RedisChannelLayer
from tests.conftest import Server
from tests.services import SERVE, Service, redis_server

RING = {"type": "ring", "conversation": 7, "last": 42}

NO_RINGS: list[Any] = [
    {},
    {"last": 1},
    *(
        {"type": kind, "last": 1}
        for kind in ("nonsense", "__init__", "close", "websocket.disconnect", "", 1, None, [1])
    ),
    *({"type": "ring", **fields} for fields in ({}, {"last": None}, {"last": "1"}, {"last": True}, {"last": [1]})),
]
"""Events that no Chatsite of this version sends."""


@pytest.fixture
def redis() -> Iterator[Service]:
    """A Redis that a test may kill and freeze."""
    with redis_server() as redis:
        yield redis


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"TIMEOUT": 0.5, "SILENCE": 0.5, "MAX_DELAY": 0.3, "SPREAD": 0.2}.items():
        monkeypatch.setattr(channel_layer, name, seconds)


class Socket:
    """A member of groups that keeps what it is told."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        """Keep an event."""
        self.events.put_nowait(event)


class Process(RedisChannelLayer):
    """The layer of one server process, with one socket in the group of agents."""

    socket: Socket

    async def next(self, timeout: float = 5) -> dict[str, Any]:
        """The next event of its socket."""
        return await asyncio.wait_for(self.socket.events.get(), timeout)

    async def hears_nothing(self) -> bool:
        """Whether no event comes for 0.2 s."""
        try:
            await self.next(0.2)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def processes(*urls: str) -> AsyncIterator[list[Process]]:
    """Processes with these Redis URLs that are connected."""
    layers = [Process(url) for url in urls]
    for layer in layers:
        layer.socket = Socket()
        layer.join("agents", layer.socket)
    for layer in layers:
        await eventually(partial(is_connected, layer))
    yield layers
    for layer in layers:
        await layer.close()


def is_connected(layer: RedisChannelLayer) -> bool:
    """Whether it receives the events of other processes."""
    return bool(layer.link and layer.link.is_connected)


async def eventually(condition: Callable[[], Any]) -> None:
    """Return when the condition holds; fail after 10 seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_ring_reaches_each_socket_of_its_group_once_in_all_processes(redis: Service) -> None:
    async with processes(*[redis.url] * 3) as (one, two, three):
        other = Socket()
        two.join("website-1", other)
        await one.group_send("agents", RING)
        for process in (one, two, three):
            assert await process.next() == RING
            assert await process.hears_nothing()
        assert other.events.empty()


async def test_installations_on_different_databases_of_one_redis_do_not_ring_each_other(redis: Service) -> None:
    async with processes(redis.url, f"{redis.url}/0", f"{redis.url}/1", f"{redis.url}?db=1") as (one, same, *others):
        await one.group_send("agents", RING)
        assert await same.next() == RING
        for other in others:
            assert await other.hears_nothing()


async def test_joining_and_leaving_needs_no_redis(redis: Service) -> None:
    redis.freeze()
    layer, began = RedisChannelLayer(redis.url), time.monotonic()
    for number in range(2000):
        socket = Socket()
        layer.join(f"conversation-{number}-customer", socket)
        layer.leave(f"conversation-{number}-customer", socket)
    assert time.monotonic() - began < 1
    assert not layer.groups
    await layer.close()


def wanted(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that were logged, without the error at their end."""
    return [record.getMessage().partition(":")[0] for record in caplog.records if "channel_layer" in record.name]


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_an_outage_of_redis_keeps_nobody_waiting_and_heals_by_itself(
    redis: Service, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with processes(redis.url, redis.url) as (one, two):
        (redis.kill if fault == "killed" else redis.freeze)()
        await eventually(lambda: not (is_connected(one) or is_connected(two)))
        began = time.monotonic()
        for _ in range(1000):
            await one.group_send("agents", RING)
        assert time.monotonic() - began < 1
        assert await one.next() == RING  # sockets of the same process
        (redis.start if fault == "killed" else redis.thaw)()
        while await one.next() != RECHECK:
            pass
        assert await two.next() == RECHECK
        await eventually(lambda: is_connected(one) and is_connected(two))
        await eventually(lambda: not (one.is_catching_up or two.is_catching_up))
        await two.group_send("agents", RING)
        assert await one.next() == RING
    assert sorted(wanted(caplog)) == ["Redis is available again."] * 2 + ["Redis is unavailable"] * 2


async def test_a_ring_waits_no_longer_than_the_time_limit_when_redis_hangs(redis: Service) -> None:
    async with processes(redis.url) as (one,):
        redis.freeze()
        began = time.monotonic()
        await asyncio.gather(*(one.group_send("agents", RING) for _ in range(100)))
        assert time.monotonic() - began < 1.5
        redis.thaw()


async def test_a_message_of_a_stranger_in_redis_harms_nothing(redis: Service) -> None:
    from redis.asyncio import Redis

    async with processes(redis.url) as (one,), Redis.from_url(redis.url) as stranger:
        messages: list[str | bytes] = ["", "[", "{}", "[1]", '["x", 1]', '["x", [[1, 2, 3]]]', b"\xff"]
        messages += [
            f'["x", [["agents", {event}]]]' for event in ("1", '"x"', "null", "[1]", *map(json.dumps, NO_RINGS))
        ]
        messages += ['["x", [[null, {"type": "ring", "last": 1}]]]', '["x", [[["agents"], {"type": "recheck"}]]]']
        for message in messages:
            await stranger.publish("chatsite-0", message)
        await stranger.publish("chatsite-0", json.dumps(["x", [["agents", RING]]]))
        assert await one.next() == RING


async def test_what_waits_to_be_published_is_not_lost_at_the_end(redis: Service) -> None:
    async with processes(redis.url, redis.url) as (one, two):
        for last in range(3):
            one.send_soon(["agents"], {**RING, "last": last})
            await asyncio.sleep(0)
        await one.flush()
        await one.close()
        assert [(await two.next())["last"] for _ in range(3)] == [0, 1, 2]


async def test_the_end_does_not_wait_for_a_redis_that_hangs(redis: Service) -> None:
    async with processes(redis.url) as (one,):
        redis.freeze()
        began = time.monotonic()
        one.send_soon(["agents"], RING)
        await one.flush()
        assert time.monotonic() - began < 3
        redis.thaw()


PAUSED = "import conversations.live.channel_layer as layer; layer.PAUSE = 0.4; "


async def test_a_server_that_is_stopped_tells_the_others_of_its_last_messages(
    redis: Service, migrated: Path, tmp_path: Path
) -> None:
    path = shutil.copy(migrated, tmp_path / "db.sqlite3")
    server = Server({"DEBUG": "on", "DATABASE_URL": f"sqlite:///{path}", "REDIS_URL": redis.url})
    server.command = ("-c", PAUSED + SERVE)
    await asyncio.to_thread(server.start)

    def write(content: str, **more: str) -> dict[str, Any]:
        body = json.dumps({"content": content, **more}).encode()
        request = Request(f"{server.url}/api/messages/", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as response:
            message: dict[str, Any] = json.load(response)["items"][-1]
        return message

    secret = (await asyncio.to_thread(write, "Hello"))["conversation"]
    async with processes(redis.url) as (other,):
        for number in range(3):
            last = (await asyncio.to_thread(write, str(number), conversation=secret))["id"]
        await asyncio.to_thread(server.stop)
        heard = 0
        while heard < last:
            heard = (await other.next())["last"]


def test_a_management_command_rings_the_sockets_of_the_server(redis: Service) -> None:
    async def ring() -> None:
        await command.group_send("agents", RING)

    async def serve() -> None:
        async with processes(redis.url) as (server,):
            for _ in range(2):  # each in an event loop of its own
                await asyncio.to_thread(asyncio.run, ring())
                assert await server.next() == RING

    command = RedisChannelLayer(redis.url)
    asyncio.run(serve())


async def test_a_large_group_is_told_in_slices_so_that_others_do_not_wait() -> None:
    layer, small, order = ProcessChannelLayer(), Socket(), []

    class Large(Socket):
        def tell(self, event: Event) -> None:
            order.append(event["last"])

    large = [Large() for _ in range(3 * SLICE)]
    for socket in large:
        layer.join("agents", socket)
    layer.join("conversation-1-customer", small)
    await layer.group_send("agents", {"type": "ring", "last": 1})
    assert len(order) == SLICE
    await layer.group_send("conversation-1-customer", RING)
    assert small.events.get_nowait() == RING
    layer.leave("agents", large[-1])  # it has lost access meanwhile
    await eventually(lambda: len(order) == 3 * SLICE - 1)
    await layer.group_send("agents", {"type": "ring", "last": 2})
    await eventually(lambda: order.count(2) == 3 * SLICE - 1)


async def test_rings_that_come_faster_than_a_large_group_is_told_replace_each_other() -> None:
    layer = ProcessChannelLayer()
    sockets = [Socket() for _ in range(2 * SLICE)]
    for socket in sockets:
        layer.join("agents", socket)
    for last in range(1000):
        layer.send_soon(["agents"], {"type": "ring", "conversation": last % 2, "last": last})
    for number in range(2 * MAX_WAITING):
        layer.send_soon(["agents"], {"type": "ring", "conversation": 10 + number, "last": 2000 + number})
    await eventually(lambda: not layer.is_telling)
    for socket in sockets:
        told = [socket.events.get_nowait()["last"] for _ in range(socket.events.qsize())]
        assert told == [0, *range(2000 + MAX_WAITING, 2000 + 2 * MAX_WAITING)]  # the newest


async def test_a_socket_that_fails_does_not_keep_others_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Socket):
        def tell(self, event: Event) -> None:
            raise RuntimeError("broken")

    layer, socket = ProcessChannelLayer(), Socket()
    for member in (Broken(), socket):
        layer.join("agents", member)
    await layer.group_send("agents", RING)
    assert socket.events.get_nowait() == RING
    assert "broken" in caplog.text


async def test_a_link_that_is_cancelled_while_it_ends_leaves_no_task_and_no_error_behind() -> None:
    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            raise ConnectionError

    left: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: left.append(context))
    before = asyncio.all_tasks()
    link = asyncio.create_task(channel_layer.first_of(slow_to_end(), slow_to_end()))
    await asyncio.sleep(0.01)
    link.cancel()
    await asyncio.sleep(0.01)
    link.cancel()
    await asyncio.wait([link])
    await eventually(lambda: asyncio.all_tasks() == before)
    del link
    gc.collect()
    assert left == []
