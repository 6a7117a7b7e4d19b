"""Task files, read into the store one at a time: what is new in them is published, what is not whole is tried again.

Who asks for one is a watcher, a reconciliation, or a poll that needs the newest. What was read decides, by content.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.histogram import Histogram
from gateway.sources.files import Signature, read, stat_of
from gateway.sources.names import Names
from gateway.sources.sharing import is_locked
from gateway.store import Event, Kind, Store
from gateway.tasks import LOCKED, MAX_BYTES, UNREADABLE, NotATaskError, Task, parse

log = logging.getLogger("gateway.folder")

RETRIES = tuple(0.005 * 2**n for n in range(8))
"""Seconds until a torn file is read again: 5, 10, 20 … 640 ms. One that is broken even then is invalid."""

SLICE = 200
"""So many files are read before the loop gets its turn."""

UNREAD = Signature(0, 0, 0, 0)
"""Of a file that is there, and could not be opened so far."""


@dataclass(slots=True)
class Torn:
    """A file that was not whole when it was read: the next try, and what was read last."""

    attempt: int = 0
    timer: asyncio.TimerHandle | None = None
    signature: Signature | None = None
    logged: bool = False


class Reader:
    """Keeps the store equal to the files that it is asked to look at, and tells `publish` of every change."""

    def __init__(self, folder: Path, store: Store, publish: Callable[[Event], None]) -> None:
        self._prefix = str(folder) + os.sep
        self._store = store
        self._publish = publish
        self._torn: dict[str, Torn] = {}
        self.seen: dict[str, Signature] = {}
        """Every task file there is, in the spelling on disk."""
        self.names = Names(folder, self.seen)
        self.unsettled: set[str] = set()
        """Those of which stat cannot tell a further write."""
        self.torn = 0
        """Reads that found a file not whole."""
        self._current: set[str] = set()  # read in this turn of the loop
        self.reads = 0
        """Files that were opened."""
        self.latency = Histogram()
        """From a file's time stamp to its event, in seconds, once what was there before has been `caught_up` with."""
        self.caught_up = False

    def look(self, id: str) -> Event | None:
        """What a task is now, seen with one stat where that is enough; None if it has no file.

        It is told by the spelling on disk. An INVALID at offset 0 is a file that may yet turn out whole: it is being
        tried again.
        """
        own = self.names.spelled(id)
        if own is None:
            return None
        id = own
        try:
            found = stat_of(self._path(id))
        except FileNotFoundError:
            self.absent(id)
            return None
        except OSError:
            return self.refresh(id)
        if found.same(self.seen.get(id)) and (id not in self.unsettled or id in self._current):
            known = self._store.fault(id) or self._store.get(id)
            if known:
                return known
        return self.refresh(id)

    def refresh(self, id: str) -> Event | None:
        """Reads the file of that spelling, and publishes what is new in it."""
        self.reads += 1
        try:
            signature, body = read(self._path(id), MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            self.absent(id)
            return None
        except OSError as error:
            self._saw(id, self.seen.get(id, UNREAD))
            self.unsettled.add(id)  # the next reconciliation tries again
            return self._broken(id, None, LOCKED if is_locked(error) else f"{UNREADABLE}: {error.strerror}")
        if signature is None:  # a folder, a link, a pipe
            self.absent(id)
            return None
        changed = not signature.same(self.seen.get(id)) or id in self.unsettled or id in self._torn
        self._saw(id, signature)
        (self.unsettled.discard if signature.settled() else self.unsettled.add)(id)
        self._read_now(id)
        if len(body) > MAX_BYTES:
            return self._invalid(id, "larger than 64 KB", still=None)
        try:
            task = parse(id, body, signature.mtime_ns // 1_000_000)
        except NotATaskError as error:
            return self._broken(id, signature, str(error))
        self._mended(id)
        if not changed and not self._store.get(id):
            return Event(0, Kind.TASK, id, task)  # an old one: read on demand, and no news to anybody
        if event := self._store.put(task):
            self._publish(event)
            if self.caught_up:
                self.latency.observe(max(0.0, time.time() - signature.mtime_ns / 1e9))
        return self._store.get(id)

    def _path(self, id: str) -> str:
        return f"{self._prefix}{id}.json"

    def _read_now(self, id: str) -> None:
        """What is served in this turn of the loop was asked for before it began: it need not be read once more."""
        if not self._current:
            asyncio.get_running_loop().call_soon(self._current.clear)
        self._current.add(id)

    def _saw(self, id: str, signature: Signature) -> None:
        new = id not in self.seen
        self.seen[id] = signature
        if new:
            self.names.learn((id,))

    def absent(self, id: str) -> None:
        """No file is spelled so."""
        self._mended(id)
        self.unsettled.discard(id)
        if self.seen.pop(id, None):  # else it may be another source's task
            self.names.drop(id)
            self._publish(self._store.remove(id))

    def tries(self, id: str) -> bool:
        """Whether a file could not be read so far, and is tried again."""
        return id in self._torn

    def _mended(self, id: str) -> None:
        if (torn := self._torn.pop(id, None)) and torn.timer:
            torn.timer.cancel()

    def _broken(self, id: str, signature: Signature | None, reason: str) -> Event:
        """Not whole: tried again for a while, and only then said to be invalid. Its last good state is kept."""
        self.torn += 1
        torn = self._torn.setdefault(id, Torn())
        good = self._store.get(id)
        still = good.task if good else None
        if not torn.timer:
            if torn.signature != signature:  # written since: it has all its tries again
                torn.attempt, torn.signature = 0, signature
            if torn.attempt == len(RETRIES):
                return self._invalid(id, reason, still)
            torn.timer = asyncio.get_running_loop().call_later(RETRIES[torn.attempt], self._retry, id, torn)
            torn.attempt += 1
        return self._store.fault(id) or Event(0, Kind.INVALID, id, error=reason, still=still)

    def _retry(self, id: str, torn: Torn) -> None:
        torn.timer = None
        self.refresh(id)

    def _invalid(self, id: str, reason: str, still: Task | None) -> Event:
        torn = self._torn.setdefault(id, Torn())
        if not torn.logged:
            torn.logged = True
            log.warning("task %r cannot be shown: %s", id, reason)
        if event := self._store.invalidate(id, reason, still=still):
            self._publish(event)
            return event
        return self._store.fault(id) or Event(0, Kind.INVALID, id, error=reason, still=still)

    async def refresh_all(self, ids: Iterable[str]) -> None:
        """Reads many, in slices."""
        for count, id in enumerate(dict.fromkeys(ids), 1):
            self.refresh(id)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def stop(self) -> None:
        """Tries no file again."""
        for id in list(self._torn):
            self._mended(id)
