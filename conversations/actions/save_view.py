"""An agent saves a view of the list under a name, for themselves or for the team."""

from django.utils.translation import gettext as _

from conversations.models import Agent, SavedView
from conversations.models.view import MAX_VIEWS, NAME_LENGTH
from conversations.models.visible_text import is_blank, one_line
from conversations.models.website import is_storable


class ViewRefused(Exception):
    """The view cannot be saved; its text says why, for people."""


def save_view(*, name: str, query: str, by: Agent, for_team: bool) -> SavedView:
    """Save a view, or change the one of the same owner that has this name. Raises ViewRefused.

    query: the query string of the list.
    """
    name = one_line(name) if is_storable(name) else ""
    if is_blank(name):
        raise ViewRefused(_("A view needs a name."))
    if len(name) > NAME_LENGTH:
        raise ViewRefused(_("The name of a view has at most %(most)s characters.") % {"most": NAME_LENGTH})
    owner = None if for_team else by
    its = SavedView.objects.filter(owner=owner)
    found = its.filter(name=name).first() or SavedView(owner=owner, name=name)
    if found.pk is None and its.count() >= MAX_VIEWS:
        raise ViewRefused(_("There are %(most)s saved views already. Delete one first.") % {"most": MAX_VIEWS})
    found.query = query
    found.save()
    return found
