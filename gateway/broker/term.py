"""One publisher's term: the lease that it holds, and what it may do as long as it does.

Redis itself compares the lease's token at each write: who was taken for dead and wakes up writes nothing.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.broker.connection import Connection
from gateway.broker.keys import DROP, LEAD, PUBLISH, RENEW, TOLD, TRIM, Keys
from gateway.broker.values import id_of, offset_of, row_of
from gateway.unreadable import Unreadable, UnreadableError

LEASE = 3.0
"""Seconds after which a leader that does not renew its lease is dead."""

MOST_AT_ONCE = 128
"""Changes in one script: nobody else is served while it runs."""


class OverError(Exception):
    """Somebody else leads now, or the broker was emptied."""


@dataclass(frozen=True)
class Bounds:
    """What the broker may hold: seconds of `history` and `entries` in the stream; tasks unchanged for `keep` seconds,
    and so many; bytes in all.
    """

    history: float
    entries: int
    keep: float
    tasks: int
    bytes: int


class Held(NamedTuple):
    """What the broker holds."""

    stream_bytes: int
    task_bytes: int
    entries: int
    tasks: int


class Term:
    """Writes for one namespace under a lease. Everything raises OverError when it is lost, or one of TROUBLE."""

    def __init__(self, connection: Connection, keys: Keys, space: str, bounds: Bounds) -> None:
        self._redis, self._keys, self._space, self._bounds = connection, keys, space, bounds
        self._all = (keys.lease, keys.meta, keys.stream, keys.tasks, keys.order, keys.spaces)
        self._token = secrets.token_hex(12)
        self._epoch = b""
        self.head = b""
        """The id of the last change that was written here, in this term or the one before."""

    async def begin(self, last: bytes) -> bool:
        """Takes the lease; False where somebody has it. `last` is the newest change that is known to be written."""
        most, epoch = int(LEASE * 1000), secrets.token_hex(6)
        epoch = await self._redis.run(LEAD, self._all, self._token, most, epoch, last)
        self._epoch, self.head = epoch or b"", last
        return bool(epoch)

    async def known(self, unreadable: Unreadable) -> dict[str, bytes]:
        """The records that the broker has of this namespace, by id, each still to be read; an empty one where nothing
        can be read. What is no task's is dropped.
        """
        found: dict[str, bytes] = {}
        wrong: list[bytes] = []
        match = ("MATCH", f"{self._space}:*") if self._space else ()
        async for field, value in scan(self._redis, self._keys.tasks, *match):
            if not self._space and b":" in field:
                continue
            id = None
            try:
                id = id_of(field)
                found[id] = row_of(field, value).record
            except UnreadableError as error:
                unreadable.add(f"the record of {field!r}", error)
                if id is None:
                    wrong.append(field)
                else:
                    found[id] = b""
        await self.drop(wrong)
        return found

    async def drop(self, fields: Sequence[str | bytes]) -> None:
        """Forgets what is held under these fields of the tasks."""
        names = (self._keys.lease, self._keys.tasks, self._keys.order)
        for start in range(0, len(fields), MOST_AT_ONCE):
            self._mine(await self._redis.run(DROP, names, self._token, *fields[start : start + MOST_AT_ONCE]))

    async def publish(self, rows: list[tuple[str, bytes]]) -> None:
        """Writes records, each with its id, in order."""
        keys = self._keys
        names = (keys.lease, keys.meta, keys.stream, keys.tasks, keys.order)
        for start in range(0, len(rows), MOST_AT_ONCE):
            flat = [part for row in rows[start : start + MOST_AT_ONCE] for part in row]
            head = await self._redis.run(PUBLISH, names, self._token, self._epoch, self._bounds.entries, *flat)
            self.head = self._place(self._mine(head))

    async def told(self) -> None:
        """Says that all there is of this namespace until now has been written in this epoch."""
        keys = (self._keys.lease, self._keys.meta, self._keys.spaces)
        self._mine(await self._redis.run(TOLD, keys, self._token, self._epoch, self._space))

    async def renew(self) -> None:
        self._mine(await self._redis.run(RENEW, (self._keys.lease,), self._token, int(LEASE * 1000)))

    async def end(self) -> None:
        """Gives the lease up, so that another can lead at once."""
        await self._redis.run(RENEW, (self._keys.lease,), self._token, 0)

    async def trim(self) -> Held:
        """Drops what is over the bounds."""
        bounds = self._bounds
        most = (int(bounds.history * 1000), int(bounds.keep * 1000), bounds.tasks, bounds.bytes // 2, bounds.bytes // 2)
        while True:
            dropped, *held = self._mine(await self._redis.run(TRIM, self._all, self._token, *most))
            if not dropped:
                return Held(*held)

    def _place(self, entry: bytes) -> bytes:
        """A change's id, if a cursor can hold it: else the stream is begun anew."""
        try:
            offset_of(entry)
        except UnreadableError:
            raise OverError from None
        return entry

    def _mine(self, answer: Any) -> Any:
        if not answer:
            raise OverError
        return answer


async def scan(connection: Connection, key: str, *match: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """The fields and values of a hash; one that is changed meanwhile may come twice."""
    cursor: Any = 0
    while True:
        cursor, rows = await connection.do("HSCAN", key, cursor, *match, "COUNT", 500)
        for field, value in rows.items():
            yield field, value
        if not int(cursor):
            return
