"""From the broker to this gateway, an edge: one reader of the stream, for any number of subscribers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from gateway.broker.connection import TROUBLE, BackOff, Connection, reason_of
from gateway.broker.keys import Keys, floor_at, offset_of
from gateway.broker.term import scan
from gateway.parts import Parts, kind_of
from gateway.records import read
from gateway.sources.replica import Change, Replica

log = logging.getLogger("gateway.broker")

BLOCK, BATCH = 1_000, 1_000
"""Milliseconds that a read waits for changes; the most it takes."""

OTHERS, LOOK = 10.0, 0.1
"""Seconds that a new epoch's publishers have to tell what they have; between two looks for them."""

NOWHERE = b"0-0"


class HoleError(Exception):
    """What comes next in the stream is not what comes next: it was trimmed, or is another one."""


class State(NamedTuple):
    """How the broker stands: its epoch, its newest change, up to where deletions are forgotten, and the namespaces of
    which it has everything.
    """

    epoch: str
    head: bytes
    floor: int
    spaces: frozenset[bytes]


class Edge:
    """Keeps a replica equal to what the broker called `name` has."""

    def __init__(self, url: str, name: str, replica: Replica) -> None:
        self._redis = Connection(url)
        self._keys = Keys.of(name)
        self._replica = replica
        self._epoch = ""
        self._last = b""  # the newest change that was read, in that epoch
        self._spaces: frozenset[bytes] = frozenset()
        self.connects = 0

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self._redis.open(), self._replica.running(parts), parts.running("edge", self._read_anew):
            yield

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
                back_off.succeed()
                while True:
                    await self._follow()
            except HoleError:
                log.info("the stream has a hole: taking a snapshot")
                self._last = b""
            except TROUBLE as trouble:
                self._replica.lost(reason_of(trouble))
            await back_off.pause()

    # The whole

    async def _begin(self) -> None:
        """Goes on where it was, if the stream still has what follows; else takes a snapshot."""
        state = await self._state()
        goes_on = state.epoch == self._epoch and self._last and offset_of(state.head) >= offset_of(self._last)
        if not goes_on:
            await self._snapshot(await self._complete(state))
        while await self._follow(wait=False):
            pass
        self._replica.found()

    async def _state(self) -> State:
        epoch, head, floor = await self._redis.do("HMGET", self._keys.meta, "epoch", "head", "floor")
        told = await self._redis.do("HGETALL", self._keys.spaces)
        spaces = frozenset(space for space, told_in in told.items() if told_in == epoch)
        return State((epoch or b"").decode(), head or NOWHERE, floor_at(floor), spaces)

    async def _complete(self, state: State) -> State:
        """Waits until the publishers that were there in the last epoch have told everything in this one, so that no
        task seems to be gone; one that stays away is not waited for longer.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + OTHERS
        while not state.spaces or (self._spaces - state.spaces and clock() < until):
            if not state.spaces:
                self._replica.lost("has nothing yet: no gateway publishes to it")
            await asyncio.sleep(LOOK)
            state = await self._state()
        return state

    async def _snapshot(self, state: State) -> None:
        """Everything there is, and what was written while it was read."""
        newest: dict[str, Change] = {}
        async for _, value in scan(self._redis, self._keys.tasks):
            entry, _, record = value.partition(b" ")
            _keep(newest, self._changes([(entry, record)]))
        self._last = state.head
        while entries := await self._entries(wait=False):
            _keep(newest, self._changes(entries))
        after = await self._state()
        if after.epoch != state.epoch:
            raise HoleError
        self._replica.begin(state.epoch, after.floor, newest.values(), offset_of(self._last))
        self._epoch, self._spaces = state.epoch, after.spaces

    # What comes next

    async def _follow(self, *, wait: bool = True) -> bool:
        """Takes what comes next. False where nothing came."""
        entries = await self._entries(wait=wait)
        if entries:
            self._replica.take(self._changes(entries), offset_of(self._last))
        elif wait and await self._redis.do("HGET", self._keys.meta, "epoch") != self._epoch.encode():
            raise HoleError  # emptied: the stream that is waited for is not there any more
        self._replica.confirm()
        return bool(entries)

    async def _entries(self, *, wait: bool) -> list[tuple[bytes, bytes]]:
        """The next changes of the stream, as their ids and records."""
        blocking = ("BLOCK", BLOCK) if wait else ()
        last = self._last or NOWHERE
        found = await self._redis.do("XREAD", "COUNT", BATCH, *blocking, "STREAMS", self._keys.stream, last)
        entries = []
        for entry, fields in found[0][1] if found else ():
            if (fields[b"p"] or NOWHERE) != last:
                raise HoleError
            last = entry
            entries.append((entry, fields[b"r"]))
        self._last = last
        return entries

    def _changes(self, entries: Iterable[tuple[bytes, bytes]]) -> list[Change]:
        changes = []
        for entry, record in entries:
            try:
                changes.append(Change(offset_of(entry), read(record)))
            except msgspec.MsgspecError as error:
                self._replica.unreadable += 1
                log.warning("change %s cannot be read: %s", entry.decode(), error)
        return changes


def _keep(newest: dict[str, Change], changes: Iterable[Change]) -> None:
    for change in changes:
        known = newest.get(change.record.id)
        if known is None or known.offset < change.offset:
            newest[change.record.id] = change
