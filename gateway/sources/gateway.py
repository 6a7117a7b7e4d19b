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
from gateway.records import Line, read_line
from gateway.sources.replica import Change, Replica

log = logging.getLogger("gateway.source")

REFUSED = 10.0
"""Seconds until a source that refuses is asked again: a token may be renewed, a rule be changed."""


class GatewaySource:
    """Keeps a replica equal to what the gateway at `url` serves."""

    def __init__(self, url: str, token: str, replica: Replica) -> None:
        self._remote = Remote(url, token=token)
        self._replica = replica
        self._whole: list[Change] | None = None  # the snapshot that is under way

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
                async with aclosing(follow(self._remote, read_line, {"files": ""})) as stream:
                    async for said in stream:
                        self._take(said)
            except RefusedError as error:
                self._replica.lost(f"refuses: {error}")
            await asyncio.sleep(REFUSED)

    def _take(self, said: Line | Reset | Lost) -> None:
        if isinstance(said, Lost):
            self._replica.lost(f"cannot be reached: {said.reason}")
        elif isinstance(said, Reset) or said.kind == "reset":
            self._whole = []
        elif said.kind == "stale":
            self._replica.lost("is stale itself")
        elif said.kind == "fresh":
            self._replica.found()
        else:
            self._hear(said)
            self._replica.confirm()

    def _hear(self, line: Line) -> None:
        """A change, or the end of what was to be caught up on."""
        epoch, _, offset = line.cursor.rpartition("-")
        if not offset:
            return
        if line.kind != "synced":
            change = Change(int(offset), line)
            if self._whole is None:
                self._replica.take([change], change.offset)
            else:
                self._whole.append(change)
            return
        if self._whole is None:
            self._replica.take([], int(offset))
        else:
            self._replica.begin(epoch, line.floor, self._whole, int(offset))
            self._whole = None
        self._replica.found()
