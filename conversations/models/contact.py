"""Verified customers: a website's own server has identified them."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connection, models
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from conversations.models.message import Message
from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT

if TYPE_CHECKING:
    from conversations.models.conversation import Conversation, ConversationQuerySet
    from conversations.models.website import Website


SUB_LENGTH = 200
"""The most characters of a website's own id for a customer."""


@dataclass(frozen=True)
class Claim:
    """What a website's own server says about a customer. Only a valid proof makes one: see threshold/identity.py."""

    sub: str  # the website's own id for the customer
    proof: "Contact.Proof"
    name: str = ""
    email: str = ""


def _digest(sub: str) -> str:
    return hashlib.sha256(sub.encode()).hexdigest()


class ContactQuerySet(models.QuerySet["Contact"]):
    """Queries for contacts."""

    def by_sub(self, website_id: int, sub: str) -> "Contact | None":
        """Return the contact with the website's own id `sub`, or None."""
        values = {-1: website_id, "?": _digest(sub)}
        found = prepared(self, "contact", lambda: self.filter(website_id=-1, digest="?"), values, kind=CONTENT)
        return next(iter(found), None)

    def may_continue(self, claim: Claim, conversation: "Conversation") -> bool:
        """Return whether the claim's customer may continue it: it is theirs, or anonymous."""
        return conversation.contact_id is None or self.owns(claim, conversation)

    def owns(self, claim: Claim, conversation: "Conversation") -> bool:
        """Return whether the conversation belongs to the claim's customer. Both must be of the same website."""
        contact = self.by_sub(conversation.website_id, claim.sub)
        return contact is not None and contact.pk == conversation.contact_id

    def save_claim(self, website_id: int, claim: Claim) -> "Contact":
        """Create or update the contact that the claim is about, and return it.

        Its row is locked until the transaction ends: else it might be deleted before the caller writes a conversation
        that belongs to it.
        """
        contact, is_new = self._get_or_create(website_id, claim)
        if not is_new and not self._lock(contact.pk):  # deleted at this moment, see `delete_if_forgotten`
            contact, is_new = self._get_or_create(website_id, claim)
        if not is_new:
            values = {"name": claim.name or contact.name, "email": claim.email or contact.email, "proof": claim.proof}
            changed = {field: value for field, value in values.items() if value != getattr(contact, field)}
            for field, value in changed.items():
                setattr(contact, field, value)
            if changed:
                contact.save(update_fields=list(changed))
        return contact

    def _get_or_create(self, website_id: int, claim: Claim) -> "tuple[Contact, bool]":
        return self.get_or_create(
            website_id=website_id,
            digest=_digest(claim.sub),
            defaults={"sub": claim.sub, "name": claim.name, "email": claim.email, "proof": claim.proof},
        )

    def _lock(self, pk: int) -> bool:
        """Lock a row until the transaction ends; return whether it exists. On SQLite, the transaction is enough."""
        if not connection.features.has_select_for_update:
            return True
        return bool(self.select_for_update().filter(pk=pk).values_list("pk"))

    def forgotten(self, website: "Website", before: datetime | None, above: int, most: int) -> list[int]:
        """The ids above `above` of contacts that were created before a moment and have no conversation. None: none."""
        if before is None:
            return []
        found = self.filter(website=website, created_at__lt=before, conversations=None, pk__gt=above)
        return list(found.order_by("pk").values_list("pk", flat=True)[:most])

    def delete_if_forgotten(self, pk: int, before: datetime | None) -> bool:
        """Delete a contact that was created before a moment (None: none), if it has no conversation.

        Return whether it was deleted. Call it in a transaction.
        """
        if before is None:
            return False
        self._lock(pk)
        # Asked again: the customer may have come back before the lock was held.
        found = self.filter(pk=pk, created_at__lt=before, conversations=None)
        return bool(found._raw_delete(found.db))  # nothing belongs to it, and Django need not look


class Contact(models.Model):
    """A customer that a website's own server has identified. They have their conversations on each device."""

    class Proof(models.TextChoices):
        TOKEN = "TOKEN", _("signed token")
        HMAC = "HMAC", _("signed user id (does not expire)")

    website = models.ForeignKey("Website", models.CASCADE, related_name="contacts")
    sub = models.CharField(_("the website's own id"), max_length=SUB_LENGTH)
    # The hash of `sub`, for look-ups: some databases ignore case, and Ab3 and aB3 are two customers.
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
        """Return the name, the e-mail address or the id."""
        return self.name or self.email or self.sub


@receiver(pre_delete, sender=Contact)
def _forget_client_ids(instance: Contact, **_more: Any) -> None:
    """Delete the client_ids of the contact's messages: without a contact, they would give access without a proof."""
    instance.conversations.all().touch()
    Message.objects.filter(conversation__contact=instance).update(client_id=None)
