"""What agents type into the search field: words, "phrases", and narrowings such as `from:carol` or `is:open`."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from typing import NamedTuple

from django.utils import timezone
from django.utils.translation import gettext as _

from conversations.models import Agent, Label, Website
from conversations.models.label import fold as fold_label
from conversations.models.search import Question
from conversations.models.search_words import Phrase, fold, phrase

MAX_LENGTH = 200
"""Characters of what is typed."""

MAX_TERMS = 10
"""Words, phrases and narrowings."""

TERM = re.compile(r'(?:(?P<key>[^\W\d_]{2,20}):(?!//)\s*)?(?:"(?P<quoted>[^"]*)"?|(?P<bare>[^\s"]+))')
STATES = ("open", "closed", "snoozed", "mine", "assigned", "unassigned")
KINDS = ("note", "file")


class Asked(NamedTuple):
    """What was typed, understood."""

    question: Question
    notices: list[str]  # sentences about what was not
    cannot_be: bool = False  # whether nothing can be found, because a narrowing names nobody or nothing


class Unknown(Exception):
    """A narrowing that names nothing that there is. Its text is a sentence."""


def ask(text: str, agent: Agent) -> Asked:
    """Understand what an agent has typed. What is not understood is said, and left out."""
    notices: list[str] = []
    if len(text) > MAX_LENGTH:
        notices.append(_("Only the first %(most)s characters are searched for.") % {"most": MAX_LENGTH})
    terms = list(TERM.finditer(text[:MAX_LENGTH]))
    if len(terms) > MAX_TERMS:
        notices.append(_("Only the first %(most)s words are searched for.") % {"most": MAX_TERMS})
    question, phrases, cannot_be = Question(), list[Phrase](), False
    for term in terms[:MAX_TERMS]:
        key, quoted = (term["key"] or "").lower(), term["quoted"]
        value = term["bare"] if quoted is None else quoted
        if value.endswith(":") and value[:-1].lower() in NARROWINGS:  # nothing follows
            key, value = value[:-1].lower(), ""
        if narrow := NARROWINGS.get(key):
            try:
                question = narrow(question, value.strip(), agent)
            except Unknown as unknown:
                notices.append(str(unknown))
                cannot_be = True
            continue
        if key:
            notices.append(_("“%(name)s:” is no filter: it was searched for as a word.") % {"name": key})
        found = (phrase(key, is_prefix=True), phrase(value, is_prefix=quoted is None))
        phrases += [each for each in found if each]
    return Asked(replace(question, phrases=tuple(dict.fromkeys(phrases))), notices, cannot_be)


def _from(question: Question, value: str, agent: Agent) -> Question:
    wanted = fold(value)
    if wanted in {"customer", "customers"}:
        return replace(question, customer="")
    if wanted == "me":
        return replace(question, agents=(agent.pk,))
    if not wanted:
        raise Unknown(_("Write who after “from:”, for example from:me or from:customer."))
    agents = [each.pk for each in Agent.objects.offered_to(agent) if wanted in _names(each)]
    if wanted in _names(agent):
        agents.append(agent.pk)
    return replace(question, agents=tuple(agents) or None, customer=None if agents else value)


def _names(agent: Agent) -> set[str]:
    names = {agent.username, agent.first_name, agent.last_name, agent.get_full_name()}
    return {fold(name) for name in names} - {""}


def _label(question: Question, value: str, _agent: Agent) -> Question:
    known = {fold_label(label.name): label.pk for label in Label.objects.everyone()}
    pk = known.get(fold_label(value))
    if pk is None:
        raise Unknown(_("There is no label “%(name)s”.") % {"name": value})
    return replace(question, labels=(*question.labels, pk))


def _is(question: Question, value: str, agent: Agent) -> Question:
    wanted = value.lower()
    if wanted in KINDS:
        return replace(question, kinds=question.kinds | {wanted})
    if wanted not in STATES:
        known = ", ".join((*STATES, *KINDS))
        raise Unknown(_("After “is:” there can be: %(words)s.") % {"words": known})
    return replace(question, states=question.states | {f"mine {agent.pk}" if wanted == "mine" else wanted})


def _website(question: Question, value: str, agent: Agent) -> Question:
    wanted = fold(value)
    websites = Website.objects.visible_to(agent)
    named = [each.pk for each in websites if wanted in {fold(each.name), fold(each.key)}]
    begun = [each.pk for each in websites if wanted and fold(each.name).startswith(wanted)]
    if not (named or begun):
        raise Unknown(_("You see no website “%(name)s”.") % {"name": value})
    return replace(question, website=(named or begun)[0])


def _before(question: Question, value: str, _agent: Agent) -> Question:
    return replace(question, until=_moment(value))


def _after(question: Question, value: str, _agent: Agent) -> Question:
    return replace(question, since=_moment(value))


def _moment(value: str) -> datetime:
    """The beginning of a day, in the agent's time zone."""
    try:
        day = min(max(date.fromisoformat(value), date(1970, 1, 2)), date(9000, 1, 1))  # databases add time zones
        return timezone.make_aware(datetime.combine(day, time()))
    except (ValueError, OverflowError):
        raise Unknown(
            _("“%(text)s” is no date. Write it like %(example)s.") % {"text": value, "example": "2026-11-30"}
        ) from None


NARROWINGS: dict[str, Callable[[Question, str, Agent], Question]] = {
    "from": _from,
    "label": _label,
    "is": _is,
    "website": _website,
    "before": _before,
    "after": _after,
}
