"""Who failed to be let in too often of late has to wait, before anything is checked again."""

import time
from collections import OrderedDict

MOST, WINDOW = 20, 60.0
"""So many failures in so many seconds."""

MOST_KEPT = 10_000


class Failures:
    """Counts failures by address and by token."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when the window began, and how many since

    def wait(self, who: str) -> float:
        """Seconds until somebody may try again; 0 for now."""
        began, count = self._counts.get(who, (0.0, 0))
        return max(0.0, began + WINDOW - time.monotonic()) if count >= MOST else 0.0

    def add(self, who: str) -> None:
        now = time.monotonic()
        began, count = self._counts.pop(who, (now, 0))
        self._counts[who] = (began, count + 1) if now - began < WINDOW else (now, 1)
        if len(self._counts) > MOST_KEPT:
            self._counts.popitem(last=False)
