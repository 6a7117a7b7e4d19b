"""A polled backend as a source: for tasks that have no file here, one poll of ours becomes push for any number.

Its states go into the same store as the folder's, so everything behind the store is the same: cursors, streams, polls.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from gateway.parts import Parts
from gateway.sources.answers import AnswerError, pending
from gateway.sources.asking import Asking
from gateway.sources.poller import Poller
from gateway.sources.pollers import Pollers, Subscribers
from gateway.sources.slots import Slots
from gateway.store import Event, Store
from gateway.tasks import spellings

LATE = 5.0
"""Intervals, but at least seconds, that a task which runs may wait until it is asked for."""

RETRY = 5.0
"""Seconds that a client is told to stay away for where its poll is one too many."""


class TooManyError(AnswerError):
    """Nobody was asked; the client is to come back."""

    def __init__(self, did: str, who: str) -> None:
        super().__init__(did, who=who, status=503, retry_after=RETRY)


class Backend:
    """Polls each task that somebody wants and that `has_file` does not know. Use while `running` is entered.

    `interval` is in seconds; `most` tasks are polled, and `at_once` of them at a time. Ids that are not known to be
    tasks are polled `unknown` at a time for one client, and asked for `rate` times a second. `dialect` is auto, v1,
    flat, system, or off: then only replies tell of tasks.
    """

    def __init__(
        self,
        base: str,
        dialect: str,
        store: Store,
        publish: Callable[[Event], None],
        *,
        has_file: Callable[[str], bool],
        subscribers: Subscribers,
        host: str = "",
        connect: float = 5,
        interval: float = 1,
        at_once: int = 32,
        unknown: int = 100,
        rate: float = 50,
        most: int = 10_000,
        recent: float = 86_400,
    ) -> None:
        self.slots = Slots(at_once, rate)
        self.asking = Asking(base, dialect, self.slots, host=host, connect=connect, interval=interval)
        self.pollers = Pollers(
            self.asking,
            store,
            publish,
            has_file=has_file,
            subscribers=subscribers,
            interval=interval,
            unknown=unknown,
            most=most,
            recent=recent,
        )
        self.refused: Counter[str] = Counter({"client": 0, "all": 0})
        self._polls = dialect != "off"
        self._store, self._has_file = store, has_file
        self._together = min(at_once, unknown)  # so many of one request's ids
        self._late = LATE * max(interval, 1)

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self.asking.running(), self.pollers.running(parts):
            yield

    @property
    def late(self) -> bool:
        """Whether tasks that run are asked for much later than they should be."""
        return self.slots.waiting(known=True)[1] > self._late

    # What is known

    def look(self, id: str) -> Event | None:
        """What is known of a task. Somebody wants to know it, so from now on it is polled while it runs."""
        names = spellings(id)
        known = self.pollers.known(names)
        if self._polls and known and not _is_final(known):
            self.pollers.poll(names)
        return known

    def newest(self) -> list[tuple[int, str]]:
        """The tasks that are known and have no file, as `(nanoseconds, id)` like those of a folder."""
        known = ((event.task, event.id) for event in self._store.newest_first())
        return [(task.updated * 1_000_000, id) for task, id in known if task and not self._has_file(id)]

    def is_fresh(self, id: str) -> bool:
        """Whether what is known of a task can be answered with: also that there is none."""
        names = spellings(id)
        if not self._polls or self.pollers.is_elsewhere(names) or _is_final(self.pollers.known(names)):
            return True
        poller = self.pollers.of(names)
        return (poller is not None and poller.fresh) or self.pollers.knows_none(names)

    # Who asks

    async def freshen(self, ids: Sequence[str], client: str) -> list[AnswerError]:
        """Waits until what is known is fresh. Returns how the backend failed where therefore nothing is known.

        Raises TooManyError where nothing is known, and the client or all of them ask for too much.
        """
        failures: list[AnswerError] = []
        for n in range(0, len(ids), self._together):
            asked = {id: self._ask_for(id, client) for id in ids[n : n + self._together] if not self.is_fresh(id)}
            await asyncio.gather(*[poller.freshen() for poller in asked.values() if poller])
            for id, poller in asked.items():
                if poller and poller.error and not self.pollers.known(spellings(id)):
                    failures.append(poller.error)
        return failures

    def _ask_for(self, id: str, client: str) -> Poller | None:
        """The poller of a task that a client waits for; None where what is known has to do."""
        names = spellings(id)
        poller = self.pollers.poll(names, {client})
        if poller or self.pollers.known(names):
            return poller
        if self.pollers.places.has_its_share(client):
            self.refused["client"] += 1
            raise TooManyError("asks for too many unknown tasks at once", who="This client")
        self.refused["all"] += 1
        raise TooManyError("is asked for too many tasks", who="The backend")

    def follow(self, ids: Iterable[str]) -> None:
        """Somebody has subscribed to these tasks by name."""
        for names in map(spellings, ids if self._polls else ()):
            if not (self.pollers.is_elsewhere(names) or _is_final(self.pollers.known(names))):
                self.pollers.follow(names)

    def learn(self, id: str) -> None:
        """A reply of the backend has named a task: it is pending until more is known."""
        names = spellings(id)
        if self.pollers.known(names) or self.pollers.is_elsewhere(names):
            return
        poller = self.pollers.of(names) or (None if self.pollers.full else self.pollers.start(names))
        if poller:
            poller.learn(pending(id))


def _is_final(event: Event | None) -> bool:
    return bool(event and event.task and event.task.final)
