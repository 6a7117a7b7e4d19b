"""How fast a task goes, and how long it will take. Pure: the clock is the caller's."""

import math

MEMORY = 30.0
"""Seconds after which a change weighs a third: recent ones say more of what comes."""


ENOUGH = 1.0
"""Seconds of change before anything is said: the first state was seen at any moment between two changes."""


class Estimate:
    """Rate and time left of one task, from the changes of its progress (percent) and their times (seconds)."""

    def __init__(self) -> None:
        self._progress: float | None = None
        self._last = 0.0
        self._gained = self._took = self._changes = 0.0  # percent, seconds, how many: each fading alike

    def add(self, now: float, progress: float) -> None:
        """Takes a state. One that says the same progress is no change; one that says less is a new start."""
        if self._progress is None or progress < self._progress:
            self._gained = self._took = self._changes = 0.0
        elif progress == self._progress:
            return
        else:
            passed = max(0.0, now - self._last)
            fading = math.exp(-passed / MEMORY)
            self._gained = self._gained * fading + progress - self._progress
            self._took = self._took * fading + passed
            self._changes = self._changes * fading + 1
        self._progress, self._last = progress, now

    def rate(self, now: float) -> float | None:
        """Percent a second; None while nothing is known. Falls when a change is overdue."""
        took = self._took + max(0.0, now - self._last - self._patience)
        return self._gained / took if self._gained and took >= ENOUGH else None

    def left(self, now: float) -> float | None:
        """Seconds until 100 %, never negative; None while nothing is known."""
        rate = self.rate(now)
        if not rate or self._progress is None:
            return None
        waited = min(max(0.0, now - self._last), self._patience)
        return max(0.0, (100 - self._progress) / rate - waited)

    @property
    def _patience(self) -> float:
        """Seconds until the next change is overdue: twice as long as they took so far."""
        return 2 * self._took / self._changes if self._changes else 0.0


def rate_text(rate: float | None) -> str:
    """A rate in percent a second, in the unit that reads best."""
    if rate is None:
        return ""
    return f"{rate:.1f} %/s" if rate >= 1 else f"{rate * 60:.1f} %/min"


def time_text(seconds: float | None) -> str:
    """Seconds as m:ss or h:mm:ss; nothing where they are unknown, or more than anybody waits."""
    if seconds is None or seconds >= 360_000:
        return ""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
