"""An agent makes a label."""

import unicodedata

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from conversations.models import Label
from conversations.models.label import MAX_LABELS, NAME_LENGTH
from conversations.models.visible_text import is_blank, one_line
from conversations.models.website import is_storable


class LabelRefused(Exception):
    """The label cannot be made; its text says why, for people."""


def create_label(*, name: str, colour: str = "") -> Label:
    """Make a label, or return the one that has this name already, in upper or lower case.

    colour: one of Label.Colour; "" for the next one in turn. Raises LabelRefused if the name is empty or too long, or
    if there are too many labels.
    """
    name = unicodedata.normalize("NFC", one_line(name)) if is_storable(name) else ""
    if is_blank(name):
        raise LabelRefused(_("A label needs a name."))
    if len(name) > NAME_LENGTH:
        raise LabelRefused(_("A label has at most %(most)s characters.") % {"most": NAME_LENGTH})
    if found := Label.objects.by_name(name):
        return found
    count = Label.objects.count()
    if count >= MAX_LABELS:
        raise LabelRefused(_("There are %(most)s labels already. Delete one that you do not need.") % {"most": count})
    if colour not in Label.Colour.values:
        colour = Label.Colour.values[count * 5 % len(Label.Colour.values)]  # neighbours differ clearly
    try:
        with transaction.atomic():
            return Label.objects.create(name=name, colour=colour)
    except IntegrityError:  # another agent has just made it
        found = Label.objects.in_the_way_of(name)
        if found is None:
            raise
        return found
