"""With the message log, PostgreSQL or Redis fails under a server: people go on or are told to wait. Nothing is lost.

OUTAGE=60 lets the databases be away for as many seconds, and with `-s` the figures are printed.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis

from tests.conftest import PASSWORD
from tests.services import Answer, Chat, Line, Service, follow, follow_nobody, postgresql, redis_server

SECONDS = float(os.environ.get("OUTAGE", "3"))
"""How long a database is away while people write."""

HEALED = 15
"""Seconds after which SQL has everything that was acknowledged."""

WAIT = 1
"""Seconds that the server waits for Redis. Usually it is a quarter of that, which a busy machine may need."""

SLACK = 0.5
"""Seconds that a request may take on a slow machine besides what it waits for."""

LIMITS = f"?socket_timeout={WAIT}&socket_connect_timeout={WAIT}"

AWAY = "The database does not answer. Please try again in a moment."
FULL = "The server is full at the moment. You can read messages, but not send any. Please try again later."


class Talk:
    """Alice and bob talk."""

    def __init__(self, chat: Chat) -> None:
        """Alice begins a conversation, and bob, who is signed in, opens it."""
        self.chat = chat
        self.acknowledged: list[str] = []
        self.ids: list[int] = []
        self.secret = chat.begin()
        self.alice = f"chat={self.secret.replace('-', '')}"
        self.bob = signed_in(chat)
        self.number = number_of(chat, self.secret)
        self.agent("GET", "", htmx=False)
        self.agent("GET", f"{self.number}/", htmx=False)
        self.polls()

    def post(self, text: str, client_id: str) -> Answer:
        """Alice writes by a widget."""
        body = {"content": text, "conversation": self.secret, "client_id": client_id}
        answer = self.chat.ask("POST", "/api/messages/", body)
        if answer[0] == 200:
            self.acknowledged.append(text)
            self.ids.append(json.loads(answer[3])["items"][-1]["id"])
        return answer

    def writes(self, text: str = "") -> Answer:
        """Alice writes, by a widget, something that nobody has written before."""
        return self.post(text or secrets.token_hex(4), str(uuid4()))

    def customer(self, method: str, path: str, htmx: bool = True, **fields: str) -> Answer:
        """A request of alice's page."""
        return ask_page(self.chat, method, f"/chat/{path}", self.alice, htmx, fields)

    def agent(self, method: str, path: str, htmx: bool = True, **fields: str) -> Answer:
        """A request of bob's page."""
        found = re.search("csrftoken=([^;]+)", self.bob)
        token = {"csrfmiddlewaretoken": found[1]} if found and method == "POST" else {}
        return ask_page(self.chat, method, f"/inbox/{path}", self.bob, htmx, {**fields, **token})

    def posts(self) -> list[Answer]:
        """Both write by pages with a script, and alice by a widget."""
        text = secrets.token_hex(4)
        return [
            self.customer("POST", "messages/", content=text),
            self.agent("POST", f"{self.number}/messages/", content=text),
            self.writes(),
        ]

    def polls(self) -> list[Answer]:
        """Both pages and a widget look for new messages."""
        since = self.ids[-1] if self.ids else 0
        return [
            self.customer("GET", f"messages/?since={since}"),
            self.agent("GET", f"{self.number}/messages/?since={since}"),
            self.chat.ask("GET", f"/api/messages/{self.secret}/?since={since}"),
        ]

    def actions(self) -> list[Answer]:
        """Bob closes, takes, and has read."""
        return [
            self.agent("POST", f"{self.number}/close/"),
            self.agent("POST", f"{self.number}/take/"),
            self.agent("POST", f"{self.number}/read/", last=str(self.ids[-1] if self.ids else 1)),
        ]

    def assert_whole(self) -> None:
        """SQL soon has all that was acknowledged, once and in order, and ids have risen."""
        deadline = time.monotonic() + HEALED
        while set(self.acknowledged) - set(found := stored(self.chat, self.number)):
            assert time.monotonic() < deadline, self.chat.log
            time.sleep(0.05)
        assert [text for text in found if text in set(self.acknowledged)] == self.acknowledged
        assert self.ids == sorted(set(self.ids)), self.chat.log[-3000:]


class Writers:
    """Customers write all the time, as pages do: they send a message again until it is acknowledged. Others poll."""

    def __init__(self, talks: list[Talk]) -> None:
        """They begin at once."""
        self.talks = talks
        self.answers: list[tuple[float, Answer]] = []  # when each was sent
        self.is_over = False
        self.threads = [threading.Thread(target=self.write, args=(talk,)) for talk in talks]
        self.threads += [threading.Thread(target=self.poll, args=(talk,)) for talk in talks]
        for thread in self.threads:
            thread.start()

    def write(self, talk: Talk) -> None:
        """Write one message after the other."""
        while not self.is_over:
            text, key = secrets.token_hex(4), str(uuid4())
            while self.note(lambda text=text, key=key: [talk.post(text, key)])[0][0] != 200 and not self.is_over:  # type: ignore[misc]
                time.sleep(0.1)
            time.sleep(0.02)

    def poll(self, talk: Talk) -> None:
        """Look for new messages again and again."""
        while not self.is_over:
            self.note(talk.polls)
            time.sleep(0.05)

    def note(self, ask: Callable[[], list[Answer]]) -> list[Answer]:
        """Ask, and note what was answered."""
        at = time.monotonic()
        answers = ask()
        self.answers += [(at, answer) for answer in answers]
        return answers

    def end(self) -> None:
        """Let them end, and see that SQL has all."""
        self.is_over = True
        for thread in self.threads:
            thread.join()
        for talk in self.talks:
            if talk.acknowledged:
                talk.assert_whole()

    def seconds(self, since: float = 0, until: float = float("inf")) -> list[float]:
        """How long the requests took that were sent in this time, the fastest first."""
        return sorted(answer[1] for at, answer in self.answers if since <= at < until)


def ask_page(chat: Chat, method: str, path: str, cookie: str, htmx: bool, fields: dict[str, str]) -> Answer:
    """Send a request of a page, with its script (`htmx`) or without."""
    headers = {"Cookie": cookie, "Accept": "text/html", **({"HX-Request": "true"} if htmx else {})}
    if method == "GET":
        return chat.ask("GET", path, **headers)
    return chat.ask("POST", path, urlencode(fields).encode(), **headers)


def signed_in(chat: Chat) -> str:
    """Bob's cookies."""
    page = ask_page(chat, "GET", "/inbox/sign-in/", "", False, {})
    cookie = page[2]["Set-Cookie"].partition(";")[0]
    form = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": cookie.partition("=")[2]}
    answer = ask_page(chat, "POST", "/inbox/sign-in/", cookie, False, form)
    assert answer[0] == 302, answer
    return "; ".join(re.findall("(?:sessionid|csrftoken)=[^;]+", answer[2]["Set-Cookie"]))


def query(chat: Chat, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Ask PostgreSQL."""
    with psycopg.connect(chat.environment["DATABASE_URL"].partition("?")[0], connect_timeout=2) as connection:
        return connection.execute(statement, values).fetchall()


def number_of(chat: Chat, secret: str) -> int:
    """The number of a conversation, as soon as it is in SQL."""
    deadline = time.monotonic() + HEALED
    while not (found := query(chat, "SELECT id FROM conversations_conversation WHERE uuid = %s", secret)):
        assert time.monotonic() < deadline, chat.log
        time.sleep(0.05)
    return int(str(found[0][0]))


def stored(chat: Chat, number: int) -> list[str]:
    """The texts of a conversation in SQL; none while it is away."""
    with suppress(psycopg.OperationalError):
        rows = query(chat, "SELECT content FROM conversations_message WHERE conversation_id = %s ORDER BY id", number)
        return [str(text) for (text,) in rows]
    return []


def says(answer: Answer, sentence: str, seconds: str) -> None:
    """The answer is 503, and says this sentence and when to try again."""
    content = answer[3].decode()
    assert (answer[0], answer[2].get("Retry-After")) == (503, seconds), answer
    title, _, advice = sentence.partition(". ")
    assert title in content
    assert advice in content
    assert "Traceback" not in content


def until_well(what: Callable[[], list[Answer]], seconds: float) -> float:
    """Wait until all of these requests succeed; return how long that took."""
    started = time.monotonic()
    while failed := [answer for answer in what() if answer[0] >= 400]:
        assert time.monotonic() < started + seconds, failed
        time.sleep(0.05)
    return time.monotonic() - started


def fresh_log(chat: Chat) -> Callable[[], str]:
    """A function that returns what is logged from now on."""
    before = len(chat.log)
    return lambda: chat.log[before:]


def kill(service: Service) -> None:
    """End it without a word. SIGQUIT is that for PostgreSQL, which otherwise leaves its children behind."""
    service.end(signal.SIGQUIT if "postgres" in service.url else signal.SIGKILL)


WAYS: dict[str, tuple[Callable[[Service], None], Callable[[Service], None]]] = {
    "killed": (kill, Service.start),
    "frozen": (Service.freeze, Service.thaw),
}
"""How a service goes away and comes back."""


@pytest.fixture(scope="module")
def sql() -> Iterator[Service]:
    """A PostgreSQL that fails."""
    with postgresql() as service:
        yield service


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Redis that fails."""
    with redis_server(tmp_path_factory.mktemp("redis")) as service:
        yield service


@pytest.fixture(scope="module")
def chat(sql: Service, log: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A server that copies the message log by itself, with the time limits that are usual."""
    where = tmp_path_factory.mktemp("chat")
    urls = {"DATABASE_URL": sql.url, "REDIS_URL": log.url + LIMITS}
    chat = Chat(where, {**urls, "MESSAGE_LOG": "redis", "RATE_LIMITS": "off"})
    chat.manage("migrate", "--verbosity", "0")
    chat.manage("createagent", "bob", "--password", PASSWORD)
    chat.start()
    yield chat
    chat.kill()


@pytest.fixture
def talk(chat: Chat) -> Talk:
    """Alice and bob talk, and all is well."""
    talk = Talk(chat)
    assert all(answer[0] < 300 for answer in talk.posts() + talk.polls())
    return talk


@pytest.mark.parametrize("way", WAYS)
def test_without_redis_people_read_and_are_told_to_write_later(talk: Talk, log: Service, way: str) -> None:
    go, come, logged, number = *WAYS[way], fresh_log(talk.chat), talk.number
    talk.assert_whole()
    go(log)
    try:
        answers = talk.polls() + talk.posts() + talk.polls() + talk.actions()
        assert {answer[0] for answer in answers[:3] + answers[6:]} <= {200, 204}
        for answer in answers[3:6]:
            says(answer, AWAY, "5")
        typed = "What I have typed"
        for answer in (
            talk.customer("POST", "messages/", htmx=False, content=typed),
            talk.agent("POST", f"{number}/messages/", htmx=False, content=typed),
        ):
            says(answer, AWAY, "5")
            assert typed in answer[3].decode()
            answers.append(answer)
        answers += [talk.customer("GET", "", htmx=False), talk.agent("GET", f"{number}/", htmx=False)]
        assert {answer[0] for answer in answers[-2:]} == {200}
        seconds = sorted(answer[1] for answer in answers)
        assert seconds[-1] < WAIT + SLACK
        assert seconds[len(seconds) // 2] < 0.25  # most do not ask Redis
        time.sleep(1.1)  # it is asked once more
        assert [talk.chat.ask("GET", path)[0] for path in ("/readyz", "/healthz")] == [503, 200]
    finally:
        come(log)
    print(way, "Redis: all is well after", until_well(lambda: talk.posts() + talk.polls() + talk.actions(), 5))
    talk.assert_whole()
    assert "Traceback" not in logged()


def test_a_form_that_is_sent_again_after_an_outage_is_the_same_message(talk: Talk, log: Service) -> None:
    key, text = str(uuid4()), secrets.token_hex(4)
    log.freeze()
    try:
        answer = talk.customer("POST", "messages/", htmx=False, content=text, client_id=key)
    finally:
        log.thaw()  # and now it appends what it was sent
    says(answer, AWAY, "5")
    assert f'name="client_id" value="{key}"' in answer[3].decode()
    sent = lambda: [talk.customer("POST", "messages/", htmx=False, content=text, client_id=key)]  # noqa: E731
    until_well(sent, 5)
    talk.writes()
    talk.assert_whole()
    assert stored(talk.chat, talk.number).count(text) == 1


@pytest.mark.parametrize("way", WAYS)
def test_redis_goes_away_while_people_write(chat: Chat, log: Service, way: str) -> None:
    go, come = WAYS[way]
    writers = Writers([Talk(chat) for _ in range(3)])
    time.sleep(0.5)
    go(log)
    time.sleep(SECONDS)
    come(log)
    back = time.monotonic()
    time.sleep(3)
    writers.end()
    late = [answer for at, answer in writers.answers if at > back + 2]
    assert {answer[0] for answer in late} <= {200, 204}
    seconds = writers.seconds()
    print(way, f"Redis, {len(seconds)} requests: the slowest {seconds[-3:]}")
    assert seconds[-1] < WAIT + 2 * SLACK


@pytest.mark.parametrize("way", WAYS)
def test_without_sql_people_go_on(chat: Chat, sql: Service, way: str) -> None:
    go, come, logged = *WAYS[way], fresh_log(chat)
    talk, talks = Talk(chat), [Talk(chat) for _ in range(3)]
    chat.ask("GET", "/readyz")
    writers = Writers(talks)
    time.sleep(0.5)
    gone = time.monotonic()
    go(sql)
    try:
        time.sleep(SECONDS)
        for answer in talk.actions():
            says(answer, AWAY, "5")
        form = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": "x" * 32}
        answer = ask_page(chat, "POST", "/inbox/sign-in/", f"csrftoken={'x' * 32}", False, form)
        says(answer, AWAY, "5")
        assert not [answer for answer in talk.posts() if answer[0] > 204]
        assert [chat.ask("GET", path)[0] for path in ("/readyz", "/healthz")] == [200, 200]
        assert b"Conversations go on in the message log" in chat.ask("GET", "/readyz")[3]
        newcomer = ask_page(chat, "POST", "/chat/messages/", "", False, {"content": "I am new"})
        assert newcomer[0] == 302
        away = time.monotonic()
    finally:
        come(sql)
    print(way, "PostgreSQL: all is well after", until_well(talk.actions, HEALED))
    writers.end()
    print("... and SQL has everything after", time.monotonic() - away)
    assert not [answer for _, answer in writers.answers if answer[0] > 204]
    before, first, then = writers.seconds(0, gone), writers.seconds(gone, gone + 2), writers.seconds(gone + 2, away)
    for name, seconds in (("before", before), ("first", first), ("then", then)):
        print(
            f"... {name}: {len(seconds)}, p50 {percentile(seconds, 50)}, p99 {percentile(seconds, 99)}, {seconds[-1]}"
        )
    assert first[-1] < 1 + 2 * SLACK
    assert percentile(then, 99) < 2 * SLACK  # no request waits for a database that has not answered before
    assert "Traceback" not in logged()


def percentile(values: list[float], percent: int) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, len(values) * percent // 100)]


@contextmanager
def bob_closes_later(talk: Talk) -> Iterator[tuple[threading.Thread, list[Answer], psycopg.Connection]]:
    """Bob's request waits for a lock, after PostgreSQL has answered who bob is. Rolling back lets it go on."""
    answers: list[Answer] = []
    with psycopg.connect(talk.chat.environment["DATABASE_URL"]) as other:
        other.execute("SELECT 1 FROM conversations_conversation WHERE id = %s FOR UPDATE", [talk.number])
        closing = threading.Thread(target=lambda: answers.append(talk.agent("POST", f"{talk.number}/close/")))
        closing.start()
        while not query(talk.chat, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert closing.is_alive(), answers
        yield closing, answers, other


def test_a_request_that_waits_when_postgresql_begins_to_hang_gives_up_soon(talk: Talk, sql: Service) -> None:
    with bob_closes_later(talk) as (closing, answers, _):
        sql.freeze()
        try:
            closing.join()
        finally:
            sql.thaw()
    says(answers[0], AWAY, "5")
    print("it has waited", answers[0][1])
    assert answers[0][1] < 3 + 2 * SLACK  # PATIENCE, and as long as a new connection may take
    until_well(talk.actions, HEALED)
    # Then all is well for everybody, also in threads of the server that have to connect first.
    with ThreadPoolExecutor(16) as people:
        assert {answer[0] for done in people.map(lambda _: talk.actions(), range(16)) for answer in done} <= {200, 204}


def test_a_request_that_waits_for_a_lock_of_a_postgresql_that_works_does_not_give_up(talk: Talk) -> None:
    with bob_closes_later(talk) as (closing, answers, other):
        time.sleep(1.5)
        other.rollback()
        closing.join()
    assert answers[0][0] in {200, 204}


@pytest.mark.parametrize("way", WAYS)
def test_without_both_everybody_is_told_to_wait(talk: Talk, sql: Service, log: Service, way: str) -> None:
    go, come = WAYS[way]
    writers = Writers([Talk(talk.chat)])
    time.sleep(0.3)
    go(sql)
    go(log)
    try:
        time.sleep(SECONDS)
        answers = talk.posts()
        for answer in answers:
            says(answer, AWAY, "5")
        for answer in (talk.customer("GET", "", htmx=False), talk.agent("GET", f"{talk.number}/", htmx=False)):
            says(answer, AWAY, "5")
            answers.append(answer)
        assert max(answer[1] for answer in answers) < WAIT + SLACK
        assert [talk.chat.ask("GET", path)[0] for path in ("/readyz", "/healthz")] == [503, 200]
    finally:
        come(log)
        come(sql)
    print(way, "both: all is well after", until_well(lambda: talk.posts() + talk.polls() + talk.actions(), HEALED))
    writers.end()


def test_redis_whose_memory_is_full_is_read_and_makes_room(talk: Talk, log: Service) -> None:
    with full(log):
        assert_full(talk)
        assert {answer[0] for answer in talk.actions()} <= {200, 204}
    until_well(talk.posts, 2)
    talk.assert_whole()


def test_what_was_copied_makes_room_in_a_full_redis(talk: Talk, log: Service) -> None:
    talk.writes()
    with full(log) as client:
        talk.assert_whole()
        deadline = time.monotonic() + HEALED
        while client.xlen("{log}:entries"):
            assert time.monotonic() < deadline, "The log keeps entries that SQL has."
            time.sleep(0.1)


@contextmanager
def full(log: Service) -> Iterator[Any]:
    """Redis has no memory left."""
    with redis.Redis.from_url(log.url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            yield client
        finally:
            client.config_set("maxmemory", "0")


def assert_full(talk: Talk) -> None:
    """Posts are refused in a sentence, and reading goes on."""
    for answer in talk.posts():
        says(answer, FULL, "10")
    reads = [*talk.polls(), talk.customer("GET", "", htmx=False), talk.agent("GET", f"{talk.number}/", htmx=False)]
    assert {answer[0] for answer in reads} <= {200, 204}
    assert talk.chat.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_redis_whose_disk_is_full(talk: Talk, log: Service, tmp_path: Path, fsync: str) -> None:
    talk.assert_whole()
    kill(log)
    log.options["restore_signals"] = False  # Python ignores SIGXFSZ, which would kill Redis
    log.start()
    until_well(talk.posts, 5)
    with redis.Redis.from_url(log.url) as client:
        client.config_set("appendfsync", fsync)
    log.process.rlimit(psutil.RLIMIT_FSIZE, (1, resource_infinity()))
    try:
        if fsync == "always":  # then it ends, rather than promise anything
            says(talk.writes(), AWAY, "5")
            log.process.wait(10)
        else:
            talk.writes()
            deadline = time.monotonic() + 5
            while talk.writes()[2].get("Retry-After") != "10":
                assert time.monotonic() < deadline
            assert_full(talk)
    finally:
        if log.process.is_running():
            log.process.rlimit(psutil.RLIMIT_FSIZE, (resource_infinity(), resource_infinity()))
        else:
            log.start()
    print(fsync, "disk of Redis: all is well after", until_well(talk.posts, 5))
    talk.assert_whole()


def resource_infinity() -> int:
    """No limit."""
    return psutil.RLIM_INFINITY


def test_sql_that_accepts_no_writes_has_everything_later(talk: Talk, sql: Service, log: Service) -> None:
    set_read_only(sql, "on")
    try:
        assert {answer[0] for answer in talk.posts() + talk.polls()} <= {200, 204}
        newcomer = ask_page(talk.chat, "POST", "/chat/messages/", "", False, {"content": "I am new here"})
        cookie = newcomer[2]["Set-Cookie"].partition(";")[0]
        for path in ("/chat/messages/?since=0", "/chat/"):
            assert b"I am new here" in ask_page(talk.chat, "GET", path, cookie, "?" in path, {})[3]
        text = secrets.token_hex(4)
        talk.writes(text)
        for page in (talk.customer("GET", "", htmx=False), talk.agent("GET", f"{talk.number}/", htmx=False)):
            assert page[0] == 200
            assert text in page[3].decode()
        says(talk.agent("POST", f"{talk.number}/close/"), AWAY, "5")
        assert talk.chat.ask("GET", "/readyz")[0] == 200
        assert text not in stored(talk.chat, talk.number)
    finally:
        set_read_only(sql, "off")
    until_well(talk.actions, HEALED)
    talk.assert_whole()
    with redis.Redis.from_url(log.url) as client:
        assert client.xlen("{log}:dead") == 0
    deadline = time.monotonic() + HEALED
    while not query(talk.chat, "SELECT 1 FROM conversations_message WHERE content = 'I am new here'"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def set_read_only(sql: Service, value: str) -> None:
    """New transactions of the database only read, or not. Open connections are ended."""
    sql.sql(f"ALTER DATABASE chat SET default_transaction_read_only = {value}")
    sql.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chat' AND pid <> pg_backend_pid()")


def test_a_copy_of_redis_takes_over(sql: Service, chat: Chat, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "old") as old, redis_server(tmp_path / "new") as new:
        line = Line(old.port)
        follow(new, old)
        more = {"REDIS_URL": f"redis://127.0.0.1:{line.port}{LIMITS}", "MESSAGE_LOG_REPLICAS": "1"}
        careful = Chat(tmp_path, {**{name: chat.environment[name] for name in OWN}, **more})
        careful.start()
        try:
            talk, writers = Talk(careful), Writers([Talk(careful) for _ in range(2)])
            time.sleep(0.5)
            with redis.Redis.from_url(new.url) as client:
                client.replicaof("NO", "ONE")
            line.to = new.port
            follow(old, new)
            time.sleep(2)
            until_well(talk.posts, 5)
            before = max(talk.ids)
            line.to = old.port  # and once more: now Redis is killed
            follow_nobody(old)
            kill(new)
            (tmp_path / "third").mkdir()
            with redis_server(tmp_path / "third") as third:
                follow(third, old)
                print("failover of Redis: all is well after", until_well(talk.posts, 10))
                writers.end()
                talk.assert_whole()
            assert max(talk.ids) > before
        finally:
            careful.kill()
            line.close()


def test_a_copy_of_redis_takes_over_that_lacks_what_sql_has(chat: Chat, tmp_path: Path) -> None:
    """It gives no number of a conversation that it does not know again: a newcomer would write into it."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "old") as old, redis_server(tmp_path / "new") as new:
        line = Line(old.port)
        follow(new, old)
        more = {"REDIS_URL": f"redis://127.0.0.1:{line.port}{LIMITS}"}
        other = Chat(tmp_path, {**{name: chat.environment[name] for name in OWN}, **more})
        other.start()
        try:
            talk = Talk(other)
            follow_nobody(new)  # from now on, it lacks everything
            before = {number_of(other, other.begin()) for _ in range(15)}
            line.to = new.port
            kill(old)
            until_well(lambda: [talk.writes()], 10)
            newcomers = [number_of(other, other.begin()) for _ in range(15)]
            assert min(newcomers) > max(before)
            assert all(len(stored(other, number)) == 1 for number in (*before, *newcomers))
            talk.assert_whole()
        finally:
            other.kill()
            line.close()


OWN = ("DATABASE_URL", "MESSAGE_LOG", "RATE_LIMITS")
"""The settings of another server for the same installation."""


def test_a_copy_of_postgresql_takes_over(chat: Chat, sql: Service) -> None:
    talk, writers = Talk(chat), Writers([Talk(chat) for _ in range(2)])
    time.sleep(0.5)
    kill(sql)
    where = sql.arguments[sql.arguments.index("-D") + 1]
    subprocess.run(["cp", "-a", where, f"{where}-copy"], check=True)
    sql.arguments = [f"{where}-copy" if each == where else each for each in sql.arguments]
    sql.start()
    print("failover of PostgreSQL: all is well after", until_well(talk.actions, HEALED))
    writers.end()
    assert {answer[0] for _, answer in writers.answers} <= {200, 204}
