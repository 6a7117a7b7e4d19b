"""uvicorn's HTTP/1.1, taught to read at its client's pace, to answer in one write and to hand a connection over.

uvicorn does the latter itself when it upgrades a connection to WebSocket. What is relied on is pinned in pyproject.toml
and held by the tests: `connections`, `cycle`, `pipeline`, `_start_asgi_task`, `on_response_complete`,
`handle_websocket_upgrade`, `parser`, `flow`, `transport`, `default_headers`, its keep-alive timer, and of its cycles
`more_body`.
"""

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from gateway.direct import EXTENSION, Stream
from gateway.intake import Intake
from gateway.limits import Budget, peer_of
from gateway.transports.reply import BESIDE, has_body, length_of

LAST_WORD = 0.25
"""Seconds that a connection has for its first request when the server ends."""

PIECE = 65_536
"""Bytes that a parser is given at once at most, unless they are all a body's."""

_END_OF_HEAD = b"\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """Offers itself in the scope of each HTTP/1.1 request, to be answered directly; `chunked` is how its bodies go.

    Takes up one request at a time, and none while an answer waits to be taken. Closes connections whose request's head
    is too large or too slow, and those that take nothing of an answer. `head_deadline` and `write_deadline` (seconds),
    `max_head` (bytes) and `unsent` are set on a subclass: uvicorn makes the instances.
    """

    chunked = True
    head_deadline = 10.0
    write_deadline = 60.0
    max_head = 65_536
    unsent = Budget()
    _ends = False
    _successor: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._intake = Intake(transport, self._take, self.loop)
        self.flow = FlowControl(self._intake)  # type: ignore[arg-type]
        self._running: RequestResponseCycle | None = None
        self._in_head = True
        self._head_bytes, self._trailer_bytes = 0, -1
        self._body_left = 0  # of a body whose length was said
        self._answer_bytes = 0
        self._unsent: tuple[str, int] | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._expect_head()

    # What comes in

    def data_received(self, data: bytes) -> None:
        self._intake.receive(data)

    def _take(self, data: bytes, at: int) -> int:
        """Takes up one request at most: the next one is looked at when this one has been answered."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and not (cycle.response_complete or cycle.more_body):
            return 0
        if not self._in_head and len(data) - at <= self._body_left:
            piece = data[at:]  # all of it is the body's
        else:
            end = data.find(_END_OF_HEAD, at, at + PIECE)
            piece = data[at : end + len(_END_OF_HEAD) if end >= 0 else at + PIECE]
        if self._in_head:
            self._head_bytes += len(piece)
            if self._head_bytes > self.max_head:
                return self._refuse(431)
        super().data_received(piece)
        if self._head_bytes and not self._read_timer and not self.transport.is_closing():
            self._expect_head()  # most heads come whole, and need no timer
        if self._successor:
            rest = self._intake.end()[len(piece) :]
            self._successor.data_received(rest)
        return len(piece)

    def _expect_head(self) -> None:
        self._read_timer = self.loop.call_later(self.head_deadline, self._is_late)

    def _is_late(self) -> None:
        """No whole head has come in time, or not the rest of a request that was answered before it was whole."""
        self._read_timer = None
        if self._in_head:
            self._refuse(408)
        else:
            self._close()

    def _refuse(self, status: int) -> int:
        """Says why it closes; what else has come is not looked at."""
        left = len(self._intake.end())
        if not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self._close()
        return left

    def _close(self) -> None:
        """Closes when what was answered has been taken, or when it was not in time."""
        self._stop_reading_timer()
        self._intake.end()
        self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._trailer_bytes < 0:
            return super().on_header(name, value)
        self._trailer_bytes += len(name) + len(value)  # trailers are dropped: nobody checked them (RFC 9110, 6.5.1)
        if self._trailer_bytes > self.max_head:
            self.transport.abort()
        return None

    def on_headers_complete(self) -> None:
        if self._is_new():  # not before: what TLS says at the beginning would count
            self.transport.set_write_buffer_limits(high=1)  # so that it is known whether anything waits
        self._in_head = False
        self._head_bytes = self._trailer_bytes = 0
        self._stop_reading_timer()
        self._body_left = 0 if self.parser.get_method() == b"GET" else length_of(self.headers)
        if self.parser.get_http_version() == "1.1":
            self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]
        if self.parser.should_upgrade() and self._should_upgrade() and has_body(self.headers):
            self._refuse(400)  # a handshake has none (RFC 6455, 4.1), and uvicorn would wait for it
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._trailer_bytes = -1
        self._stop_reading_timer()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if not self.transport.is_closing():
            super().handle_websocket_upgrade()
            self._successor = self.transport.get_protocol()  # type: ignore[assignment]

    def _stop_reading_timer(self) -> None:
        if self._read_timer:
            self._read_timer.cancel()
            self._read_timer = None

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.keep_alive = cycle.keep_alive and not self._ends
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self._read_timer:  # the rest of it may not keep the connection
            self._expect_head()
        super().on_response_complete()
        self._intake.go_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._intake.block()
        if not self._unsent:
            client = self._running.scope["client"] if self._running else self.client  # a proxy may have named another
            held = max(self._answer_bytes, self.transport.get_write_buffer_size())  # it is held until all of it is sent
            self._unsent = peer_of({"client": client}), held
            self.unsent.take(*self._unsent)
        self._write_timer = self.loop.call_later(self.write_deadline, self.transport.abort)

    def resume_writing(self) -> None:
        self._nothing_waits()
        super().resume_writing()
        self._intake.unblock()

    def _nothing_waits(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None
        if self._unsent:
            self.unsent.give_back(*self._unsent)
            self._unsent = None

    # How it ends

    def shutdown(self) -> None:
        """The server's word at its end. Whoever has just come has a request on its way: nobody is to be refused when
        the next server has the same socket."""
        if self._is_new():
            self._ends = True
            self.loop.call_later(LAST_WORD, self._close_if_silent)
        else:
            super().shutdown()

    def _is_new(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first request
        return cycle is None

    def _close_if_silent(self) -> None:
        if self._is_new() and not self._head_bytes:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self._nothing_waits()
        self._intake.end()
        if self._running:
            self._running.disconnected = True
            self._running.message_event.set()
            self._running = None
        if self.scope:
            self.scope.pop("extensions", None)  # a cycle: it would wait for the garbage collector
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client reset the connection

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        """Sends a whole answer in one write; `head` is its header lines, with the empty one. False: not now.

        A third of a poll's time went into checking the same headers anew and into a second write.
        """
        cycle = self._running
        if cycle is None or self.flow.write_paused or not cycle.keep_alive or cycle.disconnected:
            return False
        self._log(cycle.scope, status)
        answer = b"".join([STATUS_LINE[status], self._default_lines(cycle.scope), head, body])
        self._answer_bytes = len(answer)
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def cut(self) -> None:
        """Ends a connection whose answer cannot be finished: that it ends so is all that can be said of it."""
        if self._running:
            self._running.disconnected = True
        self.transport.abort()

    def hand_over(self, head: bytes) -> Stream | None:
        """Answers with an endless chunked body, and gives the connection away. None: the client has left."""
        if self._running is None:
            return None
        if self.transport.is_closing():
            self._running.disconnected = True  # so that nobody waits for its answer
            return None
        self._log(self._running.scope, 200)
        self.connections.discard(self)
        self._stop_reading_timer()
        self._intake.end()
        stream = Stream(self.transport, self.connections)
        ending = b"transfer-encoding: chunked\r\nconnection: close\r\n"
        stream.write(b"".join([STATUS_LINE[200], self._default_lines(self._running.scope), ending, head]))
        self._nothing_waits()
        self._running.disconnected = True
        self.parser = None  # type: ignore[assignment]
        self.pipeline.clear()
        del self._running, self.cycle, self.scope, self.headers  # and the cycles with them
        return stream

    def _default_lines(self, scope: Any) -> bytes:
        headers = self.server_state.default_headers
        if BESIDE in scope:
            headers = [*headers, *scope[BESIDE]]
        return b"".join([b"%b: %b\r\n" % header for header in headers])

    def _log(self, scope: Any, status: int) -> None:
        """`scope` is that of the request which is answered: the connection's own is the newest one's."""
        if self.access_log:
            log_answer(self.access_logger, scope, status)


def log_answer(logger: logging.Logger, scope: Any, status: int) -> None:
    """A line as uvicorn logs it."""
    client, path = get_client_addr(scope), get_path_with_query_string(scope)
    logger.info('%s - "%s %s HTTP/%s" %d', client, scope["method"], path, scope["http_version"], status)
