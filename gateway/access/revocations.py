"""A list of tokens that are not good any more: a file, a token's id or `sub:` and a subject on each line."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.parts import Parts

log = logging.getLogger("gateway.access")

LOOKS = 0.25
"""Seconds between two looks at the file: the shorter half of the second within which streams end."""


class Revocations:
    """Keeps `revoked` equal to the file, and calls `changed` when it changes. A file that is not there revokes none."""

    def __init__(self, path: Path | None, changed: Callable[[frozenset[str]], None]) -> None:
        self._path = path
        self._changed = changed
        self._signature: tuple[int, int] | None = None
        self.revoked: frozenset[str] = frozenset()
        self.look()

    def look_at(self, path: Path | None) -> None:
        """Goes on with another file, once that can be read; with none, nothing is revoked."""
        if path != self._path:
            self._path, self._signature = path, None
        if path is None and self.revoked:
            self.revoked = frozenset()
            self._changed(self.revoked)
        self.look()

    def look(self) -> None:
        """Reads the file where it is another than before. One that cannot be read any more goes on as it was."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            if (found.st_mtime_ns, found.st_size) == self._signature:
                return
            text = self._path.read_text("utf-8", "replace")
        except OSError as error:
            if self._signature:
                log.warning("the revocation list cannot be read (%s): it goes on as it was", error.strerror)
            self._signature = None
            return
        self._signature = (found.st_mtime_ns, found.st_size)
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        self.revoked = frozenset(line for line in lines if line)
        self._changed(self.revoked)

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.running("revocations", self._look_for_ever):
            yield

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOKS)
            self.look()
