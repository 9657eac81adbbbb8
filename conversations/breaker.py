"""A circuit breaker: while a service hangs, one caller at a time waits for it, and the others fail at once."""

import threading
import time


class Breaker:
    """Remembers that a service has failed, for all threads of this process."""

    def __init__(self, pause: float, trial: float) -> None:
        """After a failure, all calls fail at once for `pause` seconds. Then one caller may try the service.

        The others fail until that try has a result, for `trial` seconds at most.
        """
        self.pause = pause
        self.trial = trial
        self.lock = threading.Lock()
        self.is_open = False
        self.until = 0.0
        self.answered_at = float("-inf")  # time.monotonic() of the answer that has ended the last outage

    def allows(self) -> bool:
        """Whether the caller may call the service. If so, it must call `succeeded` or `failed` afterwards."""
        if not self.is_open:
            return True
        with self.lock:
            now = time.monotonic()
            if self.is_open and now < self.until:
                return False
            self.until = now + self.trial
            return True

    @property
    def is_pausing(self) -> bool:
        """Whether nobody may call the service now. Asking that is no try."""
        return self.is_open and time.monotonic() < self.until

    def failed(self, since: float) -> None:
        """Record that the service has not answered a caller who has waited since then (time.monotonic()).

        Not if another one has ended the outage in the meantime: who has waited longer learns late what is over.
        """
        with self.lock:
            if since >= self.answered_at:
                self.is_open, self.until = True, time.monotonic() + self.pause

    def succeeded(self) -> None:
        """Record that the service has answered."""
        if self.is_open:
            with self.lock:
                self.is_open, self.answered_at = False, time.monotonic()
