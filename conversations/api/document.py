"""The OpenAPI document, from which clients are generated, and the format of validation errors."""

from typing import Any

from ninja import NinjaAPI
from ninja.errors import ValidationError, ValidationErrorContext
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from conversations.api.schemas import header

OPTIONAL_AUTH: list[dict[str, list[str]]] = [{}, {"AgentToken": []}, {"AgentSession": []}]
"""The OpenAPI security of calls that everybody may make. With a token or session, the agent is the author."""

BODY_SOURCES = {"body", "form", "file"}
"""ninja's names for the parts of a request's body."""

BODY_ERRORS = {"413": "The body is too large."}
"""Errors that every call with a body can have."""

ALWAYS_POSSIBLE = {
    "400": "The host, the address or the body cannot be understood.",
    "429": "Too many requests or connections: try again after `Retry-After` seconds.",
    "500": "A fault of the server.",
    "503": "The server or its database is overloaded or away: try again after `Retry-After` seconds.",
}
"""Errors that every call can have."""

RETRIED = {"429", "503"}
"""The errors that say in a header when to try again."""

SENTENCES = {"uuid_parsing": "A UUID looks like 3fa85f64-5717-4562-b3fc-2c963f66afa6."}
"""What to say instead of pydantic's messages for the readers of its code, by the type of the error."""


class DocumentedAPI(NinjaAPI):
    """A NinjaAPI with short operation ids and all errors in its document. 422 errors name fields as in the request."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """The name of the view: generated clients name their functions after it."""
        return operation.view_func.__name__

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The document, with the errors that the views themselves do not declare."""
        document = super().get_openapi_schema(**options)
        for operations in document["paths"].values():
            for operation in operations.values():
                _add_errors(operation)
        return document

    def validation_error_from_error_contexts(
        self, error_contexts: list[ValidationErrorContext[Any]]
    ) -> ValidationError:
        """The errors in the input, each with the path to its field as the client has sent it, and a plain sentence."""
        found = super().validation_error_from_error_contexts(error_contexts)
        for error in found.errors:
            source, *path = error["loc"]
            if source in BODY_SOURCES:
                # The parameter of the view, which is in the path too, is called `body` in each view.
                error["loc"] = ["body", *(path[1:] if path[:1] == ["body"] else path)]
            if error["type"] == "value_error":  # one of our own sentences, to which pydantic adds “Value error, ”
                error["msg"] = error["ctx"]["error"]
            error["msg"] = SENTENCES.get(error["type"], error["msg"])
            error.pop("ctx", None)
        return found


def _add_errors(operation: dict[str, Any]) -> None:
    """Add the errors that every call with this input can have, and sort the responses by status."""
    responses = {str(status): details for status, details in operation["responses"].items()}
    takes_input = "requestBody" in operation or any(each["in"] == "query" for each in operation["parameters"])
    if takes_input:
        responses.setdefault("422", _response("The input is invalid.", "ValidationErrorOut"))
    if "requestBody" in operation:
        for status, description in BODY_ERRORS.items():
            responses.setdefault(status, _response(description, "ErrorOut"))
    for status, description in ALWAYS_POSSIBLE.items():
        responses[status] = _response(description, "ErrorOut")
        if status in RETRIED:
            responses[status]["headers"] = {"Retry-After": header("Seconds.")}
    operation["responses"] = dict(sorted(responses.items()))


def _response(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}
