"""Proof that a watcher hears: a hidden file that is written now and then, and has to be heard of."""

import os
import time
from contextlib import suppress
from pathlib import Path

EVERY, WITHIN = 30.0, 2.0
"""Seconds from one canary to the next, and until it must have been heard."""


class Canary:
    """Writes `.gateway-<pid>` into the folder and takes it away again. A folder that is read-only has none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f".gateway-{os.getpid()}"
        self._sung = -EVERY
        self._waits = False

    @property
    def unheard(self) -> bool:
        return self._waits and time.monotonic() - self._sung > WITHIN

    def sing(self) -> None:
        """Call as often as you like."""
        if time.monotonic() - self._sung < EVERY:
            return
        with suppress(OSError):
            self._path.touch()
            self._path.unlink()
            self._sung, self._waits = time.monotonic(), True

    def listen(self, paths: list[str]) -> None:
        """Hints may name the folder by another path, where there are links in it."""
        if self._waits and any(path.endswith(os.sep + self._path.name) for path in paths):
            self._waits = False
