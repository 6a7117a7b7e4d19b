"""The store as a copy of another order, a broker's or another gateway's: whoever reads that tells it here.

Offsets and epoch are those of the original, so that cursors are good at every copy.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import NamedTuple

from gateway.hub import Hub
from gateway.parts import Parts
from gateway.records import Record
from gateway.sources.answers import AnswerError
from gateway.store import Event, Kind, Store
from gateway.tasks import spellings
from gateway.unreadable import Unreadable, UnreadableError

log = logging.getLogger("gateway.replica")

FIRST, SETTLES = 5.0, 10.0
"""Seconds that who asks waits for the first whole state; that who has seen another order does, for that one."""

TEND = 10.0
"""Seconds between looks for what is not recent any more."""

MOST_NAMED = 5
"""Of those whose changes may be missing."""


class Change(NamedTuple):
    """A record at its place in the original's order."""

    offset: int
    record: Record


class Replica:
    """Takes changes in order, and knows how far they can be trusted. Only those of `space` count, if one is given;
    they are then called by their bare ids.
    """

    def __init__(self, store: Store, hub: Hub, *, space: str = "", recent: float = 86_400) -> None:
        self._store, self._hub = store, hub
        self.space, self._recent = space, recent
        self._holds = False
        self.whole = asyncio.Event()
        """Set once it holds a whole state, and knows whether that is up to date."""
        self._confirmed = asyncio.Event()
        self.trouble = "has not been reached yet"
        """Why it may be behind the original; empty while it is not."""
        self._whose: Sequence[str] = ()
        self.unreadable = Unreadable()
        self.snapshots = 0

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.running("replica", self._tend):
            yield

    async def _tend(self) -> None:
        while True:
            self._store.prune(int((time.time() - self._recent) * 1000))
            await asyncio.sleep(TEND)

    @property
    def stale(self) -> bool:
        return bool(self.trouble)

    @property
    def state(self) -> str:
        """How it stands, for operators: others' names are in it."""
        if not self._whose:
            return self.trouble or "up to date"
        more = f" and {len(self._whose) - MOST_NAMED} more" if len(self._whose) > MOST_NAMED else ""
        return f"{self.trouble}: {', '.join(self._whose[:MOST_NAMED])}{more}"

    # What the reader of the original says

    def begin(self, epoch: str, floor: int, changes: Iterable[Change], head: int) -> None:
        """A whole state, up to `head`; what was deleted is known from `floor` on.

        Where that leaves no hole it is what was missed, else all begin anew.
        """
        self.snapshots += 1
        floor = min(floor, head)
        in_order = self._in_order(changes, head)
        if self._holds and epoch == self._store.epoch and floor <= self._store.head <= head:
            self.take(in_order, head)
        else:
            self._store.restart(epoch, floor)
            for change in in_order:
                self._apply(change)
            self._store.advance(head)
            self._hub.restart()
        self._holds = True

    def _in_order(self, changes: Iterable[Change], head: int) -> list[Change]:
        """A place is one change's, and none comes after the newest."""
        found: list[Change] = []
        for change in sorted(changes, key=attrgetter("offset")):
            if not 0 < change.offset <= head or (found and change.offset == found[-1].offset):
                self._pass_over(change, UnreadableError("at a place that is not its own"))
            else:
                found.append(change)
        return found

    def take(self, changes: Iterable[Change], head: int) -> None:
        """What came next, up to `head`."""
        news = False
        for change in changes:
            if change.offset > self._store.head and (event := self._apply(change)):
                self._hub.publish(event)
                news = True
            self._store.advance(change.offset)
        self._store.advance(head)
        if not news:
            self._hub.flush()  # some may have waited for the head alone

    def confirm(self) -> None:
        """The original was just asked: this is its order, and it has nothing newer."""
        self._confirmed.set()
        self._confirmed = asyncio.Event()

    def lost(self, reason: str, whose: Sequence[str] = ()) -> None:
        """The original cannot be reached: what is held may be old. `whose` of it, if not all; clients are not told."""
        before = self.state
        self.trouble, self._whose = reason, whose
        self._hub.set_stale(self._holds)
        if self._holds:
            self.whole.set()
        if self.state != before:
            log.warning("serving what is held: the source %s", self.state)

    def found(self) -> None:
        """It is reached, and everything it had is here."""
        if not self._holds:
            return
        if self.trouble:
            log.info("up to date with the source")
        self.trouble, self._whose = "", ()
        self._hub.set_stale(False)
        self.whole.set()

    def _apply(self, change: Change) -> Event | None:
        record, at = change.record, change.offset
        id = record.id
        if self.space:
            space, _, id = id.rpartition(":")
            if space != self.space:
                return None
        try:
            task = record.task(id)
        except UnreadableError as error:
            self._pass_over(change, error)
            return None
        if record.event == Kind.GONE.value:
            return self._store.remove(id, at=at)
        if record.event == Kind.INVALID.value:
            return self._store.invalidate(id, record.error, still=task, at=at)
        return self._store.put(task, at=at) if task else None

    def _pass_over(self, change: Change, error: UnreadableError) -> None:
        self.unreadable.add(f"the record of {change.record.id!r} at {change.offset}", error)

    # What endpoints ask

    def look(self, id: str) -> Event | None:
        """What is known of a task, under any spelling of its id."""
        for name in spellings(id):
            if event := self._store.fault(name) or self._store.get(name):
                return event
        return None

    def newest(self) -> list[tuple[int, str]]:
        """The tasks that are held, as `(nanoseconds, id)` like those of a folder."""
        held = [event.task for event in self._store.newest_first()]
        still = [fault.still for fault in self._store.faults() if not self._store.get(fault.id)]
        return [(task.updated * 1_000_000, task.id) for task in (*held, *still) if task]

    def is_fresh(self, id: str) -> bool:
        """Whether what is held can be answered with. That there is no such task only while it is up to date."""
        return not self.trouble or (self._holds and self.look(id) is not None)

    async def freshen(self, ids: Sequence[str], _client: str) -> list[AnswerError]:
        """Waits for the first whole state. Returns what is wrong where nothing can be said of a task."""
        with suppress(AnswerError):
            await self.started()
        return [self._unknown() for id in ids if not self.is_fresh(id)]

    def waits(self, cursor: str | None) -> bool:
        """Whether `started`, or `settle` for that cursor, may have to wait."""
        return not self.whole.is_set() or (cursor is not None and self._store.place(cursor) is None)

    async def started(self) -> None:
        """Waits for the first whole state. Raises AnswerError where it does not come."""
        try:
            async with asyncio.timeout(FIRST):
                await self.whole.wait()
        except TimeoutError:
            raise self._unknown() from None

    async def settle(self, cursor: str) -> None:
        """Waits until this order is known to be the newest one, where `cursor` is of another: of one to come, perhaps.

        Else a client could be shown what is older than what it has.
        """
        if self._store.place(cursor) is None and cursor.rpartition("-")[0] != self._store.epoch:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLES):
                    await self._confirmed.wait()

    def _unknown(self) -> AnswerError:
        return AnswerError(self.trouble, who="The source", status=503)
