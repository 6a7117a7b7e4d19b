"""A polled backend as a source: for tasks that have no file here, one poll of ours becomes push for any number.

Its states go into the same store as the folder's, so everything behind the store is the same: cursors, streams, polls.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.parts import Parts
from gateway.sources.answers import AnswerError, pending
from gateway.sources.asking import Asking
from gateway.sources.poller import Poller
from gateway.store import Event, Store
from gateway.tasks import spellings

log = logging.getLogger("gateway.backend")


class Wanted(Protocol):
    """Whether anybody is subscribed to a task; who wants everything does not count for one wanted `by_name`."""

    def __call__(self, id: str, *, by_name: bool) -> bool: ...


class Backend:
    """Polls each task that somebody wants and that `has_file` does not know. Use while `running` is entered.

    `is_wanted` tells whether anybody is subscribed to a task; `interval` is in seconds; `most` tasks are polled, and
    `at_once` of them at a time. `dialect` is auto, v1, flat, system, or off: then only replies tell of tasks.
    """

    def __init__(
        self,
        base: str,
        dialect: str,
        store: Store,
        publish: Callable[[Event], None],
        *,
        has_file: Callable[[str], bool],
        is_wanted: Wanted,
        host: str = "",
        connect: float = 5,
        interval: float = 1,
        at_once: int = 32,
        most: int = 10_000,
        recent: float = 86_400,
    ) -> None:
        self.asking = Asking(base, dialect, host=host, connect=connect, interval=interval, most=at_once)
        self._polls = dialect != "off"
        self._store, self._publish = store, publish
        self._has_file, self._is_wanted = has_file, is_wanted
        self._interval, self._most, self._recent = interval, most, recent
        self._pollers: dict[str, Poller] = {}  # by each name of its task
        self._left: dict[str, tuple[str, ...]] = {}  # tasks that run and that nobody wanted any more
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self.asking.running(), asyncio.TaskGroup() as self._group, parts.running("backend", self._tend):
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()

    @property
    def polled(self) -> int:
        """How many tasks are being polled."""
        return len(self._tasks)

    # What is known

    def look(self, id: str) -> Event | None:
        """What is known of a task; somebody wants to know it, so from now on it is polled."""
        names = spellings(id)
        known = self._known(names)
        if self._polls and not (known and known.task and known.task.final):
            self._follow(names)
        return known

    def newest(self) -> list[tuple[int, str]]:
        """The tasks that are known and have no file, as `(nanoseconds, id)` like those of a folder."""
        known = ((event.task, event.id) for event in self._store.newest_first())
        return [(task.updated * 1_000_000, id) for task, id in known if task and not self._has_file(id)]

    def is_fresh(self, id: str) -> bool:
        """Whether what is known of a task can be answered with: also that there is none."""
        names = spellings(id)
        if not self._polls or self.is_elsewhere(names):
            return True
        known = self._known(names)
        if known and known.task and known.task.final:
            return True
        poller = self._poller(names)
        return poller is not None and poller.fresh

    async def freshen(self, id: str) -> AnswerError | None:
        """Waits until what is known is fresh. Returns how the backend failed where therefore nothing is known."""
        names = spellings(id)
        poller = self._follow(names)
        if not poller:
            return AnswerError("is asked for too many tasks", status=503)
        await poller.freshen()
        return poller.error if not self._known(names) else None

    def _known(self, names: tuple[str, ...]) -> Event | None:
        for name in names:
            if event := self._store.fault(name) or self._store.get(name):
                return event
        return None

    # What is polled

    def learn(self, id: str) -> None:
        """A reply of the backend has named a task: it is pending until more is known."""
        names = spellings(id)
        if self._known(names) or any(map(self._has_file, names)):
            return
        if poller := self._follow(names):
            poller.learn(pending(id))

    def _poller(self, names: tuple[str, ...]) -> Poller | None:
        return next((self._pollers[name] for name in names if name in self._pollers), None)

    def _follow(self, names: tuple[str, ...]) -> Poller | None:
        """The poller of a task, started where there is none; None where there are too many."""
        if poller := self._poller(names):
            poller.look()
            return poller
        if len(self._tasks) >= self._most:
            return None
        poller = Poller(names, self.asking, self._store, self._publish, interest=self, interval=self._interval)
        self._pollers.update(dict.fromkeys(names, poller))
        task = self._group.create_task(self._run(poller))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return poller

    async def _run(self, poller: Poller) -> None:
        try:
            await poller.run()
        except Exception:  # one task's trouble is not the others'
            log.exception("polling %r ended", poller.names[0])
        finally:
            for name in poller.names:
                del self._pollers[name]
            known = self._known(poller.names)
            if known and not (known.task and known.task.final) and not self.is_elsewhere(poller.names):
                self._left[known.id] = poller.names

    async def _tend(self) -> None:
        """Polls what runs and was left as soon as somebody wants it again, such as a dashboard that wants all; forgets
        what has not changed for `recent` seconds."""
        while True:
            await asyncio.sleep(self._interval)
            self._store.prune(int((time.time() - self._recent) * 1000))
            for id, names in list(self._left.items()):
                if not self._known(names) or self._poller(names):
                    del self._left[id]
                elif self.is_wanted(names, by_name=False):
                    self._follow(names)

    def is_wanted(self, names: tuple[str, ...], *, by_name: bool) -> bool:
        return any(self._is_wanted(name, by_name=by_name) for name in names)

    def is_elsewhere(self, names: tuple[str, ...]) -> bool:
        return any(map(self._has_file, names))
