"""Conversations go on while the database is away: with the message log, both sides read and write on."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import OperationalError, connection

from conversations import actions
from conversations import message_log as log
from conversations.actions.replicate import Replicator
from conversations.agent.customer_details import state_version
from conversations.models import Agent, Conversation, Message
from conversations.models.recipients import recipients
from conversations.models.remembered import memory
from conversations.presence import visitor
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def database_away() -> Iterator[None]:
    """Every statement fails."""

    def fail(*_statement: Any) -> None:
        raise OperationalError("the database is away")

    with connection.execute_wrapper(fail):
        yield


@pytest.fixture(autouse=True)
def _nothing_read_before() -> None:
    memory.results.clear()
    memory.shared.clear()
    memory.away_since = None


@pytest.fixture
def talk(message_log: ModuleType, alice: Page, bobs: Page) -> Conversation:
    """Alice and bob talk, and both have the conversation open."""
    alice.says("Hello, is anybody there?")
    Replicator(lambda: False).step()
    conversation = Conversation.objects.get()
    bobs.get("/inbox/")
    bobs.get(f"/inbox/{conversation.pk}/")
    bobs.answers(conversation, "Yes, how can I help?")
    bobs.htmx("/inbox/list/")
    alice.get("/chat/")
    alice.raise_request_exception = bobs.raise_request_exception = False  # as on a server
    for page, path in ((alice, "/chat/messages/"), (bobs, f"/inbox/{conversation.pk}/messages/")):
        page.htmx(f"{path}?since={conversation.last_message_id}")
    return conversation


def new_on(page: Page, path: str, since: int) -> list[str]:
    """The texts that a poll brings."""
    response = page.htmx(f"{path}?since={since}")
    assert response.status_code in {200, 204}, response.content
    return texts(response)


def test_both_sides_go_on_without_the_database(talk: Conversation, alice: Page, bobs: Page) -> None:
    since, inbox = talk.last_message_id, f"/inbox/{talk.pk}/messages/"
    with database_away():
        assert new_on(alice, "/chat/messages/", since) == ["Yes, how can I help?"]
        posted = alice.htmx("/chat/messages/", {"content": "My order is late", "client_id": str(uuid.uuid4())})
        assert posted.status_code == 204
        assert new_on(bobs, inbox, since)[-1] == "My order is late"
        last = int(posted["X-Message"])
        answer = bobs.htmx(inbox, {"content": "I will look"})
        assert answer.status_code == 204
        assert new_on(alice, "/chat/messages/", last) == ["I will look"]
        assert new_on(bobs, inbox, last) == ["I will look"]
        assert new_on(alice, "/chat/messages/", int(answer["X-Message"])) == []
        assert bobs.htmx("/inbox/list/").status_code == 200
        page = bobs.get(f"/inbox/{talk.pk}/")
        assert page.status_code == 200
        assert texts(page)[-2:] == ["My order is late", "I will look"]
        assert 'class="note"' in bobs.get(f"/inbox/{talk.pk}/?note=1").content.decode()
    Replicator(lambda: False).step()
    assert [message.content for message in Message.objects.order_by("pk")][-2:] == ["My order is late", "I will look"]


def test_pages_opened_without_the_database_show_what_the_log_has(talk: Conversation, alice: Page) -> None:
    with database_away():
        alice.says("Still there?")
        page = alice.get("/chat/")
        assert page.status_code == 200
        assert texts(page)[-1] == "Still there?"


def test_a_conversation_that_begins_without_the_database(talk: Conversation) -> None:
    carla = Page()
    with database_away():
        first = carla.says("I am new")
        assert first.status_code == 302
        carla.says("And I write twice")
        assert new_on(carla, "/chat/messages/", 0) == ["I am new", "And I write twice"]
        key = str(uuid.uuid4())
        api = "/api/messages/"
        body = {"content": "By a widget", "client_id": key}
        one = carla.post(api, body, "application/json").json()
        again = carla.post(api, body, "application/json").json()
        assert one["items"][-1]["id"] == again["items"][-1]["id"]
        body["content"] = "Another text with this client_id"
        assert carla.post(api, body, "application/json").status_code == 409
    Replicator(lambda: False).step()
    assert Message.objects.filter(content="By a widget").count() == 1


def test_a_conversation_is_not_called_closed_while_nobody_can_know(talk: Conversation, bobs: Page) -> None:
    carla = Page()
    with database_away():
        carla.says("I am new")
        for path in ("/chat/", "/chat/state/"):
            response = carla.get(path)
            assert response.status_code == 200
            assert "This chat is closed" not in response.content.decode(), path
        [number] = log.numbers_of([uuid.UUID(carla.cookies["chat"].value)])
        response = bobs.get(f"/api/conversation/{number}/")
        assert response.status_code == 503
        assert response["Retry-After"]


def test_an_agents_page_keeps_its_header_where_nobody_can_know_another(talk: Conversation, bobs: Page) -> None:
    here, state = f"/inbox/{talk.pk}/", state_version(Conversation.objects.get(), visitor.get(talk.pk))
    memory.results.clear()  # as in another process, or after a restart
    with database_away():
        poll = bobs.htmx(f"{here}messages/?{urlencode({'since': 0, 'state': state})}")
        assert texts(poll)[-1] == "Yes, how can I help?"
        assert "HX-Trigger" not in poll
        assert [bobs.htmx(here + part).status_code for part in ("state/", "about/")] == [204, 204]
    assert "Open · " in bobs.htmx(f"{here}state/").content.decode()


def test_who_has_lost_access_before_gets_none(talk: Conversation, bob: Agent, bobs: Page) -> None:
    bob.groups.clear()
    bobs.get(f"/inbox/{talk.pk}/")
    with database_away():
        assert bobs.htmx(f"/inbox/{talk.pk}/messages/?since=0").status_code != 200


def test_who_was_not_seen_lately_waits_for_the_database(
    message_log: ModuleType, talk: Conversation, bobs: Page
) -> None:
    for key, read in list(memory.results.items()):
        memory.results[key] = read._replace(at=read.at - 3600)
    message_log.client().delete(*message_log.client().keys("{log}:read:*"))
    with database_away():
        response = bobs.htmx(f"/inbox/{talk.pk}/messages/?since={talk.last_message_id}")
    assert response.status_code == 503
    assert response["Retry-After"]


def test_another_process_knows_who_is_signed_in(talk: Conversation, bobs: Page) -> None:
    memory.results.clear()
    with database_away():
        bobs.htmx(f"/inbox/{talk.pk}/messages/", {"content": "From another process"})
        assert new_on(bobs, f"/inbox/{talk.pk}/messages/", talk.last_message_id)[-1] == "From another process"


def test_a_renewed_secret_gives_no_access(talk: Conversation, alice: Page) -> None:
    actions.renew_secret(conversation=talk)
    alice.htmx(f"/chat/messages/?since={talk.last_message_id}")
    with database_away():
        assert not texts(alice.htmx("/chat/messages/?since=0"))


def test_a_widget_reads_and_writes_on_where_the_log_has_more_than_fits(talk: Conversation) -> None:
    widget, path, read = Page(raise_request_exception=False), f"/api/messages/{talk.uuid}/", list[str]()
    since = talk.last_message_id
    wanted = [f"{number} {'x' * 5000}" for number in range(30)]
    with database_away():
        for text in wanted:
            actions.post_message(content=text, conversation=talk)
        more = True
        while more:
            found = widget.get(f"{path}?since={since}").json()
            read += [item["content"] for item in found["items"]]
            since, more = found["items"][-1]["id"] if found["items"] else since, found.get("more", False)
        assert read == ["Yes, how can I help?", *wanted]
        few = widget.get(f"{path}?since={talk.last_message_id}&limit=2").json()
        assert ([item["content"] for item in few["items"]], few["more"]) == (read[:2], True)
        body = {"content": "one more", "conversation": str(talk.uuid)}
        found = widget.post("/api/messages/", body, "application/json").json()
        assert found["items"][-1]["content"] == "one more"
        assert found["more"]
    Replicator(lambda: False).step()
    assert Message.objects.filter(content="one more").count() == 1


@pytest.mark.parametrize("writes", ["with SQL", "without SQL"])
def test_nobody_skips_what_a_copy_of_redis_lacks_and_only_sql_has(
    message_log: ModuleType, talk: Conversation, alice: Page, writes: str
) -> None:
    for text in ("a", "b"):
        actions.post_message(content=text, conversation=Conversation.objects.get())
    Replicator(lambda: False).step()
    since, lost = Message.objects.order_by("pk").values_list("pk", flat=True)[1:4:2]
    client = message_log.client()
    client.xdel(f"{{log}}:c:{talk.pk}", f"{lost}-0")  # a copy without it takes over
    client.hset(f"{{log}}:h:{talk.pk}", "last", lost - 1)
    client.mset({message_log.MESSAGES: lost - 1, message_log.RUN: "that of the copy"})
    client.connection_pool.disconnect()
    alice.get("/chat/")
    if writes == "with SQL":
        actions.post_message(content="c", conversation=Conversation.objects.get())
    with database_away():
        if writes == "without SQL":  # by a process that has not read the conversation lately
            for key in [key for key in memory.results if "conversations_conversation" in str(key)]:
                del memory.results[key]
            recipients.clear()
            alice.says("c")
        assert alice.htmx(f"/chat/messages/?since={since}").status_code == 503
        assert new_on(alice, "/chat/messages/", lost) == ["c"]
        assert texts(alice.get("/chat/")) == ["c"]
    assert new_on(alice, "/chat/messages/", since) == ["a", "b", "c"]


def take_over(client: Any, lost: list[Conversation], messages: int, conversations: int) -> None:
    """A copy of Redis takes over that has given only these ids, and knows nothing of the lost conversations."""
    for each in lost:
        client.delete(f"{{log}}:c:{each.pk}", f"{{log}}:h:{each.pk}", f"{{log}}:u:{each.uuid.hex}")
    client.delete(log.ENTRIES)
    client.mset({log.MESSAGES: messages, log.CONVERSATIONS: conversations})
    client.set(log.RUN, "that of the copy")
    log.Run.seen = 0  # this process has written none of them
    client.connection_pool.disconnect()


@pytest.mark.parametrize("writes", ["a message", "a note"])
def test_no_id_that_sql_has_is_given_again_by_a_copy_of_redis(
    message_log: ModuleType, talk: Conversation, bob: Agent, writes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many the copy lacks, also more than are skipped: whoever writes first asks SQL."""
    monkeypatch.setattr(message_log, "MARGIN", 5)
    begun = [actions.post_message(content=f"I am number {number}").conversation for number in range(30)]
    Replicator(lambda: False).step()
    before = {each.pk: each.last_message_id for each in Conversation.objects.all()}
    take_over(message_log.client(), begun, before[talk.pk], talk.pk)
    if writes == "a note":
        note = actions.write_note(conversation=Conversation.objects.get(pk=talk.pk), agent=bob, content="Hm")
        assert note.pk > max(before.values())
    newcomer = actions.post_message(content="I am new here")
    Replicator(lambda: False).step()
    assert newcomer.pk > max(before.values())
    assert newcomer.conversation.pk not in before
    found = Conversation.objects.get(pk=newcomer.conversation.pk)
    assert [found.uuid, found.last_message_id] == [newcomer.conversation.uuid, newcomer.pk]
    after = {each.pk: each.last_message_id for each in Conversation.objects.exclude(pk=found.pk)}
    assert after == before, "nothing of it is in conversations of others"


def test_nobody_skips_what_only_sql_has_if_the_process_that_wrote_it_is_away(
    message_log: ModuleType, talk: Conversation, alice: Page
) -> None:
    """The first message in the copy is written by a process that knows of nothing which the copy lacks."""
    since = talk.messages.latest("pk").pk
    lost = actions.post_message(content="a", conversation=Conversation.objects.get())
    Replicator(lambda: False).step()
    client = message_log.client()
    client.xdel(f"{{log}}:c:{talk.pk}", f"{lost.pk}-0")
    client.hset(f"{{log}}:h:{talk.pk}", "last", since)
    alice.get("/chat/")
    take_over(client, [], since, talk.pk)
    actions.post_message(content="I am somebody else")
    for key in [key for key in memory.results if "conversations_conversation" in str(key)]:
        del memory.results[key]
    recipients.clear()
    with database_away():
        alice.says("b")
        assert alice.htmx(f"/chat/messages/?since={since}").status_code == 503
    assert new_on(alice, "/chat/messages/", since) == ["a", "b"]


def test_a_copy_of_redis_takes_over_while_sql_is_away(message_log: ModuleType, talk: Conversation, alice: Page) -> None:
    """People go on: nobody can ask SQL, and the ids that are skipped must do."""
    counter = message_log.client().mget(message_log.MESSAGES, message_log.CONVERSATIONS)
    take_over(message_log.client(), [], *map(int, counter))
    with database_away():
        alice.says("Are you still there?")
        assert int(message_log.client().get(message_log.MESSAGES)) > int(counter[0]) + message_log.MARGIN
    Replicator(lambda: False).step()
    assert Message.objects.latest("pk").content == "Are you still there?"


def test_what_was_taken_back_is_shown_to_nobody_without_the_database(
    message_log: ModuleType, talk: Conversation, bob: Agent, alice: Page, bobs: Page
) -> None:
    """Not by the list, which shows what was read before, either."""
    assert "how can I help" in bobs.htmx("/inbox/list/").content.decode()
    answer = Message.objects.get(agent=bob)
    actions.post_message(content="Another one", conversation=talk, agent=bob)
    before, last = talk.messages.order_by("pk")[0].pk, answer.pk
    actions.take_back(conversation=talk, pk=answer.pk, by=bob)
    with database_away():
        assert "how can I help" not in bobs.htmx("/inbox/list/").content.decode()
        assert new_on(alice, "/chat/messages/", before)[0] == "Message removed"
        again = alice.htmx(f"/chat/messages/?since={last}").content.decode()
        assert f'id="message-{last}"' in again
        assert 'hx-swap-oob="true"' in again
        assert "Message removed" in again
        assert texts(alice.get("/chat/"))[1] == "Message removed"
        response = bobs.htmx(f"/inbox/{talk.pk}/messages/{last + 1}/", {})
        assert response.status_code == 503
        assert response["Retry-After"]
        assert "Please try again" in response.content.decode()


def test_without_the_database_only_the_search_does_not_work(talk: Conversation, bobs: Page) -> None:
    with database_away():
        response = bobs.htmx("/inbox/list/?q=hello")
        assert response.status_code == 503
        assert response.content.decode() == "The search does not work at the moment. Try again later."
        assert bobs.htmx(f"/inbox/{talk.pk}/messages/?since={talk.last_message_id}").status_code in {200, 204}
        assert bobs.get("/inbox/").status_code == 200
