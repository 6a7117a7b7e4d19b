"""uvicorn's WebSocket, taught to read at its client's pace and its app's, and to hand a connection over.

What is relied on is pinned in pyproject.toml and held by the tests: `conn`, `queue`, `read_paused`, `frames`,
`response`, `handshake_initiated`, `handshake_complete`, `close_sent`, `disconnected`, `connections`, `transport` and
`close_timer`.
"""

import asyncio

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.frames import Frame
from websockets.http11 import Request

from gateway.direct import EXTENSION, FRAMES, Socket
from gateway.intake import Intake

MOST_FRAGMENTS = 64
"""Parts of a WebSocket message that are kept apart until it is whole."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers itself in the scope of each handshake, to be accepted over the bare connection.

    Takes up no more than its app does, and nothing while answers wait to be taken. `max_message` (bytes, of a message
    on the bare connection) and `write_deadline` (seconds) are set on a subclass.
    """

    max_message = 65_536
    write_deadline = 60.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._intake = Intake(self.transport, self._take, self.loop)
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.end()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._intake.receive(data)

    def _take(self, data: bytes, at: int) -> int:
        if self.handshake_initiated:
            if not self.handshake_complete:
                return 0  # frames come after the answer
            data = data[at : at + FRAMES]
        super().data_received(data)  # a handshake comes whole: it was read before
        if self.read_paused:
            self._intake.pause_reading()
        if not self.handshake_initiated:
            self._refuse(431 if isinstance(self.conn.handshake_exc, SecurityError) else 400)
        return len(data)

    def _refuse(self, status: int) -> None:
        self.handshake_complete = True
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)

    async def receive(self) -> ASGIReceiveEvent:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._intake.resume_reading()  # uvicorn has the transport read, whatever else holds it up
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:  # uvicorn takes a refusal for no answer at all, and logs an error
            self.handshake_complete = True
        if self.handshake_complete:
            self._intake.go_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._intake.block()
        self._write_timer = self.loop.call_later(self.write_deadline, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()
        self._intake.unblock()

    def _stop_write_timer(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def hand_over(self, _head: bytes = b"") -> Socket | None:
        """Accepts the handshake, and gives the connection away. None: the client has left."""
        if self.disconnected or self.transport.is_closing():
            self.handshake_complete = True  # nobody waits for its end: that is no error
            return None
        self.connections.discard(self)
        left = self._intake.end()
        self._stop_write_timer()
        socket = Socket(self.transport, self.connections, self.max_message)
        self.conn.send_response(self.response)
        socket.write(b"".join(self.conn.data_to_send()))
        if left:
            self.loop.call_soon(socket.data_received, left)
        self.handshake_complete = True
        self.close_timer = self.loop.call_later(0, _nothing)  # else the connection is closed when the app returns
        del self.conn.parser, self.conn, self.scope  # and the cycles with them
        return socket


def _nothing() -> None:
    """For a timer that only has to be there."""
