"""Identify a customer by a proof from the website's server."""

from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import transaction

from conversations.actions.renew_secret import replace_secret
from conversations.announce import announce_to_agents
from conversations.models import Contact, Conversation
from conversations.models.conversation import identified_uuid

if TYPE_CHECKING:
    from conversations.models import Website
    from conversations.models.contact import Claim


@transaction.atomic
def identify(*, claim: "Claim", website: "Website", current: Conversation | None) -> Conversation | None:
    """Return the newest conversation of the verified customer, or None if they have none.

    `current` is the conversation that their browser shows. If it is anonymous, it becomes theirs and gets a new secret.
    """
    if current and (current.contact_id is None or current.corrected):
        with suppress(Conversation.DoesNotExist):  # signed out, or identified by another tab, at this moment
            locked = Conversation.objects.lock(current.pk, current.uuid)
            if Contact.objects.may_continue(claim, locked):
                assign_to_contact(locked, claim)
                announce_to_agents(locked)
    contact = Contact.objects.by_sub(website.pk, claim.sub)
    return contact.conversations.newest_first().first() if contact else None


def assign_to_contact(conversation: Conversation, claim: "Claim") -> None:
    """Make a locked conversation the verified customer's. An anonymous one gets a new secret: the old one is invalid.

    What is proven replaces what an agent has corrected.

    Its messages keep their client_ids, so that retries duplicate no message. They prove nothing any more: in a verified
    customer's conversation, only a claim does.
    """
    was_anonymous = conversation.contact_id is None
    conversation.contact = contact = Contact.objects.save_claim(conversation.website_id, claim)
    if was_anonymous or conversation.corrected:
        conversation.customer_name = contact.name or conversation.customer_name
        conversation.customer_email = contact.email or conversation.customer_email
        corrected = [field for field in conversation.corrections if not getattr(contact, field)]
        conversation.corrected = " ".join(corrected) or None
        conversation.save_changes("contact", "customer_name", "customer_email", "corrected")
    if was_anonymous:
        replace_secret(conversation, identified_uuid(conversation.uuid))
