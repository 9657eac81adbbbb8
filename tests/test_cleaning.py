"""Old conversations, and what else would grow for ever, are deleted by `serve` itself, in steps that disturb nobody."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from chatsite.serving import cleaning
from chatsite.serving.cleaning import DONE_KEY, LEASE_KEY, Cleaner
from conversations.actions import delete_expired_conversations as expiring
from conversations.actions import delete_forgotten_contacts as forgetting
from conversations.actions import post_message
from conversations.models import Attachment, Contact, Conversation, Message, News, Website
from conversations.models.contact import Claim
from tests.conftest import Page, default_database, server_database, texts
from tests.services import SERVE, Chat

LONG_AGO = timedelta(days=31)


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    """An empty folder for uploaded files."""
    settings.MEDIA_ROOT = tmp_path / "files"
    return tmp_path / "files"


@pytest.fixture
def shop(db: None) -> Website:
    """A website that keeps conversations for 30 days."""
    return Website.objects.create(key="shop", name="Fern & Fired", retention_days=30)


def old(shop: Website, messages: int = 1, attachments: tuple[Attachment, ...] = ()) -> Conversation:
    """A conversation with as many messages, which the website need not keep any longer."""
    conversation = post_message(content="Hello", website=shop, attachments=attachments).conversation
    Message.objects.bulk_create(
        Message(conversation=conversation, author="CUS", content=f"And {number}") for number in range(1, messages)
    )
    newest = conversation.messages.order_by("pk").last()
    assert newest
    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=timezone.now() - LONG_AGO, last_message_id=newest.pk, customer_messages=messages
    )
    return conversation


def steps() -> Iterator[Counter[str]]:
    """The steps in which conversations are deleted."""
    return expiring.delete_expired_conversations()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread cleans at once, and looks every 20 ms whether it is due again."""
    monkeypatch.setattr(cleaning, "FIRST", (0, 0))
    monkeypatch.setattr(cleaning, "AGAIN", 0.02)
    monkeypatch.setattr(cleaning, "LEAST_PAUSE", 0)


def eventually(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "It did not come true within 60 seconds."
        time.sleep(0.01)


# What is deleted, and in which steps ----------------------------------------------------------------------------------


def test_a_step_holds_the_lock_for_one_conversation_when_its_time_is_over(
    shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        old(shop)
    monkeypatch.setattr(expiring, "SECONDS", 0)
    assert [sum(step.values()) for step in steps()] == [0, 1, 1, 1]


def test_a_long_conversation_is_deleted_in_several_steps_the_oldest_messages_first(
    shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = old(shop, 25)
    monkeypatch.setattr(expiring, "MESSAGES", 10)
    newest = conversation.messages.order_by("pk").last()
    left = []
    for _ in steps():
        left.append(conversation.messages.count())
        assert not left[-1] or conversation.messages.order_by("pk").last() == newest
    assert left == [25, 15, 5, 0]
    assert not Conversation.objects.exists()


def test_a_customer_who_comes_back_meanwhile_keeps_the_conversation(
    shop: Website, alice: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.post("/chat/shop/messages/", {"content": "Hello"})
    conversation = Conversation.objects.get()
    for number in range(25):
        post_message(content=f"{number}", conversation=conversation)
    Conversation.objects.update(last_message_at=timezone.now() - LONG_AGO)
    monkeypatch.setattr(expiring, "MESSAGES", 10)
    running = steps()
    assert len(list(islice(running, 2))) == 2
    assert conversation.messages.count() == 16
    alice.post("/chat/shop/messages/", {"content": "I am back"})
    assert sum(map(Counter.total, running)) == 0
    assert texts(alice.get("/chat/shop/"))[-2:] == ["24", "I am back"]
    news = News.after(conversation.uuid, 0, 50)
    assert news
    assert conversation.messages.count() == 17


def test_a_step_goes_on_to_the_next_verified_customer_until_its_time_is_over(
    shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    Contact.objects.bulk_create(Contact(website=shop, digest=f"{n}", sub=f"{n}") for n in range(3))
    Contact.objects.update(created_at=timezone.now() - LONG_AGO)
    monkeypatch.setattr(forgetting, "SECONDS", 0)
    assert [step.total() for step in forgetting.delete_forgotten_contacts()] == [1, 1, 1]
    assert not Contact.objects.exists()


@pytest.mark.parametrize("days", [None, 365])
def test_a_website_that_keeps_its_conversations_for_longer_loses_none_that_it_still_has(
    shop: Website, monkeypatch: pytest.MonkeyPatch, days: int | None
) -> None:
    monkeypatch.setattr(expiring, "SECONDS", 0)
    monkeypatch.setattr(expiring, "WINDOW", 4)
    for _ in range(6):
        old(shop)
    running = steps()
    assert [next(running).total() for _ in range(3)] == [0, 1, 1]
    Website.objects.filter(pk=shop.pk).update(retention_days=days)
    assert sum(map(Counter.total, running)) == 0
    assert Conversation.objects.count() == 4


def test_a_website_that_keeps_its_conversations_for_longer_loses_no_verified_customer(
    shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    Contact.objects.bulk_create(Contact(website=shop, digest=f"{n}", sub=f"{n}") for n in range(5))
    Contact.objects.update(created_at=timezone.now() - LONG_AGO)
    monkeypatch.setattr(forgetting, "BATCH", 2)
    monkeypatch.setattr(forgetting, "SECONDS", 60)  # a step ends by its number, however busy the machine is
    running = forgetting.delete_forgotten_contacts()
    assert next(running).total() == 2
    Website.objects.filter(pk=shop.pk).update(retention_days=365)
    assert sum(map(Counter.total, running)) == 0
    assert Contact.objects.count() == 3


def test_every_conversation_is_found_in_however_many_windows(shop: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = post_message(content="New", website=shop).conversation
    for _ in range(7):
        old(shop)
    other = Website.objects.create(key="other", name="Other", retention_days=60)
    of_other = old(other)
    monkeypatch.setattr(expiring, "WINDOW", 2)
    assert sum(steps(), Counter()) == {"Fern & Fired": 7}
    assert set(Conversation.objects.all()) == {kept, of_other}


def test_a_conversation_that_somebody_else_has_deleted_is_passed_over(shop: Website) -> None:
    first, _second = old(shop), old(shop)
    running = steps()
    next(running)
    first.delete()
    assert sum(running, Counter()) == {"Fern & Fired": 1}


def test_wherever_a_run_is_interrupted_the_next_one_goes_on(
    shop: Website, folder: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    monkeypatch.setattr(expiring, "SECONDS", 0)
    monkeypatch.setattr(expiring, "MESSAGES", 2)
    file = Attachment.from_upload("note.txt", ContentFile(b"note"))
    old(shop, 5, (file,))
    old(shop, 3)
    interrupted = 0
    while Conversation.objects.exists():
        before = Message.objects.count()
        for step in islice(steps(), 2):
            assert step.total() <= 1
        assert Message.objects.count() < before
        for conversation in Conversation.objects.all():
            assert conversation.messages.filter(pk=conversation.last_message_id).exists()
        interrupted += 1
    assert interrupted == 5
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_expired_sessions_are_deleted_and_others_kept(bobs: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    [his] = Session.objects.all()
    past = timezone.now() - timedelta(seconds=1)
    Session.objects.bulk_create(Session(session_key=f"old{n:029}", expire_date=past) for n in range(1201))
    call_command("forgetold")
    assert list(Session.objects.all()) == [his]
    assert bobs.get("/inbox/").status_code == 200


def test_verified_customers_without_conversations_are_forgotten_too(shop: Website, capsys: Any) -> None:
    elsewhere = Website.objects.create(key="keeps", name="Keeps everything")
    for website in (shop, elsewhere):
        for sub in ("vera", "rita"):
            claim = Claim(sub, Contact.Proof.TOKEN, sub.title())
            conversation = post_message(content="Hi", website=website, claim=claim).conversation
            if sub == "vera":
                conversation.delete()
    Contact.objects.create(website=shop, digest="new", sub="new")
    Contact.objects.exclude(sub="new").update(created_at=timezone.now() - LONG_AGO)
    call_command("forgetold")
    assert set(Contact.objects.filter(website=shop).values_list("sub", flat=True)) == {"rita", "new"}
    assert Contact.objects.filter(website=elsewhere).count() == 2
    assert capsys.readouterr().out == "verified customers without conversations: 1 deleted.\n"


def test_a_verified_customer_who_comes_back_as_they_are_forgotten_is_a_new_one(
    shop: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim("vera", Contact.Proof.TOKEN, "Vera")
    Contact.objects.save_claim(shop.pk, claim)
    contacts: Any = type(Contact.objects.all())
    lost: list[Any] = []
    find = contacts._get_or_create

    def find_and_lose(self: Any, *arguments: Any) -> Any:
        found = find(self, *arguments)
        if not lost:
            lost.append(Contact.objects.all().delete())
        return found

    monkeypatch.setattr(contacts, "_get_or_create", find_and_lose)
    if connection.vendor == "sqlite":  # where nobody else can write meanwhile
        monkeypatch.setattr(contacts, "_lock", lambda self, pk: self.filter(pk=pk).exists())
    assert post_message(content="Hi", website=shop, claim=claim).conversation.contact == Contact.objects.get()


# The thread -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cleaner(quick: None) -> Iterator[Cleaner]:
    """The thread of a process; a test starts it."""
    cleaner = Cleaner()
    yield cleaner
    cleaner.stop()
    assert not cleaner.thread.is_alive()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is noted when the thread cleans, in place of what it really does."""
    noted: list[str] = []

    def note() -> Iterator[Counter[str]]:
        noted.append("run")
        yield Counter()

    monkeypatch.setattr(cleaning, "CLEANING", (note,))
    return noted


def test_after_a_complete_run_no_process_cleans_for_a_day(db: None, runs: list[str]) -> None:
    Cleaner().clean_if_due()
    Cleaner().clean_if_due()
    assert runs == ["run"]
    cache.delete(DONE_KEY)  # as a day later
    Cleaner().clean_if_due()
    assert runs == ["run", "run"]
    assert cache.get(LEASE_KEY) is None


def test_when_the_clock_jumps_nothing_is_deleted_for_a_day(
    db: None, runs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cleaner, real = Cleaner(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + 365 * 24 * 3600)
    for _ in range(2):
        cleaner.clean_if_due()
    assert runs == []
    assert caplog.text.count("The clock of this machine was set by +8760.0 hours.") == 1
    cleaner.clock.distrusted_until -= cleaning.DISTRUST  # as a day later
    cleaner.clean_if_due()
    assert runs == ["run"]


def test_a_run_stops_when_the_clock_jumps(db: None, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time

    def jump() -> Iterator[Counter[str]]:
        monkeypatch.setattr(time, "time", lambda: real() + 7200)
        yield Counter()
        runs.append("too late")
        yield Counter()

    monkeypatch.setattr(cleaning, "CLEANING", (jump, *vars(cleaning)["CLEANING"]))
    cleaner = Cleaner()
    cleaner.clean_if_due()
    assert runs == []
    assert cache.get(DONE_KEY) is None


def test_a_clock_that_is_corrected_a_little_is_trusted(
    db: None, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaner, real = Cleaner(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    cleaner.clean_if_due()
    assert runs == ["run"]


def test_only_one_process_cleans_at_a_time_and_a_killed_ones_lease_expires(db: None, runs: list[str]) -> None:
    cache.set(LEASE_KEY, "of another process", 60)
    Cleaner().clean_if_due()
    assert runs == []
    cache.delete(LEASE_KEY)  # as when it expires
    Cleaner().clean_if_due()
    assert runs == ["run"]


def test_a_process_that_was_too_slow_to_renew_its_lease_lets_the_other_go_on(
    db: None, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "LEASE", 0)
    lease = cleaning.Lease()
    cache.set(LEASE_KEY, "of another process", 60)
    assert not lease.keep()
    lease.release(is_done=False)
    assert cache.get(LEASE_KEY) == "of another process"


def test_without_redis_each_process_cleans_by_itself_once_a_day(
    db: None, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any, **_more: Any) -> Any:
        raise redis.ConnectionError

    monkeypatch.setattr(cleaning, "cache", type("Broken", (), dict.fromkeys(("get", "set", "add", "delete"), fails)))
    one, other = Cleaner(), Cleaner()
    for cleaner in (one, one, other):
        cleaner.clean_if_due()
    assert runs == ["run", "run"]


def test_a_failure_is_logged_the_rest_is_cleaned_and_it_is_tried_again(
    db: None, cleaner: Cleaner, runs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Iterator[Counter[str]]:
        yield Counter({"of what there is": 2})
        raise OSError("the disk is gone")

    [note] = vars(cleaning)["CLEANING"]
    monkeypatch.setattr(cleaning, "CLEANING", (fail, note))
    caplog.set_level(logging.INFO, "chatsite")
    cleaner.start()
    eventually(lambda: len(runs) >= 2)
    assert "of what there is: 2 deleted." in caplog.text
    assert "the disk is gone" in caplog.text
    assert cleaner.thread.is_alive()


def test_the_thread_outlives_a_cache_that_fails_in_an_unknown_way(
    cleaner: Cleaner, runs: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cleaning.Lease, "take", lambda self: 1 / 0)
    cleaner.start()
    eventually(lambda: caplog.text.count("division by zero") >= 2)
    assert "tried again" in caplog.text


def test_the_thread_stops_within_a_step(db: None, cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def never_ends() -> Iterator[Counter[str]]:
        while True:
            began.set()
            yield Counter()

    monkeypatch.setattr(cleaning, "CLEANING", (never_ends,))
    monkeypatch.setattr(cleaning, "LEAST_PAUSE", 3600)
    cleaner.start()
    assert began.wait(30)
    started = time.monotonic()
    cleaner.stop()
    assert not cleaner.thread.is_alive()
    assert time.monotonic() - started < 1
    assert cache.get(DONE_KEY) is None
    assert cache.get(LEASE_KEY) is None


# The server -----------------------------------------------------------------------------------------------------------


AT_ONCE = f"import random; random.uniform = lambda *bounds: 0.2; {SERVE}"
"""Python code that serves, and begins to clean at once instead of after some random minutes."""


@pytest.fixture
def chat(tmp_path: Path, django_db_blocker: Any) -> Iterator[Chat]:
    """A server that begins to clean at once, on a database with 150 old conversations and one that is kept."""
    with django_db_blocker.unblock():
        for url in server_database(tmp_path):
            environment = {"DATABASE_URL": url, "REDIS_URL": ""}
            chat = Chat(tmp_path, environment)
            chat.command = ("-c", chat.command[1].replace(SERVE, AT_ONCE))
            chat.manage("migrate", "--verbosity", "0")
            with default_database(url):
                shop = Website.objects.create(key="shop", name="Shop", retention_days=30)
                post_message(content="New", website=shop)
                for _ in range(150):
                    old(shop, 3)
                connection.close()
                yield chat
                if chat.process and chat.process.poll() is None:
                    chat.kill()


def left() -> int:
    """How many conversations there are."""
    connection.close()  # see what is new
    return Conversation.objects.count()


def test_serve_deletes_old_conversations_also_after_kill_9(chat: Chat) -> None:
    chat.start()
    eventually(lambda: left() < 150)
    chat.kill()
    count = left()
    assert count > 1, "It was done before it was killed."
    assert {item.messages.count() for item in Conversation.objects.exclude(messages__content="New")} == {3}
    chat.start()
    eventually(lambda: left() == 1)
    assert Message.objects.count() == 1
    assert chat.stop() == 0


def test_serve_ends_at_once_while_it_cleans(chat: Chat) -> None:
    chat.start()
    eventually(lambda: left() < 150)
    started = time.monotonic()
    assert chat.stop() == 0
    assert time.monotonic() - started < 5
    assert left() > 1


def test_with_cleaning_off_serve_deletes_nothing(chat: Chat) -> None:
    chat.environment["CLEANING"] = "off"
    chat.start()
    for _ in range(5):
        assert chat.ask("GET", "/healthz")[0] == 200
        time.sleep(0.2)
    assert left() == 151
    chat.manage("forgetold")
    assert left() == 1
