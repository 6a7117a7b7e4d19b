"""Who failed to be let in too often of late has to wait, before anything of his is checked again."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.access.tokens import TokenError, UnknownKeyError

MOST, WINDOW = 20, 60.0
"""So many failures in so many seconds."""

MOST_KEPT = 10_000


class TooManyError(TokenError):
    """Nothing was checked; `wait` is in seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__("Too many failures: wait a while")
        self.wait = wait


class Failures:
    """Counts failures, by address and by token."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when the window began, and how many since

    @contextmanager
    def counted(self, *names: str) -> Iterator[None]:
        """Counts a TokenError within for each of the names; an empty one is nobody's. Raises TooManyError where one has
        had its share."""
        if wait := max(map(self._wait, names)):
            raise TooManyError(wait)
        try:
            yield
        except UnknownKeyError:  # that may be the provider's failure; it is asked seldom enough
            raise
        except TokenError:
            for name in filter(None, names):
                self._add(name)
            raise

    def _wait(self, name: str) -> float:
        began, count = self._counts.get(name, (0.0, 0))
        return max(0.0, began + WINDOW - time.monotonic()) if count >= MOST else 0.0

    def _add(self, name: str) -> None:
        now = time.monotonic()
        began, count = self._counts.pop(name, (now, 0))
        self._counts[name] = (began, count + 1) if now - began < WINDOW else (now, 1)
        if len(self._counts) > MOST_KEPT:
            self._counts.popitem(last=False)
