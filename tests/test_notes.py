"""Notes: agents write them for each other in the thread, and no customer can find out that there is one."""

import json
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from conversations import actions
from conversations.models import Conversation, DeskEntry, Draft, Message, Website
from tests.conftest import Page
from tests.test_delivery import grown
from tests.test_delivery import rows as html_rows

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}


def rows(html: str) -> list[int]:
    """The ids of the rows, in order."""
    return [int(number) for number in re.findall(r'data-id="(\d+)"', html)]


def note(talk: Conversation, agent: Any, text: str = "She is a VIP.") -> DeskEntry:
    return actions.write_note(conversation=talk, agent=agent, content=text)


def test_bob_writes_a_note_that_carol_reads(talk: Conversation, bobs: Page, carols: Page) -> None:
    path = f"/inbox/{talk.pk}/"
    before = carols.get(path).content.decode()
    assert bobs.get(f"{path}?note=1&write=1").content.decode().count(f'action="{path}notes/"') == 1
    assert bobs.post(f"{path}notes/", {"content": "She is a *VIP*."}).status_code == 302
    news = carols.get(f"{path}messages/?since={rows(before)[-1]}", headers=HTMX).content.decode()
    assert "She is a *VIP*." in news
    assert "only for agents" in news
    assert rows(carols.get(path).content.decode()) == rows(before) + rows(news)


def test_a_note_sent_twice_is_written_once(talk: Conversation, bobs: Page) -> None:
    key = str(uuid.uuid4())
    for text, status in (("one", 204), ("one", 204), ("two", 409)):
        response = bobs.post(f"/inbox/{talk.pk}/notes/", {"content": text, "client_id": key}, headers=HTMX)
        assert response.status_code == status
    assert [entry.content for entry in DeskEntry.objects.all()] == ["one"]


def test_an_empty_note_is_refused_and_nothing_is_lost(talk: Conversation, bobs: Page) -> None:
    response = bobs.post(f"/inbox/{talk.pk}/notes/", {"content": "x" * 20_481})
    assert response.status_code == 422
    assert "x" * 20_481 in response.content.decode()
    assert 'class="note"' in response.content.decode()
    assert not DeskEntry.objects.exists()


def test_mallory_writes_no_note(talk: Conversation) -> None:
    assert Page().post(f"/inbox/{talk.pk}/notes/", {"content": "hi"}).status_code in {302, 401, 403}
    assert not DeskEntry.objects.exists()


def test_ids_of_notes_and_messages_never_meet(talk: Conversation, bob: Any) -> None:
    ids = [talk.last_message_id]
    for number in range(3):
        ids.append(note(talk, bob).pk)
        ids.append(actions.post_message(content=str(number), conversation=Conversation.objects.get(pk=talk.pk)).pk)
    assert ids == sorted(set(ids))
    assert Message.objects.filter(conversation=talk).count() == 4, "the rows that gave ids are gone"
    assert Conversation.objects.get().last_message_id == ids[-1]


def test_the_cursor_of_an_agents_page_may_be_a_note(talk: Conversation, bob: Any, bobs: Page) -> None:
    cursor = note(talk, bob).pk
    path = f"/inbox/{talk.pk}/messages/?since="
    assert bobs.get(f"{path}{cursor}", headers=HTMX).status_code == 204
    actions.post_message(content="Hello?", conversation=Conversation.objects.get(pk=talk.pk))
    response = bobs.get(f"{path}{cursor}", headers=HTMX)
    assert len(rows(response.content.decode())) == 1
    assert "HX-Reswap" not in response.headers, "the page is not taken for one of a restored database"
    assert bobs.get(f"{path}{cursor + 10_000}", headers=HTMX).headers["HX-Reswap"] == "innerHTML"


def test_a_page_that_grew_by_polls_is_a_fresh_page(talk: Conversation, bob: Any, bobs: Page) -> None:
    path = f"/inbox/{talk.pk}/"
    shown = html_rows(bobs.get(path))

    def poll() -> None:
        nonlocal shown
        last = rows(shown[-1])[0]
        shown = grown(shown, bobs.get(f"{path}messages/?since={last}", headers=HTMX))

    kinds: list[Callable[[Conversation], Any]] = [
        lambda talk: note(talk, bob, "a note for @carol, @bob and @nobody"),
        lambda talk: actions.post_message(content="a question", conversation=talk),
        lambda talk: (actions.close if talk.is_open else actions.reopen)(conversation=talk, by=bob),
        lambda talk: actions.post_message(content="an answer", conversation=talk, agent=bob),
        lambda talk: actions.take_back(conversation=talk, pk=talk.last_message_id, by=bob),
    ]
    for number in range(40):
        kinds[number % 5](Conversation.objects.get(pk=talk.pk))
        if number % 3 == 2:
            poll()
    for number in range(7):  # several in a row, which the page folds
        kinds[2](Conversation.objects.get(pk=talk.pk))
        if number % 3:
            poll()
    poll()
    assert shown == html_rows(bobs.get(path))
    assert len(shown) == 48
    assert sum('class="mention to-you">@bob<' in row for row in shown) == 8
    assert sum("removed" in row for row in shown) == 8


def test_older_pages_have_the_notes_too(talk: Conversation, bob: Any, bobs: Page) -> None:
    for number in range(60):
        note(talk, bob, f"note {number}")
    path = f"/inbox/{talk.pk}/"
    newest = rows(bobs.get(path).content.decode())
    older = rows(bobs.get(f"{path}messages/?before={newest[0]}", headers=HTMX).content.decode())
    assert len(newest) == 50
    assert len(older) == 11
    assert sorted(older + newest) == older + newest


def customers_view(talk: Conversation, alices: Page) -> dict[str, str]:
    """Everything that a customer can get of a conversation, with ids replaced by their order."""
    last = talk.last_message_id
    answers = {
        path: alices.get(path)
        for path in (
            "/chat/",
            "/chat/messages/?since=0",
            f"/chat/messages/?since={last}",
            f"/chat/messages/?before={last + 1}",
            "/chat/state/",
            f"/api/messages/{talk.uuid}/",
            f"/api/messages/{talk.uuid}/?since={last}",
            f"/api/messages/{talk.uuid}/?limit=1&offset=1",
        )
    }
    return {
        path: f"{answer.status_code} {answer.headers.get('X-Last-Message', '')} "
        + re.sub(r'(client_id|csrfmiddlewaretoken)" value="[^"]*"|nonce-[^ "\']*', "", answer.content.decode())
        for path, answer in answers.items()
    }


@pytest.mark.parametrize("receipts", [False, True])
def test_a_customer_cannot_tell_that_there_is_a_note(bob: Any, carol: Any, receipts: bool) -> None:
    Website.objects.update(receipts=receipts, peek=receipts)
    alices = Page()
    alices.post("/chat/messages/", {"content": "Hello"})
    talk = Conversation.objects.get()
    actions.post_message(content="Hi!", conversation=talk, agent=bob)
    talk = Conversation.objects.get()
    before = customers_view(talk, alices)
    note(talk, bob, "secret thoughts for @carol")
    actions.close(conversation=talk, by=bob)
    actions.reopen(conversation=talk, by=bob)
    actions.correct(conversation=talk, name="Alice", email="", by=bob)
    actions.assign(conversation=talk, to=carol, by=bob)
    actions.label(conversation=talk, add=[actions.create_label(name="Rude")], by=bob)
    actions.prioritize(conversation=talk, priority=4, by=bob)
    actions.snooze(conversation=talk, until=timezone.now() + timedelta(days=1), by=bob)
    Draft.objects.keep(bob, talk.pk, "secret thoughts", typed_at=timezone.now(), known=0)
    actions.mark_read(conversation=talk, agent=carol, last=talk.last_message_id + 100)
    after = customers_view(talk, alices)
    assert after == before
    assert "secret thoughts" not in json.dumps(after)
    assert Conversation.objects.get().last_message_id == talk.last_message_id


def test_what_happened_stands_in_the_thread(talk: Conversation, bobs: Page, carols: Page) -> None:
    path = f"/inbox/{talk.pk}/"
    for what in ("take", "close", "open"):
        bobs.post(f"{path}{what}/")
    mine, hers = (page.get(path).content.decode() for page in (bobs, carols))
    for sentence in ("You took the conversation", "You closed the conversation", "You reopened the conversation"):
        assert sentence in mine
    assert "closed the conversation" in hers
    assert "You closed" not in hers


def test_without_scripts_changes_in_a_row_are_folded_and_the_rows_stay_as_they_are(
    bobs: Page, bob: Any, talk: Conversation
) -> None:
    """A day begins another line, a note or a message ends one, and the hidden row of a removal does neither."""
    start = timezone.now() - timedelta(days=3)
    answer = actions.post_message(content="Hm", agent=bob, conversation=talk)

    def change(times: int) -> None:
        for number in range(times):
            actions.prioritize(conversation=talk, priority=number % 4 + 1, by=bob)

    change(2)
    actions.write_note(conversation=talk, agent=bob, content="A note")
    change(2)
    actions.take_back(conversation=talk, pk=answer.pk, by=bob)
    change(2)
    actions.post_message(content="And?", conversation=talk)
    change(4)
    entries = list(DeskEntry.objects.filter(conversation=talk).order_by("pk"))
    for number, entry in enumerate(entries):  # the last one is on the next day
        later = timedelta(days=1) if number == len(entries) - 1 else timedelta()
        DeskEntry.objects.filter(pk=entry.pk).update(created_at=start + later)
    Message.objects.filter(conversation=talk).update(created_at=start)
    flat = bobs.htmx(f"/inbox/{talk.pk}/").content.decode()
    folded = bobs.get(f"/inbox/{talk.pk}/").content.decode()
    row = re.compile(r'<li [^>]*data-id="\d+".*?</li>', re.DOTALL)
    assert row.findall(folded) == row.findall(flat)
    lines = re.findall(r"<details><summary><b>.*?</details>", folded, re.DOTALL)
    assert [line.count('class="message activity"') for line in lines] == [4, 3]
    assert "Changes: 4" in lines[0]
    assert 'class="activity-fold"><button' in flat  # the script's own template
    assert "<details><summary><b>Changes" not in flat
