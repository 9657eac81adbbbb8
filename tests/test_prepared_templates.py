"""Prepared templates show the same as templates that are rendered anew: whoever reads, in any language."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from conversations.actions import post_message
from conversations.agent import inbox_rows
from conversations.agent.inbox import INBOX, TAB
from conversations.agent.inbox_rows import ROW, RowMemory
from conversations.agent.panel import HEADER, PANEL
from conversations.models import Agent, Conversation, Message
from conversations.screen.message_rows import MESSAGE
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db

HOSTILE = ["100% of it, %(pk)s and %s", "{pk} <b>bold</b> & 'more'", "\ue000pk\ue001", "🌱"]


def names(page: str) -> list[str]:
    """The names above the messages."""
    return re.findall(r'<span class="name">(.*?)</span>', page)


def html(page: Page, path: str, language: str = "en") -> str:
    """The HTML of a page, without what differs in each response."""
    found = page.get(path, headers={"Accept-Language": language}).content.decode()
    return re.sub(r'name="(csrfmiddlewaretoken|client_id)" value=".*?"', "", found)


@pytest.fixture
def talk(bob: Agent, carol: Agent, alice: Page) -> Conversation:
    """A conversation of alice, bob, carol and an agent who was deleted, over three days."""
    alice.says("Hello?", name="Alice %s")
    [talk] = Conversation.objects.all()
    gone = Agent.objects.promote(User.objects.create_user("gone", first_name="Gone"))
    for agent in (None, bob, carol, gone):
        for text in HOSTILE:
            post_message(content=text, conversation=talk, agent=agent)
    gone.delete()
    for number, message in enumerate(Message.objects.order_by("pk")):
        Message.objects.filter(pk=message.pk).update(created_at=timezone.now() - timedelta(hours=4 * (20 - number)))
    return talk


def test_each_reader_sees_the_same_as_from_a_fresh_template(
    alice: Page, bobs: Page, carols: Page, talk: Conversation
) -> None:
    here = f"/inbox/{talk.pk}/"
    pages = [
        (bobs, here),
        (carols, here),
        (bobs, f"{here}?whose=mine&write=1"),
        (bobs, f"{here}state/"),
        (alice, "/chat/"),
    ]
    readings = [(*page, language) for page in pages for language in ("en", "de", "ar")]
    for change in ("read", "take", "close"):
        bobs.post(f"{here}{change}/", {"last": talk.last_message_id})
        prepared = [html(*reading) for reading in readings]
        for number, reading in enumerate(readings):
            for template in (MESSAGE, HEADER, PANEL, INBOX, TAB):
                template.rendered.clear()
            assert html(*reading) == prepared[number], reading
        assert len(set(prepared)) == len(readings)


def test_texts_are_printed_as_they_are(alice: Page, bobs: Page, talk: Conversation) -> None:
    expected = [
        "100% of it, %(pk)s and %s",
        "{pk} &lt;b&gt;bold&lt;/b&gt; &amp; &#x27;more&#x27;",
        "\ue000pk\ue001",
        "🌱",
    ]
    for response in (alice.get("/chat/"), bobs.get(f"/inbox/{talk.pk}/")):
        assert texts(response) == ["Hello?", *4 * expected]
    assert "Alice %s" in names(html(bobs, f"/inbox/{talk.pk}/"))


def test_new_names_are_shown_at_once(alice: Page, bobs: Page, bob: Agent, talk: Conversation) -> None:
    for name in ("Bob", "Robert <Bob> %s", "%(name)s"):
        User.objects.filter(pk=bob.pk).update(first_name=name)
        Conversation.objects.update(customer_name=f"Alice {name}")
        shown = name.replace("<", "&lt;").replace(">", "&gt;")
        assert shown in names(html(alice, "/chat/"))
        assert {shown, f"Alice {shown}"} <= set(names(html(bobs, f"/inbox/{talk.pk}/")))


def test_the_messages_of_a_deleted_colleague_are_not_called_mine(bobs: Page, talk: Conversation) -> None:
    shown = names(html(bobs, f"/inbox/{talk.pk}/"))
    assert "Agent" in shown
    assert "You" not in shown


def test_few_patterns_are_kept(alice: Page, bobs: Page, talk: Conversation) -> None:
    MESSAGE.rendered.clear()
    for number in range(30):
        message = post_message(content=f"Number {number}", conversation=talk, name=f"Alice {number}")
        Message.objects.filter(pk=message.pk).update(created_at=timezone.now() + timedelta(days=number))
        Conversation.objects.update(customer_name=f"Alice {number}")
        html(alice, "/chat/")
        html(bobs, f"/inbox/{talk.pk}/")
    assert len(MESSAGE.rendered) < 30
    assert len(PANEL.rendered) + len(INBOX.rendered) < 20


def test_agents_see_names_and_numbers_of_the_conversation_that_they_open(bobs: Page, talk: Conversation) -> None:
    for name in ("Alice %s", "Mallory <b>"):
        other = post_message(content="Hi", name=name).conversation
        page = html(bobs, f"/inbox/{other.pk}/")
        shown = name.replace("<", "&lt;").replace(">", "&gt;")
        assert f">Conversation with {shown}<" in page
        assert f'<h2 tabindex="-1">{shown}</h2>' in page
        assert f'data-conversation="{other.pk}"' in page
        assert f'hx-post="/inbox/{other.pk}/take/"' in page


def test_rows_of_the_list_are_the_same_as_from_a_fresh_template(
    bobs: Page, carols: Page, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_message(content="Hi", name="Mallory <b> %s")
    for change in ("read", "take", "messages"):
        bobs.post(f"/inbox/{talk.pk}/{change}/", {"last": talk.last_message_id, "content": "100% %(line)s"})
        for page, language in ((bobs, "en"), (bobs, "de"), (carols, "ar")):
            for query in ("", f"?chosen={talk.pk}", "?whose=mine"):
                prepared = html(page, f"/inbox/list/{query}", language)
                ROW.rendered.clear()
                monkeypatch.setattr(inbox_rows, "memory", RowMemory(10**6))
                assert html(page, f"/inbox/list/{query}", language) == prepared
    assert '<span class="who">Mallory &lt;b&gt; %s</span>' in html(bobs, "/inbox/list/")
    assert "100% %(line)s</span>" in html(bobs, "/inbox/list/")
