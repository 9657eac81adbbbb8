"""Writes to a connection's socket at once.

Twisted would first wait until the socket is writable, in another iteration of the event loop and with two more system
calls each time. It nearly always is.
"""

from typing import Any


def do_nothing() -> None:
    """Replaces `startWriting` until `write_now`."""


def write_now(transport: Any) -> None:
    """Write what the transport has buffered to its socket; wait until the socket is writable for the rest."""
    if transport.connected and (transport.doWrite() is not None or transport.dataBuffer or transport.disconnecting):
        transport.startWriting()
