"""Which index finds the conversations of a view: that which finds the fewest.

A view with one condition has one index. With several, such as a label and a priority, SQLite would take any of their
indexes, as it has no statistics. So their conversations are counted now and then, up to MANY.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError

from conversations.models.prepared import prepared_counts
from conversations.models.remembered import CONTENT
from conversations.models.view import Lead, View

if TYPE_CHECKING:
    from django.db.models import QuerySet

FEW = 2000
"""So many conversations are read and sorted as fast as those of a long list are found in its order."""

MANY = 5000
"""How many are counted at most to compare indexes."""

SECONDS = 60
"""How long it is known how many conversations an index finds. An old number makes a list slower, and never wrong."""

_known: dict[View, tuple[int, float]] = {}  # at most MANY, and until when


def best_leads(views: Sequence[View]) -> list[Lead]:
    """The best lead of each view. What is not known yet is asked by one query."""
    now = time.monotonic()
    asked = {
        view.only(lead): lead
        for view in views
        if len(view.leads) > 1
        for lead in view.leads
        if _known.get(view.only(lead), (0, 0))[1] < now
    }
    if asked:
        with suppress(OperationalError, InterfaceError):  # while the database is away, any index will do
            _count(asked, now + SECONDS)
    return [_best(view) for view in views]


def forget() -> None:
    """Forget what is known, after conversations were made by the thousands."""
    _known.clear()


def _best(view: View) -> Lead:
    leads = view.leads
    if len(leads) == 1:
        return leads[0]
    sizes = {lead: _known.get(view.only(lead), (MANY, 0))[0] for lead in leads}
    best = min(leads, key=sizes.__getitem__)  # of several, the first one
    return "waiting" if "waiting" in leads and sizes[best] >= FEW else best


def _count(asked: dict[View, Lead], until: float) -> None:
    from conversations.models.conversation import Conversation

    def build(view: View, lead: Lead) -> "QuerySet[Conversation, tuple[int]]":
        return Conversation.objects.filter(view.found_by([lead])).order_by().values_list("pk")[:MANY]

    counts = prepared_counts(
        Conversation.objects.all(),
        [(("size", MANY, view.shape), partial(build, view, lead), view.values) for view, lead in asked.items()],
        kind=CONTENT,
    )
    if len(_known) > 10_000:
        _known.clear()
    _known.update({view: (count, until) for view, count in zip(asked, counts, strict=True)})
