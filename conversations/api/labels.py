"""The API's calls about labels, which agents put on conversations. Customers never see them."""

from typing import Any

from django.http import HttpRequest
from ninja import Router

from conversations.actions import LabelRefused, create_label
from conversations.api.authentication import AgentSession, AgentToken
from conversations.api.schemas import ErrorOut, LabelIn, LabelOut, LabelsOut, ValidationErrorOut, invalid_field
from conversations.models import Label

router = Router(auth=[AgentToken(), AgentSession()])


@router.get("", summary="List labels", response={200: LabelsOut, 401: ErrorOut})
def list_labels(request: HttpRequest) -> dict[str, Any]:
    """All labels, by name."""
    items = Label.objects.everyone()
    return {"items": items, "count": len(items)}


@router.post(
    "", summary="Make a label", response={200: LabelOut, 401: ErrorOut, 403: ErrorOut, 422: ValidationErrorOut}
)
def make_label(request: HttpRequest, body: LabelIn) -> Label:
    """Make a label, or get the one that has this name already, in upper or lower case."""
    try:
        return create_label(name=body.name, colour=body.colour or "")
    except LabelRefused as error:
        raise invalid_field("name", str(error)) from error
