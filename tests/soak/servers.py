"""Servers and nginx that stop or hang."""

import signal
import time

from tests.soak.installation import Installation
from tests.soak.trial import Trial

RESTART = 2
"""Seconds until systemd restarts a killed process (RestartSec in deploy/chatsite@.service)."""


def terminate(installation: Installation) -> None:
    """Two rolling restarts."""
    for server in installation.servers * 2:
        time.sleep(3)
        server.stop()
        server.start()


def kill(installation: Installation) -> None:
    """Kill one after the other, twice."""
    for server in installation.servers * 2:
        time.sleep(3)
        server.kill()
        time.sleep(RESTART)
        server.start()


def kill_all(installation: Installation) -> None:
    """Kill both at the same time."""
    time.sleep(3)
    for server in installation.servers:
        server.kill()
    time.sleep(RESTART)
    for server in installation.servers:
        server.start()


def freeze(installation: Installation) -> None:
    """SIGSTOP one server for 30 s, as if the machine were swapping."""
    time.sleep(3)
    process = installation.servers[0].process
    assert process
    process.send_signal(signal.SIGSTOP)
    time.sleep(30)
    process.send_signal(signal.SIGCONT)


def restart_nginx(installation: Installation) -> None:
    """Kill nginx and start it again."""
    time.sleep(3)
    installation.end_nginx(signal.SIGKILL)
    time.sleep(2)
    installation.start_nginx()


TRIALS = {
    "servers-terminated": Trial(terminate),
    "servers-killed": Trial(kill),
    "servers-killed-together": Trial(kill_all),
    "server-frozen": Trial(freeze, heals=20),
    "nginx-killed": Trial(restart_nginx),
}
