"""A trial: four people write while something fails; at the end their screens are compared with the database."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

from playwright.sync_api import Browser, Request, Response

from tests.browser.people import People, Person, Row, eventually
from tests.soak.installation import Installation

PAUSE = 1000  # milliseconds between two rounds, in each of which everybody writes a message

SCREEN = """() => ({
    rows: [...document.querySelectorAll(".messages > .message")].map(
        (row) => [row.dataset.id ? Number(row.dataset.id) : null, row.querySelector(".bubble")?.textContent ?? ""]),
    connection: document.querySelector("door-bell")?.textContent.trim() ?? "",
    notes: [...document.querySelectorAll(".pending .delivery, .problem:not([hidden])")].map(
        (note) => note.textContent.trim()),
})"""

QUIET = {"", "Sending…", "Sent", "Connected"}
"""The texts that people see while nothing fails."""

Fault = Callable[[Installation], None]
"""Breaks something, and returns when it works again."""


@dataclass(frozen=True)
class Trial:
    """`heals` is how many seconds after the fault all screens must be right at the latest."""

    fault: Fault
    heals: float = 10
    engine: str = "postgresql"
    texts: Callable[[str, int], str] = "{} {}".format
    """The text of a message, from its writer's name and its number."""
    before: Callable[[list[Person]], None] = lambda people: None
    """Called with the people before the fault."""


@dataclass
class Outcome:
    """The results of a trial."""

    written: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    flowing: float | None = None
    """Seconds after the fault until every page had sent its first waiting message; the others follow it."""
    healed: float | None = None
    problems: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    waited: float = 0
    """The most seconds that a message waited while the page showed "Connected" and the message had no note."""

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.misordered or self.problems) and self.healed is not None

    def __str__(self) -> str:
        seen = ", ".join(f"“{text}” {number}" for text, number in self.seen.most_common()) or "nothing"
        healed = (
            "NOT HEALED"
            if self.healed is None
            else f"flows after {self.flowing or 0:.1f} s, healed after {self.healed:.1f} s"
        )
        lines = [
            f"{self.written} written, {self.acknowledged} acknowledged; "
            f"{self.lost} lost, {self.doubled} doubled, {self.misordered} misordered; {healed}",
            f"people saw {seen}; waited unnoticed {self.waited:.1f} s; "
            f"responses {dict(self.statuses)}; load {os.getloadavg()[0]:.1f}",
            *self.problems,
        ]
        return "\n    ".join(lines)


@dataclass
class Talk:
    """A conversation of a customer and an agent."""

    pk: str
    people: dict[str, Person]
    written: dict[str, list[str]]
    acknowledged: set[Row] = field(default_factory=set)
    waiting: dict[str, tuple[str, float]] = field(default_factory=dict)

    def look(self, outcome: Outcome) -> dict[str, list[Row]]:
        """Record what both see; returns their rows."""
        screens = {}
        for name, person in self.people.items():
            screen = person.page.evaluate(SCREEN)
            rows = screens[name] = [(pk, text) for pk, text in screen["rows"]]
            self.acknowledged |= {row for row in rows if row[0]}
            notes = {screen["connection"], *screen["notes"]} - QUIET
            outcome.seen.update(notes)
            oldest = next((text for pk, text in rows if pk is None), "")
            if oldest != self.waiting.get(name, ("", 0))[0] or notes:
                self.waiting[name] = (oldest, time.monotonic())
            elif oldest:
                outcome.waited = max(outcome.waited, time.monotonic() - self.waiting[name][1])
        return screens


def begin(people: People, customer: str, agent: str, title: str) -> Talk:
    """Let a customer begin a conversation that an agent opens."""
    writer, reader = people.customer(), people.agent(agent)
    hello = f"{title}, says {customer}"
    writer.says(hello)
    writer.shows(hello)
    pk = reader.opens(hello)
    for person in (writer, reader):
        person.shows(hello)
        person.is_connected()
    return Talk(pk, {customer: writer, agent: reader}, {customer: [hello], agent: []})


def listen(talk: Talk, outcome: Outcome) -> None:
    """Count the responses that are errors, and the requests without a response."""

    def note(response: Response) -> None:
        if response.status >= 400:
            outcome.statuses[str(response.status)] += 1

    def note_failure(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page aborts what it no longer needs
            outcome.statuses["none"] += 1

    for person in talk.people.values():
        person.page.on("response", note)
        person.page.on("requestfailed", note_failure)


@contextmanager
def happening(fault: Fault, installation: Installation, outcome: Outcome) -> Iterator[threading.Thread]:
    """Let the fault happen in a thread, while the caller's people write."""

    def happen() -> None:
        try:
            fault(installation)
        except Exception as error:
            outcome.problems.append(f"The trial itself failed: {error!r}")

    thread = threading.Thread(target=happen)
    thread.start()
    yield thread
    thread.join()


def hold(
    trial: Trial, name: str, installation: Installation, chromium: Browser, sessions: dict[str, object]
) -> Outcome:
    """Run a trial."""
    outcome = Outcome()
    people = People(chromium, installation.entrance, sessions)
    try:
        title = f"{name} {time.monotonic():.0f}"
        talks = [begin(people, "alice", "bob", title), begin(people, "dora", "carol", title)]
        for talk in talks:
            listen(talk, outcome)
        trial.before([person for talk in talks for person in talk.people.values()])
        with happening(trial.fault, installation, outcome) as fault:
            write(talks, trial, fault, outcome)
        began = time.monotonic()
        if wait_for_all(talks, installation, outcome, trial.heals + 60):
            outcome.healed = time.monotonic() - began
            if outcome.healed > trial.heals:
                outcome.problems.append(f"HEALED TOO LATE: the limit is {trial.heals} s")
        for talk in talks:
            judge(talk, installation, outcome)
    finally:
        try:
            people.close()
        except AssertionError as error:
            outcome.problems.append(f"script errors: {error}")
    return outcome


def write(talks: list[Talk], trial: Trial, fault: threading.Thread, outcome: Outcome) -> None:
    """Let everybody write until the fault is over."""
    for number in count(1):
        for talk in talks:
            for name, person in talk.people.items():
                text = trial.texts(name, number)
                person.says(text)
                talk.written[name].append(text)
            talk.look(outcome)
        next(iter(talks[0].people.values())).page.wait_for_timeout(PAUSE)
        if not fault.is_alive():
            return


def wait_for_all(talks: list[Talk], installation: Installation, outcome: Outcome, seconds: float) -> bool:
    """Wait until all screens equal the database and nothing is pending. Returns False if that takes too long."""

    began = time.monotonic()
    waiting = {name: text for talk in talks for name, (text, _) in talk.waiting.items() if text}

    def settled() -> bool:
        done = True
        for talk in talks:
            screens = talk.look(outcome)
            table = installation.table(talk.pk)
            done &= len(table) == sum(map(len, talk.written.values()))
            done &= all(rows == table for rows in screens.values())
        if outcome.flowing is None:
            now = {name: text for talk in talks for name, (text, _) in talk.waiting.items()}
            if not any(now[name] == text for name, text in waiting.items()):
                outcome.flowing = time.monotonic() - began
        return done

    try:
        eventually(next(iter(talks[0].people.values())).page, settled, "all screens are as the table", seconds)
    except AssertionError:
        return False
    return True


def judge(talk: Talk, installation: Installation, outcome: Outcome) -> None:
    """Compare the database, the screens and what was written; compare the screens again after a reload."""
    table = installation.table(talk.pk)
    texts = [text for _, text in table]
    present = Counter(texts)
    for name, written in talk.written.items():
        outcome.written += len(written)
        outcome.lost += sum(not present[text] for text in written)
        stored = [text for text in texts if text in set(written)]
        outcome.doubled += len(stored) - len(set(stored))
        outcome.misordered += sum(written.index(one) > written.index(other) for one, other in pairwise(stored))
        rows = talk.look(outcome)[name]
        if rows != table:
            outcome.problems.append(f"{name}'s screen is not as the table: {difference(rows, table)}")
    outcome.acknowledged += len(talk.acknowledged)
    outcome.problems += [f"ACKNOWLEDGED AND LOST: {row}" for row in talk.acknowledged - set(table)]
    for name, person in talk.people.items():
        if not shows_after_a_reload(person, table[-50:]):
            outcome.problems.append(f"{name}'s screen is not as the table after a reload: {person.screen()[-50:]}")


def shows_after_a_reload(person: Person, last: list[Row]) -> bool:
    """Whether the page, loaded again, has these last messages. It begins with fewer if they are long."""
    person.reloads()
    older = person.page.get_by_role("link", name="Show older messages")
    asked_with = 0  # rows

    def same() -> bool:
        nonlocal asked_with
        rows = person.screen()
        if len(rows) < len(last) and len(rows) > asked_with and older.count():
            asked_with = len(rows)
            older.click()
        return rows[-50:] == last

    try:
        eventually(person.page, same, "the same after a reload", 60)
    except AssertionError:
        return False
    return True


def difference(rows: list[Row], table: list[Row]) -> str:
    """How a screen differs from the database."""
    more, less = [row for row in rows if row not in table], [row for row in table if row not in rows]
    return f"too much {more[:5]}, too little {less[:5]}, {len(rows)} rows instead of {len(table)}"
