"""A circuit breaker: while an outside service hangs, one caller at a time waits for it, and the others fail at once."""

import threading
import time


class Breaker:
    """Remembers that a service has failed, for all threads of this process."""

    def __init__(self, pause: float, trial: float) -> None:
        """After a failure nobody asks the service for `pause` seconds. Then one caller does.

        The others fail until it has a result, at most for `trial` seconds.
        """
        self.pause = pause
        self.trial = trial
        self.lock = threading.Lock()
        self.is_open = False
        self.until = 0.0

    def allows(self) -> bool:
        """Whether the caller may ask the service. If so, it calls `succeeded` or `failed` afterwards."""
        if not self.is_open:
            return True
        with self.lock:
            now = time.monotonic()
            if self.is_open and now < self.until:
                return False
            self.until = now + self.trial
            return True

    def failed(self) -> None:
        """The service has not answered."""
        with self.lock:
            self.is_open, self.until = True, time.monotonic() + self.pause

    def succeeded(self) -> None:
        """The service has answered."""
        self.is_open = False
