"""No message is lost, doubled or out of order while Redis, PostgreSQL, servers and all who copy the log are killed.

The long form, with browsers, is in `make soak`.
"""

import os
from pathlib import Path

import pytest

from tests.soak.log_chaos import chaos

if os.environ.get("DATABASE_URL", "").startswith("mysql"):
    pytest.skip("It has a PostgreSQL of its own, and runs once.", allow_module_level=True)


def test_the_log_survives_kills_of_everything(tmp_path: Path) -> None:
    with chaos(tmp_path, seed=7) as place:
        outcome = place.run(seconds=15, talks=3, pause=3)
    print(outcome)
    assert not outcome.problems, outcome
    assert {"redis", "postgresql", "server", "replicator", "file writer"} <= set(outcome.kills)
    assert outcome.acknowledged > 20  # on a busy machine; usually 200
    assert outcome.in_files >= outcome.acknowledged
