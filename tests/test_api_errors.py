"""Every error under /api/ is JSON, and every call is answered with and without its last slash, without a redirect."""

import json
from base64 import b64encode
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import OperationalError
from django.test import Client

from conversations.api import message_list
from conversations.models import Agent, Conversation, Token

pytestmark = pytest.mark.django_db
NUMBER = "Write a whole number, such as 42."
TIME_FORMAT = "Write a time as in 2025-03-08T17:21:49Z. In a URL, write + as %2B."
UUID_FORMAT = "A UUID looks like 3fa85f64-5717-4562-b3fc-2c963f66afa6."


@pytest.fixture(params=[False, True], ids=["", "debug"])
def client(request: Any, settings: Any) -> Client:
    """A client, with DEBUG off and on."""
    settings.DEBUG = request.param
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


def detail(response: Any, status: int) -> str:
    """The sentence of an error, which must be JSON."""
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json"), response.content
    [(name, sentence)] = json.loads(response.content).items()
    assert name == "detail"
    assert sentence
    if "Content-Length" in response:
        assert int(response["Content-Length"]) == len(response.content)
    return str(sentence)


@pytest.mark.parametrize(
    "path", ["/api/", "/api/unknown", "/api/unknown/", "/api/conversation/x/", "/api/messages/a/b/c/d"]
)
def test_an_unknown_address_is_404(client: Client, path: str) -> None:
    for method in (client.get, client.post, client.patch, client.delete):
        assert detail(method(path), 404) == "Not Found. /api/docs shows all addresses."


def test_a_conversation_that_does_not_exist_is_404(client: Client, bob: Agent) -> None:
    headers = {"Authorization": f"Bearer {Token.objects.issue(bob, 'script', 'WRITE')}"}
    for path in ("/api/conversation/999/", "/api/conversation/999/messages/"):
        assert detail(client.get(path, headers=headers), 404) == "Not Found"


def test_another_method_is_405(client: Client) -> None:
    for path in ("/api/messages/", "/api/messages", "/api/conversation/1/close"):
        response = client.put(path)
        detail(response, 405)
        assert response["Allow"]


def test_a_session_without_the_csrf_token_is_403(client: Client, bob: Agent, talk: Conversation) -> None:
    client.force_login(bob)
    sentence = detail(client.patch(f"/api/conversation/{talk.pk}/close"), 403)
    assert "X-CSRFToken" in sentence
    assert "csrftoken" in sentence
    assert "Bearer" in sentence


def test_broken_input_is_400(client: Client, talk: Conversation) -> None:
    detail(client.post("/api/messages/", "{", content_type="application/json"), 400)
    detail(client.get(f"/api/messages/{talk.uuid}/?since=%00"), 400)
    detail(client.get("/api/messages/a%00b/"), 400)
    detail(client.get(f"/api/messages/{talk.uuid}/", headers={"Host": "unknown.example"}), 400)
    detail(client.post(f"/api/messages/{talk.uuid}/files/", "x", content_type="multipart/form-data"), 400)


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_a_form_where_json_belongs_is_told_so(client: Client, kind: str, bob: Agent, talk: Conversation) -> None:
    for path in ("/api/messages/", f"/api/conversation/{talk.pk}/messages/"):
        headers = {"Authorization": f"Bearer {Token.objects.issue(bob, 'script', 'WRITE')}"}
        sentence = detail(client.post(path, "content=Hello", content_type=kind, headers=headers), 400)
        assert "Send JSON with the header Content-Type: application/json" in sentence
        assert kind.partition(";")[0] in sentence


def test_a_form_of_a_session_where_json_belongs_is_400_too(client: Client, bob: Agent, talk: Conversation) -> None:
    client.force_login(bob)
    client.get("/inbox/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    path = f"/api/conversation/{talk.pk}/messages/"
    assert "application/json" in detail(client.post(path, {"content": "Hello"}, headers=headers), 400)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"content": "a",\n "name": "b" "email": 1}', "line 2, column 14"),
        (b'{"content": "\xff"}', "not UTF-8, at byte 13"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_invalid_json_is_told_where(client: Client, body: bytes, where: str) -> None:
    assert where in detail(client.post("/api/messages/", body, content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=all", NUMBER),
        ("before=3fa85f64-5717-4562-b3fc-2c963f66afa6", NUMBER),
        ("assigned=maybe", "Write true or false."),
        ("updated_since=yesterday", TIME_FORMAT),
        ("updated_since=2025-03-08T17:21:49+02:00", TIME_FORMAT),
        ("updated_since=2025-13-08T17:21:49Z", TIME_FORMAT),
    ],
)
def test_a_wrong_parameter_is_told_what_to_write(client: Client, bob: Agent, query: str, sentence: str) -> None:
    headers = {"Authorization": f"Bearer {Token.objects.issue(bob, 'script', 'WRITE')}"}
    response = client.get(f"/api/conversation/?{query}", headers=headers)
    assert [error["msg"] for error in response.json()["detail"]] == [sentence]
    right = client.get("/api/conversation/?updated_since=2025-03-08T17:21:49%2B02:00", headers=headers)
    assert right.status_code == 200


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"content": 5}, "content", "Send a text, in quotation marks."),
        ({"content": "Hello", "client_id": "12"}, "client_id", UUID_FORMAT),
        ([], "content", "This is required: send a JSON object that has it."),
        (None, "content", "This is required: send a JSON object that has it."),
    ],
)
def test_a_wrong_field_is_told_what_to_send(client: Client, body: Any, field: str, sentence: str) -> None:
    response = client.post("/api/messages/", body, content_type="application/json")
    assert [(error["loc"][-1], error["msg"]) for error in response.json()["detail"]] == [(field, sentence)]


def test_an_empty_body_is_told_to_be_json(client: Client) -> None:
    [error] = client.post("/api/messages/", b"", content_type="application/json").json()["detail"]
    assert (error["loc"], error["msg"]) == (["body"], "Send a JSON object as the body.")


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_an_upload_without_files_is_told_how(client: Client, talk: Conversation, kind: str) -> None:
    form = {"content": "see", "file": "text"}
    sent: Any = {} if kind == "multipart/form-data" else {"content_type": kind}
    [error] = client.post(f"/api/messages/{talk.uuid}/files/", form, **sent).json()["detail"]
    sentence = "Send 1 to 5 files as multipart/form-data, each in a field named files, with a file name."
    assert (error["loc"], error["msg"]) == (["body", "files"], sentence)


def test_an_unknown_host_is_told_where_hosts_are_listed(client: Client) -> None:
    assert "ALLOWED_HOSTS" in detail(client.get("/api/messages/x/", headers={"Host": "unknown.example"}), 400)


def test_a_token_under_another_scheme_does_not_write_as_the_customer(
    client: Client, bob: Agent, talk: Conversation
) -> None:
    token = Token.objects.issue(bob, "script", "WRITE")
    body = {"content": "Hello Alice", "conversation": str(talk.uuid)}
    name, password = (f"Basic {b64encode(pair.encode()).decode()}" for pair in (f"{token}:", f"bob:{token}"))
    schemes = (
        token,
        f"Token {token}",
        f'Token token="{token}"',
        f"Basic {token}",
        f"Bearer: {token}",
        f"Bearer\t{token}",
    )
    for sent in (*schemes, name, password):
        response = client.post("/api/messages/", body, content_type="application/json", headers={"Authorization": sent})
        assert detail(response, 401) == "Unauthorized"
        assert "Authorization: Bearer TOKEN" in response["WWW-Authenticate"]
    # What a proxy in front asks for is not ours.
    headers = {"Authorization": "Basic Ym9iOnNlY3JldA=="}
    assert client.post("/api/messages/", body, content_type="application/json", headers=headers).status_code == 200
    assert talk.messages.count() == 2


def test_401_says_how_to_send_a_token(client: Client) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Token right"}):
        response = client.get("/api/me/", headers=headers)
        assert detail(response, 401) == "Unauthorized"
        assert response["WWW-Authenticate"].startswith("Bearer ")
        assert "Authorization: Bearer TOKEN" in response["WWW-Authenticate"]
        assert "createtoken" in response["WWW-Authenticate"]


def test_a_fault_of_ours_is_500_and_says_nothing_of_the_code(
    client: Client, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_list, "oldest_first", Mock(side_effect=RuntimeError("secret")))
    for query in ("", "?since=0"):
        assert "secret" not in detail(client.get(f"/api/messages/{talk.uuid}/{query}"), 500)


def test_a_database_that_does_not_answer_is_503(
    client: Client, talk: Conversation, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(message_list, "oldest_first", Mock(side_effect=OperationalError("gone")))
    for query in ("", "?since=0"):
        response = client.get(f"/api/messages/{talk.uuid}/{query}")
        detail(response, 503)
        assert int(response["Retry-After"]) > 0


def test_every_call_is_answered_with_and_without_its_last_slash(client: Client, bob: Agent, talk: Conversation) -> None:
    headers = {"Authorization": f"Bearer {Token.objects.issue(bob, 'script', 'WRITE')}"}
    paths = client.get("/api/openapi.json").json()["paths"]
    assert client.get("/api/openapi.json/").json()["paths"] == paths
    for path, operations in paths.items():
        here = path.rstrip("/").format(uuid=talk.uuid.hex, id=talk.pk, file=talk.uuid, message=1, key="default")
        for method in operations:
            call = getattr(client, method)
            bare, slash = (call(here + end, headers=headers) for end in ("", "/"))
            assert bare.status_code == slash.status_code, (method, path)
            assert bare.status_code in {200, 400, 404, 422}, (method, path, bare.status_code)
            assert "Location" not in bare
