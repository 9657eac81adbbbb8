"""Chaos with the message log: everything is killed at random while people write and read.

Redis (AOF always), two servers, two replicators, the writer of day files and PostgreSQL are killed with -9 and started
again. Customers and agents write as browsers do: the same client_id until it is acknowledged, after as many seconds as
Retry-After says. Pages and widgets poll. In the end each message that was acknowledged is on every screen once, in
order, and in SQL, and the day files have exactly what SQL has.
"""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psutil
import psycopg
import redis
from playwright.sync_api import Browser

from conversations.log_state import behind
from conversations.management.day_files import GROUP
from conversations.message_log import DEAD, ENTRIES
from tests.browser.people import People, Person, eventually, uuid_of
from tests.conftest import PASSWORD, ROOT
from tests.services import Chat, Service, postgresql, redis_server
from tests.soak.installation import end, wait_for
from tests.test_day_files import rows_of as rows_of_files

# An activity has an id, and no bubble.
ROW = re.compile(r'data-id="(\d+)"(?:(?!data-id=).)*?<div class="bubble[^"]*" dir="auto">(.*?)</div>', re.DOTALL)
OUTAGES = (OSError, http.client.HTTPException)
ERRORS = (psycopg.Error, redis.RedisError, OSError)

SESSION = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from conversations.models import Agent
agent, session = Agent.objects.get(username="bob"), SessionStore()
session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(agent.pk), settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = agent.get_session_auth_hash()
session.create()
print(session.session_key)
"""
"""Signs bob in."""

MESSAGES = "SELECT id, content FROM conversations_message WHERE conversation_id = %s ORDER BY id"
COUNTERS = "SELECT last_message_id, customer_messages FROM conversations_conversation WHERE id = %s"

WRITE_FILES = """
import sys
from conversations.management import day_files
day_files.write_day_files.__kwdefaults__["seconds"] = 0.5  # not 60: it is killed while it writes, too
sys.argv = ["manage.py", "replicate", "--to", sys.argv[1]]
exec(open("manage.py").read())
"""
"""`manage.py replicate --to`, which completes its files sooner."""

IN_FILES = """
    SELECT message.id, conversation_id, website_id, message.created_at, author, agent_id, content,
        message.id = min(message.id) OVER (PARTITION BY conversation_id)
    FROM conversations_message AS message JOIN conversations_conversation AS conversation
        ON conversation.id = conversation_id
    ORDER BY message.id
"""
COLUMNS = ("id", "conversation", "website", "at", "author", "agent", "content", "is_first")
AUTHORS = {"CUS": "customer", "AGE": "agent"}

TOKEN = "c" * 32
"""Bob's CSRF token, in his cookie and in his requests."""

Row = tuple[int, str]
"""The id and the text of a message."""


class Process:
    """A process that is killed and started again."""

    def __init__(
        self, name: str, lives: float, start: Callable[[], object], processes: Callable[[], list[psutil.Process]]
    ) -> None:
        """`start` may raise: then it is tried again. `processes` are to be killed.

        `lives` is how long it lives, compared with others: a server needs some seconds to start.
        """
        self.name, self.lives, self.start, self.processes = name, lives, start, processes

    def kill(self) -> None:
        """kill -9, its children too."""
        some = self.processes()
        for process in reversed(some):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(some, 30)

    def revive(self) -> None:
        """Start it until it runs, as systemd does."""
        deadline = time.monotonic() + 90
        while True:
            try:
                self.start()
                return
            except (AssertionError, *ERRORS):
                assert time.monotonic() < deadline, f"{self.name} does not start."
                time.sleep(0.3)


@dataclass
class Talk:
    """A conversation, as its customer and its agent see it."""

    name: str
    uuid: str = ""
    number: int = 0  # of the conversation, once SQL has it
    written: dict[str, list[str]] = field(default_factory=dict)  # by writer
    acknowledged: dict[str, int | None] = field(default_factory=dict)  # the ids, by text; None where a page posts
    screens: dict[str, list[Row]] = field(default_factory=dict)  # by reader


@dataclass
class Outcome:
    """What has happened."""

    kills: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)  # of posts and polls, by status
    acknowledged: int = 0
    drained: float = 0  # seconds from the last acknowledgement until SQL, all screens and all files had everything
    files: int = 0  # day files
    in_files: int = 0  # messages in them
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """On some lines."""
        return "\n    ".join(
            [
                f"{self.acknowledged} acknowledged, and {self.drained:.1f} s later all were in SQL and on all screens, "
                f"and {self.in_files} in {self.files} day files",
                f"killed: {dict(self.kills)}",
                f"answers: {dict(sorted(self.answers.items()))}",
                *self.problems,
            ]
        )


class Chaos:
    """An installation with the message log, and people who use it."""

    def __init__(self, where: Path, stack: ExitStack, seed: int) -> None:
        """Start everything. `stack` ends it."""
        self.random, self.outcome = Random(seed), Outcome()
        self.stopping, self.calm, self.written = threading.Event(), threading.Event(), threading.Event()
        self.deadline = float("inf")  # time.monotonic() when nobody waits for anything any more
        (where / "redis").mkdir()
        self.postgresql = stack.enter_context(postgresql())
        self.redis = stack.enter_context(redis_server(keeps_in=where / "redis"))
        self.environment = {
            "DATABASE_URL": self.postgresql.url,
            "REDIS_URL": self.redis.url,
            "MESSAGE_LOG": "redis",
            "RATE_LIMITS": "off",
            "REPLICATING": "off",
            "FILES": str(where / "files"),
        }
        self.servers = [self.server(where / name, stack) for name in ("first", "second")]
        first = self.servers[0]
        first.manage("migrate", "--verbosity", "0")
        first.manage("createagent", "bob", "--password", PASSWORD)
        self.session = first.manage("shell", "--no-imports", "-c", SESSION).split()[-1]
        for server in self.servers:
            server.start()
        copying = [sys.executable, "manage.py", "replicate"]
        self.replicators = [self.program(copying, where / f"replicator-{number}", stack) for number in (1, 2)]
        self.files = where / "day files"
        writing = [sys.executable, "-c", WRITE_FILES, str(self.files)]
        self.file_writer = self.program(writing, where / "file-writer", stack)
        wait_for(lambda: self.waiting(GROUP))  # from now on, Redis keeps everything for it
        self.talks: list[Talk] = []

    def server(self, where: Path, stack: ExitStack) -> Chat:
        """A server. It does not run yet."""
        where.mkdir()
        server = Chat(where, self.environment)
        stack.callback(end, server)
        return server

    def program(self, arguments: list[str], log: Path, stack: ExitStack) -> Service:
        """A program that copies the message log."""
        environment = {**self.servers[0].environment, "PYTHONUNBUFFERED": "1"}

        def start(service: Service) -> None:
            with log.open("ab") as file:
                service.process = psutil.Popen(
                    service.arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=file
                )

        class Copying(Service):
            def start(self) -> None:
                start(self)

        service = Copying(arguments, 0, "")
        stack.callback(end, service)
        return service

    # What fails

    def victims(self) -> list[Process]:
        """All that is killed."""

        def of(process: Any) -> list[psutil.Process]:
            if process is None or process.poll() is not None:
                return []
            return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]

        def processes(each: Any) -> Callable[[], list[psutil.Process]]:
            return lambda: of(each.process)

        def start_program(each: Service) -> Callable[[], object]:
            return lambda: None if each.process.poll() is None else each.start()

        return [
            Process("redis", 1, lambda: self.restart(self.redis, self.ping), processes(self.redis)),
            Process("postgresql", 1, lambda: self.restart(self.postgresql, self.sql), processes(self.postgresql)),
            *[Process("server", 3, server.start, processes(server)) for server in self.servers],
            *[Process("replicator", 1, start_program(each), processes(each)) for each in self.replicators],
            Process("file writer", 2, start_program(self.file_writer), processes(self.file_writer)),
        ]

    def restart(self, service: Service, ready: Callable[[], object]) -> None:
        """Start a service if it does not run, and raise an error if it is not ready."""
        if service.process.poll() is not None:
            service.start()
        for _ in range(20):
            with suppress(*ERRORS):
                ready()
                return
            time.sleep(0.05)
        ready()

    def ping(self) -> None:
        """Ask Redis."""
        with redis.Redis.from_url(self.redis.url, socket_timeout=1) as client:
            client.ping()

    def sql(self, statement: str = "SELECT 1", *values: Any) -> list[Any]:
        """Execute a statement."""
        with psycopg.connect(self.postgresql.url, autocommit=True, connect_timeout=2) as connection:
            return connection.execute(statement, values).fetchall()

    def torment(self, victim: Process, pause: float, chance: Random) -> None:
        """Kill it again and again, until all shall be calm."""
        while not self.calm.wait(chance.uniform(0.3, 2) * pause):
            victim.kill()
            self.outcome.kills[victim.name] += 1
            self.calm.wait(chance.uniform(0, 1.5))
            victim.revive()

    # People

    def ask(
        self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str] | None:
        """Ask one of both servers, or the other if it does not run, as nginx does; None if there is no answer."""
        one, other = self.random.sample(self.servers, 2)
        client = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        try:
            try:
                client.connect()
            except ConnectionRefusedError:
                client = http.client.HTTPConnection("127.0.0.1", other.port, timeout=20)
            client.request(method, path, body.encode() or None, headers or {})
            response = client.getresponse()
            content = response.read().decode()
        except OUTAGES:
            self.outcome.answers[f"{method} none"] += 1
            return None
        finally:
            client.close()
        self.outcome.answers[f"{method} {response.status}"] += 1
        return response.status, dict(response.getheaders()), content

    def insist(self, path: str, body: str, headers: dict[str, str]) -> str:
        """Post until it is acknowledged, as browsers do; return the content of the response."""
        while time.monotonic() < self.deadline:
            answer = self.ask("POST", path, body, headers)
            if answer and answer[0] in (200, 204):
                return answer[2]
            if answer and answer[0] not in (429, 502, 503):
                self.outcome.problems.append(f"A post to {path} is answered {answer[0]}: {answer[2][:300]}")
            time.sleep(float(answer[1].get("Retry-After", 0.5)) if answer else 0.5)
        raise AssertionError("A post is never acknowledged.")

    def customer_writes(self, talk: Talk) -> None:
        """The customer writes, by the API; the first message begins the conversation."""
        for number in count():
            text = f"{talk.name} {number}"
            talk.written.setdefault("customer", []).append(text)
            message = {"content": text, "client_id": str(uuid4())}
            if number % 3 == 2:  # by the page
                self.insist("/chat/messages/", urlencode(message), self.headers_of_page(talk))
                talk.acknowledged[text] = None
            else:
                since = max((pk for pk, _ in talk.screens.get("widget", [])), default=0)
                body = json.dumps({**message, "conversation": talk.uuid or None})
                answer = self.insist(f"/api/messages/?since={since}", body, {"Content-Type": "application/json"})
                items = json.loads(answer)["items"]
                mine = [item for item in items if item["content"] == text]
                if len(mine) != 1:
                    self.outcome.problems.append(f"{text} is acknowledged with {items}")
                else:
                    talk.acknowledged[text] = mine[0]["id"]
                    talk.uuid = mine[0]["conversation"]
            if self.stopping.wait(0.1):
                return

    def agent_writes(self, talk: Talk) -> None:
        """Bob answers, as soon as his list would show the conversation."""
        while not self.find(talk):
            if self.stopping.wait(0.3):
                return
        for number in count():
            text = f"bob to {talk.name} {number}"
            talk.written.setdefault("agent", []).append(text)
            form = urlencode({"content": text, "client_id": str(uuid4())})
            self.insist(f"/inbox/{talk.number}/messages/", form, self.headers_of_page(talk, agent=True))
            talk.acknowledged[text] = None
            if self.stopping.wait(0.15):
                return

    def find(self, talk: Talk) -> bool:
        """Look for the conversation's number in SQL."""
        if talk.uuid and not talk.number:
            with suppress(*ERRORS):
                for [number] in self.sql("SELECT id FROM conversations_conversation WHERE uuid = %s", talk.uuid):
                    talk.number = number
        return bool(talk.number)

    def headers_of_page(self, talk: Talk, *, agent: bool = False) -> dict[str, str]:
        """What a page sends with its requests."""
        cookies = f"sessionid={self.session}; csrftoken={TOKEN}" if agent else f"chat={talk.uuid.replace('-', '')}"
        return {
            "Content-Type": "application/x-www-form-urlencoded",
            "HX-Request": "true",
            "Sec-Fetch-Site": "same-origin",
            "X-CSRFToken": TOKEN,
            "Cookie": cookies,
        }

    def reads(self, talk: Talk, reader: str) -> None:
        """A page or a widget asks for what is new, and adds it to its screen."""
        screen = talk.screens.setdefault(reader, [])
        while time.monotonic() < self.deadline:
            screen += self.poll(talk, reader, screen[-1][0] if screen else 0) or []
            if self.written.is_set() and len(screen) >= len(talk.acknowledged):
                return
            time.sleep(0.1)

    def poll(self, talk: Talk, reader: str, since: int) -> list[Row] | None:
        """Ask for what is new after `since`; None if there is no answer."""
        if not talk.uuid or (reader == "agent" and not talk.number):
            return None
        if reader == "widget":
            answer = self.ask("GET", f"/api/messages/{talk.uuid}/?since={since}")
            items = json.loads(answer[2])["items"] if answer and answer[0] == 200 else []
            rows = [(item["id"], item["content"]) for item in items]
        else:
            path = f"/inbox/{talk.number}/messages/" if reader == "agent" else "/chat/messages/"
            headers = self.headers_of_page(talk, agent=reader == "agent")
            answer = self.ask("GET", f"{path}?since={since}", headers=headers)
            rows = rows_of(answer[2]) if answer and answer[0] == 200 else []
            strange = {"HX-Reswap", "X-Another"} & set(answer[1]) if answer else set()
            if strange or (answer and answer[1].get("HX-Trigger") in {"stranger", "another"}):
                self.outcome.problems.append(f"{reader} of {talk.name} after {since}: {answer and answer[1]}")
                return None
        if answer and answer[0] not in (200, 204, 503):
            self.outcome.problems.append(f"A poll of {reader} is answered {answer[0]}: {answer[2][:300]}")
        return rows

    # The trial

    def run(self, seconds: float, talks: int, pause: float, browsers: "Browsers | None" = None) -> Outcome:
        """Let people write and read for so many seconds while all is killed.

        talks: conversations, besides that of the browsers. pause: seconds that a process lives, on average.
        """
        self.talks = [Talk(f"alice-{number}") for number in range(talks)]
        work = [self.customer_writes, self.agent_writes]
        writers = [threading.Thread(target=each, args=[talk]) for talk in self.talks for each in work]
        names = ["widget", "page", "agent"]
        readers = [threading.Thread(target=self.reads, args=(talk, name)) for talk in self.talks for name in names]
        faults = [
            threading.Thread(target=self.torment, args=(victim, pause * victim.lives, Random(self.random.random())))
            for victim in self.victims()
        ]
        for thread in [*writers, *readers, *faults]:
            thread.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if browsers:
                browsers.write()
            time.sleep(0.1)
        self.calm.set()
        for thread in faults:
            thread.join()
        self.stopping.set()
        self.deadline = time.monotonic() + 60
        for thread in writers:
            thread.join()
        began = time.monotonic()
        self.written.set()
        for thread in readers:
            thread.join()
        if browsers:
            self.talks.append(browsers.finish())
        while not self.is_drained() and time.monotonic() < self.deadline:
            time.sleep(0.05)
        self.outcome.drained = time.monotonic() - began
        for talk in self.talks:
            self.judge(talk)
        self.judge_log()
        self.judge_files()
        return self.outcome

    def is_drained(self) -> bool:
        """Whether SQL and the day files have all that was acknowledged."""
        [[number]] = self.sql("SELECT count(*) FROM conversations_message")
        return bool(number >= sum(len(talk.acknowledged) for talk in self.talks)) and not self.waiting()

    def waiting(self, name: str = "") -> int:
        """Entries that the readers of the log, or one of them, have not acknowledged. Raises redis.RedisError."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            found: Any = client.xinfo_groups(ENTRIES)
            if name not in {"", *[group["name"] for group in found]}:
                raise redis.ResponseError(f"Nobody reads as {name}.")
            return sum(behind(client, group) for group in found if name in ("", group["name"]))

    def judge(self, talk: Talk) -> None:
        """Compare what was acknowledged, SQL and the screens."""
        self.find(talk)
        table: list[Row] = self.sql(MESSAGES, talk.number)
        self.outcome.acknowledged += len(talk.acknowledged)
        for problem in [*self.problems_of_table(talk, table), *self.problems_of_screens(talk, table)]:
            self.outcome.problems.append(f"{talk.name}: {problem}")

    def problems_of_table(self, talk: Talk, table: list[Row]) -> Iterator[str]:
        """What is wrong with the messages in SQL."""
        texts = [text for _, text in table]
        if lost := set(talk.acknowledged) - set(texts):
            yield f"LOST {lost}"
        if len(texts) != len(set(texts)):
            yield f"DOUBLED {[text for text, number in Counter(texts).items() if number > 1]}"
        for writer, written in talk.written.items():
            if (stored := [text for text in texts if text in written]) != written:
                yield f"{writer} WROTE {written} AND THERE IS {stored}"
        if invented := set(texts) - {text for written in talk.written.values() for text in written}:
            yield f"INVENTED {invented}"
        ids = {text: pk for pk, text in table}
        if wrong := {text: pk for text, pk in talk.acknowledged.items() if pk and ids.get(text) != pk}:
            yield f"ANOTHER ID was acknowledged: {wrong}"
        [counted] = self.sql(COUNTERS, talk.number)
        if counted != (table[-1][0], len(talk.written["customer"])):
            yield f"WRONG COUNTERS {counted}"

    def problems_of_screens(self, talk: Talk, table: list[Row]) -> Iterator[str]:
        """Where a screen, or a page that is loaded now, is not as SQL."""
        screens = dict(talk.screens)
        for path, agent in (("/chat/", False), (f"/inbox/{talk.number}/", True)):
            headers = self.headers_of_page(talk, agent=agent)
            del headers["HX-Request"]
            answer = self.ask("GET", path, headers=headers)
            screens[f"fresh {path}"] = rows_of(answer[2]) if answer else []
        for name, screen in screens.items():
            wanted = table
            if name.startswith("fresh"):  # it has the last 50 rows; agents also see who took the conversation
                wanted = table[-50:] if "/chat/" in name else table[-max(48, min(len(screen), 50)) :]
            if screen != wanted:
                more, less = [row for row in screen if row not in wanted], [row for row in wanted if row not in screen]
                yield f"the SCREEN {name} has too much {more}, too little {less}, of {len(wanted)}"

    def judge_log(self) -> None:
        """Nothing waits, nothing was refused, and nobody has begun a conversation twice."""
        problems = self.outcome.problems
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            if dead := client.xrange(DEAD):
                problems.append(f"DEAD LETTERS {dead}")
        if waiting := self.waiting():
            problems.append(f"{waiting} entries WAIT in the log")
        [[number]] = self.sql("SELECT count(*) FROM conversations_conversation")
        if number != len(self.talks):
            problems.append(f"There are {number} CONVERSATIONS instead of {len(self.talks)}")

    def judge_files(self) -> None:
        """The day files have each message of SQL once, and no other."""
        files = rows_of_files(self.files)
        written = sorted(tuple(row[name] for name in COLUMNS) for rows in files.values() for row in rows)
        wanted = [
            (*found[:4], AUTHORS[str(found[4]).strip()], *found[5:])  # as docs/analysis.md says
            for found in self.sql(IN_FILES)
        ]
        self.outcome.files, self.outcome.in_files = len(files), len(written)
        if written != wanted:
            more = [row for row in written if row not in wanted]
            less = [row for row in wanted if row not in written]
            double = [row for row, number in Counter(written).items() if number > 1]
            self.outcome.problems.append(f"The DAY FILES have too much {more}, too little {less}, double {double}")
        for path, rows in files.items():
            ids = [row["id"] for row in rows]
            days = {f"day={row['at'].date()}" for row in rows}
            if ids != sorted(ids) or f"{ids[-1]:012}" not in path or days != {path.partition("/")[0]}:
                self.outcome.problems.append(f"{path} has the messages {ids} of {days}")


class Browsers:
    """A customer and an agent with real browsers, each at one of both servers."""

    def __init__(self, place: Chaos, chromium: Browser) -> None:
        """Begin a conversation, before anything fails."""
        self.people = People(chromium, place.servers[0], {})
        self.alice = self.people.customer()
        self.bob = self.people.agent(server=place.servers[1])
        self.alice.says("browsers 0")
        number = int(self.bob.opens("browsers 0"))
        self.bob.sees("browsers 0")
        self.alice.sees("browsers 0")
        self.talk = Talk("browsers", uuid_of(self.alice), number, {"customer": ["browsers 0"], "agent": []})

    def write(self) -> None:
        """Both write a message, and look for a second."""
        for name, person in (("customer", self.alice), ("agent", self.bob)):
            text = f"browser of the {name} {len(self.talk.written[name])}"
            person.says(text)
            self.talk.written[name].append(text)
            person.page.wait_for_timeout(500)

    def finish(self) -> Talk:
        """Wait until all messages are on both screens, and close the browsers."""
        wanted = sum(map(len, self.talk.written.values()))
        for name, person in (("alice's browser", self.alice), ("bob's browser", self.bob)):

            def has_all(person: Person = person) -> bool:
                return sum(pk is not None for pk, _ in person.screen()) >= wanted

            with suppress(AssertionError):  # judged by their screens
                eventually(person.page, has_all, "the screen has all", 60)
            self.talk.screens[name] = [(pk or 0, text) for pk, text in person.screen()]
            self.talk.acknowledged |= {text: pk for pk, text in person.screen() if pk}
        self.people.close()
        return self.talk


def rows_of(page: str) -> list[Row]:
    """The messages in HTML."""
    shown = re.sub("<template>.*?</template>", "", page, flags=re.DOTALL)
    return [(int(pk), text) for pk, text in ROW.findall(shown)]


@contextmanager
def chaos(where: Path, seed: int) -> Iterator[Chaos]:
    """An installation in which all may be killed."""
    with ExitStack() as stack:
        yield Chaos(where, stack, seed)
