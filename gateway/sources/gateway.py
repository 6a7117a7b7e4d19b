"""Another gateway as the source, over its own stream: tiers of edges, so that a broker has tens of readers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from gateway.client.changes import Lost, Reset
from gateway.client.errors import RefusedError
from gateway.client.following import follow
from gateway.client.remote import Remote
from gateway.parts import Parts, kind_of
from gateway.records import CHANGES, Line, read_line
from gateway.sources.replica import Change, Replica
from gateway.unreadable import UnreadableError

log = logging.getLogger("gateway.source")

REFUSED = 10.0
"""Seconds until a source that refuses is asked again: a token may be renewed, a rule be changed."""


NOTHING = Line(event="unreadable")
"""In place of a line that makes no sense."""


class DisorderError(Exception):
    """What came is not what comes next."""


class GatewaySource:
    """Keeps a replica equal to what the gateway at `url` serves: lost after `silence` seconds without a byte."""

    def __init__(self, url: str, token: str, replica: Replica, *, silence: float) -> None:
        self._remote = Remote(url, token=token, silence=silence)
        self._replica = replica
        self._whole: dict[str, Change] | None = None  # the snapshot that is under way, by task
        self._epoch, self._last = "", 0  # of what came last, where none is

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self._replica.running(parts), parts.running("source", self._follow_anew):
            yield

    async def _follow_anew(self) -> None:
        """Follows from a whole state on: what was read before may not have been taken."""
        self._whole = None
        try:
            await self._follow_for_ever()
        except Exception as error:
            self._replica.lost(f"is not followed for now ({kind_of(error)})")
            raise

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                async with aclosing(follow(self._remote, self._read, {"files": ""})) as stream:
                    async for said in stream:
                        self._take(said)
            except RefusedError as error:
                self._replica.lost(f"refuses: {error}")
            except DisorderError:
                self._replica.lost("is not in order: a snapshot is taken")
            await asyncio.sleep(REFUSED)

    def _read(self, text: bytes) -> Line:
        try:
            return read_line(text)
        except UnreadableError as error:
            self._replica.unreadable.add(f"a line that begins with {text[:60]!r}", error)
            return NOTHING

    def _take(self, said: Line | Reset | Lost) -> None:
        if isinstance(said, Lost):
            self._replica.lost(f"cannot be reached: {said.reason}")
        elif isinstance(said, Reset) or said.kind == "reset":
            self._whole = {}
        elif said.kind == "stale":
            self._replica.lost("is stale itself")
        elif said.kind == "fresh":
            self._replica.found()
        elif said.cursor and said.event in CHANGES | {"synced"}:
            self._hear(said)
            self._replica.confirm()

    def _hear(self, line: Line) -> None:
        """A change, or the end of what was to be caught up on."""
        epoch, _, digits = line.cursor.rpartition("-")
        offset = int(digits)
        if self._whole is not None:
            if line.kind == "synced":
                self._replica.begin(epoch, line.floor, self._whole.values(), offset)
                self._whole, self._epoch, self._last = None, epoch, offset
                self._replica.found()
            else:
                self._whole[line.id] = Change(offset, line)
            return
        is_change = line.kind != "synced"
        if epoch != self._epoch or offset < self._last + is_change:
            raise DisorderError
        self._last = offset
        self._replica.take([Change(offset, line)] if is_change else [], offset)
        if not is_change:
            self._replica.found()
