"""Mentions: agents name each other in notes, find what names them, and nobody else learns of it."""

import re
from typing import Any

import pytest

from conversations import actions
from conversations.models import Agent, Conversation, DeskEntry, Mention, Website, mention
from tests.conftest import Page, promote

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def note(talk: Conversation, agent: Any, text: str) -> DeskEntry:
    return actions.write_note(conversation=talk, agent=agent, content=text)


def mentioned(talk: Conversation) -> list[str]:
    """The usernames of those who are mentioned in a conversation."""
    return sorted(talk.mentions.values_list("agent__username", flat=True))


def count(page: Page, query: str = "") -> int:
    """The number beside "Mentions"."""
    html = page.get(f"/inbox/{query}").content.decode()
    found = re.search(r'id="tab-mentions"[^>]*>.*?class="n[^>]*>(\d+)', html)
    assert found
    return int(found[1])


def rows(page: Page, query: str = "?whose=mentions") -> list[int]:
    """The conversations of a list."""
    return [int(pk) for pk in re.findall(r'id="row-(\d+)"', page.get(f"/inbox/list/{query}").content.decode())]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@carol please look", ["carol"]),
        ("Ask @CAROL.", ["carol"]),
        ("(@carol, @zoë-2!) and @carol's team", ["carol", "zoë-2"]),
        ("@carol\n@dave@shop.example", ["carol", "dave@shop.example"]),
        ("请@carol看一下", ["carol"]),
        ("@nobody, @ carol, carol@", []),
        ("mail a@carol or a.b@carol.com", []),
        ("https://shop.example/@carol ?to=@carol @@carol", []),
        ("@carolx @carol.x", []),
        ("@zoe\u0308-2 typed on a Mac, 请@ZOE\u0308-2", ["zoë-2"]),
        ("@carol\u00e9 @carole\u0301 @carol\u0301", []),
        ("\u202e@carol\u202c and @\u200bbob \U0001f389@dave@shop.example\U0001f389", ["carol", "dave@shop.example"]),
        ("@bob knows himself", []),
    ],
)
def test_what_counts_as_a_mention(talk: Conversation, bob: Agent, carol: Agent, text: str, names: list[str]) -> None:
    for username in ("zoë-2", "dave@shop.example"):
        promote(username, "")
    note(talk, bob, text)
    assert mentioned(talk) == names


@pytest.mark.parametrize("is_formatted", [True, False])
def test_code_mentions_nobody_where_text_is_formatted(
    talk: Conversation, bob: Agent, carol: Agent, is_formatted: bool
) -> None:
    for text in ("run `@carol`", "```\n@carol\n```", "```\n@carol"):
        actions.write_note(conversation=talk, agent=bob, content=text, is_formatted=is_formatted)
    assert mentioned(talk) == ([] if is_formatted else ["carol"])
    actions.write_note(conversation=talk, agent=bob, content="`code` **@carol** `more`", is_formatted=is_formatted)
    assert mentioned(talk) == ["carol"]


def test_carol_finds_where_she_is_mentioned_until_she_has_read_it(
    talk: Conversation, bob: Agent, bobs: Page, carols: Page
) -> None:
    assert (count(carols), rows(carols)) == (0, [])
    assert "No colleague has mentioned you yet." in carols.get("/inbox/?whose=mentions").content.decode()
    bobs.post(f"/inbox/{talk.pk}/notes/", {"content": "@carol what do you think?"})
    note(talk, bob, "@carol hello?")
    assert (count(carols), rows(carols)) == (1, [talk.pk])
    assert count(bobs) == 0
    assert "You are mentioned" in carols.get("/inbox/list/").content.decode()
    assert "You are mentioned" not in bobs.get("/inbox/list/").content.decode()
    carols.get(f"/inbox/{talk.pk}/", headers={"Sec-Fetch-Site": "cross-site"})
    assert count(carols) == 1
    carols.get(f"/inbox/{talk.pk}/", headers={"Sec-Fetch-Site": "same-origin"})
    assert (count(carols), rows(carols)) == (0, [talk.pk])


def test_a_mention_in_an_open_conversation_is_read_when_seen(talk: Conversation, bob: Agent, carols: Page) -> None:
    carols.get(f"/inbox/{talk.pk}/", headers={"Sec-Fetch-Site": "same-origin"})
    seen = note(talk, bob, "first").pk
    entry = note(talk, bob, "@carol second")
    carols.post(f"/inbox/{talk.pk}/read/", {"last": seen}, headers=HTMX)
    assert count(carols) == 1
    carols.post(f"/inbox/{talk.pk}/read/", {"last": entry.pk}, headers=HTMX)
    assert count(carols) == 0
    note(talk, bob, "@carol again")
    assert count(carols) == 1


def test_mentions_are_listed_whatever_the_status_the_newest_first(
    talk: Conversation, bob: Agent, carols: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = [talk, *(actions.post_message(content=text).conversation for text in "ab")]
    for each in (talks[1], talks[0], talks[2]):
        note(each, bob, "@carol")
    actions.close(conversation=talks[0], by=bob)
    order = [talks[2].pk, talks[0].pk, talks[1].pk]
    assert rows(carols) == order
    assert rows(carols, "?status=closed") == [talks[0].pk]
    html = carols.get("/inbox/?whose=mentions&status=closed").content.decode()
    assert 'href="/inbox/?whose=mentions"' in html
    assert 'id="tab-closed" href="/inbox/?status=closed"' in html
    assert 'id="tab-all" href="/inbox/"' in html
    carols.post("/inbox/after-closing/", {"then": "next"})
    assert carols.closes(talks[2], "?whose=mentions") == f"/inbox/{talks[0].pk}/?whose=mentions"
    monkeypatch.setattr("conversations.agent.inbox.ROWS", 2)
    first = carols.get("/inbox/list/?whose=mentions").content.decode()
    after = re.search(r"whose=mentions&amp;after=(\d+)", first)
    assert after
    assert rows(carols) + rows(carols, f"?whose=mentions&after={after[1]}") == order


def test_an_agent_of_other_websites_is_not_mentioned_and_whoever_loses_access_sees_it_no_more(
    talk: Conversation, bob: Agent, carol: Agent, carols: Page
) -> None:
    shop = Website.objects.create(name="The shop", key="shop")
    shop.agents.add(carol)
    assert note(talk, bob, "@carol").mentions is None
    assert mentioned(talk) == []
    shop.agents.remove(carol)
    note(talk, bob, "@carol")
    assert count(carols) == 1
    shop.agents.add(carol)
    assert (count(carols), rows(carols)) == (0, [])
    assert carols.get(f"/inbox/{talk.pk}/").status_code == 404


def test_readers_see_who_is_mentioned(talk: Conversation, bob: Agent, bobs: Page, carols: Page) -> None:
    note(talk, bob, "<b> @Carol, @nobody and https://shop.example/@carol or @bob")
    mine, hers = (page.get(f"/inbox/{talk.pk}/").content.decode() for page in (bobs, carols))
    assert '&lt;b&gt; <span class="mention">@Carol</span>, @nobody and <a ' in mine
    assert '<span class="mention to-you">@Carol</span>' in hers
    assert '<span class="mention to-you">@bob</span>' in mine
    assert len(re.findall(r'class="mention[ "]', hers)) == 2


def test_one_note_mentions_a_bounded_number_of_agents(
    talk: Conversation, bob: Agent, carol: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mention, "MOST", 2)
    for name in ("dave", "erin"):
        promote(name, "")
    note(talk, bob, "@carol @carol @dave @erin")
    assert mentioned(talk) == ["carol", "dave"]
    assert DeskEntry.objects.get().mentions == f"{carol.pk}:carol {Agent.objects.get(username='dave').pk}:dave"


def test_a_deleted_conversation_takes_its_mentions_with_it(talk: Conversation, bob: Agent, carol: Agent) -> None:
    note(talk, bob, "@carol")
    talk.delete()
    assert not Mention.objects.exists()


def test_a_note_without_names_costs_no_query_more(
    talk: Conversation, bob: Agent, carol: Agent, django_assert_max_num_queries: Any
) -> None:
    note(talk, bob, "@carol")
    with django_assert_max_num_queries(20) as plain:
        note(talk, bob, "no names")
    with django_assert_max_num_queries(20) as naming:
        note(talk, bob, "@carol")
    assert len(naming) == len(plain) + 3  # the agents; the earlier mention, and its change


def test_the_list_above_a_note_has_the_colleagues_who_see_the_conversation(
    talk: Conversation, bob: Agent, carol: Agent, bobs: Page, mallory: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/inbox/{talk.pk}/colleagues/"
    Website.objects.create(name="The shop", key="shop").agents.add(promote("dave", "Dave"))
    promote("erin", "Erin <b>")
    html = bobs.get(path).content.decode()
    assert re.findall(r'data-text="(.*?)"', html) == ["@carol ", "@erin "]
    assert "Erin &lt;b&gt;" in html
    assert "data-more" not in html
    monkeypatch.setattr("conversations.agent.colleagues.CHOICES", 1)
    assert "data-more" in bobs.get(path).content.decode()
    assert re.findall(r'data-text="(.*?)"', bobs.get(f"{path}?q=ERI").content.decode()) == ["@erin "]
    assert mallory.get(path).status_code in {302, 401, 403}
    Website.objects.get(key="shop").agents.add(bob)
    assert bobs.get(path).status_code == 404
