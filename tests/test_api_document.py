"""The OpenAPI document: clients that are generated from it speak as who they are, and know all responses."""

import json
import re
from base64 import b64decode
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from conversations.models import Agent, Conversation, Token

pytestmark = pytest.mark.django_db
UNSAFE = {"post", "put", "patch", "delete"}


@pytest.fixture
def document() -> Any:
    """The document."""
    return Client().get("/api/openapi.json").json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    """The method, path and description of each call."""
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def properties(document: Any, schema: str) -> Any:
    """The fields of a schema."""
    return document["components"]["schemas"][schema]["properties"]


def generated_call(document: Any, operation_id: str, token: str | None, body: Any, **parameters: Any) -> Any:
    """Call as a generated client does: it sends a token only where the document's `security` names a bearer scheme."""
    [(method, path, operation)] = [found for found in operations(document) if found[2]["operationId"] == operation_id]
    schemes = document["components"]["securitySchemes"]
    names = [name for option in operation.get("security", []) for name in option]
    takes_token = any(schemes[name].get("scheme") == "bearer" for name in names)
    headers = {"Authorization": f"Bearer {token}"} if token and takes_token else {}
    [kind] = operation.get("requestBody", {"content": {"": {}}})["content"]
    send = getattr(Client(), method)
    data = {"data": body} if kind == "multipart/form-data" else {"data": json.dumps(body), "content_type": kind}
    return send(path.format(**parameters), headers=headers, **(data if kind else {}))


def test_a_generated_client_with_a_token_answers_as_the_agent(document: Any, bob: Agent, talk: Conversation) -> None:
    token = Token.objects.issue(bob, "generated", "WRITE")
    uuid = str(talk.uuid)
    answer = generated_call(document, "send_message", token, {"content": "Hello Alice", "conversation": uuid})
    assert answer.json()["items"][-1]["author"] == "AGE"
    files = {"files": [SimpleUploadedFile("offer.txt", b"an offer")]}
    answer = generated_call(document, "send_files", token, files, uuid=uuid)
    assert answer.json()["items"][-1]["author"] == "AGE"
    answer = generated_call(document, "send_message", None, {"content": "Thank you", "conversation": uuid})
    assert answer.json()["items"][-1]["author"] == "CUS"


def test_calls_of_customers_need_no_token_and_take_one(document: Any) -> None:
    for _method, path, operation in operations(document):
        if path == "/api/website/{key}/":  # public
            assert "security" not in operation
            continue
        optional = {} in operation["security"]
        assert optional == path.startswith("/api/messages/"), path
        assert [next(iter(option)) for option in operation["security"] if option] == ["AgentToken", "AgentSession"]


def test_operation_ids_are_short_and_unique(document: Any) -> None:
    ids = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert {"send_message", "list_messages", "list_conversations", "send_answer"} <= set(ids)
    assert not [name for name in ids if "api" in name or len(name) > 30]


def test_every_call_documents_429_and_422_where_it_takes_input(document: Any) -> None:
    for method, path, operation in operations(document):
        schemas = {
            status: details.get("content", {})
            .get("application/json", {})
            .get("schema", {})
            .get("$ref", "")
            .rpartition("/")[2]
            for status, details in operation["responses"].items()
        }
        assert schemas["429"] == schemas["503"] == "ErrorOut", path
        takes_input = any(each["in"] == "query" for each in operation["parameters"]) or "requestBody" in operation
        assert schemas.get("422", "ValidationErrorOut") == "ValidationErrorOut"
        assert "422" in schemas or not takes_input, path
        assert {"ErrorOut"} == {schemas[status] for status in schemas if status >= "400" and status != "422"}
        assert method not in UNSAFE or "403" in schemas
        assert "requestBody" not in operation or {"400", "413"} <= set(schemas)


def test_errors_that_say_when_to_try_again_document_the_header(document: Any) -> None:
    for _method, path, operation in operations(document):
        for status, details in operation["responses"].items():
            headers = details.get("headers", {})
            assert (headers.get("Retry-After", {}).get("schema") == {"type": "integer"}) == (status in {"429", "503"})
        assert {"400", "500"} <= set(operation["responses"]), path


USUAL_HEADERS = {
    "Content-Type",
    "Content-Length",
    "Content-Language",
    "Cache-Control",
    "Vary",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
}
"""Headers of all responses, which browsers read and clients of the API do not."""


def test_the_document_names_every_header_and_status(document: Any, bob: Agent, talk: Conversation) -> None:
    named = {
        (operation["operationId"], status): set(details.get("headers", {}))
        for *_, operation in operations(document)
        for status, details in operation["responses"].items()
    }
    token = Token.objects.issue(bob, "generated", "WRITE")
    picture = SimpleUploadedFile("red.gif", b64decode("R0lGODdhAQABAIAAAP8AAAAAACwAAAAAAQABAAACAkQBADs="))
    sent = generated_call(document, "send_files", None, {"files": [picture]}, uuid=talk.uuid).json()
    file = sent["items"][-1]["attachments"][0]["url"].split("/")[-2]
    seen = set()
    for *_, operation in operations(document):
        name = operation["operationId"]
        for caller in (token, None):
            for uuid, id, key in ((talk.uuid, talk.pk, "default"), ("x", 0, "unknown")):
                for body in ({"content": "Hello", "agent": bob.pk}, {}):
                    parameters = {"uuid": uuid, "id": id, "file": file, "key": key, "message": talk.last_message_id}
                    response = generated_call(document, name, caller, body, **parameters)
                    status = str(response.status_code)
                    assert (name, status) in named
                    seen.add(status)
                    sets = set(response.headers) - USUAL_HEADERS
                    assert sets <= named[name, status], (name, status)
                    if name in {"list_messages", "list_conversation_messages"} and status == "200":
                        assert "X-Last-Message" in sets
    assert {"200", "401", "404", "422"} <= seen


def test_parameters_are_described_and_never_null(document: Any) -> None:
    found = [
        (path, each)
        for _, path, operation in operations(document)
        for each in operation["parameters"]
        if each["in"] == "query"
    ]
    for path, each in found:
        assert "anyOf" not in each["schema"], (path, each)
        assert each["description"] == each["schema"]["description"], path
    schemas = {each["name"]: each["schema"] for path, each in found if path == "/api/conversation/"}
    assert schemas["status"]["enum"] == ["OPEN", "CLOSED"]
    assert (schemas["before"]["type"], schemas["before"]["minimum"]) == ("integer", 0)
    assert schemas["assigned"]["type"] == "boolean"
    assert schemas["updated_since"]["format"] == "date-time"


def test_words_for_pictures_are_in_the_document_and_false_is_none(document: Any, talk: Conversation) -> None:
    for *_, operation in operations(document):
        if "download" in operation["operationId"]:
            query = {each["name"]: each["schema"]["type"] for each in operation["parameters"] if each["in"] == "query"}
            assert query == {"small": "boolean", "original": "boolean"}
    picture = SimpleUploadedFile("red.gif", b64decode("R0lGODdhAQABAIAAAP8AAAAAACwAAAAAAQABAAACAkQBADs="))
    sent = generated_call(document, "send_files", None, {"files": [picture]}, uuid=talk.uuid).json()
    url = sent["items"][-1]["attachments"][0]["url"]
    kinds = [
        Client().get(url + query)["Content-Type"]
        for query in ("", "?small=false", "?small", "?small=true", "?original=false", "?original", "?original=1")
    ]
    shown, thumbnail, original = kinds[0], "image/webp", "application/octet-stream"
    assert kinds == [shown, shown, thumbnail, thumbnail, shown, original, original]


def test_errors_in_the_input_have_the_documented_fields(document: Any) -> None:
    body = {"content": "", "email": "alice", "client_id": "x", "website": "Not A Key", "name": "x" * 500}
    errors = generated_call(document, "send_message", None, body).json()["detail"]
    assert len(errors) == len(body)
    assert {name for error in errors for name in error} == set(properties(document, "FieldError"))


def test_no_error_shows_a_regular_expression(document: Any, bob: Agent) -> None:
    """What has a pattern in the document is refused with a sentence that says how to write it."""
    headers = {"Authorization": f"Bearer {Token.objects.issue(bob, 'script', 'WRITE')}"}
    answers = []
    for _method, path, operation in operations(document):
        for each in operation["parameters"]:
            if "pattern" in json.dumps(each):
                answers += [Client().get(path, {each["name"]: "Not A Key"}, headers=headers)]
    for name, schema in document["components"]["schemas"].items():
        for field, details in schema.get("properties", {}).items():
            if "pattern" in json.dumps(details):
                assert name == "MessageIn"
                answers.append(generated_call(document, "send_message", None, {"content": "Hi", field: "Not A Key\n"}))
    assert len(answers) == 3
    for answer in answers:
        [error] = answer.json()["detail"]
        assert (answer.status_code, error["type"]) == (422, "string_pattern_mismatch")
        assert re.search("key has 2 to 40 .* such as abc23def45", error["msg"])
    [error] = generated_call(document, "send_message", None, {"content": "Hi", "client_id": "x"}).json()["detail"]
    assert "looks like 3fa85f64" in error["msg"]


def test_types_say_what_a_reader_of_the_document_can_rely_on(document: Any) -> None:
    moment = {"type": "string", "format": "date-time"}
    assert properties(document, "MessageOut")["date"].items() >= moment.items()
    for name in ("created_at", "last_message_at"):
        assert properties(document, "ConversationOut")[name].items() >= moment.items()
    nullable_uuid = [{"format": "uuid", "type": "string"}, {"type": "null"}]
    assert properties(document, "MessageOut")["conversation"]["format"] == "uuid"
    assert properties(document, "AgentMessageOut")["conversation"]["anyOf"] == nullable_uuid
    assert properties(document, "MessageIn")["conversation"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert "assignee" in document["components"]["schemas"]["ConversationOut"]["required"]
    assert document["servers"][0]["url"] == "/"


def test_examples_can_be_sent_as_they_are(document: Any, bob: Agent, talk: Conversation) -> None:
    token = Token.objects.issue(bob, "script", "WRITE")
    for name, parameters, caller in [("send_message", {}, None), ("send_answer", {"id": talk.pk}, token)]:
        [operation] = [operation for *_, operation in operations(document) if operation["operationId"] == name]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        [example] = document["components"]["schemas"][schema]["examples"]
        assert generated_call(document, name, caller, example, **parameters).status_code == 200


@pytest.mark.parametrize("null", ["", "null", "None"])
def test_nullable_fields_of_forms_take_what_clients_send_for_null(talk: Conversation, null: str) -> None:
    form = {"files": [SimpleUploadedFile("plan.txt", b"a plan")], "client_id": null, "identity": null}
    assert Client().post(f"/api/messages/{talk.uuid}/files/", form).status_code == 200


def test_an_invalid_field_is_named_as_the_client_has_sent_it(talk: Conversation) -> None:
    def errors(response: Any) -> list[tuple[list[str], str]]:
        assert response.status_code == 422
        return [(error["loc"], error["msg"]) for error in response.json()["detail"]]

    def post(body: str) -> Any:
        return Client().post("/api/messages/", body, content_type="application/json")

    for body, field in [
        ("{}", "content"),
        ('{"content": " "}', "content"),
        ('{"content": "Hi", "email": "alice"}', "email"),
        ('{"content": "Hi", "client_id": "x"}', "client_id"),
        ('{"content": "Hi", "website": "unknown"}', "website"),
    ]:
        [(loc, msg)] = errors(post(body))
        assert loc == ["body", field]
        assert not msg.startswith("Value error")
    path = f"/api/messages/{talk.uuid}/files/"
    assert errors(Client().post(path, {"content": "no file"}))[0][0] == ["body", "files"]
    [(loc, _)] = errors(Client().post(path, {"files": [SimpleUploadedFile("a", b"a")], "client_id": "x"}))
    assert loc == ["body", "client_id"]
    assert errors(Client().get(f"/api/messages/{talk.uuid}/?since=x"))[0][0] == ["query", "since"]


def test_the_document_is_made_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/api/openapi.json").content

    def make(self: object, **options: object) -> None:
        raise AssertionError("It was made again.")

    monkeypatch.setattr("ninja.NinjaAPI.get_openapi_schema", make)
    assert client.get("/api/openapi.json").content == first
