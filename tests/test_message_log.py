"""The message log: acknowledged by Redis, seen at once by everybody, and copied into SQL later, once and in order."""

import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from conversations import actions
from conversations.actions.replicate import Replicator
from conversations.log_state import LogState
from conversations.models import Agent, AgentProfile, Attachment, Conversation, Message, News, Website
from conversations.models.settling import settle
from conversations.redis_client import breaker
from tests.conftest import Page, texts
from tests.services import Service, redis_server

pytestmark = pytest.mark.django_db(transaction=True)


def replicate() -> Replicator:
    """A replicator copies what the log has."""
    replicator = Replicator(lambda: False)
    replicator.step()
    return replicator


@pytest.fixture
def talk(message_log: ModuleType) -> Conversation:
    """A conversation that alice has begun, in SQL."""
    conversation = actions.post_message(content="Hello, is anybody there?", name="Alice").conversation
    replicate()
    return Conversation.objects.get(pk=conversation.pk)


def stored() -> list[str]:
    """The texts in SQL."""
    return list(Message.objects.order_by("pk").values_list("content", flat=True))


def test_a_message_is_in_sql_only_after_it_was_copied(message_log: ModuleType, alice: Page) -> None:
    assert alice.says("Hello").status_code == 302
    assert not stored()
    assert alice.says("Is anybody there?").status_code == 302  # this looks for the conversation
    assert stored() == ["Hello"]
    replicate()
    assert stored() == ["Hello", "Is anybody there?"]
    conversation = Conversation.objects.get()
    assert (conversation.customer_messages, conversation.last_line) == (2, "Is anybody there?")


def test_both_sides_see_at_once_what_is_not_in_sql(talk: Conversation, bob: Agent, bobs: Page) -> None:
    AgentProfile.objects.change(bob, takes_answered=False)  # assigning it would settle it
    last, alice = talk.last_message_id, Page()
    alice.cookies["chat"] = talk.uuid.hex
    api = f"/api/messages/{talk.uuid}/"
    alice.post(api.replace(f"{talk.uuid}/", ""), {"content": "One", "conversation": str(talk.uuid)}, "application/json")
    bobs.answers(talk, "Two")
    assert stored() == ["Hello, is anybody there?"]
    for since in (0, last):
        found = [item["content"] for item in alice.get(f"{api}?since={since}").json()["items"]]
        assert found[-2:] == ["One", "Two"]
    assert stored() == ["Hello, is anybody there?"]  # a customer's polls read the log, and copy nothing
    poll = bobs.htmx(f"/inbox/{talk.pk}/messages/?since={last}")
    assert texts(poll) == ["One", "Two"]
    assert stored()[-2:] == ["One", "Two"]  # an agent's need it whole: there may be notes between the messages
    assert texts(bobs.get(f"/inbox/{talk.pk}/"))[-2:] == ["One", "Two"]


def test_a_retry_gets_the_first_message_before_and_after_it_is_copied(talk: Conversation) -> None:
    key = uuid.uuid4()
    first = actions.post_message(content="Once", conversation=talk, client_id=key)
    again = actions.post_message(content="Once", conversation=talk, client_id=key)
    replicate()
    later = actions.post_message(content="Once", conversation=talk, client_id=key)
    assert first.pk == again.pk == later.pk
    assert stored().count("Once") == 1
    with pytest.raises(actions.AlreadySent):
        actions.post_message(content="Another text", conversation=talk, client_id=key)


def test_a_retry_of_the_first_message_gets_its_conversation(message_log: ModuleType) -> None:
    key = uuid.uuid4()
    first = actions.post_message(content="Hello", client_id=key)
    again = actions.post_message(content="Hello", client_id=key)
    assert (first.pk, first.conversation.uuid) == (again.pk, again.conversation.uuid)


def test_what_changes_a_conversation_sees_all_that_was_acknowledged(talk: Conversation) -> None:
    seen = talk.last_message_id
    actions.post_message(content="Wait, one more thing", conversation=talk)
    with pytest.raises(actions.UnseenMessage):
        actions.close(conversation=talk, last_seen=seen)
    replicate()
    assert Conversation.objects.get().is_open
    assert stored()[-1] == "Wait, one more thing"


def test_many_may_copy_at_once_and_again(talk: Conversation) -> None:
    for number in range(5):
        actions.post_message(content=str(number), conversation=talk)
    settle([talk.pk])
    replicate()
    settle([talk.pk])
    assert stored()[1:] == ["0", "1", "2", "3", "4"]
    assert Conversation.objects.get().customer_messages == 6


def test_an_entry_that_sql_refuses_holds_up_nobody(talk: Conversation, message_log: ModuleType, bob: Agent) -> None:
    other = actions.post_message(content="Another customer").conversation
    entry = {"client_id": None, "conversation": talk.pk, "last": talk.last_message_id, "uuid": talk.uuid}
    message_log.append(**entry, values={"content": "No author"})
    actions.post_message(content="After it", conversation=talk)
    actions.post_message(content="From nobody any more", conversation=talk, agent=bob)
    bob.delete()
    replicate()
    assert sorted(stored()[1:]) == ["After it", "Another customer", "From nobody any more"]
    assert message_log.client().xlen(message_log.DEAD) == 1
    assert Conversation.objects.get(pk=other.pk).last_line == "Another customer"


def test_a_message_that_sql_has_already_is_passed_over(message_log: ModuleType, talk: Conversation) -> None:
    key = uuid.uuid4()
    actions.post_message(content="Long ago", conversation=talk, client_id=key)
    replicate()
    message_log.client().delete(f"{{log}}:sent:{key.hex}")  # a retry that comes too late
    actions.post_message(content="Long ago", conversation=talk, client_id=key)
    replicate()
    assert stored().count("Long ago") == 1


def test_ids_go_on_above_those_of_sql_when_redis_has_lost_its_data(message_log: ModuleType, talk: Conversation) -> None:
    message_log.client().flushall()
    again = actions.post_message(content="After the loss", conversation=talk)
    assert again.pk > talk.last_message_id
    Replicator(lambda: False).step()
    assert stored()[-1] == "After the loss"


def lose_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks when Redis has appended the next message, and before its answer arrives."""
    read: Any = redis.Connection.read_response
    send: Any = redis.Connection.send_command
    scripts: list[Any] = []

    def note(connection: Any, *command: Any, **more: Any) -> Any:
        scripts.extend(command[:1])
        return send(connection, *command, **more)

    def lose(connection: Any, *options: Any, **more: Any) -> Any:
        answer = read(connection, *options, **more)
        if "EVALSHA" in scripts:
            scripts.clear()
            monkeypatch.undo()
            raise redis.ConnectionError("The connection is broken.")
        return answer

    monkeypatch.setattr(redis.Connection, "send_command", note)
    monkeypatch.setattr(redis.Connection, "read_response", lose)


@pytest.mark.parametrize("key", [None, uuid.UUID(int=7)])
def test_a_lost_answer_of_redis_doubles_nothing(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch, key: uuid.UUID | None
) -> None:
    actions.post_message(content="The script is loaded", conversation=talk)
    before = message_log.client().xlen(message_log.ENTRIES)
    lose_an_answer(monkeypatch)
    posted = actions.post_message(content="Once", conversation=talk, client_id=key)
    assert message_log.client().xlen(message_log.ENTRIES) == before + 1
    replicate()
    assert Message.objects.get(content="Once").pk == posted.pk


def test_a_post_while_redis_is_away_is_to_be_tried_again(
    message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise redis.ConnectionError("Redis is away.")

    monkeypatch.setattr(message_log, "append", fail)
    answer = Page(raise_request_exception=False).says("Hello")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def test_a_page_keeps_what_it_shows_while_redis_is_away(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = actions.post_message(content="Not in SQL", conversation=talk).pk
    alice = Page()
    alice.cookies["chat"] = talk.uuid.hex

    def fail(*arguments: Any) -> None:
        raise redis.ConnectionError("Redis is away.")

    with monkeypatch.context() as patched:
        patched.setattr(message_log, "tail", fail)
        assert alice.htmx(f"/chat/messages/?since={last}&state=OPEN").status_code == 204
    assert alice.htmx(f"/chat/messages/?since={last}&state=OPEN").status_code == 204
    assert texts(alice.htmx(f"/chat/messages/?since={last + 1}&state=OPEN"))[-1] == "Not in SQL"  # it was restored


def test_a_reader_misses_nothing_while_much_is_copied(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, tail = talk.last_message_id, message_log.tail
    wanted = [str(number) for number in range(2 * message_log.KEPT)]
    for text in wanted:
        actions.post_message(content=text, conversation=talk)

    def copied_before(*arguments: Any) -> Any:
        monkeypatch.undo()
        settle([talk.pk])
        return tail(*arguments)

    monkeypatch.setattr(message_log, "tail", copied_before)
    found = Page().get(f"/api/messages/{talk.uuid}/?since={last}&limit=1000").json()["items"]
    assert [item["content"] for item in found] == wanted


def test_a_conversation_of_what_was_deleted_holds_up_nobody(message_log: ModuleType) -> None:
    shop, customer = Website.objects.create(name="Shop"), User.objects.create_user("alice")
    actions.post_message(content="In the shop", website=shop)
    actions.post_message(content="Signed in", customer=customer)
    shop.delete()
    customer.delete()
    actions.post_message(content="Another customer")
    replicate()
    assert stored() == ["Signed in", "Another customer"]
    assert message_log.client().xlen(message_log.DEAD) == 1


def test_two_may_copy_a_new_conversation_at_once(message_log: ModuleType) -> None:
    numbers = [actions.post_message(content=str(number)).conversation.pk for number in range(20)]
    barrier, errors = threading.Barrier(2), []

    def copy(some: list[int]) -> None:
        try:
            barrier.wait()
            settle(some)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=copy, args=(some,)) for some in (numbers, numbers[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert stored() == [str(number) for number in range(20)]


def test_a_stream_is_given_up_even_if_the_copier_has_died(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions.post_message(content="One more", conversation=talk)
    with monkeypatch.context() as patched:
        patched.setattr(message_log, "set_settled", lambda last: 1 / 0)
        settle([talk.pk])
    assert message_log.client().ttl(f"{{log}}:c:{talk.pk}") == -1
    replicate()
    assert message_log.client().ttl(f"{{log}}:c:{talk.pk}") > 0


def test_a_message_is_acknowledged_when_a_replica_of_redis_has_it(
    message_log: ModuleType, talk: Conversation, log_service: Service, settings: Any, tmp_path: Path
) -> None:
    settings.MESSAGE_LOG_REPLICAS = 1
    key = uuid.uuid4()
    with pytest.raises(redis.RedisError):
        actions.post_message(content="To one is not enough", conversation=talk, client_id=key)
    with redis_server(tmp_path) as replica, redis.Redis.from_url(replica.url) as copy:
        copy.replicaof("127.0.0.1", str(log_service.port))
        while copy.info("replication")["master_link_status"] != "up":
            pass
        again = None
        while again is None:  # as a page does: the copy may be slower than a request waits
            with suppress(redis.RedisError):
                again = actions.post_message(content="To one is not enough", conversation=talk, client_id=key)
        assert copy.xrevrange(f"{{log}}:c:{talk.pk}", count=1)[0][0] == f"{again.pk}-0".encode()
        copy.replicaof("NO", "ONE")
    settings.MESSAGE_LOG_REPLICAS = 0
    replicate()
    assert stored().count("To one is not enough") == 1


def test_a_renewed_secret_and_a_deletion_wait_for_a_replica_of_redis(
    message_log: ModuleType, talk: Conversation, log_service: Service, settings: Any, tmp_path: Path
) -> None:
    settings.MESSAGE_LOG_REPLICAS = 1
    replicate()
    head = f"{{log}}:h:{talk.pk}"
    with pytest.raises(redis.RedisError):
        talk.delete()
    breaker.succeeded()  # otherwise Redis is not asked again for a second
    now = actions.renew_secret(conversation=Conversation.objects.get())  # whoever signs out does not wait for Redis
    with redis_server(tmp_path) as replica, redis.Redis.from_url(replica.url, decode_responses=True) as copy:
        with redis.Redis.from_url(log_service.url) as other:
            other.hset(head, "uuid", talk.uuid.hex)  # a copy takes over that was not told of the secret
        message_log.client().connection_pool.disconnect()
        breaker.succeeded()
        message_log.client().ping()
        assert message_log.known(talk.pk)["uuid"] == now.uuid.hex
        copy.replicaof("127.0.0.1", str(log_service.port))
        while Conversation.objects.exists():
            breaker.succeeded()
            with suppress(redis.RedisError):
                now.delete()
        assert copy.hget(head, "uuid") == message_log.DELETED


def test_the_first_conversation_of_all_has_the_number_one(
    message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        import_module("conversations.models.desk_entry"), "given_ids", lambda: (0, 0)
    )  # by this database before
    assert actions.post_message(content="Hello").conversation.pk == 1


def test_other_processes_repeat_no_answer_from_before_a_message(message_log: ModuleType, talk: Conversation) -> None:
    redis = message_log.client()
    key = uuid.uuid4()
    for _ in range(2):  # a retry, too: the first answer may have been lost together with its ring
        redis.delete("changes")
        actions.post_message(content="Hello again", conversation=talk, client_id=key)
        assert redis.zscore("changes", talk.pk)


def test_polls_read_no_more_than_they_show(message_log: ModuleType, talk: Conversation, monkeypatch: Any) -> None:
    numbers = [actions.post_message(content=str(number), conversation=talk).pk for number in range(120)]
    read: list[int] = []
    tail = message_log.tail

    def counted(*arguments: Any) -> Any:
        found = tail(*arguments)
        read.append(len(found.entries))
        return found

    monkeypatch.setattr(message_log, "tail", counted)
    news, shown = News.after(talk.pk, talk.last_message_id, 25), []
    while news and news.messages:
        shown += [message.pk for message in news.messages]
        assert news.last_message_id == numbers[-1]
        news = News.after(talk.pk, shown[-1], 25)
    assert shown == numbers
    assert max(read) == 25
    assert not stored()[1:]


def test_replicators_that_were_killed_are_forgotten(
    message_log: ModuleType, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, alive = replicate(), Replicator(lambda: False)
    alive.step()
    monkeypatch.setattr("conversations.actions.replicate.FORGOTTEN", 0)
    alive.forget_the_dead()
    names = [consumer["name"] for consumer in message_log.client().xinfo_consumers(message_log.ENTRIES, "settle")]
    assert killed.name not in names


def test_nobody_is_unknown_while_redis_is_away(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = actions.post_message(content="Only the log has it").conversation
    alice = Page(raise_request_exception=False)
    alice.cookies["chat"] = new.uuid.hex

    def fail(*arguments: Any) -> None:
        raise redis.ConnectionError("Redis is away.")

    with monkeypatch.context() as patched:
        patched.setattr(message_log, "numbers_of", fail)
        assert alice.htmx("/chat/messages/?since=0").status_code == 503
        message = {"content": "One more", "conversation": str(new.uuid)}
        assert alice.post("/api/messages/", message, "application/json").status_code == 503
        assert set(Conversation.objects.by_uuids([talk.uuid, new.uuid])) == {talk.uuid}
    assert texts(alice.htmx("/chat/messages/?since=0")) == ["Only the log has it"]


@pytest.mark.parametrize("earlier", [0, 30])
def test_an_acknowledgement_has_the_message(
    talk: Conversation, message_log: ModuleType, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    for number in range(earlier):  # more than one query reads
        actions.post_message(content=str(number), conversation=talk)
    settle([talk.pk])
    widget = Page(raise_request_exception=False)
    message = {"content": "Mine", "conversation": str(talk.uuid), "client_id": str(uuid.uuid4())}

    def fail(*arguments: Any) -> None:
        raise redis.ConnectionError("Redis is away.")

    with monkeypatch.context() as patched:
        patched.setattr(message_log, "tail", fail)
        assert widget.post("/api/messages/?since=0", message, "application/json").status_code == 503
    found = widget.post("/api/messages/?since=0", message, "application/json").json()["items"]
    assert [item["content"] for item in found] == [*stored()[: earlier + 1], "Mine"]


def test_a_backup_has_what_was_acknowledged_before(message_log: ModuleType, talk: Conversation, tmp_path: Path) -> None:
    actions.post_message(content="Only in the log", conversation=talk)
    call_command("backup", str(tmp_path / "chatsite.tar"))
    assert stored()[-1] == "Only in the log"


def test_files_of_messages_that_wait_for_days_are_kept(
    message_log: ModuleType, talk: Conversation, alice: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.cookies["chat"] = talk.uuid.hex
    posting = import_module("conversations.actions.post_message")
    cleaning = import_module("conversations.actions.delete_orphaned_files")
    monkeypatch.setattr(posting, "settle", lambda _numbers: None)
    alice.says("My invoice", files=SimpleUploadedFile("invoice.txt", b"12.50"))
    days = timedelta(days=2)
    later, state = timezone.now() + days, LogState(1, days.total_seconds(), 0)
    monkeypatch.setattr(cleaning.timezone, "now", lambda: later)
    monkeypatch.setattr(cleaning, "log_state", lambda _client: state)
    list(cleaning.delete_orphaned_files())
    replicate()
    assert Attachment.objects.get().file.read() == b"12.50"


@pytest.mark.parametrize("in_log", [False, True])
def test_an_agent_may_begin_a_conversation_with_a_customers_name(
    message_log: ModuleType, settings: Any, bob: Agent, in_log: bool
) -> None:
    settings.MESSAGE_LOG = in_log
    actions.post_message(content="You have called us", agent=bob, name="Alice", email="alice@example.com")
    if in_log:
        replicate()
    conversation = Conversation.objects.get()
    assert (conversation.customer_name, conversation.customer_email) == ("Alice", "alice@example.com")
