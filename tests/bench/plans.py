"""How PostgreSQL answers the frequent queries among many messages: `python -m tests.bench.plans --messages 10000000`.

It fills an own PostgreSQL, makes the requests of customers and agents, and prints for each of their statements what
PostgreSQL does (EXPLAIN ANALYZE). It ends with 1 if a statement reads many rows that it does not need.
"""

import argparse
import subprocess
import sys

from tests.bench.server import ROOT, environment, run
from tests.bench.services import postgresql


def main() -> None:
    """Start PostgreSQL, and have tests/bench/statements.py do it with Chatsite's settings."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plans", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    total = parser.parse_args().messages
    with postgresql() as service:
        run("manage.py", "migrate", "-v0", url=service.url)
        command = [sys.executable, "-m", "tests.bench.statements", str(total)]
        sys.exit(subprocess.run(command, cwd=ROOT, env=environment(service.url), check=False).returncode)


if __name__ == "__main__":
    main()
