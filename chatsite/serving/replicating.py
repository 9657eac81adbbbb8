"""A thread of `serve` that copies the message log into SQL (MESSAGE_LOG=redis): conversations/actions/replicate.py.

Each process has one, and they share the work. What one of them leaves undone, because the process is killed for
example, another copies.
"""

import threading

from django.db import connection

from conversations.actions.replicate import BLOCK, Replicator


class Replicating:
    """The thread."""

    def __init__(self) -> None:
        """It does not run yet."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="replicating", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end after what it copies now, and wait a moment for it. A transaction may be cut off."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(BLOCK + 0.5)

    def run(self) -> None:
        """Copy until `stop`."""
        try:
            Replicator(self.stopping.is_set).run()
        finally:
            connection.close()
