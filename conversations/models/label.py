"""Labels: words with a colour that agents put on conversations. Customers never see them."""

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from conversations.models.prepared import prepared
from conversations.models.remembered import CONTENT

if TYPE_CHECKING:
    from conversations.models.conversation import Conversation

MAX_LABELS = 200
"""How many labels there may be: all of them fit into a menu."""

MAX_ON_CONVERSATION = 50
"""How many labels a conversation may have: their ids fit into its column `label_ids`."""

NAME_LENGTH = 40
"""Characters of a label's name."""


class LabelQuerySet(models.QuerySet["Label"]):
    """The queries on labels."""

    def everyone(self) -> "list[Label]":
        """All labels, by name."""
        return list(prepared(self, "labels", lambda: self.order_by("folded"), {}, kind=CONTENT))

    def lock(self, pks: "Iterable[int]") -> "list[Label]":
        """Lock the rows of these labels, by id, until the transaction ends; return those that exist.

        Whoever locks conversations too locks them afterwards: so two agents never wait for each other.
        """
        wanted = sorted(pks)
        return list(self.filter(pk__in=wanted).order_by("pk").select_for_update()) if wanted else []

    def by_names(self, names: "Iterable[str]") -> "list[Label]":
        """Those labels that have one of these names, in upper or lower case."""
        wanted = {fold(name) for name in names}
        return [label for label in self.everyone() if fold(label.name) in wanted] if wanted else []

    def by_name(self, name: str) -> "Label | None":
        """The label with this name, in upper or lower case; None if there is none."""
        return next(iter(self.by_names([name])), None)

    def in_the_way_of(self, name: str) -> "Label | None":
        """The label that the database takes for one with this name; None if there is none.

        For collations of MariaDB, “café”, which an earlier version has stored without its digest, is “cafe”.
        """
        return self.by_name(name) or self.filter(folded=unique_key(name)).first()


class Label(models.Model):
    """A label."""

    class Colour(models.TextChoices):
        """The colours; inbox.css has a class for each, with enough contrast in light and dark."""

        RED = "red", _("red")
        ORANGE = "orange", _("orange")
        AMBER = "amber", _("amber")
        LIME = "lime", _("lime")
        GREEN = "green", _("green")
        TEAL = "teal", _("teal")
        CYAN = "cyan", _("cyan")
        BLUE = "blue", _("blue")
        INDIGO = "indigo", _("indigo")
        PURPLE = "purple", _("purple")
        PINK = "pink", _("pink")
        GREY = "grey", _("grey")

    name = models.CharField(_("name"), max_length=NAME_LENGTH)
    # The name as it is unique in any case: see unique_key. Some letters become three.
    folded = models.CharField(max_length=3 * NAME_LENGTH, unique=True, editable=False)
    colour = models.CharField(_("colour"), max_length=7, choices=Colour, default=Colour.GREY)

    objects = LabelQuerySet.as_manager()

    class Meta:
        ordering = ("folded",)

    def __str__(self) -> str:
        """Its name."""
        return self.name

    def save(self, *args: Any, **more: Any) -> None:
        """Save it, with the name composed (macOS types letters and their marks apart), and as it is unique."""
        self.name = unicodedata.normalize("NFC", self.name)
        self.folded = unique_key(self.name)
        super().save(*args, **more)


class ConversationLabelQuerySet(models.QuerySet["ConversationLabel"]):
    """The queries on the labels of conversations."""

    def follow(self, conversations: "Iterable[Conversation]") -> None:
        """Copy the status and the last message of locked conversations that have labels to their rows here."""
        for conversation in conversations:
            if conversation.label_ids:
                self.filter(conversation=conversation.pk).update(
                    status=conversation.status, last_message_id=conversation.last_message_id
                )


class ConversationLabel(models.Model):
    """A conversation has a label.

    Its status and its last message are copied here, so that one index serves the list of a label. The conversation's
    row has the ids of its labels, so that a list of conversations reads no rows of this table.
    """

    conversation = models.ForeignKey("Conversation", models.CASCADE, related_name="labelled", db_index=False)
    label = models.ForeignKey(Label, models.CASCADE, related_name="labelled", db_index=False)
    status = models.CharField(max_length=6)
    last_message_id = models.BigIntegerField()

    objects = ConversationLabelQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["conversation", "label"], name="label_once"),)
        indexes = (models.Index(fields=["label", "status", "-last_message_id"], name="inbox_label"),)

    def __str__(self) -> str:
        """The label and the conversation's number."""
        return f"{self.label}: {self.conversation_id}"


@receiver(pre_delete, sender=Label)
def _wait_for_those_who_put_it_on(instance: Label, **_more: Any) -> None:
    """Lock it before its rows on conversations are deleted: else an agent may add one meanwhile, which refers to it.

    The rows are locked in the order in which conversations are changed: so neither waits for the other.
    """
    Label.objects.lock([instance.pk])
    rows = ConversationLabel.objects.filter(label=instance).order_by("conversation").select_for_update()
    for _row in rows.values_list("pk").iterator():
        pass


def fold(name: str) -> str:
    """A label's name as it is compared: without differences of case, and of letters with their marks apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def unique_key(name: str) -> str:
    """What of a label's name is unique, and orders the labels.

    With a digest unless it is ASCII: collations of MariaDB take é for e, and all emoji for one. 117 characters at most.
    """
    folded = fold(name)
    digest = hashlib.blake2b(folded.encode(), digest_size=8).hexdigest()
    return folded if folded.isascii() else f"{folded[:100]} {digest}"
