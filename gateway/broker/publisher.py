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
from gateway.records import Record, encode, read
from gateway.store import Kind
from gateway.subscription import Subscription
from gateway.unreadable import Unreadable, UnreadableError
from gateway.wire import Copies

log = logging.getLogger("gateway.broker")

RENEW = LEASE / 3
"""Seconds between renewals of the lease; each is followed by a pulse."""

LOOK = 0.25
"""Seconds between looks whether another's lease has ended: edges are to stay fresh over that."""

PULSE = b'{"event":"pulse"}\n'
"""Put among what the hub tells: what stands before it was told before."""

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
        self.unreadable = Unreadable()
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
                await (self._lead(term) if led else asyncio.sleep(LOOK))
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
        pipe = Pipe()
        subscription = Subscription(self._encoding, pipe)
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(term, subscription))
                await self._tell(term, pipe, subscription)
                keeping.cancel()
        finally:
            self.leads = False
            with suppress(*TROUBLE, OverError):  # a TimeoutError is an OSError
                async with asyncio.timeout(LAST_WORDS):
                    await term.end()

    async def _keep(self, term: Term, subscription: Subscription) -> None:
        """Keeps the lease, and the broker within its bounds; has it said that all is written, when it is."""
        due = 0.0
        while True:
            if time.monotonic() >= due or self._unbounded > self._bounds.bytes // 8:
                self._unbounded, due = 0, time.monotonic() + TRIM
                self.held = await term.trim()
            await asyncio.sleep(RENEW)
            await term.renew()
            if subscription.live:
                subscription.outlet.write(PULSE)

    async def _tell(self, term: Term, pipe: Pipe, subscription: Subscription) -> None:
        """Writes what the hub tells; of what there was before, only what the broker does not have."""
        known = await term.known(self.unreadable)
        self._hub.subscribe(subscription)
        try:
            async for block in pipe:
                lines = [line for line in block.splitlines() if line]
                rows, whole = self._rows(lines, known)
                await term.publish(rows)
                self.published += len(rows)
                self._unbounded += len(block)
                if whole:
                    departed, wrong = self._rest(known)
                    await term.drop(wrong)
                    await term.publish(departed)
                    await term.told()
                    known.clear()
        finally:
            self._hub.unsubscribe(subscription)

    def _rows(self, lines: list[bytes], known: dict[str, bytes]) -> tuple[list[tuple[str, bytes]], bool]:
        """The records that the broker lacks, each with its id, and whether the hub has now told all there was."""
        rows, whole = [], False
        for line in lines:
            said = _read(line)
            if said.event == "reset":
                raise BeginsAnewError
            if not said.id:
                whole = whole or said.event in ("synced", "pulse")
                continue
            record = b"{" + line.partition(b",")[2]  # the cursor is this gateway's own
            if known.pop(said.id, None) != record:
                rows.append((said.id, record))
        return rows, whole

    def _rest(self, known: dict[str, bytes]) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Of what the broker has and the hub did not tell of: deletions of the tasks that are not there any more, and
        what makes no sense.
        """
        departed, wrong = [], []
        for id, text in known.items():
            gone = False
            try:
                gone = read(text, id).event == Kind.GONE.value
            except UnreadableError as error:
                self.unreadable.add(f"the record of {id.encode()!r}", error)
                wrong.append(id)
            if not gone and not self._exists(id.removeprefix(f"{self._space}:")):
                departed.append((id, encode(Record(id, event=Kind.GONE.value))))
        return departed, wrong
