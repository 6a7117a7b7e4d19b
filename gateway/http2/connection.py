"""One HTTP/2 connection: uvicorn's `zttp`, taught our limits and to write many streams at once.

What all streams of a connection were given in a pass goes out in one write. Relied on is, beside what
gateway/handover.py names, of uvicorn's protocol: `conn`, `cycles`, `flow`, `app`, `handle_request`,
`handle_rst_stream`, `on_stream_closed`, `flush`, `_close_connection`; of its cycles `stream`, `disconnected`,
`response_started`, `response_complete`, `message_event`, `on_response`, `abort_stream`.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import zttp
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

from gateway.direct import BUFFER, EXTENSION
from gateway.http2.stream import ROOM, Exchange, Stream
from gateway.intake import Intake
from gateway.limits import Budget
from gateway.transports.reply import Header

PIECE = 2_048
"""Bytes of frames between two looks at the clock."""

SEND_AT_ONCE = 64 * 1024
"""Bytes that wait for the end of a pass at most."""

MOST_REQUESTS, MOST_RESETS = 3_500, 128
"""After so many a connection is told to take no new requests; its streams go on, and clients open another.

zttp counts over a connection's whole life, and takes 4,096 requests or 256 resets for a flood: it would end them all.
The rest is for what its client, of whom it lets 128 streams be open, has on the way.
"""

QUIET = 0.25
"""Seconds to wait before, after three quarters of them.

A page closes streams and opens others in one breath, and Chromium fails what it is about to send when it is told.
"""

PROTOCOL_ERROR, LAST_STREAM = 1, 0x7FFFFFFF

_WEB_SOCKETS, _NO_WEB_SOCKETS = b"\x00\x08\x00\x00\x00\x01", b"\x00\x08\x00\x00\x00\x00"
"""The setting ENABLE_CONNECT_PROTOCOL: zttp promises WebSockets within HTTP/2, but nobody here serves them.

Browsers that are not promised any open an HTTP/1.1 connection for theirs.
"""

_TARGET = re.compile(rb"/[!-~]*")


class Connection(ZttpH2Protocol):
    """The limits are set on a subclass, as those of HttpProtocol are."""

    cycles: dict[int, Any]  # and streams
    head_deadline = 10.0
    max_head = 65_536
    write_deadline = 60.0
    unsent = Budget()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._answers, self.app = self.app, self._at_its_pace
        self._waiting: dict[int, tuple[zttp.Stream, Callable[[], None]]] = {}
        self._requests = self._resets = self._unsent = 0
        self._sends_soon = self._retired = False
        self._idle: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._blocked: asyncio.TimerHandle | None = None
        self._retiring: asyncio.TimerHandle | None = None
        self._full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.conn.initiate_connection()
        transport.write(self.conn.data_to_send().replace(_WEB_SOCKETS, _NO_WEB_SOCKETS))
        super().connection_made(transport)
        self._intake = Intake(transport, self._take, self.loop)
        self.flow = FlowControl(self._intake)  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=BUFFER)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.end()
        self._stop_idling()
        for timer in filter(None, (self._leaving, self._blocked, self._retiring, self._full)):
            timer.cancel()
        left = [cycle.end for cycle in self.cycles.values() if isinstance(cycle, Stream)]
        super().connection_lost(exc)
        for end in left:
            end()
        while self._waiting:
            self._waiting.popitem()[1][1]()

    # Requests

    def data_received(self, data: bytes) -> None:
        self._intake.receive(data)

    def _take(self, data: bytes, at: int) -> int:
        piece = data[at : at + PIECE]
        super().data_received(piece)
        self._make_room()
        if self.flow.read_paused and not self._blocked:
            self._blocked = self.loop.call_later(self.write_deadline, self._unblock)
        if self._leaving and not self.cycles:
            self._close_connection()
        return len(piece)

    def handle_request(self, event: zttp.Request) -> None:
        self._stop_idling()
        self._requests += 1
        self._retire_in_time()
        stream = self.conn.stream(event.stream_id)
        if event.method == b"CONNECT" or not _TARGET.fullmatch(event.target):
            stream.reset(PROTOCOL_ERROR)
            return self._rest()
        if sum([len(name) + len(value) for name, value in event.headers]) + len(event.target) > self.max_head:
            stream.send_response(431, [(b"content-length", b"0")], end_stream=True)
            return self._rest()
        super().handle_request(event)
        cycle = self.cycles[event.stream_id]
        if event.end_stream:  # no EndOfMessage follows
            cycle.more_body = False
            cycle.message_event.set()
        cycle.scope["headers"] = _as_in_http1(cycle.scope["headers"], has_body=not event.end_stream)
        cycle.scope["extensions"][EXTENSION] = Exchange(self, cycle)
        return None

    def handle_rst_stream(self, event: zttp.RstStream) -> None:
        self._resets += 1
        self._retire_in_time()
        cycle = self.cycles.get(event.stream_id)
        super().handle_rst_stream(event)
        if isinstance(cycle, Stream):
            cycle.end()
        if waiting := self._waiting.pop(event.stream_id, None):
            waiting[1]()

    def _retire_in_time(self) -> None:
        worn = max(self._requests / MOST_REQUESTS, self._resets / MOST_RESETS)
        if worn >= 1:
            self._retire()
        elif worn >= 0.75 and not self._retiring:
            self._retiring = self.loop.call_later(QUIET, self._retire)

    def _retire(self) -> None:
        if not self._retired and not self.transport.is_closing():
            self._retired = True
            self.conn.close(0, LAST_STREAM)
            self.send_soon(0)

    def on_stream_closed(self) -> None:
        super().on_stream_closed()
        self._rest()

    def _rest(self) -> None:
        if not self.cycles and not self._idle and not self.transport.is_closing():
            self._await_request()  # also where it is retired: a request may be on the way

    def _await_request(self) -> None:
        """A connection that has no stream is closed when no whole head comes in time, whatever else does."""
        self._idle = self.loop.call_later(self.head_deadline, self._close_connection)

    def _stop_idling(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None

    def _close_connection(self) -> None:
        """Says goodbye when what was answered has been taken, too; who takes nothing is cut off in the end."""
        if not self.conn.has_pending_send():
            super()._close_connection()
        elif not self._leaving:
            self.shutdown_requested = True
            self._leaving = self.loop.call_later(self.write_deadline, self.transport.abort)

    # Answers

    async def _at_its_pace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app, whose answer waits where the client does not take it: zttp would hold any amount."""
        exchange = scope["extensions"][EXTENSION]
        try:
            await self._answers(scope, receive, exchange.paced(send))
        finally:
            del scope["extensions"]  # a cycle: it would wait for the garbage collector

    def send_soon(self, size: int) -> None:
        """Sends what was given to the parser when this pass is over, or at once where it is much."""
        self._unsent += size
        if self._unsent >= SEND_AT_ONCE:
            self.flush()
        elif not self._sends_soon:
            self._sends_soon = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self._unsent, self._sends_soon = 0, False
        if not self.transport.is_closing():
            super().flush()

    def has_room(self, stream: zttp.Stream) -> bool:
        """Whether a stream takes more: neither its window nor the connection holds it up."""
        return not self.flow.write_paused and (stream.pending_bytes or 0) < ROOM

    def when_room(self, stream: zttp.Stream, then: Callable[[], None]) -> None:
        self._waiting.setdefault(stream.stream_id, (stream, then))

    def _make_room(self) -> None:
        """Goes on with the streams that wait and have room, the longest first, as long as the connection takes it."""
        for id, (stream, then) in list(self._waiting.items()):
            if self.flow.write_paused:
                return
            if id in self._waiting and self.has_room(stream):
                del self._waiting[id]
                then()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._intake.block()  # each PING gets an answer: who reads none is not to ask for more
        self._full = self.loop.call_later(self.write_deadline, self.transport.abort)

    def resume_writing(self) -> None:
        if self._full:
            self._full.cancel()
        super().resume_writing()
        self._intake.unblock()
        self._make_room()

    def resume_reading_if_idle(self) -> None:
        super().resume_reading_if_idle()
        if self._blocked and not self.flow.read_paused:
            self._blocked.cancel()
            self._blocked = None

    def _unblock(self) -> None:
        """Nothing was read for too long: resets the streams whose bodies nobody takes, for they hold up the others."""
        self._blocked = None
        for id, cycle in list(self.cycles.items()):
            if len(cycle.body) > HIGH_WATER_LIMIT:
                cycle.abort_stream()
                cycle.message_event.set()
                del self.cycles[id]
                self.on_stream_closed()


def _as_in_http1(headers: list[Header], *, has_body: bool) -> list[Header]:
    """What apps know of HTTP/1.1: one Cookie (RFC 9113, 8.2.3), and a header that says that there is a body."""
    names = [name for name, _ in headers]
    if names.count(b"cookie") > 1:
        cookies = b"; ".join([value for name, value in headers if name == b"cookie"])
        headers = [*(header for header in headers if header[0] != b"cookie"), (b"cookie", cookies)]
    if has_body and b"content-length" not in names:
        headers = [*headers, (b"transfer-encoding", b"chunked")]
    return headers
