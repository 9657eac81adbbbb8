"""A website's server vouches for a customer."""

from typing import TYPE_CHECKING

from django.db import transaction

from conversations.announce import announce_to_agents
from conversations.models import Contact, Conversation

if TYPE_CHECKING:
    from conversations.models import Website
    from conversations.models.contact import Claim


@transaction.atomic
def identify(*, claim: "Claim", website: "Website", held: Conversation | None) -> Conversation | None:
    """The conversation that the verified customer goes on with: the newest of theirs, or None if they have none.

    `held` is the one that their browser has had so far; it becomes theirs if it is nobody else's.
    """
    if held and held.contact_id is None:
        held = Conversation.objects.lock(held.pk)
    if held and held.contact_id is None:  # still, now that nobody else can change it
        held.contact = Contact.objects.save_claim(website.pk, claim)
        held.customer_name = claim.name or held.customer_name
        held.customer_email = claim.email or held.customer_email
        held.save(update_fields=["contact", "customer_name", "customer_email"])
        announce_to_agents(held)
    contact = Contact.objects.by_sub(website.pk, claim.sub)
    return contact.conversations.newest_first().first() if contact else None
