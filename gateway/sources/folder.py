"""The Tasks folder as a source: watchfiles hints, re-reading, and a reconciliation for what the watcher missed.

A hint is never trusted: it only says which file to read again. What was read decides, by content.
"""

import asyncio
import heapq
import logging
import math
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.histogram import Histogram
from gateway.sources.canary import Canary
from gateway.sources.files import Signature, compare, read
from gateway.sources.watch import watch
from gateway.store import Event, Kind, Store
from gateway.tasks import MAX_BYTES, NotATaskError, Task, is_id, parse

log = logging.getLogger("gateway.folder")

RETRIES = tuple(0.005 * 2**n for n in range(8))
"""Seconds until a torn file is read again: 5, 10, 20 … 640 ms. One that is broken even then is invalid."""

SLICE = 200
"""So many files are read before the loop gets its turn."""

SMALL = 2_000
"""A folder of so many files is scanned within a few milliseconds."""

DEAF, OVERDUE = 30.0, 500_000_000
"""Seconds for which a watcher that missed a change is not trusted; nanoseconds within which it should have told."""

APPEARS, REWATCH = 0.2, 30.0
"""Seconds between looks for a folder that is not there; until a watcher that could not start is tried again."""


@dataclass(slots=True)
class Torn:
    """A file that was not whole when it was read: the next try, and what was read last."""

    attempt: int = 0
    timer: asyncio.TimerHandle | None = None
    signature: Signature | None = None
    logged: bool = False


class Folder:
    """Keeps the store equal to `[data_path]/Tasks`, and tells `publish` of every change it makes there."""

    def __init__(
        self,
        data_path: Path,
        store: Store,
        publish: Callable[[Event], None],
        *,
        step: int = 1,
        debounce: int = 5,
        reconcile: float = 5.0,
        poll: float = 0.25,
        recent: float = 86_400.0,
        recent_tasks: int = 10_000,
        watch: bool = True,
    ) -> None:
        self.tasks = data_path / "Tasks"
        self.watching = False
        self.scanned = asyncio.Event()
        """Set once the folder has been read for the first time."""
        self._prefix = str(self.tasks) + os.sep
        self._store = store
        self._publish = publish
        self._step, self._debounce, self._watch_at_all = step, debounce, watch
        self._period, self._poll = reconcile, poll
        self._recent, self._recent_tasks = recent, recent_tasks
        self._seen: dict[str, Signature] = {}  # every task file there is
        self._unsettled: set[str] = set()  # those of which stat cannot tell a further write
        self._torn: dict[str, Torn] = {}
        self._kick = asyncio.Event()  # reconcile now
        self._moved = threading.Event()  # the folder that is watched is not the one at the path any more
        self._identity: tuple[int, int] | None = None
        self._complaint = ""
        self.reconciled = -math.inf  # when the folder was last compared (loop time)
        self.torn = self.findings = 0
        """Reads that found a file not whole; changes that no hint had told of."""
        self.latency = Histogram()
        """From a file's time stamp to its event, in seconds."""
        self._missed = -math.inf  # when the last of them was found
        self._canary = Canary(self.tasks)

    @property
    def readable(self) -> bool:
        return not self._complaint

    @property
    def deaf(self) -> bool:
        """Whether the watcher has lately kept silent about a change, or about its canary."""
        return self.watching and (self._canary.unheard or time.monotonic() - self._missed < DEAF)

    # One task

    def look(self, id: str) -> Event | None:
        """What a task is now, seen with one stat where that is enough; None if it has no file.

        An INVALID at offset 0 is a file that may yet turn out whole: it is being tried again.
        """
        try:
            found = os.lstat(self._path(id))
        except OSError:
            return self.refresh(id)
        if self._seen.get(id) == Signature.of(found) and id not in self._unsettled:
            known = self._store.fault(id) or self._store.get(id)
            if known:
                return known
        return self.refresh(id)

    def refresh(self, id: str) -> Event | None:
        """Reads a task's file, and publishes what is new in it."""
        try:
            signature, body = read(self._path(id), MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            self._absent(id)
            return None
        except OSError as error:
            self._unsettled.add(id)  # the next reconciliation tries again
            return self._broken(id, None, f"unreadable: {error.strerror}")
        if signature is None:  # a folder, a link, a pipe
            self._absent(id)
            return None
        changed = self._seen.get(id) != signature or id in self._unsettled or id in self._torn
        self._seen[id] = signature
        (self._unsettled.discard if signature.settled() else self._unsettled.add)(id)
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
            if self.scanned.is_set():
                self.latency.observe(max(0.0, time.time() - signature.mtime_ns / 1e9))
        return self._store.get(id)

    def _path(self, id: str) -> str:
        return f"{self._prefix}{id}.json"

    def _absent(self, id: str) -> None:
        self._mended(id)
        self._unsettled.discard(id)
        if self._seen.pop(id, None) or self._store.get(id) or self._store.fault(id):
            self._publish(self._store.remove(id))

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

    # All of them

    async def newest(self, count: int, after: tuple[int, str] | None = None) -> list[tuple[int, str]]:
        """The `count` tasks last written, newest first, as `(mtime_ns, id)`; only those after `after` in that order."""
        if len(self._seen) <= SMALL:
            await self.reconcile()
        rows = ((signature.mtime_ns, id) for id, signature in self._seen.items())
        return heapq.nlargest(count, (row for row in rows if after is None or row < after))

    async def reconcile(self) -> None:
        """Compares the whole folder with what is known, and reads what differs."""
        began = time.time_ns()
        try:
            identity, changed, gone = await asyncio.to_thread(compare, self.tasks, self._seen.copy())
        except OSError as error:  # no answer is no news: what is known stays
            self._complain(f"cannot read {self.tasks}: {error.strerror}")
            return
        self._complain("")
        if identity != self._identity:
            self._moved.set()
        oldest = time.time() - self._recent
        if not self._seen:  # years of finished tasks may have appeared at once: hold the recent ones only
            news = [row for row in changed if row[1].mtime_ns >= oldest * 1e9][-self._recent_tasks :]
            self._seen.update(changed)
            self._unsettled.update(id for id, _ in news)
            changed = news
        elif self.watching:
            await self._find([id for id, signature in changed if signature.mtime_ns < began - OVERDUE])
        await self._refresh_all([id for id, _ in changed] + gone + [*self._unsettled])
        self._store.prune(int(oldest * 1000))
        self.reconciled = time.monotonic()
        self.scanned.set()

    async def _find(self, overdue: list[str]) -> None:
        """Reads what a hint should have told of long ago, and notes how much of it was news."""
        before = self._store.head
        await self._refresh_all(overdue)
        if found := self._store.head - before:
            self.findings += found
            self._missed = time.monotonic()
            log.warning("the watcher missed %d changes: looking every %g s for a while", found, self._poll)

    async def _refresh_all(self, ids: Iterable[str]) -> None:
        for count, id in enumerate(dict.fromkeys(ids), 1):
            self.refresh(id)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def _complain(self, complaint: str) -> None:
        """Logs that the folder cannot be read once, until that is over."""
        if complaint and complaint != self._complaint:
            log.warning(complaint)
        self._complaint = complaint

    # Over time

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reconcile_for_ever()), group.create_task(self._watch())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for id in list(self._torn):
                    self._mended(id)

    async def _reconcile_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll if self._blind() else self._period):
                    await self._kick.wait()
            self._kick.clear()
            await self.reconcile()
            if self.watching:
                self._canary.sing()

    def _blind(self) -> bool:
        """Whether looking often is all there is."""
        return self.scanned.is_set() and (not self.watching or self.deaf)

    async def _watch(self) -> None:
        """Watches the folder that is there; waits for one that is not, and moves on to one that replaces it."""
        while True:
            self._identity = identity_of(self.tasks)
            self._moved = threading.Event()
            self._kick.set()  # the scan comes after the watch has begun, so that nothing falls between
            if self._identity is None or not self._watch_at_all:
                self.watching = False
                await self._until_moved()
                continue
            try:
                await self._follow()
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError) as error:  # no inotify here, or its limits are used up
                self.watching = False
                log.warning("cannot watch %s (%s): looking every %g s instead", self.tasks, error, self._poll)
                await asyncio.sleep(REWATCH)

    async def _follow(self) -> None:
        """Takes up hints until the folder at the path is another one."""
        async with aclosing(watch(self.tasks, self._step, self._debounce, self._moved)) as hints:
            self.watching = True
            async for paths in hints:
                await self._take_up(paths)

    async def _take_up(self, paths: list[str]) -> None:
        self._canary.listen(paths)
        hints = [path[len(self._prefix) : -5] for path in paths if path.endswith(".json")]
        await self._refresh_all(filter(is_id, hints))
        if len(hints) < len(paths) and identity_of(self.tasks) != self._identity:
            self._moved.set()

    async def _until_moved(self) -> None:
        while identity_of(self.tasks) == self._identity:
            await asyncio.sleep(APPEARS)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which folder is at the path now; None if there is none."""
    with suppress(OSError):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return found.st_dev, found.st_ino
    return None
