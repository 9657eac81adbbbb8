"""A customer whom a website's own server vouches for."""

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


class ContactQuerySet(models.QuerySet["Contact"]):
    """How contacts are found."""

    def called(self, website_id: int, sub: str) -> "Contact | None":
        """The contact whom the website calls `sub`, or None."""
        return self.filter(website_id=website_id, sub=sub).first()

    def owns(self, claim: Claim, conversation: "Conversation") -> bool:
        """Whether whom the claim is about may go on with it: it is theirs, or no verified customer's yet."""
        if conversation.contact_id is None:
            return True
        contact = self.called(conversation.website_id, claim.sub)
        return contact is not None and contact.pk == conversation.contact_id

    def note(self, website_id: int, claim: Claim) -> "Contact":
        """The contact whom the claim is about, with what it says of them; made if there is none yet."""
        contact, is_new = self.get_or_create(
            website_id=website_id,
            sub=claim.sub,
            defaults={"name": claim.name, "email": claim.email, "proof": claim.proof},
        )
        if claim.proof == Contact.Proof.TOKEN and not is_new:
            known = (contact.name, contact.email, contact.proof)
            contact.name, contact.email, contact.proof = (
                claim.name or contact.name,
                claim.email or contact.email,
                claim.proof,
            )
            if known != (contact.name, contact.email, contact.proof):
                contact.save(update_fields=["name", "email", "proof"])
        return contact


class Contact(models.Model):
    """A customer whom a website's own server vouches for, and whose conversations come along to every device."""

    class Proof(models.TextChoices):
        TOKEN = "TOKEN", _("signed token")
        HMAC = "HMAC", _("signed user id, which never ends")

    website = models.ForeignKey("Website", models.CASCADE, related_name="contacts")
    sub = models.CharField(_("the website's own id"), max_length=SUB_LENGTH)
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
        constraints = (models.UniqueConstraint(fields=["website", "sub"], name="one_contact_each"),)

    def __str__(self) -> str:
        """Who it is."""
        return self.name or self.email or self.sub
