"""The JSON API for customers: what third-party widgets rely on."""

import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from conversations.actions import close, post_message
from conversations.api import message_list
from conversations.api.message_list import BATCH_SIZE
from conversations.models import Agent, Attachment, Conversation, Message, News, Token
from conversations.screen.paging import MAX_BYTES
from tests.conftest import UNKNOWN, Page

pytestmark = pytest.mark.django_db


def post(client: Client, since: int | None = None, **body: Any) -> Any:
    """POST /api/messages/."""
    path = "/api/messages/" + ("" if since is None else f"?since={since}")
    return client.post(path, json.dumps(body), content_type="application/json")


def contents(response: Any) -> list[str]:
    """The messages of an answer."""
    return [item["content"] for item in response.json()["items"]]


def test_a_message_without_a_conversation_starts_one_and_returns_its_uuid() -> None:
    response = post(Client(), content="Hello")
    assert response.status_code == 200
    body = response.json()
    message = Message.objects.get()
    assert body == {
        "items": [
            {
                "conversation": str(message.conversation.uuid),
                "id": message.pk,
                "date": message.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "content": "Hello",
                "author": "CUS",
                "agent": None,
                "attachments": [],
            }
        ],
        "count": 1,
    }


def test_posting_returns_the_whole_conversation_with_the_new_message_last(talk: Conversation) -> None:
    response = post(Client(), content="And then?", conversation=str(talk.uuid))
    assert contents(response) == ["Hello, is anybody there?", "And then?"]
    assert response.json()["count"] == 2


def test_an_answer_may_have_more_messages_than_one_query_reads(talk: Conversation) -> None:
    for number in range(120):
        post_message(content=f"{number}", conversation=talk)
    response = post(Client(), content="last", conversation=str(talk.uuid))
    expected = ["Hello, is anybody there?", *map(str, range(120)), "last"]
    for answer, shown in [
        (response, expected),
        (Client().get(f"/api/messages/{talk.uuid}/?limit=1000"), expected),
        (Client().get(f"/api/messages/{talk.uuid}/?limit=110&offset=5"), expected[5:115]),
        (Client().get(f"/api/messages/{talk.uuid}/?limit=100"), expected[:100]),
        (Client().get(f"/api/messages/{talk.uuid}/?offset=120"), expected[120:]),
    ]:
        raw = answer.getvalue()
        body = json.loads(raw)
        assert [item["content"] for item in body["items"]] == shown
        assert body["count"] == 122
        assert answer["Content-Type"] == "application/json"
        assert int(answer["Content-Length"]) == len(raw)


def test_a_response_is_bounded_by_bytes_and_since_reads_on(talk: Conversation) -> None:
    texts = ["🌱" * 5000, "x" * 10, "🌱" * 5000, "é" * 9000, "🌱" * 20_480, "y" * 100]
    for text in texts:
        post_message(content=text, conversation=talk)
    since = 0
    found: list[str] = []
    while True:
        response = Client().get(f"/api/messages/{talk.uuid}/?since={since}")
        body = response.json()
        shown = contents(response)
        assert len(response.content) < MAX_BYTES + 200 or len(shown) == 1
        assert body["count"] == 1 + len(texts) - len(found)
        found += shown
        assert body.get("more", False) == (len(found) <= len(texts))
        if "more" not in body:
            break
        since = body["items"][-1]["id"]
    assert found == ["Hello, is anybody there?", *texts]


@pytest.mark.parametrize("query", ["", "?limit=1000", "?limit=5", "?limit=1000&offset=3", "?since=0"])
def test_a_response_reads_no_more_messages_than_it_can_hold(
    talk: Conversation, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2 * BATCH_SIZE):
        post_message(content="🌱" * 20_480, conversation=talk)
    read = 0

    def count_read(*args: Any, **options: Any) -> Any:
        nonlocal read
        found = News.after(*args, **options)
        read += len(found.messages) if found else 0
        return found

    monkeypatch.setattr(message_list, "News", SimpleNamespace(after=count_read))
    response = Client().get(f"/api/messages/{talk.uuid}/{query}")
    assert len(response.content) < 100_000
    assert response.json()["more"] is True
    assert read <= BATCH_SIZE


def test_posting_returns_the_newest_messages_where_not_all_fit(talk: Conversation) -> None:
    for _ in range(BATCH_SIZE + 5):
        post_message(content="🌱" * 3000, conversation=talk)
    response = post(Client(), content="last", conversation=str(talk.uuid))
    body = response.json()
    assert contents(response) == [*["🌱" * 3000] * 4, "last"]
    assert [item["id"] for item in body["items"]] == sorted(item["id"] for item in body["items"])
    assert (body["count"], body["more"]) == (BATCH_SIZE + 7, True)
    since = body["items"][-3]["id"]
    newest = post(Client(), since=since, content="one more", conversation=str(talk.uuid)).json()
    assert [item["content"][:8] for item in newest["items"]] == ["🌱" * 8, "last", "one more"]
    assert (newest["count"], "more" in newest) == (3, False)


def test_a_post_returns_its_message_even_where_it_alone_is_larger_than_a_response(talk: Conversation) -> None:
    body = post(Client(), content="🌱" * 20_480, conversation=str(talk.uuid)).json()
    assert [item["content"] for item in body["items"]] == ["🌱" * 20_480]
    assert (body["count"], body["more"]) == (2, True)


def test_more_says_whether_messages_follow_a_page(talk: Conversation) -> None:
    for number in range(BATCH_SIZE):
        post_message(content=f"{number}", conversation=talk)
    for query, more in [
        ("?limit=1", True),
        (f"?limit={BATCH_SIZE}", True),
        (f"?limit={BATCH_SIZE + 1}", False),
        ("?limit=5&offset=3", True),
        (f"?limit=5&offset={BATCH_SIZE - 4}", False),
        (f"?limit=5&offset={BATCH_SIZE + 9}", False),
    ]:
        body = Client().get(f"/api/messages/{talk.uuid}/{query}").json()
        assert body["count"] == BATCH_SIZE + 1
        assert body.get("more", False) is more, query


@pytest.mark.parametrize("slash", ["", "/"])
def test_pages_of_listed_origins_may_call_with_and_without_the_last_slash(talk: Conversation, slash: str) -> None:
    talk.website.origins.create(origin="https://shop.example")
    origin = {"Origin": "https://shop.example"}
    for path in (f"/api/messages{slash}", f"/api/messages/{talk.uuid}{slash}"):
        for method in (Client().options, Client().get):
            response = method(path, headers={**origin, "Access-Control-Request-Method": "GET"})
            assert response["Access-Control-Allow-Origin"] == "https://shop.example"


def test_a_poll_without_news_is_one_query(talk: Conversation) -> None:
    for number in range(3):
        post_message(content=f"{number}", conversation=talk)
    for since in (0, talk.last_message_id, 2**62):
        with CaptureQueriesContext(connection) as queries:
            Client().get(f"/api/messages/{talk.uuid}/?since={since}")
        assert len(queries) == 1


@pytest.mark.parametrize(
    "query", ["", "?since=0", "?since={last}", "?since=99999999", "?limit=1", "?offset=2", "?offset=99"]
)
def test_each_response_says_the_conversations_last_id(talk: Conversation, query: str) -> None:
    for number in range(3):
        last = post_message(content=f"{number}", conversation=talk).pk
    response = Client().get(f"/api/messages/{talk.uuid}/{query.format(last=last)}")
    assert response["X-Last-Message"] == str(last)


def test_an_unknown_conversation_has_the_last_id_0(db: None) -> None:
    for uuid_ in (uuid.uuid4(), "nonsense"):
        for query in ("", "?since=7", "?offset=7"):
            assert Client().get(f"/api/messages/{uuid_}/{query}")["X-Last-Message"] == "0"


def test_a_widget_notices_that_the_database_was_restored(talk: Conversation) -> None:
    talk.website.origins.create(origin="https://shop.example")
    received = post_message(content="lost", conversation=talk).pk
    Message.objects.filter(pk=received).delete()
    Conversation.objects.filter(pk=talk.pk).update(last_message_id=talk.messages.get().pk)
    path, origin = f"/api/messages/{talk.uuid}/", {"Origin": "https://shop.example"}
    response = Client().get(f"{path}?since={received}", headers=origin)
    assert response.json() == {"items": [], "count": 0}
    assert int(response["X-Last-Message"]) < received
    assert "X-Last-Message" in response["Access-Control-Expose-Headers"]
    assert contents(Client().get(path)) == ["Hello, is anybody there?"]


def test_posting_with_since_returns_only_newer_messages(talk: Conversation) -> None:
    response = post(Client(), since=talk.last_message_id, content="And then?", conversation=talk.uuid.hex)
    assert contents(response) == ["And then?"]


@pytest.mark.parametrize("by_agent", [False, True])
def test_the_only_new_message_is_returned_as_a_poll_returns_it(talk: Conversation, bob: Agent, by_agent: bool) -> None:
    bot = Client(headers={"Authorization": f"Bearer {Token.objects.issue(bob, 'a bot', 'WRITE')}"})
    widget, address = Client(), f"/api/messages/{talk.uuid}/"
    if by_agent:
        widget, address = bot, f"/api/conversation/{talk.pk}/messages/"
    last, text = talk.last_message_id, 'Grüße aus Gdańsk 🌱\n"<b>" & so on'
    with CaptureQueriesContext(connection) as queries:
        if by_agent:
            posted = bot.post(f"{address}?since={last}", {"content": text}, "application/json")
        else:
            posted = post(widget, since=last, content=text, conversation=str(talk.uuid))
    polled = widget.get(f"{address}?since={last}")
    assert contents(polled) == [text]
    assert posted.content == polled.content
    assert not [query["sql"] for query in queries if "JOIN conversations_message" in query["sql"]]
    seen = post(Client(), since=2**40, content="And then?", conversation=str(talk.uuid))
    assert contents(seen) == []


@pytest.mark.parametrize("name", [None, "", "nonsense", str(UNKNOWN), 7, ["x"], {"a": 1}, True])
def test_an_unknown_or_malformed_conversation_starts_a_new_one(talk: Conversation, name: Any) -> None:
    response = post(Client(), content="Hi", conversation=name)
    assert response.status_code == 200
    assert contents(response) == ["Hi"]
    assert Conversation.objects.count() == 2


def test_name_and_email_are_kept_on_the_conversation() -> None:
    post(Client(), content="Hi", name="Alice  Smith", email="alice@example.com")
    kept = Conversation.objects.get()
    assert (kept.customer_name, kept.customer_email) == ("Alice Smith", "alice@example.com")


def test_limit_and_offset_page_the_list_and_count_is_the_total(talk: Conversation) -> None:
    for number in range(5):
        post_message(content=f"{number}", conversation=talk)
    page = Client().get(f"/api/messages/{talk.uuid}/", {"limit": 2, "offset": 3})
    assert contents(page) == ["2", "3"]
    assert page.json()["count"] == 6
    beyond = Client().get(f"/api/messages/{talk.uuid}/", {"offset": 30})
    assert beyond.json() == {"items": [], "count": 6}


def test_the_default_limit_is_100(talk: Conversation) -> None:
    for number in range(105):
        post_message(content=f"{number}", conversation=talk)
    body = Client().get(f"/api/messages/{talk.uuid}/").json()
    assert (len(body["items"]), body["count"]) == (100, 106)


def test_since_returns_only_newer_messages(talk: Conversation) -> None:
    first = talk.last_message_id
    post_message(content="second", conversation=talk)
    path = f"/api/messages/{talk.uuid.hex}/"
    newer = Client().get(path, {"since": first})
    assert contents(newer) == ["second"]
    nothing = Client().get(path, {"since": newer.json()["items"][-1]["id"]})
    assert (nothing.status_code, nothing.json()) == (200, {"items": [], "count": 0})


@pytest.mark.parametrize("name", [str(UNKNOWN), UNKNOWN.hex, "nonsense", "0"])
def test_an_unknown_uuid_is_an_empty_list(talk: Conversation, name: str) -> None:
    response = Client().get(f"/api/messages/{name}/")
    assert (response.status_code, response.json()) == (200, {"items": [], "count": 0})


def test_head_returns_the_headers_of_get_without_the_body(talk: Conversation, bobs: Page) -> None:
    attachments = [Attachment.from_upload("plan.txt", ContentFile(b"a plan"))]
    file = post_message(content="", conversation=talk, attachments=attachments).attached[0]
    messages_path = f"/api/messages/{talk.uuid}/"
    for path in (f"{messages_path}?since=0", f"{messages_path}?limit=5", f"{messages_path}files/{file.uuid}/"):
        whole, head = Client().get(path), Client().head(path)
        assert (whole.status_code, head.status_code) == (200, 200)
        assert head.headers == whole.headers
        assert (b"".join(whole) != b"", b"".join(head)) == (True, b"")
    assert bobs.head("/api/conversation/").status_code == 200
    assert Client().head("/api/conversation/").status_code == 401
    assert Client().head("/api/messages/").status_code == 405
    assert Client().head(f"{messages_path}files/{uuid.uuid4()}/").status_code == 404


def test_listing_messages_without_a_uuid_is_405() -> None:
    response = Client().get("/api/messages/")
    assert response.status_code == 405
    assert response["Content-Type"].startswith("application/json")
    assert response.json()["detail"]
    assert "POST" in response["Allow"]


def test_a_retry_with_the_same_client_id_returns_the_first_message(talk: Conversation) -> None:
    name = str(uuid.uuid4())
    once = post(Client(), content="once", conversation=str(talk.uuid), client_id=name)
    again = post(Client(), content="once", conversation=str(talk.uuid), client_id=name)
    assert once.status_code == again.status_code == 200
    assert once.json() == again.json()
    assert Message.objects.filter(content="once").count() == 1


def test_the_same_client_id_with_another_content_is_409(talk: Conversation) -> None:
    name = str(uuid.uuid4())
    post(Client(), content="once", conversation=str(talk.uuid), client_id=name)
    response = post(Client(), content="other", conversation=str(talk.uuid), client_id=name)
    assert response.status_code == 409
    assert "client_id" in response.json()["detail"]
    assert not Message.objects.filter(content="other").exists()


def test_a_retry_of_the_first_message_never_starts_a_second_conversation() -> None:
    name = str(uuid.uuid4())
    once, again = (post(Client(), content="Hello", client_id=name) for _ in range(2))
    assert once.json() == again.json()
    assert Conversation.objects.count() == 1


def test_a_client_id_of_another_conversation_is_409(talk: Conversation) -> None:
    name = str(uuid.uuid4())
    post(Client(), content="secret", conversation=str(talk.uuid), client_id=name)
    mallorys = post_message(content="mine").conversation
    response = post(Client(), content="secret", conversation=str(mallorys.uuid), client_id=name)
    assert response.status_code == 409
    assert "items" not in response.json()


def test_a_closed_conversation_opens_again_when_the_customer_writes(talk: Conversation) -> None:
    close(conversation=talk)
    post(Client(), content="One more thing", conversation=str(talk.uuid))
    talk.refresh_from_db()
    assert talk.is_open


def test_a_new_conversation_is_linked_to_the_signed_in_user() -> None:
    user = User.objects.create_user("dora")
    client = Client()
    client.force_login(user)
    assert post(client, content="Hello").json()["items"][0]["author"] == "CUS"
    assert Conversation.objects.get().customer == user


def test_a_member_of_the_group_agent_writes_as_an_agent(talk: Conversation, bobs: Client, bob: Agent) -> None:
    response = post(bobs, content="I am here", conversation=str(talk.uuid))
    assert response.json()["items"][-1]["author"] == "AGE"
    assert Message.objects.get(content="I am here").agent_id == bob.pk


def test_an_agents_answer_leaves_a_closed_conversation_closed(talk: Conversation, bobs: Client) -> None:
    close(conversation=talk)
    post(bobs, content="By the way", conversation=str(talk.uuid))
    talk.refresh_from_db()
    assert not talk.is_open


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": " \n\t"},
        {"content": None},
        {"content": 7},
        {"content": "x" * 20_481},
        {"content": "nul \x00"},
        {"content": "Hi", "name": "x" * 81},
        {"content": "Hi", "name": "nul \x00"},
        {"content": "Hi", "email": "nonsense"},
        {"content": "Hi", "email": "a@" + "b" * 300 + ".com"},
        {"content": "Hi", "client_id": "nonsense"},
    ],
)
def test_invalid_fields_are_422_with_a_reason_and_change_nothing(body: dict[str, Any]) -> None:
    response = post(Client(), **body)
    assert response.status_code == 422, response.content
    assert response.json()["detail"][0]["msg"]
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b'"x"', b"null", b"\xff\xfe", b'{"content": "\\ud800"}'])
def test_a_body_that_is_not_a_json_object_is_a_4xx_in_json(raw: bytes) -> None:
    response = Client().post("/api/messages/", raw, content_type="application/json")
    assert 400 <= response.status_code < 500
    assert response.json()["detail"]
    assert not Conversation.objects.exists()


@pytest.mark.parametrize(
    "query", ["since=-1", "since=x", "since=1e3", f"since={2**70}", "limit=0", "limit=-1", "offset=-1"]
)
def test_invalid_numbers_in_the_query_string_are_422(talk: Conversation, query: str) -> None:
    assert Client().get(f"/api/messages/{talk.uuid}/?{query}").status_code == 422


def test_every_error_under_api_is_json() -> None:
    client = Client(raise_request_exception=False)
    for response in [
        client.get("/api/nothing/"),
        client.put("/api/messages/"),
        client.delete("/api/messages/x/"),
        client.post("/api/messages/", b"x" * 400_000, content_type="application/json"),
    ]:
        assert 400 <= response.status_code < 500
        assert response["Content-Type"].startswith("application/json")
        assert isinstance(response.json()["detail"], str)


def test_a_body_over_the_limit_is_413() -> None:
    response = Client().post("/api/messages/", b"x" * 400_000, content_type="application/json")
    assert response.status_code == 413
