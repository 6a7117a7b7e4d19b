"""Events to bytes: SSE, NDJSON and WebSocket messages. No I/O.

An encoding is one way a stream speaks; there is one object for each, shared by all its subscriptions, so that what it
makes of an event is made once. Frames follow the WHATWG "Server-sent events" chapter; JSON holds no newline.
"""

import random
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from gateway.dialects import ITEM, NOT_FOUND, Dialect, fault
from gateway.framing import PONG, chunk, frames
from gateway.records import record_of
from gateway.store import Event, Kind

_json = msgspec.json.encode


class Encoding(Protocol):
    """`block` joins the frames of many events; what it returns is shared and written as it is.

    `direct` says the same with the framing of HTTP/1.1 or of WebSocket around it, for a bare connection. One that
    `copies` has deletions in its snapshots, too; `floor` is the offset up to which they are not known any more.
    """

    transport: str
    dialect: Dialect
    heartbeat: bytes
    copies: bool

    @property
    def direct(self) -> "Encoding": ...

    def hello(self) -> bytes: ...
    def block(self, events: Iterable[Event], epoch: str) -> bytes: ...
    def synced(self, cursor: str, floor: int) -> bytes: ...
    def reset(self) -> bytes: ...
    def notice(self, name: str) -> bytes: ...
    def farewell(self) -> bytes: ...


def retry() -> int:
    """Milliseconds until a client comes back: spread, so that a restart is not answered by a stampede."""
    return random.randint(1000, 5000)


def _members(event: Event) -> bytes:
    """What a control event says of its task, as JSON members."""
    if event.kind is Kind.INVALID:
        return b'"id":%b,"error":%b' % (_json(event.id), _json(event.error))
    return b'"id":%b' % _json(event.id)


def _place(dialect: Dialect, event: Event, epoch: str, *, ordered: bool) -> bytes:
    """Where a client goes on after an event: the cursor on the collection, the tag on a single task."""
    if dialect is ITEM:
        return b"%b-%d" % (epoch.encode(), event.offset)
    if not event.task:
        return b""
    tag = event.task.tag.encode()
    return b"%b@%b-%d" % (tag, epoch.encode(), event.offset) if ordered and event.offset else tag


class Enclosed:
    """Another encoding with a framing around each of its blocks: made once for all who share the block."""

    def __init__(self, inner: Encoding, enclose: Callable[[bytes], bytes], *, heartbeat: bytes | None = None) -> None:
        self.transport, self.dialect, self.copies = inner.transport, inner.dialect, inner.copies
        self.heartbeat = enclose(inner.heartbeat) if heartbeat is None else heartbeat
        self.direct = self
        self._inner, self._enclose = inner, enclose

    def hello(self) -> bytes:
        return self._enclose(self._inner.hello())

    def block(self, events: Iterable[Event], epoch: str) -> bytes:
        return self._enclose(self._inner.block(events, epoch))

    def synced(self, cursor: str, floor: int) -> bytes:
        return self._enclose(self._inner.synced(cursor, floor))

    def reset(self) -> bytes:
        return self._enclose(self._inner.reset())

    def notice(self, name: str) -> bytes:
        return self._enclose(self._inner.notice(name))

    def farewell(self) -> bytes:
        return self._enclose(self._inner.farewell())


class Sse:
    """`id` is the cursor on the collection, the tag on a single task; unnamed events carry what a poll answers.

    `ordered` adds the cursor to the tag: who comes from another edge may have seen more than this one.
    `retry` and comments are single lines, no blocks of their own: some decoders make an empty event of each blank line.
    """

    transport = "sse"
    heartbeat = b":\n"
    copies = False

    def __init__(self, dialect: Dialect, *, ordered: bool = False) -> None:
        self.dialect, self._ordered = dialect, ordered
        self.direct: Encoding = Enclosed(self, chunk)

    def hello(self) -> bytes:
        return b"retry: %d\n" % retry()

    def block(self, events: Iterable[Event], epoch: str) -> bytes:
        return b"".join([self._frame(event, epoch) for event in events])

    def _frame(self, event: Event, epoch: str) -> bytes:
        place = _place(self.dialect, event, epoch, ordered=self._ordered)
        if place:
            place = b"id: %b\n" % place
        if event.task:
            return b"%bdata: %b\n\n" % (place, self.dialect.line(event.task))
        return b"event: %b\n%bdata: {%b}\n\n" % (event.kind.value.encode(), place, _members(event))

    def synced(self, cursor: str, floor: int) -> bytes:
        if self.dialect is ITEM:
            return b'event: synced\nid: %b\ndata: {"cursor":"%b"}\n\n' % (cursor.encode(), cursor.encode())
        return b"event: synced\ndata: {}\n\n"

    def reset(self) -> bytes:
        return b"event: reset\ndata: {}\n\n"

    def notice(self, name: str) -> bytes:
        return b"event: %b\ndata: {}\n\n" % name.encode() if self.dialect is ITEM else b""

    def farewell(self) -> bytes:
        return b"retry: %d\n" % retry()


class Ndjson:
    """One JSON object a line; a heartbeat is an empty line."""

    transport = "ndjson"
    heartbeat = b"\n"
    copies = False

    def __init__(self, dialect: Dialect, *, ordered: bool = False) -> None:
        self.dialect, self._ordered = dialect, ordered
        self.direct: Encoding = Enclosed(self, chunk)

    def hello(self) -> bytes:
        return b"\n"

    def block(self, events: Iterable[Event], epoch: str) -> bytes:
        return b"".join([self._line(event, epoch) for event in events])

    def _line(self, event: Event, epoch: str) -> bytes:
        place = _place(self.dialect, event, epoch, ordered=self._ordered)
        if place:
            place = b'"cursor":"%b",' % place
        if event.task:
            return b'{%b"task":%b}\n' % (place, self.dialect.line(event.task))
        return b'{%b"event":"%b",%b}\n' % (place, event.kind.value.encode(), _members(event))

    def synced(self, cursor: str, floor: int) -> bytes:
        place = b'"cursor":"%b",' % cursor.encode() if self.dialect is ITEM else b""
        return b'{%b"event":"synced"}\n' % place

    def reset(self) -> bytes:
        return b'{"event":"reset"}\n'

    def notice(self, name: str) -> bytes:
        return b'{"event":"%b"}\n' % name.encode() if self.dialect is ITEM else b""

    def farewell(self) -> bytes:
        return b""


class Copies(Ndjson):
    """What another gateway needs to serve the same tasks: the files themselves, and deletions from `floor` on."""

    copies = True

    def __init__(self, space: str = "") -> None:
        super().__init__(ITEM)
        self._space = space

    def _line(self, event: Event, epoch: str) -> bytes:
        return b'{"cursor":"%b-%d",%b\n' % (epoch.encode(), event.offset, record_of(event, self._space)[1:])

    def synced(self, cursor: str, floor: int) -> bytes:
        return b'{"cursor":"%b","event":"synced","floor":%d}\n' % (cursor.encode(), floor)


class Messages:
    """WebSocket messages of the collection, one a line: the outlet makes a frame of each."""

    transport = "websocket"
    heartbeat = b""
    copies = False

    def __init__(self, dialect: Dialect = ITEM) -> None:
        self.dialect = dialect
        self.direct: Encoding = Enclosed(self, frames, heartbeat=PONG)

    def hello(self) -> bytes:
        return b""

    def block(self, events: Iterable[Event], epoch: str) -> bytes:
        return b"".join([self._message(event, epoch) for event in events])

    def _message(self, event: Event, epoch: str) -> bytes:
        said = b'"task":%b' % self.dialect.line(event.task) if event.task else _members(event)
        return b'{"type":"%b","cursor":"%b-%d",%b}\n' % (event.kind.value.encode(), epoch.encode(), event.offset, said)

    def synced(self, cursor: str, floor: int) -> bytes:
        return b'{"type":"synced","cursor":"%b"}\n' % cursor.encode()

    def reset(self) -> bytes:
        return b'{"type":"reset"}\n'

    def notice(self, name: str) -> bytes:
        return b'{"type":"%b"}\n' % name.encode()

    def farewell(self) -> bytes:
        return b""


class Bodies(Messages):
    """WebSocket messages of a single task: each is what a poll of the same URL would answer."""

    def _message(self, event: Event, epoch: str) -> bytes:
        if event.task:
            return self.dialect.line(event.task) + b"\n"
        if event.still:
            return b""
        sentence, code = (NOT_FOUND, 404) if event.kind is Kind.GONE else (fault(event.error), 500)
        return self.dialect.failure(sentence, code, event.id) + b"\n"

    def synced(self, cursor: str, floor: int) -> bytes:
        return b""

    def reset(self) -> bytes:
        return b""

    def notice(self, name: str) -> bytes:
        return b""


class Ring(Messages):
    """For who only wants to be woken: a byte where an event `concerns` him, else nothing."""

    transport = "long-poll"

    def __init__(self, concerns: Callable[[Event], bool] = lambda _event: True) -> None:
        super().__init__()
        self._concerns = concerns

    def block(self, events: Iterable[Event], epoch: str) -> bytes:
        return b"!" if any(map(self._concerns, events)) else b""

    def synced(self, cursor: str, floor: int) -> bytes:
        return b""

    def reset(self) -> bytes:
        return b"!"

    def notice(self, name: str) -> bytes:
        return b""
