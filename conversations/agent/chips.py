"""Labels as they stand on a page: small coloured chips."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from conversations.models import Label


class Chip(NamedTuple):
    """A label."""

    pk: int
    name: str
    colour: str


def chips_by_id() -> dict[int, Chip]:
    """All labels by their ids, in the order of their names."""
    return {label.pk: Chip(label.pk, label.name, label.colour) for label in Label.objects.everyone()}


def chips_of(ids: Iterable[int]) -> tuple[Chip, ...]:
    """The labels with these ids that still exist; no query if there are no ids."""
    wanted = list(ids)
    known = chips_by_id() if wanted else {}
    return tuple(known[pk] for pk in wanted if pk in known)


def render_chips(chips: Sequence[Chip], most: int) -> SafeString:
    """The first `most` chips, and how many more there are."""
    shown = format_html_join(
        "", '<bdi class="chip label-{}">{}</bdi>', ((chip.colour, chip.name) for chip in chips[:most])
    )
    more = len(chips) - most
    if more <= 0:
        return shown
    words = ngettext("%(count)s more label", "%(count)s more labels", more) % {"count": more}
    return format_html('{}<span class="chip rest" title="{}">+{}</span>', shown, words, more)
