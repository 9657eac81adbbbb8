"""The requests that are measured, and the CPU time that each may take."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import quote_plus, urlencode
from uuid import UUID, uuid4

from tests.bench.client import Answer, get, post, post_json
from tests.bench.data import Talk

NOTHING = b'{"items": [], "count": 0}'
MAIN, PLAIN, SMALL, LARGE = "10,000", "plain", "1,000", "100,000"
"""The servers, by number of conversations, and the plain design on the database of the first."""

HTMX = "HX-Request: true\r\nHX-Current-URL: http://127.0.0.1/\r\nReferer: http://127.0.0.1/\r\n"


@dataclass(frozen=True)
class Scenario:
    """One kind of request."""

    name: str
    requests: Iterator[bytes]
    expected: Callable[[Answer], bool]
    share: float = 1.0  # of the requests of a round: less for slow ones
    server: str = MAIN
    goal: float | None = None  # the maximum of the server's CPU time in ms
    is_poll: bool = False  # compared with the plain design


def scenarios(talks: list[Talk], sessions: dict[str, str]) -> list[Scenario]:
    """All scenarios. `sessions` has the key of an agent's session on each server."""
    chance = random.Random(2)
    session = f"sessionid={sessions[MAIN]}"
    # Every fourth conversation gets new messages, the others do not: their polls are empty.
    quiet, busy = [talk for talk in talks if talk.number % 4], [talk for talk in talks if talk.number % 4 == 0]
    chance.shuffle(busy)

    def each(request: Callable[[Talk], bytes], among: list[Talk]) -> Iterator[bytes]:
        while True:
            yield request(chance.choice(among))

    return [
        Scenario("plain design: empty poll", each(api_poll, quiet), empty, 0.2, PLAIN),
        Scenario("no work: a redirect, all middleware", each(lambda _: get("/"), quiet), status(302)),
        Scenario("empty poll, API", each(api_poll, quiet), empty, goal=0.6, is_poll=True),
        Scenario("empty poll, API, unknown uuid", each(unknown_poll, quiet), empty, goal=0.6, is_poll=True),
        Scenario("empty poll, customer's page", each(page_poll, quiet), status(204), goal=0.6, is_poll=True),
        Scenario("empty poll, agent's page", each(lambda talk: desk_poll(talk, session), quiet), status(204), 0.5),
        Scenario("post a message, API", written(api_post, busy), status(200), 0.4, goal=1.5),
        Scenario("post a message, customer's page", written(page_post, busy), status(204), 0.4, goal=1.5),
        *[
            Scenario(
                f"inbox list of 50 among {server}", inbox(sessions[server]), status(200), 0.2, server=server, goal=4.0
            )
            for server in (SMALL, MAIN, LARGE)
            if server in sessions
        ],
    ]


def status(code: int) -> Callable[[Answer], bool]:
    """Whether a response has this status."""
    return lambda answer: answer.status == code


def empty(answer: Answer) -> bool:
    """Whether it is the API's response without new messages."""
    return answer.status == 200 and b"".join(answer.body.split()) == b"".join(NOTHING.split())


def api_poll(talk: Talk) -> bytes:
    """A third-party widget polls."""
    return get(f"/api/messages/{talk.uuid}/?since={talk.last}")


def unknown_poll(talk: Talk) -> bytes:
    """A poll of a conversation that does not exist."""
    return get(f"/api/messages/{UUID(int=talk.number)}/?since=0")


def page_poll(talk: Talk) -> bytes:
    """The customer's page polls."""
    path = f"/chat/messages/?since={talk.last}&state={talk.status}"
    return get(path, cookie=f"chat={talk.uuid.hex}", headers=HTMX)


def desk_poll(talk: Talk, session: str) -> bytes:
    """The agent's page polls."""
    state = quote_plus(f"{talk.status} {talk.assignee or ''}")
    return get(f"/inbox/{talk.number}/messages/?since={talk.last}&state={state}", cookie=session, headers=HTMX)


def inbox(session: str) -> Iterator[bytes]:
    """The agent's page polls its list of conversations."""
    while True:
        yield get("/inbox/list/", cookie=f"sessionid={session}", headers=HTMX)


def written(request: Callable[[Talk, int], bytes], among: list[Talk]) -> Iterator[bytes]:
    """Customers post messages, each once."""
    for number, talk in enumerate(cycle(among)):
        yield request(talk, number)


def api_post(talk: Talk, number: int) -> bytes:
    """A third-party widget posts a message and gets new messages back."""
    message = {"content": f"Message {number}, is it there?", "conversation": str(talk.uuid), "client_id": str(uuid4())}
    return post_json(f"/api/messages/?since={talk.last}", message)


def page_post(talk: Talk, number: int) -> bytes:
    """The customer's page posts a message."""
    form = urlencode({"content": f"Message {number}, is it there?", "client_id": str(uuid4())})
    kind = "application/x-www-form-urlencoded"
    origin = "Origin: http://127.0.0.1\r\n"
    return post("/chat/messages/", kind, form, cookie=f"chat={talk.uuid.hex}", headers=HTMX + origin)
