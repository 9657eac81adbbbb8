"""Drafts on the server: an agent's other devices have them, and nobody else."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from conversations.actions import post_message
from conversations.models import Agent, Conversation, Draft, Website, draft
from tests.conftest import Page

pytestmark = pytest.mark.django_db


def types(page: Page, talk: Conversation, text: str, known: Any = 0, age: int = 0) -> Any:
    """Type, as the page's script tells the server."""
    return page.htmx(f"/inbox/{talk.pk}/draft/", {"content": text, "version": known, "age": age})


def version(response: Any) -> int:
    """The version of the draft after this response."""
    return int(response["X-Draft"])


def typed(page: Page, talk: Conversation) -> str:
    """The text in the field of an opened conversation."""
    html = page.get(f"/inbox/{talk.pk}/").content.decode()
    return html.split("<textarea", 1)[1].split(">", 1)[1].split("</textarea>", 1)[0]


def contents(agent: Agent) -> list[str]:
    """The agent's drafts."""
    return [each.content for each in Draft.objects.of(agent)]


def test_another_device_has_what_was_typed_and_nobody_else(
    bobs: Page, bob: Agent, carols: Page, alice: Page, talk: Conversation
) -> None:
    assert types(bobs, talk, "Dear <Alice>").status_code == 204
    phone = Page()
    phone.force_login(bob)
    assert typed(phone, talk) == "Dear &lt;Alice&gt;"
    assert phone.htmx(f"/inbox/{talk.pk}/draft/").content.decode() == "Dear <Alice>"
    assert typed(carols, talk) == ""
    assert version(carols.htmx(f"/inbox/{talk.pk}/draft/")) == 0
    alice.cookies["chat"] = talk.uuid.hex
    for path in ["/chat/", "/chat/messages/?since=0", f"/api/messages/{talk.uuid}/"]:
        assert "Dear" not in alice.get(path).content.decode()


def test_a_draft_ends_when_its_answer_is_sent_but_not_what_was_typed_since(
    bobs: Page, bob: Agent, talk: Conversation
) -> None:
    first = version(types(bobs, talk, "Hello"))
    assert bobs.answers(talk, "Hello", draft=first).status_code == 302
    assert contents(bob) == []
    first = version(types(bobs, talk, "How are"))
    second = version(types(bobs, talk, "And I wanted to say", known=first))
    assert second > first
    bobs.answers(talk, "How are you?", draft=first)  # it was sent late
    assert contents(bob) == ["And I wanted to say"]
    bobs.answers(talk, "And", draft="")
    assert contents(bob) == ["And I wanted to say"]


def test_a_blank_text_deletes_the_draft(bobs: Page, bob: Agent, talk: Conversation) -> None:
    known = version(types(bobs, talk, "Hello"))
    deleted = types(bobs, talk, " \n", known=known)
    assert (deleted.status_code, version(deleted), contents(bob)) == (204, 0, [])
    assert types(bobs, talk, "").status_code == 204


def test_of_two_devices_the_one_that_has_typed_later_wins_and_says_so(
    bobs: Page, bob: Agent, talk: Conversation
) -> None:
    begun = version(types(bobs, talk, "Hello", age=60_000))
    phone = version(types(bobs, talk, "Hello from the phone", known=begun, age=30_000))
    late = types(bobs, talk, "Hello from the train", known=begun, age=40_000)  # it had no connection
    assert (late.status_code, late.content.decode()) == (409, "Hello from the phone")
    assert version(late) == phone
    now = types(bobs, talk, "Hello from the office", known=begun)
    assert (now.status_code, now.content.decode()) == (200, "Hello from the phone")
    assert contents(bob) == ["Hello from the office"]
    assert types(bobs, talk, "Hello from the office!", known=version(now)).status_code == 204
    assert types(bobs, talk, "Hello from the office!", known=begun).status_code == 204  # the same text is no conflict


def test_an_open_page_asks_for_a_newer_version(bobs: Page, talk: Conversation) -> None:
    known = version(types(bobs, talk, "Hello"))
    path = f"/inbox/{talk.pk}/draft/?version="
    assert bobs.htmx(f"{path}{known}").status_code == 204
    newer = version(types(bobs, talk, "Hello again", known=known))
    assert bobs.htmx(f"{path}{known}").content.decode() == "Hello again"
    bobs.answers(talk, "Hello again", draft=newer)
    gone = bobs.htmx(f"{path}{newer}")
    assert (gone.status_code, gone.content, version(gone)) == (200, b"", 0)


def test_an_answer_that_waits_for_its_writer_is_kept_as_a_draft(bobs: Page, carol: Agent, talk: Conversation) -> None:
    seen = talk.last_message_id
    theirs = post_message(content="We are here", conversation=talk, agent=carol)
    path, answer = f"/inbox/{talk.pk}/messages/", {"content": "Yes, I am", "client_id": str(uuid.uuid4())}
    asked = bobs.htmx(path, {**answer, "seen": seen})
    assert asked.status_code == 409
    assert typed(bobs, talk) == "Yes, I am"
    assert bobs.htmx(path, {**answer, "seen": theirs.pk, "draft": asked["X-Draft"]}).status_code == 204
    assert typed(bobs, talk) == ""
    other = version(types(bobs, talk, "Something else"))
    assert "X-Draft" not in bobs.htmx(path, {"content": "No", "seen": seen})
    assert typed(bobs, talk) == "Something else"
    page = bobs.answers(talk, "Something else", seen=seen, draft=other).content.decode()  # without JavaScript
    assert f'name="draft" value="{Draft.objects.get().version}"' in page


@pytest.mark.parametrize(
    "wrong",
    [{"content": "x" * 20_481}, {"content": "x\x00"}, {"version": "x"}, {"age": "-1"}, {"version": "9" * 30}],
)
def test_bad_input_is_refused_and_changes_nothing(
    bobs: Page, bob: Agent, talk: Conversation, wrong: dict[str, str]
) -> None:
    types(bobs, talk, "Hello")
    values = {"content": "Hi", "version": "0", "age": "0", **wrong}
    assert bobs.htmx(f"/inbox/{talk.pk}/draft/", values).status_code == 422
    assert contents(bob) == ["Hello"]


def test_only_agents_who_see_the_conversation_have_drafts(
    bobs: Page, bob: Agent, mallory: Page, talk: Conversation
) -> None:
    assert types(mallory, talk, "Hello").status_code == 401
    Website.objects.create(name="The shop", key="shop").agents.add(bob)
    assert types(bobs, talk, "Hello").status_code == 404
    assert bobs.htmx(f"/inbox/{talk.pk}/draft/").status_code == 404
    assert not Draft.objects.exists()


def test_the_oldest_drafts_go_and_those_of_deleted_conversations(
    bobs: Page, bob: Agent, carol: Agent, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "MOST", 2)
    Draft.objects.keep(carol, talk.pk, "Carol's", typed_at=timezone.now() - timedelta(days=1), known=0)
    for number in range(3):
        other = post_message(content="Hi").conversation
        types(bobs, other, f"Draft {number}", age=10_000 - number)
    assert sorted(contents(bob)) == ["Draft 1", "Draft 2"]
    assert contents(carol) == ["Carol's"]
    other.delete()
    assert contents(bob) == ["Draft 1"]


def test_an_absurd_age_counts_as_a_month(bobs: Page, bob: Agent, talk: Conversation) -> None:
    assert types(bobs, talk, "Hello", age=10**18).status_code == 204
    assert Draft.objects.get().typed_at > timezone.now() - timedelta(days=31)


def test_the_list_shows_which_conversations_have_a_draft(bobs: Page, carols: Page, talk: Conversation) -> None:
    post_message(content="Hi")
    types(bobs, talk, "Hello")
    assert bobs.get("/inbox/list/").content.decode().count('class="has-draft"') == 1
    assert 'class="has-draft"' not in carols.get("/inbox/list/").content.decode()


def test_a_list_has_the_conversations_with_a_draft(bobs: Page, carols: Page, talk: Conversation) -> None:
    other = post_message(content="Hi", name="Zoe").conversation
    assert "tab-drafts" not in bobs.get("/inbox/").content.decode()
    types(bobs, other, "Hello")
    types(carols, talk, "Hello")
    page = bobs.get("/inbox/").content.decode()
    assert "whose=drafts" in page
    found = bobs.get("/inbox/?whose=drafts").content.decode()
    assert f'id="row-{other.pk}"' in found
    assert f'id="row-{talk.pk}"' not in found
    assert (
        "None of these conversations has a draft of yours."
        in bobs.get("/inbox/?whose=drafts&status=closed").content.decode()
    )


def test_a_note_has_a_draft_of_its_own_on_every_device_until_it_is_written(
    bobs: Page, bob: Agent, carol: Agent, carols: Page, talk: Conversation
) -> None:
    path = f"/inbox/{talk.pk}/notes/"
    types(bobs, talk, "Dear Alice")
    known = version(bobs.htmx(f"{path}draft/", {"content": "@carol is she a VIP?", "version": 0, "age": 0}))
    assert typed(bobs, talk) == "Dear Alice"
    page = bobs.get(f"/inbox/{talk.pk}/?note=1").content.decode()
    assert ">@carol is she a VIP?</textarea>" in page
    link = '<a id="{}"[^>]*>{}</a><span class="has-draft">Draft</span>'
    assert re.search(link.format("reply", "Reply"), page)
    assert not re.search(link.format("note", "Note"), page)
    assert re.search(link.format("note", "Note"), bobs.get(f"/inbox/{talk.pk}/").content.decode())
    assert f'name="draft" value="{known}"' in page
    assert bobs.htmx(f"{path}draft/?version={known}").status_code == 204
    assert "VIP" not in carols.get(f"/inbox/{talk.pk}/?note=1").content.decode()
    listed = bobs.get("/inbox/list/?whose=drafts").content.decode()
    assert (listed.count('class="has-draft"'), listed.count(f'id="row-{talk.pk}"')) == (1, 1)
    post_message(content="We are here", conversation=talk, agent=carol)
    note = {"content": "@carol is she a VIP?", "draft": known, "seen": talk.last_message_id}
    assert bobs.htmx(path, note).status_code == 204, "a note asks nobody whether it may be written"
    assert contents(bob) == ["Dear Alice"]
    bobs.answers(talk, "Dear Alice", draft=Draft.objects.get().version)
    assert "has-draft" not in bobs.get("/inbox/list/").content.decode()


def test_a_late_retry_of_a_note_deletes_no_newer_draft_and_a_bad_version_writes_none(
    bobs: Page, bob: Agent, talk: Conversation
) -> None:
    path = f"/inbox/{talk.pk}/notes/"
    first = version(bobs.htmx(f"{path}draft/", {"content": "One", "version": 0, "age": 0}))
    bobs.htmx(f"{path}draft/", {"content": "Two", "version": first, "age": 0})
    assert bobs.htmx(path, {"content": "One", "draft": first}).status_code == 204
    assert contents(bob) == ["Two"]
    assert bobs.htmx(path, {"content": "Three", "draft": "x"}).status_code == 422
    assert [each.content for each in talk.desk_entries.all()] == ["One"]
