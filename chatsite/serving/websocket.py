"""A WebSocket connection: daphne's, with bounds on what its client may make the server keep."""

from daphne.ws_protocol import WebSocketProtocol

MAX_WAITING_FRAMES = 16
"""Frames of a socket that may wait to be handled; a client that sends faster is closed with 1008."""

POLICY_VIOLATION = 1008
"""Policy violation (https://www.iana.org/assignments/websocket)."""


class WebSocketConnection(WebSocketProtocol):
    """One socket, with a bound on what it makes the server keep."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a frame for the application, unless too many wait already."""
        if self.state != self.STATE_OPEN:
            return
        if self.application_queue.qsize() < MAX_WAITING_FRAMES:
            super().onMessage(payload, isBinary)
        else:
            self.sendCloseFrame(code=POLICY_VIOLATION, isReply=False)
