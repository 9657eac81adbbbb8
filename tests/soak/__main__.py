"""`make soak`: people in browsers write while servers, databases, Redis and lines are killed, frozen and cut.

Each trial ends by itself. Exits with 1 if a message is lost, doubled or out of order, a screen differs from the
database, or recovery after a fault takes too long.
"""

import argparse
import shutil
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, NAMES
from tests.browser.people import TIMEOUT
from tests.soak import databases, disks, lines, redis_faults, servers, storm
from tests.soak.installation import installation
from tests.soak.log_chaos import Browsers, chaos
from tests.soak.trial import Trial, hold

TRIALS: dict[str, Trial] = {
    **servers.TRIALS,
    **databases.TRIALS,
    **redis_faults.TRIALS,
    **lines.TRIALS,
    **disks.TRIALS,
}

STORMS = {"storm-terminated": "terminate", "storm-killed": "kill"}
PAGES = 2000

LOG = "log-chaos"
SECONDS = 60
"""How long everything is killed with the message log."""


def run_storm(name: str) -> bool:
    """2,000 pages lose their server at once. Returns whether all reconnected within 30 s and none was refused."""
    outcome = storm.run(PAGES, fault=STORMS[name])
    print(f"{name}: {outcome}", flush=True)
    return outcome.back == PAGES and outcome.seconds <= 30 and not outcome.refused


def run_log_chaos(chromium: Browser) -> bool:
    """Kill everything while people write to the message log. Returns whether all went well."""
    folder = tempfile.TemporaryDirectory(prefix="chatsite-soak-", ignore_cleanup_errors=True)
    with folder as where, chaos(Path(where), seed=int(time.time())) as place:
        outcome = place.run(SECONDS, talks=4, pause=4, browsers=Browsers(place, chromium))
    print(f"{LOG}: {outcome}", flush=True)
    return not outcome.problems


def run(asked: list[str], deadline: float) -> bool:
    """Run trials, those on the same database one after the other. Returns whether all have passed."""
    good = True
    names, others = [name for name in asked if name in TRIALS], [name for name in asked if name not in TRIALS]
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    expect.set_options(timeout=TIMEOUT)
    names = sorted(names, key=lambda name: TRIALS[name].engine != "postgresql")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS)
        for engine, same in groupby(names, key=lambda name: TRIALS[name].engine):
            group = list(same)
            sessions: dict[str, Any] = {}
            try:
                with installation(engine) as place:
                    for name in group:
                        if time.monotonic() > deadline:
                            print(f"{name}: skipped, as the time is over", flush=True)
                            continue
                        began = time.monotonic()
                        outcome = hold(TRIALS[name], name, place, chromium, sessions)
                        print(f"{name} ({time.monotonic() - began:.0f} s): {outcome}", flush=True)
                        good &= outcome.is_good
            except pytest.skip.Exception as missing:
                print(f"{', '.join(group)}: skipped: {missing}", flush=True)
        if LOG in others and time.monotonic() < deadline:
            good &= run_log_chaos(chromium)
        chromium.close()
    return good


def main() -> None:
    """Run the trials named as arguments, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=", ".join([*TRIALS, LOG, *STORMS]))
    parser.add_argument("--minutes", type=float, default=25, help="after which no further trial begins")
    options = parser.parse_args()
    names = options.trials or [*TRIALS, LOG, *STORMS]
    if unknown := set(names) - {*TRIALS, LOG, *STORMS}:
        parser.error(f"There is no trial {', '.join(unknown)}. Trials are {', '.join([*TRIALS, LOG, *STORMS])}.")
    deadline = time.monotonic() + options.minutes * 60
    good = run(names, deadline)
    for name in names:
        if name in STORMS and time.monotonic() < deadline:
            good &= run_storm(name)
    sys.exit(not good)


if __name__ == "__main__":
    main()
