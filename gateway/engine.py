"""Store, hub and source as one running thing, and the questions that endpoints ask of it."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from gateway.access.grants import EVERYTHING, Grant
from gateway.cache import Cache
from gateway.hub import Hub
from gateway.limits import Limits
from gateway.outlets import Bell
from gateway.parts import Parts
from gateway.settings import Settings
from gateway.slices import REST, SLICE, Slice
from gateway.sources.answers import AnswerError
from gateway.sources.folder import Folder
from gateway.sources.replica import Replica
from gateway.store import Event, Store
from gateway.subscription import Subscription
from gateway.tasks import is_id, is_name, spellings
from gateway.wire import Ring

if TYPE_CHECKING:
    from gateway.broker.edge import Edge
    from gateway.broker.publisher import Publisher
    from gateway.sources.backend import Backend
    from gateway.sources.gateway import GatewaySource


class Remote(Protocol):
    """A source that cannot be looked at whenever somebody asks: what it said last counts."""

    def look(self, id: str) -> Event | None: ...
    def newest(self) -> list[tuple[int, str]]: ...
    def is_fresh(self, id: str) -> bool: ...
    async def freshen(self, ids: Sequence[str], client: str) -> list[AnswerError]: ...


_RING = Ring()

TIDY = 10
"""Beats after which answers that nobody asked for are forgotten."""


class Engine:
    """Everything between the folder and the transports. One a process; runs while `running` is entered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts = Parts()
        self.store = Store(limit=settings.recent_tasks, max_bytes=settings.recent_bytes, copied=settings.copies)
        self.hub = Hub(
            self.store,
            lambda flush: asyncio.get_running_loop().call_soon(flush),
            lambda step: asyncio.get_running_loop().call_later(SLICE * REST, step),
            heartbeat=settings.heartbeat,
            write_deadline=settings.write_deadline,
        )
        self.limits = Limits(settings, self.hub)
        self._caches: list[Cache[Any, Any]] = []
        self.replies: Counter[tuple[str, int]] = Counter()  # whole answers by dialect and status
        self.lag = 0.0  # seconds by which the loop was late at the last beat
        self.beaten = time.monotonic()  # when that was
        self._beats = 0
        self.revoked: frozenset[str] = frozenset()
        self.folder = self._folder(settings)
        self.backend = self._backend(settings)
        self.replica = self._replica(settings)
        self.remote: Remote | None = self.backend or self.replica
        self.edge = self._edge(settings)
        self.publisher = self._publisher(settings)

    def cache(self, most: int) -> Cache[Any, Any]:
        """A cache of at most so many bytes, for as long as the engine runs."""
        self._caches.append(Cache(most))
        return self._caches[-1]

    def take(self, settings: Settings) -> None:
        """Goes on with these limits."""
        self.settings = self.limits.settings = settings
        self.hub.write_deadline = settings.write_deadline

    def _folder(self, settings: Settings) -> Folder | None:
        if not settings.data_path:
            return None
        return Folder(
            settings.data_path,
            self.store,
            self.hub.publish,
            step=settings.step,
            debounce=settings.debounce,
            reconcile=settings.reconcile,
            poll=settings.poll,
            recent=settings.recent,
            recent_tasks=settings.recent_tasks,
            watch=settings.watch,
        )

    def _backend(self, settings: Settings) -> "Backend | None":
        if not settings.upstream or settings.copies:
            return None
        from gateway.sources.backend import Backend  # noqa: PLC0415 - its client takes long to load, and most need none

        return Backend(
            settings.upstream,
            settings.upstream_tasks,
            self.store,
            self.hub.publish,
            has_file=self.folder.has if self.folder else lambda _id: False,
            subscribers=self.hub,
            host=settings.upstream_host.removeprefix("*"),
            connect=settings.upstream_connect,
            interval=settings.upstream_interval,
            at_once=settings.upstream_polls,
            unknown=settings.upstream_unknown,
            rate=settings.upstream_unknown_rate,
            most=settings.recent_tasks,
            recent=settings.recent,
        )

    def _replica(self, settings: Settings) -> Replica | None:
        if not settings.copies:
            return None
        return Replica(self.store, self.hub, space=settings.namespace, recent=settings.recent)

    def _edge(self, settings: Settings) -> "Edge | GatewaySource | None":
        if not self.replica:
            return None
        if settings.broker:
            from gateway.broker.edge import Edge  # noqa: PLC0415 - most need no Redis

            return Edge(settings.broker, settings.broker_name, self.replica)
        from gateway.sources.gateway import GatewaySource  # noqa: PLC0415 - its client takes long to load

        assert settings.source
        token = settings.source_token.get_secret_value() if settings.source_token else ""
        return GatewaySource(settings.source, token, self.replica, silence=settings.source_silence)

    def _publisher(self, settings: Settings) -> "Publisher | None":
        if self.replica or not settings.broker:
            return None
        from gateway.broker.publisher import Publisher  # noqa: PLC0415 - most need no Redis
        from gateway.broker.term import Bounds  # noqa: PLC0415

        return Publisher(
            settings.broker,
            settings.broker_name,
            settings.namespace,
            self.hub,
            exists=lambda task: self.look(task) is not None,
            ready=self.folder.scanned if self.folder else None,
            bounds=Bounds(
                history=settings.broker_history,
                entries=settings.broker_entries,
                keep=settings.broker_keep,
                tasks=settings.broker_tasks,
                bytes=settings.broker_bytes,
            ),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in (self.folder, self.backend, self.edge, self.publisher):
                if part:
                    await stack.enter_async_context(part.running(self.parts))
            await stack.enter_async_context(self.parts.running("beat", self._beat))
            try:
                yield
            finally:
                self.hub.close()

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + 1
            await asyncio.sleep(1)
            self.lag, self.beaten = clock() - due, time.monotonic()
            self.hub.beat()
            self.hub.end_grants(time.time(), self.revoked)
            self._beats += 1
            if self._beats % TIDY == 0:
                for cache in self._caches:
                    cache.tidy()

    def revoke(self, revoked: frozenset[str]) -> None:
        """Ends what these tokens let in; from now on these are all that are revoked."""
        self.revoked = revoked
        self.hub.end_grants(time.time(), revoked)

    def is_good(self, grant: Grant) -> bool:
        return grant.until > time.time() and not grant.is_in(self.revoked)

    def waits(self, cursor: str | None) -> bool:
        """Whether `started` may have to wait."""
        return bool((self.folder and not self.folder.scanned.is_set()) or (self.replica and self.replica.waits(cursor)))

    async def started(self, cursor: str | None = None) -> None:
        """Waits until what was there at the start is known, and no older than what a client with that cursor has seen.

        Raises AnswerError where that cannot be had.
        """
        if self.folder:
            await self.folder.scanned.wait()
        if self.replica:
            await self.replica.started()
            if cursor:
                await self.replica.settle(cursor)

    def spelled(self, id: str) -> str:
        """How a task is spelled on disk, which counts for rights and events; as it is asked for, if it has no file."""
        return self.folder.spelled(id) if self.folder else id

    def look(self, id: str) -> Event | None:
        """What there is of a task under this id; its file counts before what its backend says."""
        event = self.folder.look(id) if self.folder else None
        return event or (self.remote.look(id) if self.remote else None)

    def find(self, id: str) -> Event | None:
        """What there is of a task, under whichever spelling of the id its file has."""
        if self.store.get(id) and (event := self.look(id)):  # what the store knows is an id
            return event
        if not is_name(id):
            return None
        if self.folder and is_id(id):
            for name in spellings(id):
                if event := self.folder.look(name):
                    return event
        return self.remote.look(id) if self.remote else None

    def is_fresh(self, id: str) -> bool:
        """Whether what `find` knows can be answered with, or the backend has to be asked before."""
        return self.remote is None or not is_name(id) or self.remote.is_fresh(id)

    async def freshen(self, ids: Iterable[str], client: str) -> list[AnswerError]:
        """Asks the backend for what is not fresh, as `client` has a share of it. Returns its failures, of those tasks
        where nothing else is known."""
        stale = [id for id in ids if not self.is_fresh(id)]
        return await self.remote.freshen(stale, client) if self.remote and stale else []

    def follow(self, ids: Iterable[str]) -> None:
        """Somebody has subscribed to these by name: what has no file is polled at the backend, where there is one."""
        if self.backend:
            self.backend.follow(filter(is_name, ids))

    async def newest(
        self, count: int, after: tuple[int, str] | None = None, *, look: bool = True
    ) -> list[tuple[int, str]]:
        """The `count` tasks last changed, newest first, as `(nanoseconds, id)`; those after `after` in that order.

        `look`: also what has been written and not been heard of, where that can be looked up quickly.
        """
        rows = await self.folder.newest(count, after, look=look) if self.folder else []
        if self.remote:
            rows += [row for row in self.remote.newest() if after is None or row < after]
            rows = heapq.nlargest(count, rows)
        return rows

    @asynccontextmanager
    async def listening(
        self,
        ids: Collection[str] | None,
        seconds: float,
        grant: Grant = EVERYTHING,
        client: str = "",
        concerns: Callable[[Event], bool] | None = None,
    ) -> AsyncIterator[Bell]:
        """A bell that rings when one of the tasks changes, or any where None are named; for so long. Only at what
        `concerns` its listener, where that is given."""
        bell = Bell(seconds)
        names = None if ids is None else [name for id in ids if is_name(id) for name in spellings(id)]
        subscription = Subscription(Ring(concerns) if concerns else _RING, bell, ids=names, client=client, grant=grant)
        self.hub.subscribe(subscription, self.store.cursor(self.store.head))
        try:
            current = Slice()
            for id in ids or ():
                self.follow((id,))
                current = await current.yield_if_over()
            yield bell
        finally:
            self.hub.unsubscribe(subscription)

    async def appears(self, id: str, seconds: float, client: str) -> Event | None:
        """What there is of a task; waits that long for its file to come, or to become whole."""
        event = self.find(id)
        if is_name(id) and not (event and event.settled):
            async with self.listening([id], seconds, client=client) as bell:
                event = self.find(id)
                while not (event and event.settled) and await bell.heard():
                    event = self.find(id)
            event = self.find(id)  # it may have come in another spelling, for which no bell rings
        return event
