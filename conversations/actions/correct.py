"""An agent corrects what a customer is called."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.record import record
from conversations.announce import announce_to_agents
from conversations.models import Conversation
from conversations.models.desk_entry import Kind

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@transaction.atomic
def correct(*, conversation: Conversation, name: str, email: str, by: "User | None" = None) -> Conversation:
    """Set the customer's name and e-mail address; "" takes one away.

    What the customer says later, in the chat's form, does not replace what was corrected. What the website's server
    says of a verified customer does, when it says it the next time.
    """
    conversation = Conversation.objects.lock(conversation.pk)
    values = {"name": name, "email": email}
    changed = [field for field, value in values.items() if getattr(conversation, f"customer_{field}") != value]
    if changed:
        conversation.customer_name, conversation.customer_email = name, email
        corrected = [field for field in values if values[field] and field in {*changed, *conversation.corrections}]
        conversation.corrected = " ".join(corrected) or None
        record(conversation, Kind.CORRECTED, by, content=" ".join(changed))
        conversation.save_changes("customer_name", "customer_email", "corrected", "last_entry_id")
    announce_to_agents(conversation)  # also again: the first time it may have been set without that
    return conversation
