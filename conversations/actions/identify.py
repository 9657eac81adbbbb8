"""A website's server vouches for a customer."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_to_agents
from conversations.models import Contact, Conversation

if TYPE_CHECKING:
    from conversations.models import Website
    from conversations.models.contact import Claim


@transaction.atomic
def identify(*, claim: "Claim", website: "Website", current: Conversation | None) -> Conversation | None:
    """Return the newest conversation of the verified customer, or None if they have none.

    `current` is the conversation that their browser has so far; it becomes theirs if it is anonymous.
    """
    if current and current.contact_id is None:
        current = Conversation.objects.lock(current.pk)
    if current and current.contact_id is None:  # still, now that nobody else can change it
        current.contact = Contact.objects.save_claim(website.pk, claim)
        current.customer_name = claim.name or current.customer_name
        current.customer_email = claim.email or current.customer_email
        current.save(update_fields=["contact", "customer_name", "customer_email"])
        announce_to_agents(current)
    contact = Contact.objects.by_sub(website.pk, claim.sub)
    return contact.conversations.newest_first().first() if contact else None
