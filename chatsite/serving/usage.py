"""Counts how much of a shared resource each address uses."""

import threading
from collections import Counter


class Usage:
    """Counts what each address and all addresses together use, up to a maximum for both. Thread-safe."""

    def __init__(self, max_of_address: int, max_of_all: int) -> None:
        """The maxima."""
        self.max_of_address = max_of_address
        self.max_of_all = max_of_all
        self.total = 0
        self.of: Counter[str] = Counter()
        self.lock = threading.RLock()  # an upload may be released by the garbage collector while it is held

    def take(self, address: str, number: int) -> bool:
        """Count `number` more, unless that exceeds a maximum: then return False."""
        with self.lock:
            if self.total + number > self.max_of_all or self.of[address] + number > self.max_of_address:
                return False
            self.total += number
            self.of[address] += number
            return True

    def give_back(self, address: str, number: int) -> None:
        """Count `number` less."""
        with self.lock:
            self.total -= number
            self.of[address] -= number
            if not self.of[address]:
                del self.of[address]

    def largest(self) -> str:
        """The address that uses the most."""
        with self.lock:
            return max(self.of, key=self.of.__getitem__, default="")
