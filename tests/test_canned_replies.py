"""Canned replies: who has them, how they are edited, and what is filled in."""

import html
import re
from typing import Any

import pytest

from conversations.actions import post_message
from conversations.models import Agent, CannedReply, Conversation, Website, canned_reply
from conversations.models.canned_reply import fill
from tests.conftest import Page

pytestmark = pytest.mark.django_db

VALUES = {"customer.name": "Alice", "agent.name": "Bob", "website.name": "The shop"}


def reply(agent: Agent | None, name: str, content: str = "Hello!", website: Website | None = None) -> CannedReply:
    """A canned reply; without an agent a shared one."""
    return CannedReply.objects.create(agent=agent, name=name, content=content, website=website)


def names(response: Any) -> list[str]:
    """The names on the page or in the list above the field."""
    return re.findall(r'<b dir="auto">(.*?)</b>', response.content.decode())


def limit(agent: Agent, website: Website) -> None:
    """Let the agent see this website alone."""
    website.agents.add(agent)


def test_an_agent_has_their_own_replies_and_the_shared_ones(bobs: Page, bob: Agent, carol: Agent) -> None:
    reply(bob, "mine")
    reply(None, "everybodys")
    hers = reply(carol, "hers")
    assert names(bobs.get("/inbox/replies/")) == ["everybodys", "mine"]
    assert bobs.get(f"/inbox/replies/{hers.pk}/").status_code == 404
    assert bobs.post(f"/inbox/replies/{hers.pk}/", {"name": "x", "content": "x"}).status_code == 404
    assert bobs.post(f"/inbox/replies/{hers.pk}/delete/").status_code == 404
    assert CannedReply.objects.count() == 3


def test_a_reply_is_made_changed_and_deleted_by_forms(bobs: Page, bob: Agent) -> None:
    assert "There are no canned replies yet." in bobs.get("/inbox/replies/").content.decode()
    assert bobs.get("/inbox/replies/new/").status_code == 200
    made = bobs.post("/inbox/replies/new/", {"name": "/Good morning", "content": "Hi\r\n{{ customer.name }}"})
    assert made.status_code == 302
    saved = CannedReply.objects.get()
    assert (saved.name, saved.content, saved.agent_id) == ("Good-morning", "Hi\n{{ customer.name }}", bob.pk)
    form = bobs.get(f"/inbox/replies/{saved.pk}/").content.decode()
    assert 'value="Good-morning"' in form
    assert "Hi\n{{ customer.name }}</textarea>" in form
    bobs.post(f"/inbox/replies/{saved.pk}/", {"name": "morning", "content": "Good morning", "shared": "on"})
    saved.refresh_from_db()
    assert (saved.name, saved.agent_id) == ("morning", None)
    assert bobs.post(f"/inbox/replies/{saved.pk}/delete/").status_code == 302
    assert "/morning is deleted." in bobs.get("/inbox/replies/").content.decode()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": " ", "content": "x"}, "Give the reply a short name."),
        ({"name": "x" * 41, "content": "x"}, "longer than 40"),
        ({"name": "x", "content": " "}, "Write something first"),
        ({"name": "x", "content": "x" * 20_481}, "Please send it in parts"),
        (
            {"name": "x", "content": "{{ order.id }}"},
            "{{ order.id }} does not exist. You can use {{\xa0customer.name\xa0}}",
        ),
        ({"name": "Greeting", "content": "x"}, "There is already a reply with this name."),
        ({"name": "x", "content": "x", "website": "nowhere"}, "There is no such website."),
        ({"name": "x\x00", "content": "x"}, ""),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(
    bobs: Page, bob: Agent, values: dict[str, str], sentence: str
) -> None:
    reply(bob, "greeting")
    page = bobs.post("/inbox/replies/new/", values)
    assert page.status_code == 422
    assert sentence in html.unescape(page.content.decode())
    assert CannedReply.objects.count() == 1


def test_there_is_a_bound_for_each_owner(bobs: Page, bob: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversations.agent.canned_replies.MOST", 2)
    reply(bob, "one")
    two = reply(bob, "two")
    page = bobs.post("/inbox/replies/new/", {"name": "three", "content": "x"})
    assert page.status_code == 422
    assert "There are 2 replies already. Delete one first." in page.content.decode()
    assert bobs.post(f"/inbox/replies/{two.pk}/", {"name": "two", "content": "changed"}).status_code == 302
    assert bobs.post("/inbox/replies/new/", {"name": "three", "content": "x", "shared": "on"}).status_code == 302


def test_an_agent_of_one_website_neither_sees_nor_changes_those_of_others(bobs: Page, bob: Agent) -> None:
    shop = Website.objects.create(name="The shop", key="shop")
    limit(bob, shop)
    theirs = reply(None, "elsewhere", website=Website.objects.default())
    everywhere = reply(None, "everywhere")
    here = reply(None, "here", website=shop)
    assert names(bobs.get("/inbox/replies/")) == ["everywhere", "here"]
    for each, status in [(theirs, 404), (everywhere, 404), (here, 200)]:
        assert bobs.get(f"/inbox/replies/{each.pk}/").status_code == status
    shared = {"name": "x", "content": "x", "shared": "on"}
    assert "Choose one of your websites" in bobs.post("/inbox/replies/new/", shared).content.decode()
    assert bobs.post("/inbox/replies/new/", {**shared, "website": "default"}).status_code == 422
    assert bobs.post("/inbox/replies/new/", {**shared, "website": "shop"}).status_code == 302


def test_the_search_finds_names_and_texts_and_repeats_nothing_that_another_site_has_chosen(
    bobs: Page, bob: Agent
) -> None:
    reply(bob, "refund", "We send the money back.")
    reply(bob, "hello", "Good morning")
    assert names(bobs.get("/inbox/replies/?q=MONEY")) == names(bobs.get("/inbox/replies/?q=refu")) == ["refund"]
    page = bobs.get("/inbox/replies/?q=<b>x", headers={"Sec-Fetch-Site": "same-origin"}).content.decode()
    assert "No canned reply has this in its name or text." in page
    assert 'value="&lt;b&gt;x"' in page
    for site in ["cross-site", "same-site", ""]:
        assert "refu<" not in bobs.get("/inbox/replies/?q=refu<", headers={"Sec-Fetch-Site": site}).content.decode()
        assert "refu&lt;" not in bobs.get("/inbox/replies/?q=refu<", headers={"Sec-Fetch-Site": site}).content.decode()


def test_long_lists_have_pages(bobs: Page, bob: Agent) -> None:
    CannedReply.objects.bulk_create(CannedReply(agent=bob, name=f"r{number:03}", content="x") for number in range(101))
    assert len(names(bobs.get("/inbox/replies/"))) == 100
    assert names(bobs.get("/inbox/replies/?page=2")) == ["r100"]
    assert bobs.get("/inbox/replies/?page=x").status_code == 200


def test_the_list_above_the_field_is_filled_in_for_its_conversation(bobs: Page, bob: Agent, talk: Conversation) -> None:
    reply(bob, "hello", "Hello {{ customer.name }}, this is {{agent.name}} of {{  website.name  }}.")
    reply(None, "old", "Your order {{ order.id }}")
    reply(None, "elsewhere", website=Website.objects.create(name="The shop", key="shop"))
    found = bobs.htmx(f"/inbox/{talk.pk}/replies/")
    assert names(found) == ["hello", "old"]
    page = html.unescape(found.content.decode())
    assert f'data-text="Hello Alice, this is Bob of {talk.website.name}."' in page
    assert 'data-notice="{{ order.id }} does not exist, so it was not filled in."' in page
    assert names(bobs.htmx(f"/inbox/{talk.pk}/replies/?q=order")) == ["old"]
    nameless = post_message(content="Hi").conversation
    page = html.unescape(bobs.htmx(f"/inbox/{nameless.pk}/replies/").content.decode())
    assert 'data-text="Hello, this is Bob' in page
    assert "The customer’s name is not known, so it was left out." in page


def test_the_list_above_the_field_is_for_agents_who_see_the_conversation(
    bobs: Page, bob: Agent, mallory: Page, talk: Conversation
) -> None:
    assert mallory.htmx(f"/inbox/{talk.pk}/replies/").status_code == 401
    limit(bob, Website.objects.create(name="The shop", key="shop"))
    assert bobs.htmx(f"/inbox/{talk.pk}/replies/").status_code == 404


def test_the_list_has_a_bound(bobs: Page, bob: Agent, talk: Conversation) -> None:
    CannedReply.objects.bulk_create(CannedReply(agent=bob, name=f"r{number:03}", content="x") for number in range(101))
    found = bobs.htmx(f"/inbox/{talk.pk}/replies/")
    assert len(names(found)) == 100
    assert "data-more" in found.content.decode()


def test_without_javascript_a_form_inserts_a_reply_and_keeps_what_was_typed(
    bobs: Page, bob: Agent, talk: Conversation
) -> None:
    hello = reply(bob, "hello", "Hello {{ customer.name }}!")
    assert f'<option value="{hello.pk}">hello</option>' in bobs.get(f"/inbox/{talk.pk}/?write=1").content.decode()
    assert ">hello</option>" not in bobs.get(f"/inbox/{talk.pk}/").content.decode()
    page = bobs.answers(talk, "Thank you.", insert="1", reply=hello.pk)
    text = page.content.decode()
    assert page.status_code == 200
    assert "Thank you.\nHello Alice!</textarea>" in text
    assert "http-equiv" not in text
    assert f'<option value="{hello.pk}">' in text
    assert talk.messages.count() == 1
    for wrong in ["", "x", "999999", "9" * 30]:
        text = bobs.answers(talk, "Thank you.", insert="1", reply=wrong).content.decode()
        assert "Choose a canned reply first." in text
        assert "Thank you.</textarea>" in text


def test_only_variables_are_replaced_and_only_once() -> None:
    assert fill("{{ customer.name }}{% now 'Y' %}{{x}}", VALUES) == ("Alice{% now 'Y' %}{{x}}", ["{{x}}"], [])
    sneaky = VALUES | {"customer.name": "{{ agent.name }}"}
    assert fill("Hi {{ customer.name }}", sneaky).text == "Hi {{ agent.name }}"
    assert fill("{{ customer.name", VALUES).text == "{{ customer.name"
    assert fill("Hi {{ customer.name }}, you", VALUES | {"customer.name": ""}) == ("Hi, you", [], ["customer.name"])
    assert fill("{{" * 100_000, VALUES).unknown == []


def test_a_name_is_what_is_typed_after_the_slash() -> None:
    assert canned_reply.check_name(" /thank you/all ") == "thank-you-all"
    for wrong in ["", "/", "\u200b", "x" * 41]:
        with pytest.raises(ValueError, match="name"):
            canned_reply.check_name(wrong)
