"""Store, hub and source as one running thing, and the questions that endpoints ask of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from gateway.hub import Hub
from gateway.limits import Limits
from gateway.outlets import Bell
from gateway.settings import Settings
from gateway.sources.folder import Folder
from gateway.store import Event, Store
from gateway.subscription import Subscription
from gateway.tasks import is_id, spellings
from gateway.wire import Silence

_SILENCE = Silence()


class Engine:
    """Everything between the folder and the transports. One a process; runs while `running` is entered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(limit=settings.recent_tasks, max_bytes=settings.recent_bytes)
        self.hub = Hub(
            self.store,
            lambda flush: asyncio.get_running_loop().call_soon(flush),
            heartbeat=settings.heartbeat,
            write_deadline=settings.write_deadline,
        )
        self.limits = Limits(settings, self.hub)
        self.replies: Counter[tuple[str, int]] = Counter()  # whole answers by dialect and status
        self.lag = 0.0  # seconds by which the loop was late at the last beat
        self.beaten = time.monotonic()  # when that was
        self.folder = Folder(
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

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group, self.folder.running():
            beating = group.create_task(self._beat())
            try:
                yield
            finally:
                self.hub.close()
                beating.cancel()

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + 1
            await asyncio.sleep(1)
            self.lag, self.beaten = clock() - due, time.monotonic()
            self.hub.beat()

    def find(self, id: str) -> Event | None:
        """What there is of a task, under whichever spelling of the id its file has."""
        if self.store.get(id) and (event := self.folder.look(id)):  # what the store knows is an id
            return event
        if is_id(id):
            for name in spellings(id):
                if event := self.folder.look(name):
                    return event
        return None

    @asynccontextmanager
    async def listening(self, ids: Iterable[str] | None, seconds: float) -> AsyncIterator[Bell]:
        """A bell that rings when one of the tasks changes, or any where None are named; for so long."""
        bell = Bell(seconds)
        names = None if ids is None else [name for id in ids if is_id(id) for name in spellings(id)]
        subscription = Subscription(_SILENCE, bell, ids=names)
        self.hub.subscribe(subscription, self.store.cursor(self.store.head))
        try:
            yield bell
        finally:
            self.hub.unsubscribe(subscription)

    async def appears(self, id: str, seconds: float) -> Event | None:
        """What there is of a task; waits that long for its file to come, or to become whole."""
        event = self.find(id)
        if is_id(id) and not (event and event.settled):
            async with self.listening([id], seconds) as bell:
                event = self.find(id)
                while not (event and event.settled) and await bell.heard():
                    event = self.find(id)
        return event
