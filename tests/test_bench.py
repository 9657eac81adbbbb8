"""The benchmark still works: each of its scenarios gets the response that it expects."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench import log, search_server, sockets
from tests.bench.client import Unexpected, ask_all, get
from tests.bench.databases import LARGE, LONG, MAIN, SMALL, Database, fill
from tests.bench.processes import compare
from tests.bench.rounds import measure, table
from tests.bench.scenarios import PLAIN, scenarios
from tests.bench.server import Server
from tests.services import redis_server

SIZE = (100, 20)
"""Conversations, and messages in each of them."""


@pytest.fixture(scope="module")
def database(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A small database."""
    url = f"sqlite:///{shutil.copy(migrated, tmp_path_factory.mktemp('bench'))}"
    return Database(*SIZE, url, fill(SIZE, url))


@pytest.fixture(scope="module")
def servers(database: Database) -> Iterator[dict[str, Server]]:
    """Chatsite and the plain design. With DEBUG they need no collected static files."""
    with ExitStack() as stack:
        ours, plain = (stack.enter_context(Server(database.url, plain=plain, DEBUG="on")) for plain in (False, True))
        yield {SMALL: ours, MAIN: ours, LARGE: ours, LONG: ours, PLAIN: plain}


def test_each_scenario_is_answered_as_expected(database: Database, servers: dict[str, Server]) -> None:
    asked = scenarios(dict.fromkeys([SMALL, MAIN, LARGE, LONG], database))
    figures = measure(asked, servers, 1, 10)
    assert all(
        figure.cost > 0 and 0 < figure.p50 <= figure.p99 <= figure.worst for each in figures.values() for figure in each
    )
    assert len(table(asked, figures).splitlines()) == len(asked) + 2


def test_servers_are_compared_with_one(database: Database, servers: dict[str, Server]) -> None:
    asked = scenarios(dict.fromkeys([SMALL, MAIN, LARGE, LONG], database))[:2]
    assert len(list(compare(asked, [servers[MAIN]] * 2, 1, 5))) == 2


def test_polls_are_measured_beside_searches(database: Database, servers: dict[str, Server]) -> None:
    talks = [search_server.Talk(str(talk.uuid), talk.last) for talk in database.talks[:20]]
    assert len(list(search_server.polls(servers[MAIN], talks, database.session, ["customer"], 0.05))) == 4


def test_an_unexpected_answer_ends_the_benchmark(servers: dict[str, Server]) -> None:
    with pytest.raises(Unexpected, match="404"):
        ask_all([servers[MAIN].port], [get("/nowhere/")] * 3, lambda answer: answer.status == 200)


def test_all_sockets_ring(database: Database, servers: dict[str, Server]) -> None:
    ours, plain, talks = servers[MAIN], servers[PLAIN], database.talks[:20]
    results = [
        *sockets.rings(ours, plain, talks, 5, 2),
        *sockets.posts(ours, talks, 2),
        *sockets.idle(ours, plain, talks, seconds=0.1),
    ]
    assert all(result.name in str(result) for result in results)


def test_the_message_log_is_measured(migrated: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{shutil.copy(migrated, tmp_path)}"
    database = Database(*SIZE, url, fill(SIZE, url))  # in the other one, some conversations have got messages
    with redis_server(tmp_path) as redis:
        place = database.url, redis.url
        assert "messages a second" in log.copied(*place, 100)
        with log.replicator(*place), log.in_log_mode(*place, debug="on") as server:
            assert "p95" in log.lagging(*place, 50, 1)
            asked = log.scenarios("log", database.talks)
            figures = measure(asked, {"log": server}, 1, 10)
            assert len(table(asked, figures).splitlines()) == len(asked) + 2
            assert "SQL had the last" in log.burst([server], database.talks[:20], 20, 1, *place)
            assert " 20 acknowledged" in log.burst_below_http(*place, 20, 1)
