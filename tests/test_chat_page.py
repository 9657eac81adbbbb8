"""The customer's page, as forms and htmx see it."""

import re
import uuid
from typing import Any

import pytest

from conversations.actions import close, post_message
from conversations.models import Agent, Conversation, Message, Website
from tests.conftest import UNKNOWN, Page, texts

pytestmark = pytest.mark.django_db


def as_customer(talk: Conversation) -> Page:
    """The browser that began the conversation."""
    page = Page()
    page.cookies["chat"] = talk.uuid.hex
    return page


@pytest.mark.parametrize("path", ["/chat/", "/chat/default/"])
def test_head_requests_are_answered(alice: Page, path: str) -> None:
    whole, head = alice.get(path), alice.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Type"] == whole["Content-Type"]


def test_reading_the_page_sets_no_cookie_and_writes_no_row(alice: Page) -> None:
    for path in ["/chat/", "/chat/messages/?since=0", "/chat/state/"]:
        response = alice.get(path)
        assert response.status_code in {200, 204}
        assert not response.cookies
    assert not Conversation.objects.exists()


def test_the_first_message_starts_a_conversation(alice: Page) -> None:
    response = alice.says("Hello <b>there</b>")
    assert (response.status_code, response["Location"]) == (302, "/chat/")
    assert texts(alice.get("/chat/")) == ["Hello &lt;b&gt;there&lt;/b&gt;"]
    cookie = alice.cookies["chat"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    alice.says("Second")
    assert texts(alice.get("/chat/")) == ["Hello &lt;b&gt;there&lt;/b&gt;", "Second"]
    assert Conversation.objects.count() == 1


def test_the_cookie_is_secure_over_https(alice: Page, settings: Any) -> None:
    settings.INSECURE_HTTP = False
    alice.says("Hello")
    assert alice.cookies["chat"]["secure"]


def test_name_and_email_reach_the_agents(alice: Page) -> None:
    alice.says("Hello", name="Alice", email="alice@example.com")
    conversation = Conversation.objects.get()
    assert (conversation.customer_name, conversation.customer_email) == ("Alice", "alice@example.com")


def test_htmx_gets_204_a_ring_and_the_id(alice: Page) -> None:
    response = alice.htmx("/chat/messages/", {"content": "Hello"})
    assert (response.status_code, response["HX-Trigger"]) == (204, "messages")
    assert response["X-Message"] == str(Message.objects.get().pk)
    assert alice.cookies["chat"].value


def test_since_returns_only_newer_messages_or_204(talk: Conversation, bob: Agent) -> None:
    alice = as_customer(talk)
    assert alice.get(f"/chat/messages/?since={talk.last_message_id}").status_code == 204
    post_message(content="Yes, I am here", conversation=talk, agent=bob)
    response = alice.get(f"/chat/messages/?since={talk.last_message_id}")
    assert response.status_code == 200
    assert texts(response) == ["Yes, I am here"]
    assert response.content.decode().lstrip().startswith("<li ")


def test_a_full_page_of_new_messages_triggers_the_next_fetch(talk: Conversation) -> None:
    for number in range(60):
        post_message(content=f"{number}", conversation=talk)
    alice = as_customer(talk)
    response = alice.get(f"/chat/messages/?since={talk.last_message_id}")
    assert len(texts(response)) == 50
    assert response["HX-Trigger"] == "messages"
    last = re.findall(r'data-id="(\d+)"', response.content.decode())[-1]
    rest = alice.get(f"/chat/messages/?since={last}")
    assert texts(rest) == [f"{number}" for number in range(50, 60)]
    assert "HX-Trigger" not in rest


def test_older_messages_are_paged_with_and_without_javascript(talk: Conversation) -> None:
    for number in range(119):
        post_message(content=f"{number}", conversation=talk)
    alice = as_customer(talk)
    page = alice.get("/chat/")
    assert texts(page) == [f"{number}" for number in range(69, 119)]
    before = re.search(r'href="\?before=(\d+)"', page.content.decode())
    assert before
    whole = alice.get(f"/chat/?before={before[1]}")
    part = alice.get(f"/chat/messages/?before={before[1]}")
    assert texts(whole) == texts(part) == [f"{number}" for number in range(19, 69)]
    oldest = re.search(r'href="\?before=(\d+)"', part.content.decode())
    assert oldest
    last_page = alice.get(f"/chat/messages/?before={oldest[1]}")
    assert len(texts(last_page)) == 20
    assert "?before=" not in last_page.content.decode()


def test_sending_the_same_form_twice_sends_one_message(alice: Page) -> None:
    name = str(uuid.uuid4())
    for _ in range(2):
        assert alice.says("Once", client_id=name).status_code == 302
    assert Message.objects.count() == 1


def test_a_retry_after_a_lost_first_answer_finds_the_same_conversation(alice: Page) -> None:
    name = str(uuid.uuid4())
    alice.says("Once", client_id=name)
    alice.cookies.clear()  # the answer with the cookie never arrived
    alice.says("Once", client_id=name)
    assert texts(alice.get("/chat/")) == ["Once"]
    assert Conversation.objects.count() == 1


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"content": "  \r\n "}, "Write something first"),
        ({"content": "x" * 20_481}, "has 20,481 characters"),
        ({"content": "a\x00b"}, "Null characters are not allowed"),
        ({"content": "Hi", "email": "nonsense"}, "does not look like an e-mail address"),
        ({"content": "Hi", "name": "n" * 81}, "longer than 80"),
    ],
)
def test_an_invalid_form_is_422_with_an_error_and_the_typed_text(
    alice: Page, sent: dict[str, str], sentence: str
) -> None:
    page = alice.post("/chat/messages/", sent)
    assert page.status_code == 422
    html = page.content.decode()
    assert sentence in html
    assert sent["content"].strip()[:100] in html
    part = alice.htmx("/chat/messages/", sent)
    assert part.status_code == 422
    assert sentence in part.content.decode()
    assert part["Content-Type"].startswith("text/plain")
    assert not Conversation.objects.exists()


def test_another_text_with_the_same_client_id_is_409_and_gets_a_new_client_id(alice: Page) -> None:
    name = str(uuid.uuid4())
    alice.says("One", client_id=name)
    page = alice.says("Other", client_id=name)
    assert page.status_code == 409
    html = page.content.decode()
    assert "Other" in html
    fresh = re.search(r'name="client_id" value="([^"]+)"', html)
    assert fresh
    assert fresh[1] != name
    alice.says("Other", client_id=fresh[1])
    assert texts(alice.get("/chat/")) == ["One", "Other"]


def test_line_breaks_are_normalized_and_kept(alice: Page) -> None:
    alice.says("one\r\ntwo\n\nthree")
    assert Message.objects.get().content == "one\ntwo\n\nthree"


def test_a_closed_chat_says_so_and_writing_reopens_it(talk: Conversation) -> None:
    alice = as_customer(talk)
    assert "closed" not in alice.get("/chat/").content.decode()
    close(conversation=talk)
    assert "This chat is closed. Write again to reopen it." in alice.get("/chat/").content.decode()
    poll = alice.get(f"/chat/messages/?since={talk.last_message_id}&state=OPEN")
    assert (poll.status_code, poll["HX-Trigger"]) == (204, "state")
    alice.says("One more thing")
    assert "closed" not in alice.get("/chat/").content.decode()


def test_customers_never_see_client_ids_of_agents(talk: Conversation, bob: Agent) -> None:
    mine, bobs = uuid.uuid4(), uuid.uuid4()
    post_message(content="mine", conversation=talk, client_id=mine)
    post_message(content="bobs", conversation=talk, agent=bob, client_id=bobs)
    html = as_customer(talk).get("/chat/").content.decode()
    assert str(mine) in html
    assert str(bobs) not in html


def test_without_javascript_the_page_refreshes_itself_except_while_writing(talk: Conversation) -> None:
    refresh = re.compile(r'<noscript><meta http-equiv="refresh" content="\d+"></noscript>')
    alice = as_customer(talk)
    assert refresh.search(alice.get("/chat/").content.decode())
    assert not refresh.search(alice.get("/chat/?write=1").content.decode())
    assert not refresh.search(alice.says("  ").content.decode())


@pytest.mark.parametrize("value", ["nonsense", UNKNOWN.hex, "", "x" * 5000])
def test_an_invalid_cookie_shows_an_empty_chat(talk: Conversation, value: str) -> None:
    page = Page()
    page.cookies["chat"] = value
    assert texts(page.get("/chat/")) == []
    assert page.get("/chat/messages/?since=0").status_code == 204
    assert page.get("/chat/messages/?before=99999").status_code == 204


@pytest.mark.parametrize("query", ["since=x", "since=-1", "since=", f"since={10**30}", "before=x", "before=0"])
def test_invalid_numbers_are_ignored(talk: Conversation, query: str) -> None:
    assert as_customer(talk).get(f"/chat/messages/?{query}").status_code in {200, 204}


def test_a_chat_of_its_own_describes_itself_to_search_engines_and_previews_of_links(alice: Page) -> None:
    Website.objects.create(key="shop", name='Fern & "Fired"')
    page = alice.get("/chat/shop/").content.decode()
    [description] = re.findall(r'<meta name="description" content="([^"]*)">', page)
    assert description.startswith("Fern &amp; &quot;Fired&quot;: send us a message")
    assert 'name="description"' not in alice.get("/chat/shop/?host=https://shop.example").content.decode()
