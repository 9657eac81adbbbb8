"""The OpenAPI document, from which clients are generated, and the format of validation errors."""

from typing import Any

from ninja import NinjaAPI
from ninja.errors import ValidationError, ValidationErrorContext
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from conversations.api.schemas import TIME_FORMAT, header

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

NUMBER = "Write a whole number, such as 42."
SENTENCES = {
    "uuid_parsing": "A UUID looks like 3fa85f64-5717-4562-b3fc-2c963f66afa6.",
    "int_parsing": NUMBER,
    "int_type": NUMBER,
    "int_from_float": NUMBER,
    "bool_parsing": "Write true or false.",
    "string_type": "Send a text, in quotation marks.",
    "datetime_parsing": TIME_FORMAT,
    "datetime_from_date_parsing": TIME_FORMAT,
}
"""What to say instead of pydantic's messages for the readers of its code, by the type of the error."""

MISSING = {
    (): "Send a JSON object as the body.",
    ("files",): "Send 1 to 5 files as multipart/form-data, each in a field named files, with a file name.",
}
"""What to say of a part of the body that is missing, by its path in the body."""

MISSING_FIELD = "This is required: send a JSON object that has it."


class DocumentedAPI(NinjaAPI):
    """A NinjaAPI with short operation ids and all errors in its document. 422 errors name fields as in the request."""

    document: OpenAPISchema | None = None

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """The name of the view: generated clients name their functions after it."""
        return operation.view_func.__name__

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The document, with the errors that the views themselves do not declare.

        It is made once: that takes 80 ms, and everybody may ask for it.
        """
        if self.document is None:
            self.document = self._make_document(**options)
        return self.document

    def _make_document(self, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        for operations in document["paths"].values():
            for operation in operations.values():
                _add_errors(operation)
                for parameter in operation["parameters"]:
                    _remove_null(parameter)
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
            if error["type"] == "missing" and error["loc"][0] == "body":
                error["msg"] = MISSING.get(tuple(error["loc"][1:]), MISSING_FIELD)
            error.pop("ctx", None)
        return found


def _remove_null(parameter: dict[str, Any]) -> None:
    """Say what a parameter may be that can be left out: null, which pydantic allows too, cannot be in a URL."""
    schema = parameter["schema"]
    options = [option for option in schema.pop("anyOf", []) if option != {"type": "null"}]
    if options:
        schema.update(options[0])
    if "description" in schema:
        parameter["description"] = schema["description"]  # generators read one or the other


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
    if "401" in responses:
        responses["401"]["headers"] = {"WWW-Authenticate": header("How to send a token.", "string")}
    operation["responses"] = dict(sorted(responses.items()))


def _response(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}
