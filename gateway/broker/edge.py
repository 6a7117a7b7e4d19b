"""From the broker to this gateway, an edge: one reader of the stream, for any number of subscribers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from gateway.broker.connection import TROUBLE, BackOff, Connection, reason_of
from gateway.broker.keys import Keys
from gateway.broker.pulses import SILENCE, Pulses
from gateway.broker.term import scan
from gateway.broker.values import epoch_of, floor_of, head_of, offset_of, previous_of, row_of, told_of
from gateway.parts import Parts, kind_of
from gateway.records import read
from gateway.sources.replica import Change, Replica
from gateway.unreadable import UnreadableError

log = logging.getLogger("gateway.broker")

LOOK, BATCH = 0.25, 1_000
"""Seconds between looks at how the broker stands; the most changes that a read takes."""

OTHERS = 10.0
"""Seconds that a new epoch's publishers have to tell what they have."""

BEHIND = "is ahead: what it has is still being read"
"""Why what is held may be old where no look has ended for long."""


class HoleError(Exception):
    """What comes next in the stream is not what comes next: it was trimmed, or is another one."""


class State(NamedTuple):
    """How the broker stands: its epoch, its newest change, up to where deletions are forgotten, and the namespaces of
    which it has everything, each with its pulse.
    """

    epoch: str
    head: bytes
    floor: int
    told: dict[str, bytes]


class Edge:
    """Keeps a replica equal to what the broker called `name` has."""

    def __init__(self, url: str, name: str, replica: Replica) -> None:
        self._redis = Connection(url)
        self._keys = Keys.of(name)
        self._replica = replica
        self._epoch = ""
        self._last = b""  # the newest change that was read, in that epoch
        self._at = b""  # how far the stream was read: behind that change may stand what is none
        self._pulses = Pulses()
        self._spaces: frozenset[str] = frozenset()  # that are served
        self._awaited: frozenset[str] = frozenset()  # of those, which have told nothing in this epoch
        self._doubt: asyncio.TimerHandle | None = None
        self.connects = 0

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self._redis.open(), self._replica.running(parts), parts.running("edge", self._read_anew):
            try:
                yield
            finally:
                if self._doubt:
                    self._doubt.cancel()

    async def _read_anew(self) -> None:
        """Reads from a whole state on: what was read before may not have been taken."""
        self._last = b""
        try:
            await self._read_for_ever()
        except Exception as error:
            self._replica.lost(f"is not read for now ({kind_of(error)})")
            raise

    async def _read_for_ever(self) -> None:
        back_off = BackOff()
        while True:
            try:
                await self._begin()
                self.connects += 1
                while True:
                    await self._look()
                    back_off.succeed()
                    await self._follow()
            except HoleError:
                log.info("the stream has a hole: taking a snapshot")
                self._last = b""
            except UnreadableError as error:
                self._replica.lost(f"cannot be read: {error}")
            except TROUBLE as trouble:
                self._replica.lost(reason_of(trouble))
                self._pulses = Pulses()  # who was not heard of meanwhile is not silent yet
            await back_off.pause()

    # The whole

    async def _begin(self) -> None:
        """Goes on where it was, if the stream still has what follows; else takes a snapshot."""
        state = await self._state()
        if state.epoch != self._epoch:
            self._awaited = self._spaces
        goes_on = state.epoch == self._epoch and self._last and offset_of(state.head) >= offset_of(self._last)
        if not goes_on:
            await self._snapshot(await self._complete(state))

    async def _state(self) -> State:
        epoch, head, floor = await self._redis.do("HMGET", self._keys.meta, "epoch", "head", "floor")
        state = State(epoch_of(epoch), head_of(head), floor_of(floor), {})
        for field, value in (await self._redis.do("HGETALL", self._keys.spaces)).items():
            try:
                told = told_of(field, value)
            except UnreadableError as error:
                self._replica.unreadable.add(f"namespace {field!r}", error)
                continue
            if told.epoch == state.epoch and self._replica.space in ("", told.space):
                state.told[told.space] = told.pulse
        return state

    async def _complete(self, state: State) -> State:
        """Waits until the publishers that were there in the last epoch have told everything in this one, so that no
        task seems to be gone; one that stays away is not waited for longer.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + OTHERS
        while not state.told or (self._awaited - state.told.keys() and clock() < until):
            self._hear(state)
            await asyncio.sleep(LOOK)
            state = await self._state()
        return state

    async def _snapshot(self, state: State) -> None:
        """Everything there is, and what was written while it was read."""
        newest: dict[str, Change] = {}
        async for field, value in scan(self._redis, self._keys.tasks):
            _keep(newest, self._held(field, value))
        self._last = self._at = state.head
        more = True
        while more:
            rows, more = await self._read()
            _keep(newest, self._changes(rows))
        after = await self._state()
        if after.epoch != state.epoch:
            raise HoleError
        self._replica.begin(state.epoch, after.floor, newest.values(), offset_of(self._last))
        self._epoch = state.epoch

    # What comes next

    async def _look(self) -> None:
        """Takes all that was written before this look, and finds out who says that this is all."""
        state = await self._state()
        if state.epoch != self._epoch:
            raise HoleError  # emptied: the stream that is waited for is not there any more
        while await self._take():
            pass
        self._replica.confirm()
        if self._hear(state):
            self._replica.found()
            if self._doubt:
                self._doubt.cancel()
            self._doubt = asyncio.get_running_loop().call_later(SILENCE, self._replica.lost, BEHIND)

    def _hear(self, state: State) -> bool:
        """Whether all publishers are heard of; says whose are silent."""
        now = asyncio.get_running_loop().time()
        self._awaited -= state.told.keys()
        told = dict.fromkeys(self._awaited, b"") | state.told
        self._spaces = frozenset(told)
        self._pulses.hear(told, now)
        silent = self._pulses.silent(now)
        if not told:
            self._replica.lost("has nothing yet: no gateway publishes to it")
        elif silent:
            whose = [space or "the one without a namespace" for space in silent]
            self._replica.lost("does not hear from a publisher", whose)
        return bool(told) and not silent and self._pulses.all_beat

    async def _follow(self) -> None:
        """Takes what comes until it is time for another look."""
        clock = asyncio.get_running_loop().time
        until = clock() + LOOK
        while (left := until - clock()) > 0:
            await self._take(left)

    async def _take(self, wait: float = 0) -> bool:
        """Takes what comes next, within so many seconds. Whether there is more."""
        rows, more = await self._read(wait)
        if rows:
            self._replica.take(self._changes(rows), offset_of(self._last))
            self._replica.confirm()
        return more

    async def _read(self, wait: float = 0) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The next changes of the stream, as their ids and records, and whether there are more."""
        blocking = ("BLOCK", max(1, int(wait * 1_000))) if wait else ()
        found = await self._redis.do("XREAD", "COUNT", BATCH, *blocking, "STREAMS", self._keys.stream, self._at)
        entries = found[0][1] if found else []
        rows = await self._chain(entries)
        if entries:
            self._at = entries[-1][0]
        if rows:
            self._last = rows[-1][0]
        return rows, len(entries) == BATCH

    async def _chain(self, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[bytes, bytes]]:
        """Those that follow each other. What no publisher has written is passed over: nothing follows it."""
        rows: list[tuple[bytes, bytes]] = []
        last, head = self._last, b""
        for entry, fields in entries:
            try:
                offset, before = offset_of(entry), previous_of(fields)
                if before != last:
                    head = head or (await self._state()).head
                    if offset <= offset_of(head):
                        raise HoleError
                    raise UnreadableError("in no order with the others")
            except UnreadableError as error:
                self._replica.unreadable.add(f"change {entry.decode()}", error)
                continue
            last = entry
            rows.append((entry, fields.get(b"r", b"")))
        return rows

    # What can be read

    def _changes(self, rows: Iterable[tuple[bytes, bytes]]) -> list[Change]:
        changes = []
        for entry, record in rows:
            try:
                changes.append(Change(offset_of(entry), read(record)))
            except UnreadableError as error:
                self._replica.unreadable.add(f"change {entry.decode()}", error)
        return changes

    def _held(self, field: bytes, value: bytes) -> list[Change]:
        """The newest change of a task."""
        try:
            row = row_of(field, value)
            return [Change(offset_of(row.entry), read(row.record, row.id))]
        except UnreadableError as error:
            self._replica.unreadable.add(f"the record of {field!r}", error)
            return []


def _keep(newest: dict[str, Change], changes: Iterable[Change]) -> None:
    for change in changes:
        known = newest.get(change.record.id)
        if known is None or known.offset < change.offset:
            newest[change.record.id] = change
