"""From this gateway to the broker: a subscriber of the hub like any other, that writes to Redis what it is told.

So what holds for clients holds for the broker: it is told everything once, is conflated while it is slow, and is up to
date again after Redis was away.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from gateway.broker.connection import TROUBLE, BackOff, Connection, reason_of
from gateway.broker.keys import Keys
from gateway.broker.term import LEASE, Bounds, Held, OverError, Term
from gateway.hub import Hub
from gateway.outlets import Pipe
from gateway.parts import Parts
from gateway.records import Record, encode
from gateway.store import Kind
from gateway.subscription import Subscription
from gateway.wire import Copies

log = logging.getLogger("gateway.broker")

RENEW = LEASE / 3
"""Seconds between renewals of the lease, and between looks whether another's has ended."""

TRIM = 5.0
"""Seconds between looks at what the broker holds."""

LAST_WORDS = 1.0
"""Seconds that the broker is waited for at the end."""


class _Line(msgspec.Struct):
    """What is to be known of a line of the hub's."""

    id: str = ""
    event: str = ""


_read = msgspec.json.Decoder(_Line).decode


class BeginsAnewError(Exception):
    """The hub forgot what had not been told yet: everything is compared again."""


class Publisher:
    """Publishes what the hub tells, for the namespace `space`, while it leads.

    It begins once `ready` is set; `exists` says of a task that the hub does not tell of whether it is still there.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: str,
        hub: Hub,
        *,
        exists: Callable[[str], bool],
        ready: asyncio.Event | None,
        bounds: Bounds,
    ) -> None:
        self._redis = Connection(url)
        self._keys, self._space, self._bounds = Keys.of(name, space), space, bounds
        self._hub, self._exists, self._ready = hub, exists, ready
        self._last = b""  # the newest change that is known to be written
        self._encoding = Copies(space)
        self._encoding.transport = "broker"
        self._unbounded = 0  # bytes written since the bounds were looked at
        self.trouble = "has not been reached yet"
        """Why it cannot publish; empty while it can."""
        self.leads = False
        self.published = 0
        self.held: Held | None = None
        """What the broker held when this gateway last looked."""

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with self._redis.open(), parts.running("publisher", self._publish) as publishing:
            try:
                yield
            finally:
                await asyncio.wait([publishing], timeout=LAST_WORDS)  # the hub has closed: it ends by itself

    async def _publish(self) -> None:
        """Term after term, until the hub closes."""
        back_off = BackOff()
        if self._ready:
            await self._ready.wait()
        while not self._hub.closed:
            term = Term(self._redis, self._keys, self._space, self._bounds)
            try:
                led = await term.begin(self._last)
                self._is("")
                back_off.succeed()
                await (self._lead(term) if led else asyncio.sleep(RENEW))
            except* OverError:
                log.info("another gateway publishes now, or the broker was emptied")
            except* BeginsAnewError:
                log.info("fell too far behind: comparing everything")
            except* TROUBLE as group:
                self._is(reason_of(group))
                await back_off.pause()
            self._last = term.head

    def _is(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("cannot publish for now: the broker %s", trouble)
        self.trouble = trouble

    async def _lead(self, term: Term) -> None:
        self.leads = True
        log.info("publishing to the broker")
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(term))
                await self._tell(term)
                keeping.cancel()
        finally:
            self.leads = False
            with suppress(*TROUBLE, OverError):  # a TimeoutError is an OSError
                async with asyncio.timeout(LAST_WORDS):
                    await term.end()

    async def _keep(self, term: Term) -> None:
        """Keeps the lease, and the broker within its bounds."""
        due = 0.0
        while True:
            if time.monotonic() >= due or self._unbounded > self._bounds.bytes // 8:
                self._unbounded, due = 0, time.monotonic() + TRIM
                self.held = await term.trim()
            await asyncio.sleep(RENEW)
            await term.renew()

    async def _tell(self, term: Term) -> None:
        """Writes what the hub tells; of what there was before, only what the broker does not have."""
        known = await term.known()
        pipe = Pipe()
        subscription = Subscription(self._encoding, pipe)
        self._hub.subscribe(subscription)
        try:
            async for block in pipe:
                lines = [line for line in block.splitlines() if line]
                rows, synced = self._rows(lines, known)
                await term.publish(rows)
                self.published += len(rows)
                self._unbounded += len(block)
                if synced:
                    await term.publish(self._departed(known))
                    await term.told()
                    known.clear()
        finally:
            self._hub.unsubscribe(subscription)

    def _rows(self, lines: list[bytes], known: dict[str, bytes]) -> tuple[list[tuple[str, bytes]], bool]:
        """The records that the broker lacks, each with its id, and whether the hub has now told all there was."""
        rows, synced = [], False
        for line in lines:
            said = _read(line)
            if said.event == "reset":
                raise BeginsAnewError
            if not said.id:
                synced = synced or said.event == "synced"
                continue
            record = b"{" + line.partition(b",")[2]  # the cursor is this gateway's own
            if known.pop(said.id, None) != record:
                rows.append((said.id, record))
        return rows, synced

    def _departed(self, known: dict[str, bytes]) -> list[tuple[str, bytes]]:
        """Deletions of the tasks that the broker still has, and that are not there any more."""
        there = [id for id, record in known.items() if _read(record).event != Kind.GONE.value]
        return [
            (id, encode(Record(id, event=Kind.GONE.value)))
            for id in there
            if not self._exists(id.removeprefix(f"{self._space}:"))
        ]
