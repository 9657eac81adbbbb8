"""`manage.py backup` while the server runs, and `manage.py restore`, with real servers and processes."""

import fcntl
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.cookiejar import CookieJar
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest
import redis
from django.conf.global_settings import PASSWORD_HASHERS
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from django.utils import timezone

from conversations.actions import post_message, write_note
from conversations.actions.reindex import add_missing
from conversations.management.archive import SUMS, ArchiveReader, ArchiveWriter, BrokenArchive, written_whole
from conversations.management.commands import backup, restore
from conversations.management.restoring import CannotRestore, locked, next_id
from conversations.models import Conversation, Mention, Message, SearchState
from conversations.models.search import Question, search
from conversations.models.search_words import phrase
from tests.conftest import PASSWORD, ROOT, Server, default_database, free_port, promote, server_database
from tests.services import Service

TEXT = "Größe 漢字 ✨ \u2028 \x85 “quoted” \\n\nsecond line"
FILE = bytes(range(256)) * 40


class Shop(Server):
    """A server of which every command may fail."""

    talk = file = token = ""
    """What `opened` has made: a conversation, the path of its file's URL, and the token of an agent."""

    def run(self, *args: str) -> tuple[int, str]:
        """Run a management command; return its exit code and all that it printed."""
        command = [sys.executable, "manage.py", *args]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def run_here(self, *args: str) -> tuple[int, str]:
        """Run a management command like `run`, but in this process. Raises all that would be a traceback there."""
        printed = StringIO()
        with default_database(self.environment["DATABASE_URL"]), override_settings(MEDIA_ROOT=str(self.files)):
            try:
                call_command(*args, stdout=printed, stderr=printed)
            except CommandError as error:
                return error.returncode, f"{printed.getvalue()}CommandError: {error}\n"
        return 0, printed.getvalue()

    def prepare(self, *args: str) -> None:
        """Run a management command: in this process, if the suite runs on this kind of database, as that is faster."""
        url = self.environment["DATABASE_URL"]
        if url.partition(":")[0] != os.environ["DATABASE_URL"].partition(":")[0]:
            self.manage(*args)
            return
        with default_database(url), override_settings(PASSWORD_HASHERS=PASSWORD_HASHERS):
            call_command(*args, stdout=StringIO())

    def stored_texts(self, uuid: str) -> list[str]:
        """The texts of a conversation in the database."""
        with default_database(self.environment["DATABASE_URL"]):
            return list(
                Message.objects.filter(conversation__uuid=uuid).order_by("pk").values_list("content", flat=True)
            )

    def call(
        self, path: str, data: Any = None, token: str = "", kind: str = "application/json", method: str | None = None
    ) -> Any:
        """Call the API; return the JSON of its response."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        head = {"Content-Type": kind, **({"Authorization": f"Bearer {token}"} if token else {})}
        with urlopen(Request(f"{self.url}{path}", body, head, method=method), timeout=60) as response:
            return json.load(response)

    def writes(self, text: str, **more: Any) -> dict[str, Any]:
        """Post a message; return it."""
        message: dict[str, Any] = self.call("/api/messages/", {"content": text, **more})["items"][-1]
        return message

    def texts(self, uuid: str) -> list[str]:
        """The texts of a conversation."""
        return [item["content"] for item in self.call(f"/api/messages/{uuid}/?limit=100")["items"]]

    def accepts(self, username: str, password: str) -> bool:
        """Whether somebody can sign in."""
        jar = CookieJar()
        opener = build_opener(HTTPCookieProcessor(jar))
        opener.open(f"{self.url}/inbox/sign-in/").read()
        csrf = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
        form = urlencode({"username": username, "password": password, "csrfmiddlewaretoken": csrf})
        with opener.open(f"{self.url}/inbox/sign-in/", form.encode()) as response:
            return str(response.geturl()).endswith("/inbox/")

    @property
    def files(self) -> Path:
        """The directory of the stored files."""
        return Path(self.environment["FILES"])


class Shops:
    """Makes servers on databases that are deleted at the end."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.databases: list[Iterator[str]] = []
        self.made: list[Shop] = []

    def new(self, on: str = "", like: Shop | None = None) -> Shop:
        """A server on an empty database, or on a copy of another one. `on` is a DATABASE_URL or "" for the suite's."""
        place = self.where / f"shop-{len(self.made)}"
        place.mkdir()
        copies = like is not None and connection.vendor != "mysql"
        if not on:
            template = like.environment["DATABASE_URL"] if like and copies else ""
            self.databases.append(server_database(place, template))
            on = next(self.databases[-1])
        files = place / "files"
        shop = Shop({"DEBUG": "on", "RATE_LIMITS": "off", "DATABASE_URL": on, "FILES": str(files)})
        self.made.append(shop)
        if like and copies:
            shutil.copytree(like.files, files)
            shop.talk, shop.file, shop.token = like.talk, like.file, like.token
        elif like:
            opened(shop).stop()
        return shop

    def end(self) -> None:
        """End all servers and delete their databases."""
        for shop in self.made:
            if shop.process and shop.process.poll() is None:
                shop.kill()
        for database in self.databases:
            next(database, None)


@pytest.fixture
def shops(tmp_path: Path, django_db_blocker: Any) -> Iterator[Shops]:
    """Servers of one test."""
    with django_db_blocker.unblock():
        shops = Shops(tmp_path)
        yield shops
        shops.end()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Shop]:
    """A server with all that `opened` makes. It does not run: its database is to be copied and read."""
    with django_db_blocker.unblock():
        shops = Shops(tmp_path_factory.mktemp("prepared"))
        shop = opened(shops.new())
        assert shop.stop() == 0
    yield shop
    with django_db_blocker.unblock():
        shops.end()


@pytest.fixture(scope="module")
def archive(prepared: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the prepared server."""
    path = tmp_path_factory.mktemp("archive") / "backup.tar"
    prepared.manage("backup", str(path))
    return path


@contextmanager
def writing(shop: Shop) -> Iterator[list[str]]:
    """Customers who write all the time; gives the texts that were acknowledged."""
    acknowledged: list[str] = []
    end = threading.Event()

    def write() -> None:
        uuid = shop.writes("Do assigned to you in blue?")["conversation"]
        while not end.is_set():
            text = f"message {len(acknowledged)}"
            shop.writes(text, conversation=uuid)
            acknowledged.append(text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield acknowledged
    finally:
        end.set()
        writer.join()


def wait_for(acknowledged: list[str], count: int) -> None:
    """Return when so many messages were acknowledged."""
    pause = threading.Event()
    for _ in range(600):
        if len(acknowledged) >= count:
            return
        pause.wait(0.05)
    raise AssertionError("Nothing is acknowledged.")


def opened(shop: Shop) -> Shop:
    """Start a server with an agent, a website, a token, and a conversation with a file."""
    shop.prepare("migrate", "--verbosity", "0")
    shop.prepare("createagent", "bob", "--name", "Bob", "--password", PASSWORD)
    shop.prepare("addwebsite", "Flower pots", "https://shop.example", "--key", "pots")
    shop.token = shop.manage("createtoken", "bob", "bot").strip()  # by the SECRET_KEY of the server
    shop.start()
    shop.talk = shop.writes(TEXT, name="Alice")["conversation"]
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="list.csv"\r\n\r\n' + FILE + b"\r\n--x--\r\n"
    sent = shop.call(f"/api/messages/{shop.talk}/files/", part, kind="multipart/form-data; boundary=x")
    shop.file = sent["items"][-1]["attachments"][0]["url"]
    shop.call("/api/messages/", {"content": "An answer", "conversation": shop.talk}, shop.token)
    return shop


def test_a_backup_made_while_customers_write_has_everything_that_was_acknowledged(shops: Shops, tmp_path: Path) -> None:
    shop, archive = opened(shops.new(f"sqlite:///{tmp_path / 'old.sqlite3'}")), tmp_path / "backup.tar"
    talk = shop.talk
    wrong = shop.call("/api/messages/", {"content": "I was wrong", "conversation": talk}, shop.token)["items"][-1]["id"]
    [number] = [item["id"] for item in shop.call("/api/conversation/", token=shop.token)["items"]]
    shop.call(f"/api/conversation/{number}/messages/{wrong}/", token=shop.token, method="DELETE")
    changes = shop.call(f"/api/messages/{talk}/?changes=true")
    with writing(shop) as acknowledged:
        wait_for(acknowledged, 5)
        before = list(acknowledged)
        shop.manage("backup", str(archive))
        wait_for(acknowledged, len(before) + 5)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("backup*")] == ["backup.tar"]
    last = shop.writes("after the backup", conversation=talk)["id"]
    shop.kill()

    new = shops.new()  # on the database of the suite: so this also moves from SQLite to PostgreSQL or MariaDB
    code, printed = new.run("restore", str(archive))
    assert code == 0, printed
    assert "Everybody has to sign in again" in printed
    new.start()
    assert new.texts(talk) == [TEXT, "", "An answer", ""]
    assert new.call(f"/api/messages/{talk}/?changes=true") == changes
    with urlopen(f"{new.url}{shop.file}") as response:
        assert response.read() == FILE
    assert new.accepts("bob", PASSWORD)
    found = new.call("/api/conversation/", token=shop.token)["items"]
    assert {item["customer_name"]: item["status"] for item in found}["Alice"] == "OPEN"
    others = [item["uuid"] for item in found if item["uuid"] != talk]
    assert [text for uuid in others for text in new.texts(uuid)][1 : len(before) + 1] == before
    assert "pots" in new.run_here("addwebsite", "Pots", "--key", "pots")[1]
    message = new.writes("a new message", conversation=talk)
    assert message["id"] > last + 100_000  # above all that pages know that are open since before
    assert new.call(f"/api/messages/{talk}/?since={last}")["items"] == [message]


def test_a_restore_refuses_while_the_server_runs_and_replaces_the_rest_only_if_it_is_told(
    shops: Shops, prepared: Shop, archive: Path
) -> None:
    shop = shops.new(like=prepared)
    shop.start()
    later = shop.writes("after the backup", conversation=shop.talk)["id"]
    code, printed = shop.run_here("restore", str(archive), "--replace")
    assert code == 1
    assert "Stop Chatsite" in printed
    assert shop.texts(shop.talk)[-1] == "after the backup"
    shop.kill()  # SQLite has its log beside it

    code, printed = shop.run_here("restore", str(archive))
    assert code == 1
    assert "1 user, 1 conversation" in printed
    assert "--replace" in printed
    stored = next(path for path in shop.files.rglob("*") if path.is_file())
    stored.unlink()
    for _again in range(2):
        assert shop.run_here("restore", str(archive), "--replace")[0] == 0
        shop.start()
        assert shop.texts(prepared.talk) == [TEXT, "", "An answer"]
        with urlopen(f"{shop.url}{prepared.file}") as response:
            assert response.read() == FILE
        again = shop.writes("after the restore", conversation=prepared.talk)["id"]
        assert again > later  # also if the same backup is restored for the second time
        later = again
        shop.kill()


def test_a_restore_waits_for_nobody_but_is_alone(shops: Shops, prepared: Shop, archive: Path) -> None:
    shop = shops.new(like=prepared)
    shop.start()
    with open_directory(shop.files) as directory:
        with pytest.raises(BlockingIOError):  # a server has it, whether it has a connection to the database or not
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shop.kill()
        fcntl.flock(directory, fcntl.LOCK_SH)  # as one on another machine
        code, printed = shop.run_here("restore", str(archive), "--replace")
        assert (code, "Stop Chatsite" in printed) == (1, True)
        fcntl.flock(directory, fcntl.LOCK_EX)  # as a restore
        code, printed = shop.run("serve")
        assert (code, "`manage.py restore` is running" in printed) == (1, True)


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """A file descriptor of a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_restore_replaces_no_database_of_which_redis_has_a_log(
    shops: Shops, prepared: Shop, archive: Path, log_service: Service, settings: Any
) -> None:
    shop = shops.new(like=prepared)
    settings.REDIS_URL = log_service.url
    with redis.Redis.from_url(log_service.url) as log:
        log.flushall()
        log.set("{log}:messages", 7)
        log.xadd("{log}:entries", {"conversation": 1, "entry": "{}"}, "7-0")
        code, printed = shop.run_here("restore", str(archive), "--replace")
        assert (code, "with 1 message that the database lacks" in printed) == (1, True)
        assert "manage.py replicate --drain" in printed
        assert shop.stored_texts(shop.talk) == [TEXT, "", "An answer"]
        assert shops.new().run_here("restore", str(archive))[0] == 0  # the old database may be lost
        log.flushall()
    settings.MESSAGE_LOG, settings.REDIS_URL = True, f"redis://127.0.0.1:{free_port()}"
    code, printed = shop.run_here("restore", str(archive), "--replace")
    assert (code, "Redis does not answer" in printed) == (1, True)


def test_a_damaged_or_foreign_archive_changes_nothing(
    shops: Shops, prepared: Shop, archive: Path, tmp_path: Path
) -> None:
    shop = shops.new(like=prepared)
    whole = archive.read_bytes()
    place = whole.index(FILE) + 100
    damaged = {
        "damaged.tar": whole[:place] + b"!" + whole[place + 1 :],
        "short.tar": whole[: len(whole) // 2],
        "other.tar": b"PK\x03\x04 something else",
        "empty.tar": b"",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        code, printed = shop.run_here("restore", str(tmp_path / name), "--replace")
        assert code == 1
        assert name in printed
    assert shop.run("restore", str(tmp_path / name), "--replace") == (code, printed)  # and no traceback
    code, printed = shop.run_here("restore", str(archive), "--check")
    assert code == 0
    assert "1 conversation, 3 messages, 1 file" in printed
    assert shop.stored_texts(shop.talk) == [TEXT, "", "An answer"]


def repacked(archive: Path, copy: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive with other contents and right checksums."""
    with open(copy, "wb") as stream:
        writer = ArchiveWriter(stream)
        for name, content, _size in ArchiveReader(archive).members():
            if name != SUMS:
                writer.add(name, change(name, content.read()))
        writer.finish()
    return copy


def test_a_restore_that_fails_half_way_leaves_the_old_database_and_no_new_files(
    shops: Shops, prepared: Shop, archive: Path, tmp_path: Path
) -> None:
    shop, changed = shops.new(like=prepared), tmp_path / "changed.tar"
    for path in [path for path in shop.files.rglob("*") if path.is_file()]:
        path.unlink()

    def of_no_conversation(name: str, data: bytes) -> bytes:
        if "conversations.message/" not in name:
            return data
        rows = [json.loads(line) for line in gzip.decompress(data).split(b"\n") if line]
        columns = ArchiveReader(archive).manifest()["columns"]["conversations.message"]
        rows[-1][columns.index("conversation_id")] = 999
        return gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode())

    code, printed = shop.run_here("restore", str(repacked(archive, changed, of_no_conversation)), "--replace")
    assert code == 1
    assert "as it was before" in printed
    assert [path for path in shop.files.rglob("*") if path.is_file()] == []

    def of_the_future(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        manifest = json.loads(data)
        manifest["migrations"].append(["conversations", "9999_flying_pots"])
        return json.dumps(manifest).encode()

    code, printed = shop.run_here("restore", str(repacked(archive, changed, of_the_future)), "--replace")
    assert code == 1
    assert "newer version" in printed
    assert "conversations.9999_flying_pots" in printed

    shop.start()
    assert shop.texts(shop.talk) == [TEXT, "", "An answer"]
    assert shop.accepts("bob", PASSWORD)


ROWS_OF_USERS = "tables/auth.user/000001.jsonl.gz"
HOSTILE: dict[str, tuple[str, bytes]] = {
    "JSON in JSON": ("contents.json", b"[" * 100_000),
    "no rows": (ROWS_OF_USERS, gzip.compress(b'{"a": 1}\n')),
    "cut gzip": (ROWS_OF_USERS, gzip.compress(b"[1]\n")[:-9]),
    "300 MB of spaces": (ROWS_OF_USERS, gzip.compress(b"[" + b" " * 300_000_000 + b"]\n", 1)),
    "a number that no database has": (ROWS_OF_USERS, gzip.compress(f"[{2**70}]\n".encode())),
}


def test_hostile_archives_are_refused_with_a_sentence(
    shops: Shops, prepared: Shop, archive: Path, tmp_path: Path
) -> None:
    shop, copy = shops.new(like=prepared), tmp_path / "changed.tar"
    for what, (changed, data) in HOSTILE.items():
        repacked(archive, copy, lambda name, old: data if name == changed else old)  # noqa: B023 (called at once)
        code, printed = shop.run_here("restore", str(copy), "--replace")
        assert (what, code) == (what, 1)
        assert "CommandError" in printed, what
    for name in ("files/.", "files/../../evil", "files//etc/evil"):
        with open(tmp_path / "evil.tar", "wb") as stream:
            writer = ArchiveWriter(stream)
            for member, content, _size in ArchiveReader(archive).members():
                if member == "contents.json":
                    writer.add(name, b"evil")
                if member != SUMS:
                    writer.add(member, content.read())
            writer.finish()
        code, printed = shop.run_here("restore", str(tmp_path / "evil.tar"), "--replace")
        assert (name, code) == (name, 1)
        assert "has a file with the name" in printed
        assert not shop.files.is_file()
    assert "1 user," in shop.run_here("restore", str(archive))[1]


def test_an_archive_with_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("files/sparse")
    size = str(10**15)
    member.pax_headers = {"GNU.sparse.size": size, "GNU.sparse.map": "0,0"}
    with tarfile.open(tmp_path / "sparse.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    with pytest.raises(BrokenArchive, match="something else than files"):
        ArchiveReader(tmp_path / "sparse.tar").verify()


def test_archives_of_many_files_take_little_memory(tmp_path: Path) -> None:
    with open(tmp_path / "many.tar", "wb") as stream:
        writer = ArchiveWriter(stream)
        for number in range(1000):
            writer.add(f"files/{number}", b"x")
        assert len(writer.tar.members) < 10
        writer.finish()
    tracemalloc.start()
    assert sum(1 for _ in ArchiveReader(tmp_path / "many.tar").members()) == 1001
    assert tracemalloc.get_traced_memory()[0] < 200_000
    tracemalloc.stop()


def test_a_backup_to_a_program_that_ends_says_so_in_one_line(prepared: Shop) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "manage.py", "backup", "-"]
    done = subprocess.run(command, cwd=ROOT, env=prepared.environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == "CommandError: The program that reads the backup has ended.\n"


def test_a_backup_of_a_database_that_may_not_be_read_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError

    settings = {"NAME": "/root/db.sqlite3"}
    monkeypatch.setattr(backup, "connection", SimpleNamespace(vendor="sqlite", settings_dict=settings))
    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(CommandError, match=r"The database /root/db\.sqlite3 cannot be read"):
        backup.Command().write(BytesIO(), None)


def test_two_backups_to_the_same_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"
    with written_whole(path, True) as first:
        first.write(b"one" * 1000)
        with pytest.raises(BlockingIOError, match="Another process"), written_whole(path, True):
            pass
        first.write(b"one")
    assert path.read_bytes() == b"one" * 1001
    with written_whole(path, True) as second:
        second.write(b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["backup.tar"]


def test_files_that_are_there_already_need_no_room(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MEDIA_ROOT = str(tmp_path / "files")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "old").write_bytes(b"x" * 1000)
    with open(tmp_path / "backup.tar", "wb") as stream:
        writer = ArchiveWriter(stream)
        writer.add("files/old", b"x" * 1000)
        writer.add("files/new", b"x" * 500)
        writer.finish()
    archive, command = ArchiveReader(tmp_path / "backup.tar"), restore.Command()
    monkeypatch.setattr(restore, "connection", SimpleNamespace(vendor="none"))
    usage = SimpleNamespace(free=500)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    command.check_place(archive)
    usage.free = 499
    with pytest.raises(CommandError, match="has 0 MB left"):
        command.check_place(archive)


def test_a_restore_into_a_linked_database_keeps_the_link(
    shops: Shops, archive: Path, migrated: Path, tmp_path: Path
) -> None:
    link, real = tmp_path / "link.sqlite3", tmp_path / "disk" / "real.sqlite3"
    real.parent.mkdir()
    shop = shops.new(f"sqlite:///{link}")
    link.symlink_to(real)
    shutil.copy(migrated, real)
    before = real.stat().st_ino
    shop.manage("restore", str(archive), "--replace")
    assert link.is_symlink()
    assert real.stat().st_ino != before


def test_a_backup_of_an_older_version_is_restored_and_migrated(shops: Shops, tmp_path: Path) -> None:
    old, new, archive = shops.new(), shops.new(), tmp_path / "backup.tar"
    with default_database(old.environment["DATABASE_URL"]):
        for target in (["conversations", "0006"], ["admin"], ["sessions"]):
            call_command("migrate", *target, verbosity=0)
        apps = MigrationLoader(connection).project_state(("conversations", "0006_separate_hmac_secret")).apps
        website = apps.get_model("conversations.Website").objects.get(key="default")
        for text in ("one", "two"):
            apps.get_model("conversations.Conversation").objects.create(website=website, customer_name=text)
    assert old.run_here("backup", str(archive))[0] == 0
    assert new.run_here("restore", str(archive))[0] == 0
    assert "[ ]" not in new.run_here("showmigrations")[1]
    new.start()
    assert sorted(item["customer_name"] for item in new.call("/api/conversation/", token=agent(new))["items"]) == [
        "one",
        "two",
    ]


def test_after_a_restore_all_is_found_once_it_is_indexed_and_mentions_are_there(shops: Shops, tmp_path: Path) -> None:
    old, new, archive = shops.new(), shops.new(), tmp_path / "backup.tar"
    old.prepare("migrate", "--verbosity", "0")

    def look_for(text: str) -> list[str]:
        return [found.entry.content for found in search(Conversation.objects.all(), wanted(text), 20).found]

    def wanted(text: str) -> Question:
        return Question(tuple(filter(None, [phrase(text, is_prefix=True)])))

    with default_database(old.environment["DATABASE_URL"]):
        bob, carol = promote("bob", "Bob"), promote("carol", "Carol")
        talk = post_message(content="Is there an answer?", name="Alice").conversation
        post_message(content="An answer", conversation=talk, agent=bob)
        note = write_note(content="@bob, is this an answer?", conversation=talk, agent=carol)
    assert old.run_here("backup", str(archive))[0] == 0
    assert new.run_here("restore", str(archive))[0] == 0
    with default_database(new.environment["DATABASE_URL"]):
        assert not SearchState.now().is_complete
        assert look_for("answer") == []
        assert sum(add_missing()) == 3
        assert SearchState.now().is_complete
        assert look_for("answer") == [note.content, "An answer", "Is there an answer?"]
        assert search(Conversation.objects.all(), wanted("alice"), 20).names == [talk]
        assert Mention.objects.newest(bob, talk.pk) == note.pk
        assert Mention.objects.filter(agent=bob.pk, unread=True).count() == 1


def agent(shop: Shop) -> str:
    """The token of a new agent."""
    shop.manage("createagent", "carol", "--password", PASSWORD)
    return shop.manage("createtoken", "carol", "bot").strip()


def test_what_a_backup_says_about_files_disks_and_missing_databases(
    shops: Shops, prepared: Shop, tmp_path: Path
) -> None:
    shop, archive = shops.new(like=prepared), tmp_path / "backup.tar"
    archive.write_text("something else")
    code, printed = shop.run_here("backup", str(archive))
    assert code == 1
    assert "exists already" in printed
    assert archive.read_text() == "something else"

    (shop.files / "ab").mkdir(exist_ok=True)
    (shop.files / "ab" / ("ab" * 16)).write_text("a file of no message")
    stored = next(path for path in shop.files.rglob("*") if path.is_file() and path.read_bytes() == FILE)
    stored.unlink()
    code, printed = shop.run_here("backup", str(archive), "--force")
    assert code == 0
    assert f"1 file is missing in {shop.files}, such as {stored.relative_to(shop.files)}" in printed
    members = {name: content.read() for name, content, _size in ArchiveReader(archive).members()}
    assert not [name for name in members if name.startswith("files/")]
    assert json.loads(members["contents.json"])["missing"] == 1
    assert not [name for name in members if "session" in name]

    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            command = [sys.executable, "manage.py", "backup", "-"]
            done = subprocess.run(command, cwd=ROOT, env=shop.environment, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert b"cannot be written: No space left" in done.stderr
    code, printed = shop.run_here("backup", str(tmp_path / "nowhere" / "backup.tar"))
    assert code == 1
    assert "CommandError" in printed


def test_ids_after_a_restore_are_above_those_after_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next_id("conversations.message", 5)
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=1))
    assert next_id("conversations.message", 5) > first + 3600
    assert next_id("conversations.message", 10**12) == 10**12 + 1_000_000
    assert next_id("conversations.conversation", 5) < 2**31


@pytest.mark.parametrize("code", ["FULL", "READONLY", "IOERR_WRITE", "CANTOPEN", "PERM", "LOCKED", "BUSY_RECOVERY"])
def test_a_database_that_cannot_be_locked_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    class Database(sqlite3.Connection):
        """A database that cannot be locked, so that it is unknown whether it is in use."""

        def execute(self, *args: Any) -> Any:
            error = sqlite3.OperationalError("no")
            error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Database, **options))
    (tmp_path / "db.sqlite3").touch()
    with pytest.raises(CannotRestore, match="Nothing was changed"), locked(tmp_path / "db.sqlite3"):
        pytest.fail("It would be replaced.")
    with pytest.raises(CannotRestore, match="Nothing was changed"), locked(tmp_path):
        pytest.fail("It would be replaced.")


def test_a_broken_database_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    path.write_bytes(b"no database" * 1000)
    with locked(path):
        path.unlink()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_backup_replaces_nothing_but_a_file(tmp_path: Path, overwrite: bool) -> None:
    directory, pipe, link = tmp_path / "directory", tmp_path / "pipe", tmp_path / "link"
    directory.mkdir()
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    before = [path.lstat() for path in (directory, pipe, link)]
    for path in (directory, pipe, link):
        with pytest.raises(OSError, match="is no file"), written_whole(path, overwrite):
            pytest.fail("It would be replaced.")
    assert [path.lstat() for path in (directory, pipe, link)] == before
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(CommandError, match=r"The backup cannot be written: .* is no file"):
        call_command("backup", str(directory), force=overwrite)
