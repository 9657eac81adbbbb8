"""What searches cost others, at a server: polls beside searches, and posts with the search index and without it."""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_plus
from uuid import uuid4

from tests.bench.client import Answer, Connection, ask_all, get, post_json
from tests.bench.server import Server

HTMX = "HX-Request: true\r\nHX-Current-URL: http://127.0.0.1/\r\nReferer: http://127.0.0.1/\r\n"
PACE = 0.01
"""Seconds from one poll to the next."""


class Talk(NamedTuple):
    """A conversation."""

    uuid: str
    last: int  # the id of its newest message


def polls(server: Server, talks: Sequence[Talk], session: str, queries: Sequence[str], seconds: float) -> Iterator[str]:
    """Polls at a steady pace, while an agent searches without a pause and while nobody does, in turns."""
    known = itertools.repeat(talks[0])
    yield from _polls(server, "polls that memory answers", known, session, queries, seconds)
    yield from _polls(server, "polls that the database answers", itertools.cycle(talks), session, queries, seconds)


def _polls(
    server: Server, name: str, talks: Iterator[Talk], session: str, queries: Sequence[str], seconds: float
) -> Iterator[str]:
    found: dict[bool, list[float]] = {False: [], True: []}
    searches: list[float] = []
    for turn in range(6):
        is_beside = bool(turn % 2)
        done = threading.Event()
        searcher = threading.Thread(target=_search, args=(server, session, queries, done, searches))
        if is_beside:
            searcher.start()
        with Connection(server.port) as connection:
            due = time.perf_counter()
            end = due + seconds
            while due < end:
                time.sleep(max(due - time.perf_counter(), 0))
                talk = next(talks)
                answer = connection.ask(get(f"/api/messages/{talk.uuid}/?since={talk.last}"))
                assert answer.status == 200, answer
                found[is_beside].append(1000 * (answer.at - due))
                due = max(due + PACE, time.perf_counter())
        done.set()
        if is_beside:
            searcher.join()
    yield f"{name}, nobody searches:   {_spread(found[False])}"
    yield f"{name}, an agent searches: {_spread(found[True])}; {len(searches)} searches: {_spread(searches)}"


def _search(server: Server, session: str, queries: Sequence[str], done: threading.Event, seconds: list[float]) -> None:
    with Connection(server.port) as connection:
        for query in itertools.cycle(queries):
            if done.is_set():
                return
            path = f"/inbox/list/?q={quote_plus(query)}"
            answer = connection.ask(get(path, cookie=f"sessionid={session}", headers=HTMX))
            assert answer.status == 200, answer
            seconds.append(1000 * answer.seconds)


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return f"p50 {statistics.median(ordered):.1f}, p99 {p99:.1f}, worst {ordered[-1]:.1f} ms"


def posts(start: Callable[[bool], Server], talks: Sequence[Talk], lines: Sequence[str]) -> Iterator[str]:
    """Posts through a server that writes the search index and one that does not, in turns.

    `start` starts one of both.
    """
    costs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    last = {talk.uuid: talk.last for talk in talks}

    def requests(number: int) -> Iterator[bytes]:
        for uuid, line in zip(itertools.cycle(last), lines[:number]):
            message = {"content": line, "conversation": uuid, "client_id": str(uuid4())}
            yield post_json(f"/api/messages/?since={last[uuid]}", message)

    def wrote(answer: Answer) -> bool:
        for item in answer.json()["items"] if answer.status == 200 else []:
            last[item["conversation"]] = item["id"]
        return answer.status == 200

    for turn in range(8):
        for has_index in (True, False) if turn % 2 else (False, True):
            with start(has_index) as server:
                ask_all([server.port], requests(200), wrote)
                own, before = server.cpu(), milliseconds(paths_of_database())
                ask_all([server.port], requests(len(lines)), wrote)
                own = 1000 * (server.cpu() - own)
                after = milliseconds(paths_of_database())
                used = sum(value - before.get(path, 0) for path, value in after.items())
                costs[has_index].append((1000 * own / len(lines), 1000 * used / len(lines)))
    best = {has_index: min(found, key=sum) for has_index, found in costs.items()}
    middle = {has_index: statistics.median(map(sum, found)) for has_index, found in costs.items()}
    for has_index, (own, database) in best.items():
        name = "with" if has_index else "without"
        yield f"a post {name:7} the index: {own:.0f} µs of the server + {database:.0f} µs of the database"
    yield (
        f"the factor: {sum(best[True]) / sum(best[False]):.2f} of the best, "
        f"{middle[True] / middle[False]:.2f} of the middle"
    )


def paths_of_database() -> list[Path]:
    """Where Linux says what each process or thread uses that serves this database; none for SQLite."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
            return [Path(f"/proc/{pid}/schedstat") for (pid,) in cursor.fetchall()]
        cursor.execute("SELECT tid FROM information_schema.processlist WHERE db = DATABASE()")
        return [path for (tid,) in cursor.fetchall() for path in Path("/proc").glob(f"[0-9]*/task/{tid}/schedstat")]


def milliseconds(paths: Sequence[Path]) -> dict[Path, float]:
    """The CPU time that each has used."""
    return {path: int(path.read_text().split()[0]) / 1e6 for path in paths}
