"""All that touches uvicorn's internals: its protocols, taught to answer in one write and to hand a connection over.

uvicorn does the latter itself when it upgrades a connection to WebSocket. What is relied on is pinned in pyproject.toml
and held by the tests: of a connection `connections`, `cycle`, `pipeline`, `_start_asgi_task`, `parser`, `flow`,
`transport`, `default_headers` and its keep-alive timer, and for WebSocket `conn`, `response`, `handshake_complete` and
`close_timer`.
"""

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from gateway.direct import EXTENSION, Socket, Stream
from gateway.transports.reply import BESIDE

LAST_WORD = 0.25
"""Seconds that a connection has for its first request when the server ends."""


class HttpProtocol(HttpToolsProtocol):
    """Offers itself in the scope of each HTTP/1.1 request, to be answered directly; `chunked` is how its bodies go.

    Closes connections whose request's head is too large or too slow. `head_deadline` (seconds) and `max_head` (bytes)
    are set on a subclass: uvicorn makes the instances.
    """

    chunked = True
    head_deadline = 10.0
    max_head = 65_536
    _ends = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._running: RequestResponseCycle | None = None
        self._head_bytes, self._trailer_bytes = 0, -1
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(self.head_deadline, self._head_is_late)

    def on_message_begin(self) -> None:
        self._head_bytes, self._trailer_bytes = 1, -1
        super().on_message_begin()

    def data_received(self, data: bytes) -> None:
        if self._head_bytes:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self.max_head:
            self._refuse(431)
        elif self._head_bytes and not self._head_timer:  # most heads come whole, and need no timer
            self._head_timer = self.loop.call_later(self.head_deadline, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._trailer_bytes < 0:
            return super().on_header(name, value)
        self._trailer_bytes += len(name) + len(value)  # trailers are dropped: nobody checked them (RFC 9110, 6.5.1)
        if self._trailer_bytes > self.max_head:
            self.transport.abort()
        return None

    def on_headers_complete(self) -> None:
        self._head_bytes = self._trailer_bytes = 0
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
        if self.parser.get_http_version() == "1.1":
            self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.keep_alive = cycle.keep_alive and not self._ends
        self._running = cycle  # `cycle` is that of the newest request, and others may be pipelined before it
        super()._start_asgi_task(cycle, app)

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
        if self._head_timer:
            self._head_timer.cancel()
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
        self.transport.write(b"".join([STATUS_LINE[status], self._default_lines(cycle.scope), head, body]))
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
        self.flow.resume_reading()
        stream = Stream(self.transport, self.connections)
        ending = b"transfer-encoding: chunked\r\nconnection: close\r\n"
        stream.write(b"".join([STATUS_LINE[200], self._default_lines(self._running.scope), ending, head]))
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


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers itself in the scope of each handshake, to be accepted over the bare connection.

    `max_message` (bytes, of a message after that) is set on a subclass.
    """

    max_message = 65_536

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def hand_over(self, _head: bytes = b"") -> Socket | None:
        """Accepts the handshake, and gives the connection away. None: the client has left."""
        if self.disconnected or self.transport.is_closing():
            return None
        self.connections.discard(self)
        socket = Socket(self.transport, self.connections, self.max_message)
        self.conn.send_response(self.response)
        socket.write(b"".join(self.conn.data_to_send()))
        self.handshake_complete = True
        self.close_timer = self.loop.call_later(0, _nothing)  # else the connection is closed when the app returns
        del self.conn.parser, self.conn, self.scope  # and the cycles with them
        return socket


def log_answer(logger: logging.Logger, scope: Any, status: int) -> None:
    """A line as uvicorn logs it."""
    client, path = get_client_addr(scope), get_path_with_query_string(scope)
    logger.info('%s - "%s %s HTTP/%s" %d', client, scope["method"], path, scope["http_version"], status)


def _nothing() -> None:
    """For a timer that only has to be there."""
