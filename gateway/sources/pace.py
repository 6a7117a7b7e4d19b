"""How long to wait until a task is asked for again. No I/O, no clock."""

import random

FASTEST, SLOWEST = 0.5, 4.0
"""Of the interval: while a task changes at every poll, and while it does not change at all."""

LONGEST = 30.0
"""Of the interval: between tries of a backend that fails. A Retry-After is obeyed up to twice that."""


class Pace:
    """Quicker while a task changes, slower while it does not, slower yet while its backend fails; jittered."""

    def __init__(self, interval: float) -> None:
        self._interval = self._seconds = interval
        self._least = 0.0
        self.failures = 0

    def changed(self) -> None:
        self.failures, self._least = 0, 0.0
        self._seconds = max(self._interval * FASTEST, self._seconds / 2)

    def unchanged(self) -> None:
        self.failures, self._least = 0, 0.0
        self._seconds = min(self._interval * SLOWEST, self._seconds * 1.5)

    def failed(self) -> None:
        self.failures, self._least = self.failures + 1, 0.0

    def told(self, seconds: float) -> None:
        """The backend has said itself how long to stay away (Retry-After)."""
        self._least = min(seconds, 2 * LONGEST * self._interval)

    def wait(self) -> float:
        """Seconds until the next poll."""
        seconds = self._seconds
        if self.failures:
            seconds = min(self._interval * 2.0 ** min(self.failures, 16), self._interval * LONGEST)
        return max(seconds * random.uniform(0.9, 1.1), self._least)

    @property
    def least(self) -> float:
        """Seconds that the backend wants to be left alone for."""
        return self._least

    @property
    def patient(self) -> bool:
        """Whether even somebody who asks has to wait: a backend that fails is not asked more often for that."""
        return self.failures > 0 or self._least > 0
