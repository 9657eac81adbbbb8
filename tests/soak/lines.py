"""Slow or faulty connections between browsers and nginx."""

import time
from functools import partial

from tests.browser.people import Person
from tests.soak.installation import Installation
from tests.soak.trial import Trial

SLOW = 10_000
"""Bytes per second, in both directions."""


def spoil(fault: str, installation: Installation) -> None:
    """A fault of the proxy for 20 s."""
    line = installation.internet
    line.fault = fault
    time.sleep(20)
    line.fault = ""
    print(f"    {line.faults} times", flush=True)
    line.faults = 0


def delay(installation: Installation) -> None:
    """One second of latency in each direction, for 20 s."""
    installation.internet.latency = 1
    time.sleep(20)
    installation.internet.latency = 0


def half_open(installation: Installation) -> None:
    """All open connections go silent, twice. Pages notice it when a request times out after 15 s."""
    for _ in range(2):
        time.sleep(5)
        installation.internet.cut()
        time.sleep(20)


def slow(people: list[Person]) -> None:
    """Limit every browser to 10 kB/s."""
    for person in people:
        cdp = person.page.context.new_cdp_session(person.page)
        cdp.send("Network.enable")
        line = {"offline": False, "latency": 20, "downloadThroughput": SLOW, "uploadThroughput": SLOW}
        cdp.send("Network.emulateNetworkConditions", line)


def sometimes_long(name: str, number: int) -> str:
    """Every tenth message is as long as it may be: 60 kB."""
    return f"{name} {number}" + ("長い" * 9_900 if number % 10 == 3 else "")


TRIALS = {
    "answers-reset": Trial(partial(spoil, "reset")),
    "answers-truncated": Trial(partial(spoil, "truncated")),
    "acknowledgements-lost": Trial(partial(spoil, "acknowledgement")),
    "latency": Trial(delay, heals=20),
    "half-open": Trial(half_open, heals=15),
    # The last long messages take their time, in both directions.
    "slow": Trial(lambda installation: time.sleep(10), heals=60, texts=sometimes_long, before=slow),
}
