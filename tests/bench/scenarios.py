"""The requests that are measured, and the CPU time that each may take."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import quote_plus, urlencode
from uuid import UUID, uuid4

from tests.bench.client import CONNECTIONS, Answer, get, post, post_json
from tests.bench.data import Talk
from tests.bench.databases import LARGE, LONG, MAIN, SMALL, Database

NOTHING = b'{"items": [], "count": 0}'
PLAIN = "plain"
"""The server of the plain design, on the database MAIN."""

HTMX = "HX-Request: true\r\nHX-Current-URL: http://127.0.0.1/\r\nReferer: http://127.0.0.1/\r\n"

POLLED = 200
"""Conversations that are open in pages, which poll again and again."""

OPEN = 20
"""Conversations that agents look at again and again."""

LOOP = 15.3
"""Milliseconds of the fixed loop on the machine for which the goals were set."""


LISTS = {"one label": "label=1", "label and priority": "label=1&priority=4", "waiting": "whose=mine&order=waiting"}
"""Lists with filters, by their names."""


@dataclass(frozen=True)
class Goal:
    """What a scenario may cost on a machine where the fixed loop takes LOOP."""

    cost: float  # ms of CPU time
    with_server: float | None = None  # the same on a database server, with the database's own CPU time
    more: str = ""  # what else is demanded


@dataclass(frozen=True)
class Scenario:
    """One kind of request."""

    name: str
    requests: Iterator[bytes]
    expected: Callable[[Answer], bool]
    share: float = 1.0  # of the requests of a round: less for slow ones
    server: str = MAIN
    goal: Goal | None = None
    plain: str = ""  # the name of the scenario of the plain design to compare with
    connections: int = CONNECTIONS
    repeated: int = 0  # requests that are sent again and again: each once before it is measured
    before: Sequence[bytes] = ()  # requests that come before those of each round, and are not measured


def scenarios(databases: dict[str, Database]) -> list[Scenario]:
    """All scenarios."""
    # Every fourth conversation gets new messages, the others do not: their polls are empty.
    talks, session = databases[MAIN].talks, databases[MAIN].session
    busy, quiet, panel, page = (talks[rest::4] for rest in range(4))
    return [
        Scenario("no work: a redirect, all middleware", cycle([get("/inbox/")]), status(302)),
        *polls(quiet[:POLLED], quiet[POLLED:] + panel + page, session),
        *posts(busy),
        Scenario(PLAIN_OPENING, map(look("page", session), cycle(page)), status(200), 0.06, PLAIN),
        *openings("panel", 20, panel, session, Goal(7), Goal(4)),
        *openings("panel", 50, databases[SMALL].talks, databases[SMALL].session, Goal(12), Goal(6)),
        *openings("page", 20, page, session, Goal(10), Goal(7)),
        *long_openings(databases[LONG]),
        *inboxes(databases),
    ]


def polls(open_in_pages: list[Talk], others: list[Talk], session: str) -> list[Scenario]:
    """Pages ask whether there is anything new, and there is nothing."""
    plain = "plain design: empty poll"

    def agents_poll(talk: Talk) -> bytes:
        return desk_poll(talk, session)

    many, again, ok = cycle(open_in_pages), len(open_in_pages), status(204)
    goal = Goal(0.3, 0.9, "3,000 a second")
    return [
        Scenario(plain, map(api_poll, many), empty, 0.2, PLAIN),
        Scenario("empty poll, API", map(api_poll, many), empty, goal=goal, plain=plain, repeated=again),
        Scenario("empty poll, API, unknown uuid", map(unknown_poll, many), empty, plain=plain, repeated=again),
        Scenario(
            "empty poll, customer's page", map(page_poll, many), ok, goal=Goal(0.3, 0.9), plain=plain, repeated=again
        ),
        Scenario("empty poll, agent's page", map(agents_poll, many), ok, goal=Goal(0.6), plain=plain, repeated=again),
        Scenario("first poll of a conversation, API", map(api_poll, cycle(others)), empty, 0.5, plain=plain),
    ]


def posts(talks: list[Talk]) -> list[Scenario]:
    """Customers write messages."""
    plain = "plain design: post"
    few, many = Widgets(talks), Widgets(talks)
    goal = Goal(1.2, 2.4, "750 a second, p99 60, worst 120 ms")
    same = Goal(1.2, 2.4, "as many a second as with 16")
    return [
        Scenario(plain, map(api_post, cycle(talks)), status(200), 0.1, PLAIN),
        Scenario("post, API", few.posts(), few.wrote, 0.4, goal=goal, plain=plain),
        Scenario("post, API, 64 connections", many.posts(), many.wrote, 0.4, goal=same, plain=plain, connections=64),
        Scenario("post, customer's page", map(page_post, cycle(talks)), status(204), 0.4, goal=Goal(1.4), plain=plain),
    ]


PLAIN_OPENING = "plain design: opening of 20"


def look(what: str, session: str) -> Callable[[Talk], bytes]:
    """How an agent opens a conversation: in the panel of an inbox that is open, or as a whole page."""
    headers = HTMX if what == "panel" else "Sec-Fetch-Site: same-origin\r\n"
    return lambda talk: get(f"/inbox/{talk.number}/", cookie=f"sessionid={session}", headers=headers)


def openings(what: str, messages: int, talks: list[Talk], session: str, first: Goal, again: Goal) -> list[Scenario]:
    """Agents open conversations. A first look may mark messages as read."""
    name, server = f"opening, {what} of {messages}", MAIN if messages == 20 else SMALL
    plain = PLAIN_OPENING if messages == 20 else ""
    seen, new = (map(look(what, session), cycle(some)) for some in (talks[:OPEN], talks[OPEN:]))
    return [
        Scenario(f"{name}: first look", new, status(200), 0.06, server, first, plain),
        Scenario(f"{name}: seen before", seen, status(200), 0.06, server, again, plain),
    ]


def long_openings(database: Database) -> list[Scenario]:
    """Agents open long conversations, which they have read: at the end, and at a message that a search has found."""

    def look_at(talk: Talk) -> bytes:
        path = f"/inbox/{talk.number}/?at={talk.message(talk.each // 2)}"
        return get(path, cookie=f"sessionid={database.session}", headers=HTMX)

    name, goal = "opening, panel of 5,000:", Goal(8)
    at_end, at_middle = map(look("panel", database.session), cycle(database.talks)), map(look_at, cycle(database.talks))
    return [
        Scenario(f"{name} at its end", at_end, status(200), 0.06, LONG, goal, repeated=database.total),
        Scenario(f"{name} at a message in its middle", at_middle, status(200), 0.06, LONG, goal),
    ]


def inboxes(databases: dict[str, Database]) -> list[Scenario]:
    """Agents' pages fetch their list of conversations."""
    plain = "plain design: inbox of 50"

    def requests(name: str, path: str) -> Iterator[bytes]:
        return cycle([get(path, cookie=f"sessionid={databases[name].session}", headers=HTMX)])

    return [
        Scenario(plain, requests(MAIN, "/inbox/"), status(200), 0.06, PLAIN),
        *[
            Scenario(
                f"inbox of 50 among {name}", requests(name, "/inbox/list/"), status(200), 0.2, name, Goal(3, 4), plain
            )
            for name in (SMALL, MAIN, LARGE)
        ],
        *[
            Scenario(
                f"inbox, {what}, among {name}", requests(name, f"/inbox/list/?{query}"), status(200), 0.1, name, Goal(3)
            )
            for what, query in LISTS.items()
            for name in (SMALL, LARGE)
        ],
    ]


@dataclass
class Widgets:
    """Third-party widgets that post messages and know which message they got last."""

    talks: list[Talk]
    last: dict[str, int] = field(default_factory=dict)  # by uuid

    def posts(self) -> Iterator[bytes]:
        """Each conversation in turn."""
        for talk in cycle(self.talks):
            yield api_post(talk, self.last.get(str(talk.uuid)))

    def wrote(self, answer: Answer) -> bool:
        """Whether the message was stored; keeps the id of the newest message."""
        items = answer.json()["items"] if answer.status == 200 else []
        for item in items:
            self.last[item["conversation"]] = item["id"]
        return bool(items)


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
    path = f"/inbox/{talk.number}/messages/?since={talk.last}&state={state}"
    return get(path, cookie=f"sessionid={session}", headers=HTMX)


def api_post(talk: Talk, last: int | None = None) -> bytes:
    """A third-party widget posts a message and gets the messages after `last` back."""
    message = {"content": "One more message: is it there?", "conversation": str(talk.uuid), "client_id": str(uuid4())}
    return post_json(f"/api/messages/?since={last or talk.last}", message)


def page_post(talk: Talk) -> bytes:
    """The customer's page posts a message."""
    form = urlencode({"content": "One more message: is it there?", "client_id": str(uuid4())})
    kind = "application/x-www-form-urlencoded"
    headers = f"{HTMX}Origin: http://127.0.0.1\r\n"
    return post("/chat/messages/", kind, form, cookie=f"chat={talk.uuid.hex}", headers=headers)
