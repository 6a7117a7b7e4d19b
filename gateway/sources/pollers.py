"""Those who poll: one for each task that somebody wants, and for unknown ids as there are places for them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.parts import Parts
from gateway.sources.asking import Asking
from gateway.sources.places import Absent, Names, Places
from gateway.sources.poller import Poller
from gateway.store import Event, Store

log = logging.getLogger("gateway.backend")

CROWDED = 1_000
"""So many wait in line before it is looked through for those that nobody waits for any more."""


class Subscribers(Protocol):
    """Who is subscribed to a task."""

    def is_wanted(self, id: str, *, by_name: bool) -> bool:
        """Whether anybody is; who wants everything does not count for one wanted `by_name`."""

    def clients(self, id: str) -> Iterable[str]:
        """Whom those count for that want it by its name."""


class Pollers:
    """At most `most` of them, half of those at unknown ids, `unknown` of them for one client. Owns their lives."""

    def __init__(
        self,
        asking: Asking,
        store: Store,
        publish: Callable[[Event], None],
        *,
        has_file: Callable[[str], bool],
        subscribers: Subscribers,
        interval: float,
        unknown: int,
        most: int,
        recent: float,
    ) -> None:
        self.places = Places(unknown, most // 2)
        self._asking, self._store, self._publish = asking, store, publish
        self._has_file, self._subscribers = has_file, subscribers
        self._interval, self._most, self._recent = interval, most, recent
        self._by_name: dict[str, Poller] = {}  # by each name of its task
        self._left: dict[str, Names] = {}  # tasks that run and that nobody wanted any more, or had no room
        self._absent = Absent(2 * most)
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup

    def __len__(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with (
            asyncio.TaskGroup() as self._group,
            parts.running("backend", self._tend),
            parts.running("subscriptions", self._take_up),
        ):
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()

    @property
    def full(self) -> bool:
        return len(self) >= self._most

    def of(self, names: Names) -> Poller | None:
        return next((self._by_name[name] for name in names if name in self._by_name), None)

    def knows_none(self, names: Names) -> bool:
        """Whether the backend has just said that there is no such task."""
        return self._absent.wait(names, time.monotonic()) > 0

    def known(self, names: Names) -> Event | None:
        for name in names:
            if event := self._store.fault(name) or self._store.get(name):
                return event
        return None

    # Who begins, and when

    def poll(self, names: Names, clients: Collection[str] = ()) -> Poller | None:
        """The poller of a task that these clients wait for, started if need be; None where there is no room."""
        poller = self.of(names)
        if not poller:
            known = self.known(names)
            if self.full:
                self._left |= {known.id: names} if known else {}
                return None
            if not known and not self.places.take(names, clients):
                return None
            poller = self.start(names)
        poller.look(clients)
        return poller

    def follow(self, names: Names) -> None:
        """Somebody has subscribed to it by name: it is polled as soon as there is room."""
        clients = self.clients(names)
        if not self.poll(names, clients) and not self.known(names):
            self.places.line.put(names, clients)

    def start(self, names: Names) -> Poller:
        rest = self._absent.wait(names, time.monotonic())
        args = (names, self._asking, self._store, self._publish)
        poller = Poller(*args, interest=self, interval=self._interval, rest=rest)
        self._by_name.update(dict.fromkeys(names, poller))
        task = self._group.create_task(self._run(poller))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return poller

    async def _run(self, poller: Poller) -> None:
        names = poller.names
        try:
            await poller.run()
            if not poller.known and (clients := self.clients(names)) and not self.is_elsewhere(names):
                self.places.line.put(names, clients)  # it has had its turn
        except Exception:  # one task's trouble is not the others'
            log.exception("polling %r ended", names[0])
        finally:
            for name in names:
                del self._by_name[name]
            self.places.give_back(names)
            if poller.absent:
                self._absent.add(names, time.monotonic() + poller.absent)
            known = self.known(names)
            if known and not (known.task and known.task.final) and not self.is_elsewhere(names):
                self._left[known.id] = names

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.set()

    async def _take_up(self) -> None:
        """Polls unknown ids that wait in line, as soon as there is room for them and for as long as they are wanted."""
        while True:
            await self._room.wait()
            self._room.clear()
            while not self.full and (next := self.places.next()):
                client, names = next
                clients = self.clients(names)
                if client in clients:
                    self.poll(names, {client})
                elif clients:
                    self.places.line.put(names, clients)  # others want it still

    async def _tend(self) -> None:
        """Polls what runs and was left as soon as somebody wants it again, such as a dashboard that wants all; forgets
        what has not changed for `recent` seconds, and what nobody waits for any more."""
        crowded = CROWDED
        while True:
            await asyncio.sleep(self._interval)
            self._store.prune(int((time.time() - self._recent) * 1000))
            for id, names in list(self._left.items()):
                if not self.known(names) or self.of(names):
                    del self._left[id]
                elif self.is_wanted(names, by_name=False):
                    self.poll(names)
            line = self.places.line
            if len(line) > crowded:
                line.keep(lambda names: bool(self.clients(names)))
                crowded = CROWDED + 2 * len(line)

    # What pollers ask

    def is_wanted(self, names: Names, *, by_name: bool) -> bool:
        return any(self._subscribers.is_wanted(name, by_name=by_name) for name in names)

    def is_elsewhere(self, names: Names) -> bool:
        return any(map(self._has_file, names))

    def clients(self, names: Names) -> set[str]:
        """Whom those count for that are subscribed to a task by name."""
        return {client for name in names for client in self._subscribers.clients(name)}

    def takes_place(self, names: Names) -> bool:
        return names in self.places or self.places.take(names, self.clients(names))

    def is_contested(self, names: Names) -> bool:
        return self.places.is_contested(names)

    def needs_no_place(self, names: Names) -> None:
        if self.places.give_back(names):
            self._room.set()
