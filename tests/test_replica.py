"""A replica of PostgreSQL takes the backups and answers pages of messages, and its lag does no harm."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from conversations.actions import post_message, renew_secret, take_back
from conversations.actions.delete_expired_conversations import delete_expired_conversations
from conversations.models import Agent, Attachment, Contact, Conversation, Website, replica
from conversations.models.contact import Claim
from conversations.models.remembered import memory
from conversations.models.settling import catch_up
from tests.conftest import PASSWORD, Page, free_port, texts
from tests.services import SOON, Chat, Line, Service, postgresql, redis_server
from tests.services import replica as replica_of

MANY = 120
"""Messages of a long conversation: more than two pages."""


@pytest.fixture(scope="module")
def primary() -> Iterator[Service]:
    with postgresql() as service:
        yield service


def written(service: Service) -> str:
    """The position up to which the primary has written its log."""
    with psycopg.connect(service.url, autocommit=True) as connection:
        [position] = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or [""]
        return str(position)


def wait_for(follower: Service, position: str) -> None:
    """Wait until the replica has all up to this position."""
    deadline = time.monotonic() + 60
    with psycopg.connect(follower.url, autocommit=True) as connection:
        while connection.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", [position]).fetchone() != (False,):
            assert time.monotonic() < deadline, "The replica does not follow."
            time.sleep(0.05)


def test_a_backup_of_a_replica_has_all_that_the_replica_has(tmp_path: Path) -> None:
    with postgresql() as primary, replica_of(primary) as follower:
        chat = Chat(tmp_path, {"DATABASE_URL": primary.url, "RATE_LIMITS": "off", "DEBUG": "on"})
        chat.manage("migrate", "--verbosity", "0")
        of_replica = Chat(tmp_path, {"DATABASE_URL": follower.url, "DEBUG": "on"})

        def back_up(name: str) -> str:
            said = of_replica.manage("backup", str(tmp_path / name))
            of_replica.manage("restore", "--check", str(tmp_path / name))
            return said

        chat.start()
        try:
            alices = chat.begin()
            assert chat.post(alices)[0] == 200
            wait_for(follower, written(primary))
            follower.sql("SELECT pg_wal_replay_pause()", "chat")
            chat.begin()
            assert chat.post(alices)[0] == 200  # the primary serves on, however late the replica is
            assert "1 conversation, 2 messages" in back_up("late.tar")
            follower.sql("SELECT pg_wal_replay_resume()", "chat")
            wait_for(follower, written(primary))
            assert "2 conversations, 4 messages" in back_up("all.tar")
        finally:
            chat.kill()


# Pages of messages ----------------------------------------------------------------------------------------------------


class Shop(Chat):
    """A server with a replica, with alice's long conversation and bob's browser and token."""

    alices: str
    pk: int
    bobs_cookie: str
    bobs_token: str

    def prepare(self, many: int = MANY) -> None:
        """Write the conversation, and sign bob in."""
        self.alices = self.begin()
        for number in range(2, many + 1):
            self.writes(f"number {number}")
        self.bobs_token = self.manage("createtoken", "bob", "script").strip().splitlines()[-1]
        self.pk = json.loads(self.get("/api/conversation/", self.bobs))["items"][0]["id"]
        _, _, headers, _ = self.ask("GET", "/inbox/sign-in/")
        cookie = headers["Set-Cookie"].partition(";")[0]
        form = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": cookie.partition("=")[2]}
        status, _, headers, _ = self.ask("POST", "/inbox/sign-in/", urlencode(form).encode(), Cookie=cookie)
        assert status == 302
        [session] = re.findall(r"sessionid=\w+", headers["Set-Cookie"])
        self.bobs_cookie = session

    @property
    def bobs(self) -> dict[str, str]:
        """The headers of bob's script."""
        return {"Authorization": f"Bearer {self.bobs_token}"}

    def get(self, path: str, headers: dict[str, str]) -> str:
        """The content of a page, which comes soon and without an error."""
        status, seconds, _, content = self.ask("GET", path, **headers)
        assert status == 200, content
        assert seconds < SOON
        return content.decode()

    def writes(self, text: str, conversation: str = "") -> None:
        """Alice writes."""
        body = {"content": text, "conversation": conversation or self.alices}
        status, _, _, content = self.ask("POST", f"/api/messages/?since={2**40}", body)
        assert status == 200, content

    def last(self) -> int:
        """The id of the last message."""
        return int(self.ask("GET", f"/api/messages/{self.alices}/?since={2**40}")[2]["X-Last-Message"])

    def answers(self, text: str) -> None:
        """Bob answers."""
        status, _, _, content = self.ask(
            "POST", f"/api/conversation/{self.pk}/messages/", {"content": text}, **self.bobs
        )
        assert status == 200, content

    def screens(self, before: str = "") -> list[str]:
        """What alice and bob see when they open the conversation, and what their scripts read: the newest messages."""
        alices, bobs = {"Cookie": f"chat={self.alices}"}, {"Cookie": self.bobs_cookie}
        page = f"?before={before}" if before else ""
        older = {"HX-Request": "true"} if before else {}
        where = ("/chat/messages/", f"/inbox/{self.pk}/messages/") if before else ("/chat/", f"/inbox/{self.pk}/")
        return [
            self.get(where[0] + page, alices | older),
            self.get(where[1] + page, bobs | older),
            self.get(f"/api/messages/{self.alices}/?limit=200", {}),
            self.get(f"/api/messages/{self.alices}/?limit=1000&offset=40", {}),
            self.get(f"/api/conversation/{self.pk}/messages/?limit=200", self.bobs),
        ]

    def everybody_sees(self, text: str) -> None:
        """Assert that a text is on each screen."""
        assert [text in screen for screen in self.screens()] == [True] * 5

    def nobody_sees(self, text: str) -> None:
        """Assert that it is on none."""
        assert [text in screen for screen in self.screens()] == [False] * 5

    def reads(self, of: str) -> int:
        """How many pages the replica, or the primary in its place, has answered."""
        [found] = re.findall(rf'chatsite_replica_reads_total{{answered_from="{of}"}} (\d+)', self.get("/metrics", {}))
        return int(found)

    def wait_for_the_replica(self) -> None:
        """Open pages until the replica answers."""
        before, deadline = self.reads("replica"), time.monotonic() + 60
        while self.reads("replica") == before:
            assert time.monotonic() < deadline, "The replica is not asked again."
            self.screens()
            time.sleep(0.1)

    def run(self, code: str) -> None:
        """Run some Python with Chatsite's models."""
        self.manage("shell", "-c", f"from conversations.models import *; {code}")


@contextmanager
def shop_with(where: Path, primary: Service, url: str, **environment: str) -> Iterator[Shop]:
    """A server with an empty database and a replica at this URL."""
    settings = {"DATABASE_URL": primary.url, "DATABASE_REPLICA_URL": url, "RATE_LIMITS": "off", **environment}
    shop = Shop(where, settings)
    shop.manage("migrate", "--verbosity", "0")
    shop.manage("createagent", "bob", "--password", PASSWORD)
    shop.start()
    try:
        yield shop
    finally:
        shop.kill()


class Both:
    """A server and its replica, behind a line."""

    def __init__(self, shop: Shop, primary: Service, follower: Service, line: Line) -> None:
        self.shop, self.primary, self.follower, self.line = shop, primary, follower, line

    def catch_up(self) -> None:
        """Wait until the replica has all."""
        wait_for(self.follower, written(self.primary))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The replica receives, but does not show what is new."""
        self.catch_up()
        self.follower.sql("SELECT pg_wal_replay_pause()", "chat")
        try:
            yield
        finally:
            self.follower.sql("SELECT pg_wal_replay_resume()", "chat")


@pytest.fixture(scope="module")
def both(primary: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A server with a replica."""
    with replica_of(primary) as follower:
        line = Line(follower.port)
        url = follower.url.replace(str(follower.port), str(line.port))
        with shop_with(tmp_path_factory.mktemp("shop"), primary, url) as shop:
            shop.prepare()
            yield Both(shop, primary, follower, line)
        line.close()


def scans(service: Service) -> int:
    """How often a server has looked for messages, by its own account."""
    with psycopg.connect(service.url, autocommit=True) as connection:
        query = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE relname = 'conversations_message'"
        [found] = connection.execute(query).fetchone() or [0]
        return int(found)


def test_a_fresh_replica_answers(both: Both) -> None:
    both.catch_up()
    before, of_primary = both.shop.reads("replica"), both.shop.reads("primary")
    looked = scans(both.follower)
    both.shop.everybody_sees(f"number {MANY}")
    oldest = re.findall(r"before=(\d+)", both.shop.screens()[0])[0]
    for screen in both.shop.screens(oldest)[:2]:
        assert "number 60" in screen
        assert f"number {MANY}" not in screen
    assert both.shop.reads("replica") >= before + 3 * 5 + 2
    assert both.shop.reads("primary") <= of_primary + 2 * 3  # the ends of three lists, each twice and once again
    deadline = time.monotonic() + 60
    while scans(both.follower) == looked:  # PostgreSQL counts once a second
        assert time.monotonic() < deadline, "The replica was not asked."
        both.shop.screens()


def test_everybody_sees_at_once_what_was_written_however_late_the_replica_is(both: Both) -> None:
    shop = both.shop
    with both.paused():
        shop.writes("late question")
        last = shop.last()
        shop.everybody_sees("late question")
        shop.answers("late answer")
        shop.everybody_sees("late answer")
        assert all("late question" in screen for screen in shop.screens(str(last + 1))[:2])
        assert all("number 100" in screen for screen in shop.screens())
    both.catch_up()
    before = shop.reads("replica")
    shop.everybody_sees("late answer")
    assert shop.reads("replica") > before


def test_a_late_replica_still_answers_for_conversations_that_have_not_changed(both: Both) -> None:
    with both.paused():
        both.shop.begin()
        before, of_primary = both.shop.reads("replica"), both.shop.reads("primary")
        both.shop.everybody_sees(f"number {MANY}")
        assert both.shop.reads("replica") > before
        assert both.shop.reads("primary") <= of_primary + 3


def test_nobody_sees_what_was_deleted_or_renamed_however_late_the_replica_is(both: Both) -> None:
    shop = both.shop
    shop.writes("to be deleted")
    shop.answers("by bob")
    shop.run("User = Agent; User.objects.filter(username='bob').update(first_name='Bob', last_name='Before')")
    both.catch_up()
    shop.everybody_sees("Bob Before")
    with both.paused():
        before = shop.reads("replica")
        shop.run("Agent.objects.filter(username='bob').update(last_name='After')")
        shop.nobody_sees("Bob Before")
        shop.everybody_sees("Bob After")
        assert shop.reads("replica") > before
        shop.run("Message.objects.filter(content='to be deleted').delete()")
        shop.nobody_sees("to be deleted")


def test_a_deleted_agent_has_no_name_however_late_the_replica_is(both: Both) -> None:
    shop = both.shop
    shop.run(
        "from conversations.actions import post_message; from django.contrib.auth.models import User;"
        "carol = User.objects.create(username='carol', first_name='Carol', last_name='Gone');"
        f"post_message(content='by carol', agent=carol, conversation=Conversation.objects.get(pk={shop.pk}))"
    )
    both.catch_up()
    shop.everybody_sees("Carol Gone")
    with both.paused():
        before = shop.reads("replica")
        shop.run("from django.contrib.auth.models import User; User.objects.get(username='carol').delete()")
        shop.nobody_sees("Carol Gone")
        shop.everybody_sees("by carol")
        assert shop.reads("replica") > before


def test_a_renewed_secret_gives_no_access_however_late_the_replica_is(both: Both) -> None:
    shop = both.shop
    theirs = shop.begin()
    for number in range(30):
        shop.writes(f"private {number}", theirs)
    with both.paused():
        shop.run(
            "from conversations.actions import renew_secret;"
            f"renew_secret(conversation=Conversation.objects.by_uuid('{theirs}'))"
        )
        assert "private" not in shop.get(f"/api/messages/{theirs}/", {})
        assert "private" not in shop.get("/chat/", {"Cookie": f"chat={theirs}"})


@pytest.mark.parametrize("fault", ["freezes", "is killed", "goes silent"])
def test_nobody_sees_an_error_when_the_replica_fails_and_then_it_is_asked_again(both: Both, fault: str) -> None:
    shop, follower = both.shop, both.follower
    both.catch_up()
    shop.screens()
    if fault == "freezes":
        follower.freeze()
    elif fault == "is killed":
        follower.kill()
    else:
        both.line.cut()
    try:
        shop.writes(f"when it {fault}")
        shop.everybody_sees(f"when it {fault}")
        began = time.monotonic()
        if fault != "goes silent":  # then new connections work
            before = shop.reads("replica")
            shop.everybody_sees(f"when it {fault}")
            assert time.monotonic() - began < 5  # nobody waits for it again
            assert shop.reads("replica") == before
        assert "The replica fails, so the primary is asked" in shop.log
        assert "Traceback" not in shop.log
    finally:
        if fault == "freezes":
            follower.thaw()
        elif fault == "is killed":
            follower.start()
    shop.wait_for_the_replica()
    assert "The replica answers again." in shop.log
    shop.everybody_sees(f"when it {fault}")


def test_what_a_server_has_that_does_not_follow_any_more_is_shown_to_nobody(tmp_path: Path) -> None:
    with postgresql() as primary, replica_of(primary) as former, shop_with(tmp_path, primary, former.url) as shop:
        shop.prepare()
        wait_for(former, written(primary))
        former.sql("SELECT pg_promote()", "chat")
        other = Chat(tmp_path, {"DATABASE_URL": former.url, "RATE_LIMITS": "off"})
        other.start()
        try:
            shop.wait_for_the_replica()  # what is the same on both may be read from either
            body = {"content": "written elsewhere", "conversation": shop.alices}
            assert other.ask("POST", "/api/messages/", body)[0] == 200
            shop.nobody_sees("written elsewhere")
            shop.writes("written here")
            shop.everybody_sees("written here")
            shop.nobody_sees("written elsewhere")
        finally:
            other.kill()


def test_a_server_starts_and_serves_while_its_replica_is_away(tmp_path: Path) -> None:
    with postgresql() as primary:
        away = primary.url.replace(str(primary.port), str(free_port()))
        with shop_with(tmp_path, primary, away) as shop:
            shop.prepare()
            shop.everybody_sees(f"number {MANY}")
            assert "Warning: The replica does not answer" in shop.log
            assert shop.reads("replica") == 0


def test_with_the_message_log_everybody_sees_what_was_written(tmp_path: Path) -> None:
    with postgresql() as primary, replica_of(primary) as follower, redis_server(tmp_path) as log:
        settings = {"MESSAGE_LOG": "redis", "REDIS_URL": log.url}
        with shop_with(tmp_path, primary, follower.url, **settings) as shop:
            shop.prepare(many=60)
            wait_for(follower, written(primary))
            shop.wait_for_the_replica()
            follower.sql("SELECT pg_wal_replay_pause()", "chat")
            for number in range(3):
                shop.writes(f"late question {number}")
                shop.everybody_sees(f"late question {number}")
                shop.answers(f"late answer {number}")
                shop.everybody_sees(f"late answer {number}")
            primary.freeze()
            try:
                before = shop.reads("replica")
                shop.writes("while the primary hangs")
                for address, headers in (
                    ("/chat/", {"Cookie": f"chat={shop.alices}"}),
                    (f"/inbox/{shop.pk}/", {"Cookie": shop.bobs_cookie}),
                ):
                    page = shop.get(address, headers)
                    assert "while the primary hangs" in page
                    assert "late answer 2" in page
                assert shop.reads("replica") == before
            finally:
                primary.thaw()


def doctor(chat: Chat) -> str:
    """What `manage.py doctor` says of the replica."""
    return chat.manage("shell", "-v0", "-c", "from chatsite.doctor.machine import *; print(list(check_replica()))")


def test_doctor_says_how_the_replica_is(both: Both, tmp_path: Path) -> None:
    both.catch_up()
    assert "level='ok', sentence='The replica answers, and has the newest message.'" in doctor(both.shop)
    with both.paused():
        both.shop.writes("not there yet")
        assert "level='warning', sentence='The replica lacks messages for more than 5 seconds." in doctor(both.shop)
    no_replica = Chat(tmp_path, {"DATABASE_URL": both.primary.url, "DATABASE_REPLICA_URL": both.primary.url})
    assert "no replica: it accepts writes" in doctor(no_replica)
    away = both.primary.url.replace(str(both.primary.port), str(free_port()))
    nothing = Chat(tmp_path, {"DATABASE_URL": both.primary.url, "DATABASE_REPLICA_URL": away})
    assert "level='warning', sentence='The replica does not answer" in doctor(nothing)
    without = Chat(tmp_path, {"DATABASE_URL": both.primary.url})
    assert doctor(without).strip() == "[]"


# On the database of the suite, which is its own replica ---------------------------------------------------------------


@pytest.fixture
def mirror(db: None, settings: Any) -> Iterator[list[str]]:
    """The database is its own replica. The statements that it answers as such."""
    settings.REPLICA = settings.DATABASES["default"]
    connections["replica"] = connection
    asked: list[str] = []

    def note(execute: Any, sql: str, *more: Any) -> Any:
        if "COALESCE(c.updated_at, c.last_message_at)" in sql:
            asked.append(sql)
        return execute(sql, *more)

    with connection.execute_wrapper(note):
        yield asked
    del connections["replica"]


def long_talk(agent: Agent, more: int = 130) -> Conversation:
    """A conversation of this many messages after the first, some of them with a file."""
    talk = post_message(content="Hello").conversation
    for number in range(more):
        by = agent if number % 3 == 0 else None
        files = [Attachment.from_upload("a.txt", ContentFile(b"text"))] if number % 50 == 7 else []
        talk = post_message(content=f"number {number}", conversation=talk, agent=by, attachments=files).conversation
    catch_up(talk)
    return Conversation.objects.get(pk=talk.pk)


QUERIES = [
    "",
    "?limit=1000",
    "?limit=60",
    "?limit=25",
    "?limit=26",
    "?offset=20",
    "?limit=30&offset=40",
    "?limit=1000&offset=100",
    "?offset=131",
    "?offset=5000",
    "?since={first}&limit=1000",
    "?since={first}&offset=26&limit=50",
    "?changes=true&limit=1000",
    "?changes=true&offset=20&limit=200",
]


def test_all_pages_are_as_without_a_replica(
    mirror: list[str], bob: Agent, alice: Page, bobs: Page, settings: Any
) -> None:
    talk = long_talk(bob)
    alice.cookies["chat"] = talk.uuid.hex
    pks = list(talk.messages.order_by("pk").values_list("pk", flat=True))
    for message in talk.messages.filter(agent=bob).order_by("pk")[:3]:
        take_back(conversation=talk, pk=message.pk, by=bob)
    addresses = [f"/api/messages/{talk.uuid}/{query.format(first=pks[3])}" for query in QUERIES]
    pages = [f"/chat/messages/?before={pk}" for pk in (pks[0], pks[1], pks[60], pks[-1] + 1)]
    pages += [f"/inbox/{talk.pk}/messages/?before={pk}" for pk in (pks[0], pks[60], pks[-1] + 1)]

    def look() -> list[bytes]:
        found = [Client().get(address).content for address in addresses]
        found += [(bobs if page.startswith("/inbox") else alice).htmx(page).content for page in pages]
        return [
            *found,
            b"".join(text.encode() for text in [*texts(alice.get("/chat/")), *texts(bobs.get(page_of(talk)))]),
        ]

    with_replica = look()
    assert len(mirror) > 40
    asked = len(mirror)
    settings.REPLICA = None
    assert with_replica == look()
    assert len(mirror) == asked


def page_of(talk: Conversation) -> str:
    """The address of bob's page."""
    return f"/inbox/{talk.pk}/"


def test_a_conversation_that_was_never_updated_is_known_by_its_last_message(
    mirror: list[str], bob: Agent, bobs: Page
) -> None:
    talk = long_talk(bob)
    Conversation.objects.update(updated_at=None)
    assert len(texts(bobs.htmx(f"/inbox/{talk.pk}/messages/?before={talk.last_message_id}"))) == 50
    [sql] = mirror
    assert " DESC" in sql


def test_rows_that_were_remembered_prove_nothing(
    mirror: list[str], bob: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = long_talk(bob)
    monkeypatch.setattr(memory, "away_since", 1.0)
    assert len(replica.newest(talk, 10, None)) == 10
    assert mirror == []


@pytest.mark.parametrize(
    "change", ["delete one", "delete some", "delete the oldest", "renew the secret", "forget", "take back"]
)
def test_what_changes_messages_changes_the_version_of_their_conversation(
    db: None, bob: Agent, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    website = Website.objects.default()
    contact = Contact.objects.save_claim(website.pk, Claim("7", Contact.Proof.TOKEN))
    talk = long_talk(bob, 9)
    Conversation.objects.filter(pk=talk.pk).update(contact=contact)
    talk.refresh_from_db()
    if change == "delete one":
        talk.messages.all()[5].delete()
    elif change == "delete some":
        talk.messages.filter(author="CUS").delete()
    elif change == "delete the oldest":
        monkeypatch.setattr("conversations.actions.delete_expired_conversations.MESSAGES", 3)
        website.retention_days = 1
        website.save()
        Conversation.objects.filter(pk=talk.pk).update(last_message_at=timezone.now() - timedelta(days=3))
        next(delete for delete in delete_expired_conversations() if talk.messages.count() < 10)
    elif change == "renew the secret":
        renew_secret(conversation=talk)
    elif change == "take back":
        take_back(conversation=talk, pk=talk.messages.filter(agent=bob)[0].pk, by=bob)
    else:
        contact.delete()
    assert Conversation.objects.get(pk=talk.pk).updated_at != talk.updated_at
