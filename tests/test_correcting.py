"""Agents correct what a customer is called, and see other conversations of the same e-mail address."""

from typing import Any

import pytest
from django.db import connection

from conversations import actions
from conversations.actions import post_message
from conversations.models import Agent, Contact, Conversation, DeskEntry, Website
from conversations.models.contact import Claim
from tests.conftest import Page
from tests.test_doorbell import in_thread, ring_of, session, socket

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}
VERA = Claim(sub="7", proof=Contact.Proof.TOKEN, name="Vera Proven", email="vera@proven.example")


def now(talk: Conversation) -> Conversation:
    return Conversation.objects.get(pk=talk.pk)


def names(talk: Conversation) -> tuple[str, str]:
    return now(talk).names


def says(talk: Conversation, **more: Any) -> None:
    post_message(content="Me again", conversation=now(talk), **more)


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["form", "htmx"])
def test_bob_corrects_the_customers_name_and_address(
    talk: Conversation, bobs: Page, carols: Page, headers: dict[str, str]
) -> None:
    path = f"/inbox/{talk.pk}/"
    assert f'action="{path}customer/"' in carols.get(path).content.decode()
    response = bobs.post(f"{path}customer/", {"name": " Alice  Smith ", "email": "alice@shop.example"}, headers=headers)
    assert response.status_code == (200 if headers else 302)
    assert names(talk) == ("Alice Smith", "alice@shop.example")
    page = carols.get(path).content.decode()
    assert "corrected the customer&#x27;s name and e-mail address" in page
    assert page.count("Alice Smith") > 1
    assert "alice@shop.example" in carols.get(f"{path}about/").content.decode()
    assert "Alice Smith" in carols.get("/inbox/").content.decode()
    assert "Alice Smith" in carols.get("/inbox/list/?q=smith").content.decode(), "the search finds it"


def test_the_header_says_how_the_messages_name_the_customer(talk: Conversation, bob: Agent, bobs: Page) -> None:
    path = f"/inbox/{talk.pk}/"
    for name in ("Zoë <b>", "100 % Alice", "", talk.customer_name):
        actions.correct(conversation=talk, name=name, email="", by=bob)
        says(talk)
        header = bobs.get(f"{path}state/", headers=HTMX).content.decode()
        called = header.partition("<customer-name hidden>")[2].partition("</customer-name>")[0]
        assert f'<p class="by">{called}</p>' in bobs.get(path).content.decode()


def test_only_what_has_changed_is_an_activity(talk: Conversation, bob: Agent) -> None:
    for name, email in (("Alice", ""), ("Alison", ""), ("Alison", "a@b.example"), ("Alison", "a@b.example")):
        actions.correct(conversation=talk, name=name, email=email, by=bob)
    assert [entry.content for entry in DeskEntry.objects.order_by("id")] == ["name", "email"]


@pytest.mark.parametrize(
    "data",
    [
        {"name": "x" * 81, "email": ""},
        {"name": "Alice", "email": "nonsense"},
        {"name": "Alice", "email": "a@" + "b" * 300},
        {"name": "\0", "email": ""},
        {"name": "\ud800".encode("utf-16", "surrogatepass"), "email": "a b@c"},
    ],
)
def test_bad_input_is_refused_and_changes_nothing(talk: Conversation, bobs: Page, data: Any) -> None:
    for headers in ({}, HTMX):
        assert bobs.post(f"/inbox/{talk.pk}/customer/", data, headers=headers).status_code == 422
    assert names(talk) == ("Alice", "")
    assert not DeskEntry.objects.exists()


def test_markup_in_a_name_is_text(talk: Conversation, bobs: Page) -> None:
    bobs.post(f"/inbox/{talk.pk}/customer/", {"name": '"><script>alert(1)</script>', "email": ""})
    assert "<script>alert" not in bobs.get(f"/inbox/{talk.pk}/").content.decode()


def test_mallory_and_agents_of_other_websites_correct_nothing(talk: Conversation, bobs: Page, bob: Agent) -> None:
    path, data = f"/inbox/{talk.pk}/customer/", {"name": "Mallory", "email": ""}
    assert Page().post(path, data).status_code in {302, 401, 403}
    Website.objects.create(name="Another", key="another").agents.add(bob)
    assert bobs.post(path, data).status_code == 404
    assert bobs.get(path).status_code == 405
    assert names(talk) == ("Alice", "")


def test_what_the_customer_says_later_does_not_replace_it(talk: Conversation, bob: Agent) -> None:
    actions.correct(conversation=talk, name="Alice Smith", email="", by=bob)
    says(talk, name="alice", email="alice@typed.example")
    assert names(talk) == ("Alice Smith", "alice@typed.example"), "what nobody has corrected is taken"
    actions.correct(conversation=talk, name="", email="alice@right.example", by=bob)
    says(talk, name="Ali", email="alice@typed.example")
    assert names(talk) == ("Ali", "alice@right.example"), "what was taken away may be said again"


def test_what_is_proven_replaces_it_the_next_time(talk: Conversation, bob: Agent) -> None:
    website = talk.website
    actions.correct(conversation=talk, name="Alice Smith", email="a@typed.example", by=bob)
    actions.identify(claim=VERA, website=website, current=now(talk))
    assert names(talk) == (VERA.name, VERA.email)
    actions.correct(conversation=talk, name="Vera S.", email=VERA.email, by=bob)
    says(talk)
    assert names(talk) == ("Vera S.", VERA.email), "it stays until the customer is identified again"
    actions.identify(claim=VERA, website=website, current=now(talk))
    assert names(talk) == (VERA.name, VERA.email)
    actions.correct(conversation=talk, name="Vera S.", email=VERA.email, by=bob)
    says(talk, claim=VERA)
    assert names(talk) == (VERA.name, VERA.email)


def test_a_claim_without_a_name_leaves_the_correction(talk: Conversation, bob: Agent) -> None:
    actions.correct(conversation=talk, name="Alice Smith", email="a@typed.example", by=bob)
    claim = Claim(sub="7", proof=Contact.Proof.TOKEN, email=VERA.email)
    actions.identify(claim=claim, website=talk.website, current=now(talk))
    says(talk, name="alice")
    assert names(talk) == ("Alice Smith", VERA.email)


async def test_other_screens_are_told_and_the_customer_is_not(talk: Conversation, bob: Agent, carols: Page) -> None:
    path = f"/inbox/{talk.pk}/"
    html = (await in_thread(carols.get)(path)).content.decode()
    state = html.partition('id="shown-state" name="state" value="')[2].partition('"')[0]
    async with (
        socket("/ws/inbox/", cookies=session(carols)) as hers,
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice,
    ):
        for bell in (hers, alice):
            await bell.connect()
            await ring_of(bell)
        await in_thread(actions.correct)(conversation=talk, name="Alice Smith", email="", by=bob)
        assert (await ring_of(hers))["conversation"] == talk.pk
        assert await alice.receive_nothing()
    entry = await in_thread(lambda: DeskEntry.objects.get().pk)()
    response = await in_thread(carols.get)(
        f"{path}messages/?since={entry}&state={state.replace(' ', '+')}", headers=HTMX
    )
    assert response.headers["HX-Trigger"] == "state"


def conversations_with(email: str, number: int, website: Website | None = None) -> list[Conversation]:
    made = []
    for _ in range(number):
        message = post_message(content=f"From {email}", email=email, website=website)
        made.append(message.conversation)
    return made


def test_conversations_with_the_same_address_are_shown_as_not_verified(bobs: Page, bob: Agent) -> None:
    other = Website.objects.create(name="Other", key="other")
    before = conversations_with("alice@shop.example", 3)
    conversations_with("alicë@shop.example", 1)
    before += conversations_with("Alice@Shop.Example", 1)
    [elsewhere] = conversations_with("ALICE@SHOP.EXAMPLE", 1, other)
    [talk] = conversations_with("alice@shop.example", 1)

    def shown() -> list[int]:
        html = bobs.get(f"/inbox/{talk.pk}/about/").content.decode().partition("Same e-mail address")[2]
        assert not html or "not verified" in html
        return [int(link.partition("/")[0]) for link in html.split('href="/inbox/')[1:]]

    assert shown() == [elsewhere.pk, *(each.pk for each in reversed(before))]
    Website.objects.default().agents.add(bob)  # who sees no other website from now on
    assert shown() == [each.pk for each in reversed(before)]
    actions.correct(conversation=talk, name="", email="somebody@else.example", by=bob)
    assert shown() == []
    conversations_with("somebody@else.example", 12)
    assert len(shown()) == 10


def test_those_of_the_verified_customer_are_shown_once(bobs: Page, bob: Agent) -> None:
    website = Website.objects.default()
    first = post_message(content="1", claim=VERA, website=website).conversation
    [claimed] = conversations_with(VERA.email, 1)
    second = post_message(content="2", claim=VERA, website=website).conversation
    html = bobs.get(f"/inbox/{second.pk}/about/").content.decode()
    assert html.count(f'href="/inbox/{first.pk}/') == html.count(f'href="/inbox/{claimed.pk}/') == 1
    assert html.index(f"/inbox/{first.pk}/") < html.index("Same e-mail address") < html.index(f"/inbox/{claimed.pk}/")


def test_an_index_finds_conversations_by_address(db: None) -> None:
    found = Conversation.objects.filter(customer_email="a@b.example").order_by("-id")[:10]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
    plan = found.explain()
    assert "conversation_email" in plan, plan
