"""The Tasks folder as a source: watchfiles hints, and a reconciliation for what the watcher missed.

A hint is never trusted: it only says which file to read again.
"""

import asyncio
import heapq
import logging
import math
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from gateway.parts import Parts
from gateway.sources.canary import Canary
from gateway.sources.files import Difference, Rows, compare
from gateway.sources.reader import Reader
from gateway.sources.watch import WatchError, watch
from gateway.store import Event, Store
from gateway.tasks import is_id

log = logging.getLogger("gateway.folder")

SMALL = 2_000
"""A folder of so many files is scanned within a few milliseconds."""

DEAF, OVERDUE = 30.0, 500_000_000
"""Seconds for which a watcher that missed a change is not trusted; nanoseconds within which it should have told."""

APPEARS, REWATCH = 0.2, 30.0
"""Seconds between looks for a folder that is not there; until a watcher that could not start is tried again."""


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
        self._store = store
        self.reader = Reader(self.tasks, store, publish)
        self.look = self.reader.look
        self._step, self._debounce, self._watch_at_all = step, debounce, watch
        self._period, self._poll = reconcile, poll
        self._recent, self._recent_tasks = recent, recent_tasks
        self._comparing, self._comparisons = asyncio.Lock(), 0  # one at a time of those that somebody waits for
        self._kick = asyncio.Event()  # reconcile now
        self._moved = threading.Event()  # the folder that is watched is not the one at the path any more
        self._identity: tuple[int, int] | None = None
        self._complaint = ""
        self.reconciled = -math.inf  # when the folder was last compared (loop time)
        self.findings = 0
        """Changes that no hint had told of."""
        self._missed = -math.inf  # when the last of them was found
        self._canary = Canary(self.tasks)
        # Kept: where memory is short, a thread that is started may never tell that it was.
        self._watcher, self._comparer = ThreadPoolExecutor(1, "watch"), ThreadPoolExecutor(1, "compare")

    @property
    def readable(self) -> bool:
        return not self._complaint

    @property
    def deaf(self) -> bool:
        """Whether the watcher has lately kept silent about a change, or about its canary."""
        return self.watching and (self._canary.unheard or time.monotonic() - self._missed < DEAF)

    def has(self, id: str) -> bool:
        """Whether there is a file of that name, when it was last looked at."""
        return self.reader.names.spelled(id) in self.reader.seen

    def spelled(self, id: str) -> str:
        """How a task is spelled on disk; as it is asked for, where it has no file."""
        return self.reader.names.spelled(id) or id

    async def newest(
        self, count: int, after: tuple[int, str] | None = None, *, look: bool = True
    ) -> list[tuple[int, str]]:
        """The `count` tasks last written, newest first, as `(mtime_ns, id)`; only those after `after` in that order.

        `look`: after a comparison that begins now, where that takes a few milliseconds.
        """
        if look and len(self.reader.seen) <= SMALL:
            await self._compare_once()
        rows = ((signature.mtime_ns, id) for id, signature in self.reader.seen.items())
        return heapq.nlargest(count, (row for row in rows if after is None or row < after))

    async def _compare_once(self) -> None:
        """One comparison, that begins after now, for all who have asked for one meanwhile."""
        wanted = self._comparisons + 1
        async with self._comparing:
            if self._comparisons < wanted:
                self._comparisons = wanted
                await self.reconcile()

    async def reconcile(self) -> None:
        """Compares the whole folder with what is known, and reads what differs."""
        began = time.time_ns()
        try:
            identity, changed, gone, at = await self._compare()
        except OSError as error:  # no answer is no news: what is known stays
            self._complain(f"cannot read {self.tasks}: {error.strerror}")
            if identity_of(self.tasks) != self._identity:  # Windows keeps a deleted one as long as it is watched
                self._moved.set()
            return
        self._complain("")
        if identity != self._identity:
            self._moved.set()
        changed, gone = self._renamed(changed, gone)
        self.reader.names.listed(at)
        oldest = time.time() - self._recent
        seen, unsettled = self.reader.seen, self.reader.unsettled
        if not (seen and self.scanned.is_set()):  # years of finished tasks may be there at once: hold the recent ones
            news = [row for row in changed if row[1].mtime_ns >= oldest * 1e9][-self._recent_tasks :]
            seen.update(changed)
            self.reader.names.learn(id for id, _ in changed)
            unsettled.update(id for id, _ in news)
            changed = news
        elif self.watching:
            overdue = [id for id, signature in changed if signature.mtime_ns < began - OVERDUE]
            await self._find([id for id in overdue if not self.reader.tries(id)])
        await self.reader.refresh_all([id for id, _ in changed] + gone + [*unsettled])
        self._store.prune(int(oldest * 1000))
        self.reconciled = time.monotonic()
        self.reader.caught_up = True
        self.scanned.set()

    async def _compare(self) -> Difference:
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._comparer, compare, self.tasks, self.reader.seen.copy())

    def _renamed(self, changed: Rows, gone: list[str]) -> tuple[Rows, list[str]]:
        """Takes up new spellings of known names, as which the old ones could still be read; the rest is left."""
        names, before = self.reader.names, frozenset(gone)
        if not self.reader.seen:
            names.forget()
        old = {other: id for id, _ in changed for other in names.others(id) if other in before} if before else {}
        for other, id in old.items():
            self.reader.absent(other)
            self.reader.refresh(id)
        new = {*old.values()}
        return [row for row in changed if row[0] not in new], [id for id in gone if id not in old]

    async def _find(self, overdue: list[str]) -> None:
        """Reads what a hint should have told of long ago, and notes how much of it was news."""
        before = self._store.head
        await self.reader.refresh_all(overdue)
        if found := self._store.head - before:
            self.findings += found
            self._missed = time.monotonic()
            log.warning("the watcher missed %d changes: looking every %g s for a while", found, self._poll)

    def _complain(self, complaint: str) -> None:
        """Logs that the folder cannot be read once, until that is over."""
        if complaint and complaint != self._complaint:
            log.warning(complaint)
        self._complaint = complaint

    # Over time

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.running("comparison", self._reconcile_for_ever), parts.running("watch", self._watch):
            try:
                yield
            finally:
                self.reader.stop()
                for thread in (self._watcher, self._comparer):
                    thread.shutdown(wait=False, cancel_futures=True)

    async def _reconcile_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll if self._blind() else self._period):
                    await self._kick.wait()
            self._kick.clear()
            try:
                await self.reconcile()
            except Exception:
                self._kick.set()  # it is still to be done
                raise
            if self.watching:
                self._canary.sing()

    def _blind(self) -> bool:
        """Whether looking often is all there is."""
        return self.scanned.is_set() and (not self.watching or self.deaf)

    async def _watch(self) -> None:
        """Watches the folder that is there; waits for one that is not, and moves on to one that replaces it."""
        while True:
            if (identity := identity_of(self.tasks)) != self._identity:
                self._identity = identity
                self.reader.names.forget()
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
            except WatchError as error:
                self.watching = False
                log.warning("cannot watch %s (%s): looking every %g s instead", self.tasks, error, self._poll)
                await asyncio.sleep(REWATCH)

    async def _follow(self) -> None:
        """Takes up hints until the folder at the path is another one."""
        async with aclosing(watch(self.tasks, self._step, self._debounce, self._moved, self._watcher)) as hints:
            self.watching = True
            try:
                async for paths in hints:
                    await self.take_up(paths)
            finally:
                self.watching = False

    async def take_up(self, paths: list[str]) -> None:
        """Reads what hints may be about, whatever kind of change they tell of, and by whichever path."""
        self._canary.listen(paths)
        names = [path.rpartition(os.sep)[2] for path in paths]  # a link may stand in the path, and not in the hint
        hints = {name[:-5] for name in names if name.endswith(".json") and is_id(name[:-5])}
        spelled = {self.spelled(id) for id in hints}
        await self.reader.refresh_all(spelled)
        renamed = hints - spelled and self.reader.names.changed()
        if renamed or self.tasks.name in names:  # a hint about the folder itself: something in it
            self._kick.set()
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
