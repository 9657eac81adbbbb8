"""Listening on a socket that other processes have inherited, too."""

import socket
from typing import Any

from twisted.internet import reactor, tcp, unix

from chatsite.serving.listening import BACKLOG, SOCKET_MODE


class InheritedUnixPort(unix.Port):
    """A Unix socket on which other processes listen, too: its file stays, and it is not shut down."""

    def connectionLost(self, reason: Any) -> None:
        """Close only the file descriptor of this process."""
        tcp.Port.connectionLost(self, reason)  # type: ignore[no-untyped-call]  # Twisted has no types there


def adopt(listener: socket.socket, factory: Any) -> Any:
    """Listen on this socket; returns the port. The socket itself is closed, as the port has a copy."""
    system: Any = reactor
    with listener:
        if listener.family != socket.AF_UNIX:
            return system.adoptStreamPort(listener.fileno(), listener.family, factory)
        port = InheritedUnixPort._fromListeningDescriptor(system, listener.fileno(), factory)  # type: ignore[no-untyped-call]
        port.mode, port.backlog, port._shouldShutdown = SOCKET_MODE, BACKLOG, False
        port.startListening()
        return port
