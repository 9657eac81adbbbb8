"""Receipts: each side sees when the other one has seen its last message, where the website wants that."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations import actions
from conversations.models import Agent, Conversation, Website
from tests.conftest import Page
from tests.test_doorbell import in_thread, ring_of, session, socket

pytestmark = pytest.mark.django_db(transaction=True)

HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _receipts() -> None:
    Website.objects.update(receipts=True)


@pytest.fixture
def alices(talk: Conversation) -> Page:
    """Alice's browser."""
    page = Page()
    page.cookies["chat"] = talk.uuid.hex
    return page


def now(talk: Conversation) -> Conversation:
    return Conversation.objects.get(pk=talk.pk)


def answer(talk: Conversation, bob: Agent, text: str = "Hi!") -> int:
    return actions.post_message(conversation=now(talk), agent=bob, content=text).pk


def reads(page: Page, talk: Conversation) -> None:
    """Read all that there is."""
    last = now(talk).last_message_id
    assert page.post(f"/inbox/{talk.pk}/read/", {"last": last}, headers=HTMX).status_code == 204


def sees(page: Page, last: int, **more: Any) -> int:
    """The page of the customer says that it shows this message."""
    return int(page.post("/chat/state/", {"seen": last}, **more).status_code)


def receipt_of(page: Page, path: str) -> str:
    """The receipt in a page: the moment in it, or ""."""
    return receipt_in(page.get(path).content.decode())


def receipt_in(html: str) -> str:
    """The same, of the HTML of a page."""
    found = re.search(r'id="receipt".*?datetime="([^"]+)"', html.partition("<typing-line")[0])
    return found[1] if found else ""


def poll(page: Page, path: str, fresh: str) -> str:
    """What a poll triggers of a page that shows what `fresh` has now."""
    html = page.get(fresh).content.decode()
    [state] = re.findall(r'id="shown-state" name="state" value="([^"]*)"', html)
    last = re.findall(r'data-id="(\d+)"', html)[-1]
    return f"{path}?since={last}&state={state.replace(' ', '+')}"


def test_a_customer_sees_that_an_agent_has_read_it(talk: Conversation, alices: Page, bobs: Page) -> None:
    asked = poll(alices, "/chat/messages/", "/chat/")
    assert not receipt_of(alices, "/chat/")
    assert "HX-Trigger" not in alices.get(asked).headers
    reads(bobs, talk)
    assert alices.get(asked).headers["HX-Trigger"] == "state"
    assert receipt_of(alices, "/chat/") == receipt_of(alices, "/chat/state/") != ""
    asked = poll(alices, "/chat/messages/", "/chat/")
    assert "HX-Trigger" not in alices.get(asked).headers, "a page that shows it fetches nothing"
    alices.says("One more thing")
    assert alices.get(asked).headers["HX-Trigger"] == "state", "it does not count for the next message"
    assert not receipt_of(alices, "/chat/state/")


def test_an_agent_sees_that_the_customer_has_seen_the_answer(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent
) -> None:
    path = f"/inbox/{talk.pk}/"
    first = answer(talk, bob)
    asked = poll(bobs, f"{path}messages/", path)
    assert not receipt_of(bobs, path)
    assert sees(alices, first) == 204
    assert bobs.get(asked, headers=HTMX).headers["HX-Trigger"] == "state"
    assert receipt_of(bobs, path) == receipt_of(bobs, f"{path}state/") != ""
    assert "hx-swap-oob" in bobs.get(f"{path}state/").content.decode()
    asked = poll(bobs, f"{path}messages/", path)
    assert "HX-Trigger" not in bobs.get(asked, headers=HTMX).headers
    answer(talk, bob, "And another")
    assert bobs.get(asked, headers=HTMX).headers["HX-Trigger"] == "state"
    assert not receipt_of(bobs, path)
    assert sees(alices, first) == 204, "which is not the last one any more"
    assert not receipt_of(bobs, path)


def test_it_is_written_once_for_each_message(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent, carol: Agent
) -> None:
    reads(bobs, talk)
    first = now(talk).seen_at
    actions.mark_read(conversation=now(talk), agent=carol, last=talk.last_message_id)
    assert now(talk).seen_at == first is not None
    last = answer(talk, bob)
    sees(alices, last)
    first = now(talk).seen_at
    with CaptureQueriesContext(
        connection,
    ) as queries:
        sees(alices, last)
    assert now(talk).seen_at == first
    assert not [query for query in queries if re.match("UPDATE|INSERT", query["sql"] or "")]


def test_without_javascript_a_fetched_page_says_it(talk: Conversation, alices: Page, bobs: Page, bob: Agent) -> None:
    answer(talk, bob)
    picture = r'<noscript><img src="([^"]+)"'
    [url] = re.findall(picture, alices.get("/chat/").content.decode())
    assert not now(talk).is_seen, "a page with JavaScript may be hidden"
    for forged in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        alices.get(url, headers=forged)
        assert not now(talk).is_seen
    assert alices.get(url, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 204
    assert now(talk).is_seen
    assert not re.findall(picture, alices.get("/chat/").content.decode())


@pytest.mark.parametrize("last", ["", "x", "-1", "9" * 40, None])
def test_bad_input_changes_nothing(talk: Conversation, alices: Page, bob: Agent, last: str | None) -> None:
    answer(talk, bob)
    assert alices.post("/chat/state/", {} if last is None else {"seen": last}).status_code in {422, 204}
    if last != "9" * 40:  # which says "everything"
        assert not now(talk).is_seen


def test_mallory_sees_nothing_for_alice(talk: Conversation, mallory: Page, bob: Agent) -> None:
    last = answer(talk, bob)
    assert sees(mallory, last) == 204
    mallory.says("mine")
    assert sees(mallory, last) == 204
    assert not now(talk).is_seen
    assert mallory.post("/chat/state/", {"seen": last}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_where_the_website_shows_none_nothing_is_stored_or_shown(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent
) -> None:
    reads(bobs, talk)
    assert receipt_of(alices, "/chat/")
    Website.objects.update(receipts=False)
    assert not receipt_of(alices, "/chat/"), "what was stored before is not shown"
    before = now(talk).seen_id
    last = answer(talk, bob)
    sees(alices, last)
    alices.says("Thanks")
    reads(bobs, talk)
    assert now(talk).seen_id == before
    for page, path in ((alices, "/chat/"), (bobs, f"/inbox/{talk.pk}/")):
        assert not receipt_of(page, path)
        assert "seen=" not in page.get(path).content.decode()


async def test_each_side_is_rung_only_for_its_own_messages(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent
) -> None:
    async with (
        socket("/ws/chat/", cookies=f"chat={talk.uuid.hex}") as alice_socket,
        socket("/ws/inbox/", cookies=session(bobs)) as bob_socket,
    ):
        for bell in (alice_socket, bob_socket):
            await bell.connect()
            await ring_of(bell)
        await in_thread(reads)(bobs, talk)
        assert (await ring_of(alice_socket))["last"] == talk.last_message_id
        assert await bob_socket.receive_nothing()
        last = await in_thread(answer)(talk, bob)
        assert (await ring_of(alice_socket))["last"] == (await ring_of(bob_socket))["last"] == last
        while not await bob_socket.receive_nothing():  # with the message log, agents are rung twice
            await ring_of(bob_socket)
        await in_thread(sees)(alices, last)
        assert (await ring_of(bob_socket))["beside"] is True
        assert await alice_socket.receive_nothing()


def test_a_note_that_is_read_tells_the_customer_nothing(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent
) -> None:
    reads(bobs, talk)
    before = receipt_of(alices, "/chat/")
    note = actions.write_note(conversation=now(talk), agent=bob, content="secret")
    bobs.post(f"/inbox/{talk.pk}/read/", {"last": note.pk}, headers=HTMX)
    assert receipt_of(alices, "/chat/") == before
    assert now(talk).seen_id == talk.last_message_id


class Screen:
    """What a page shows that is not reloaded: it polls, and fetches its state when the poll says so."""

    def __init__(self, page: Page, path: str, polls: str) -> None:
        self.page, self.path, self.polls = page, path, polls
        self.rows, self.state, self.receipt = self.fresh()

    def fresh(self) -> tuple[list[str], str, str]:
        """The rows, the state and the receipt of a page that is loaded now."""
        html = self.page.get(self.path).content.decode()
        rows = re.findall(r'<li id="message-(\d+)"', html)
        return rows, re.findall(r'id="shown-state" name="state" value="([^"]*)"', html)[0], receipt_in(html)

    def poll(self) -> None:
        """As the page does."""
        response = self.page.get(self.polls, {"since": self.rows[-1], "state": self.state}, headers=HTMX)
        self.rows += re.findall(r'<li id="message-(\d+)"', response.content.decode())
        if "state" in response.headers.get("HX-Trigger", ""):
            html = self.page.get(f"{self.path}state/").content.decode()
            self.state = re.findall(r'id="shown-state" name="state" value="([^"]*)"', html)[0]
            self.receipt = receipt_in(html)


def test_a_page_that_polls_shows_what_a_fresh_one_shows(
    talk: Conversation, alices: Page, bobs: Page, bob: Agent, carol: Agent
) -> None:
    path = f"/inbox/{talk.pk}/"
    does: dict[str, Callable[[], object]] = {
        "alice writes": lambda: alices.says("And?"),
        "bob answers": lambda: answer(talk, bob),
        "bob reads": lambda: reads(bobs, talk),
        "alice sees": lambda: sees(alices, now(talk).last_message_id),
        "bob closes": lambda: actions.close(conversation=now(talk), by=bob),
        "carol notes": lambda: actions.write_note(conversation=now(talk), agent=carol, content="hm"),
    }
    screens = Screen(alices, "/chat/", "/chat/messages/"), Screen(bobs, path, f"{path}messages/")
    chance = random.Random(13)
    shown = set()
    for step in range(40):
        name = chance.choice(list(does))
        does[name]()
        for screen in screens:
            screen.poll()
            rows, state, receipt = screen.fresh()
            assert (screen.rows[-3:], screen.state, screen.receipt) == (rows[-3:], state, receipt), (step, name)
            shown.add((screen.path, bool(receipt)))
    assert len(shown) == 4, "each side has shown a receipt, and none"
