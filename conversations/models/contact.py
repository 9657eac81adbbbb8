"""A customer whom a website's own server vouches for."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from conversations.models.conversation import Conversation, ConversationQuerySet


SUB_LENGTH = 200
"""Characters of a website's own id for a customer."""


@dataclass(frozen=True)
class Claim:
    """What a website's own server has said of a customer, when it was proven that it did."""

    sub: str  # the website's own id for them
    proof: "Contact.Proof"
    name: str = ""
    email: str = ""


def digest(sub: str) -> str:
    """What stands for a website's own id where it is looked for."""
    return hashlib.sha256(sub.encode()).hexdigest()


class ContactQuerySet(models.QuerySet["Contact"]):
    """How contacts are found."""

    def by_sub(self, website_id: int, sub: str) -> "Contact | None":
        """The contact whom the website calls `sub`, or None."""
        return self.filter(website_id=website_id, digest=digest(sub)).first()

    def may_continue(self, claim: Claim, conversation: "Conversation") -> bool:
        """Whether whom the claim is about may go on with it: it is theirs, or no verified customer's yet."""
        if conversation.contact_id is None:
            return True
        contact = self.by_sub(conversation.website_id, claim.sub)
        return contact is not None and contact.pk == conversation.contact_id

    def save_claim(self, website_id: int, claim: Claim) -> "Contact":
        """The contact whom the claim is about, with what it says of them; made if there is none yet."""
        contact, is_new = self.get_or_create(
            website_id=website_id,
            digest=digest(claim.sub),
            defaults={"sub": claim.sub, "name": claim.name, "email": claim.email, "proof": claim.proof},
        )
        if not is_new:
            said = {"name": claim.name or contact.name, "email": claim.email or contact.email, "proof": claim.proof}
            changed = {name: word for name, word in said.items() if word != getattr(contact, name)}
            for name, word in changed.items():
                setattr(contact, name, word)
            if changed:
                contact.save(update_fields=list(changed))
        return contact


class Contact(models.Model):
    """A customer whom a website's own server vouches for, and whose conversations come along to every device."""

    class Proof(models.TextChoices):
        TOKEN = "TOKEN", _("signed token")
        HMAC = "HMAC", _("signed user id, which never ends")

    website = models.ForeignKey("Website", models.CASCADE, related_name="contacts")
    sub = models.CharField(_("the website's own id"), max_length=SUB_LENGTH)
    # By this it is found: databases take Ab3 and aB3 for the same, which are two customers.
    digest = models.CharField(max_length=64, editable=False)
    name = models.CharField(_("name"), max_length=80, blank=True)
    email = models.EmailField(_("e-mail"), blank=True)
    proof = models.CharField(_("proof"), max_length=5, choices=Proof)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ContactQuerySet.as_manager()

    if TYPE_CHECKING:
        conversations: ConversationQuerySet

    class Meta:
        verbose_name = _("verified customer")
        verbose_name_plural = _("verified customers")
        constraints = (models.UniqueConstraint(fields=["website", "digest"], name="one_contact_each"),)

    def __str__(self) -> str:
        """Who it is."""
        return self.name or self.email or self.sub
