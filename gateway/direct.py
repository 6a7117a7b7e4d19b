"""The direct path: a connection that was handed over, with nothing left of the request that it began as.

Any ASGI server gives a stream a task, a parser, a scope and a queue, tens of kilobytes. Once an endpoint has decided
what a client is to get, none of them has anything left to do: our own server then sets one of these small protocols on
the transport, and the hub's shared bytes go from `publish` to the socket in one call.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from websockets.frames import Opcode
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as Parser

from gateway.framing import LAST_CHUNK, frame, frames
from gateway.intake import Intake

EXTENSION = "gateway.direct"
"""Where a scope holds the connection that it came from, for an answer that needs nothing more of ASGI."""


BUFFER = 64 * 1024
"""Bytes that wait for a client before it is behind."""

FRAMES = 1_024
"""Bytes of frames that are looked at between two looks at the clock."""

LAST_WORDS = 30.0
"""Seconds that a client has to take the last of what it was sent."""


def _nobody() -> None:
    """Stands where no hub has put its callback yet."""


class Stream(asyncio.Protocol):
    """An outlet (`gateway.subscription.Outlet`) that is a connection: a chunked response body which goes on and on.

    `lost` is called once, when the connection is. `open` is where the server keeps its connections.
    """

    __slots__ = ("_open", "drained", "full", "lost", "transport", "write")

    def __init__(self, transport: asyncio.Transport, open: set[Any]) -> None:
        self.transport = transport
        self.write: Callable[[bytes], None] = transport.write
        self.full = False
        self.drained: Callable[[], None] = _nobody
        self.lost: Callable[[], None] = _nobody
        self._open = open
        open.add(self)
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=BUFFER)

    def data_received(self, data: bytes) -> None:
        """A client has nothing to say any more."""

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.drained()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._open.discard(self)
        self.lost()
        self.drained = self.lost = _nobody  # the subscription holds this outlet: no cycle stays behind

    def close(self, _code: int) -> None:
        self._end(LAST_CHUNK)

    def _end(self, last: bytes) -> None:
        if not self.transport.is_closing():
            self.write(last)
            if self.transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(LAST_WORDS, self.transport.abort)
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn's word to each connection at its end; the hub has closed this one before."""
        self.transport.close()


class Socket(Stream):
    """A WebSocket after its handshake. The parser is made when a client says something, which most never do.

    `incoming` is given each message and returns the answer to it; while it is `busy` with one, the next ones wait
    until `go_on` is called.
    """

    __slots__ = ("_intake", "_max_size", "_message", "_parser", "busy", "incoming")

    def __init__(self, transport: asyncio.Transport, open: set[Any], max_size: int) -> None:
        self._max_size = max_size
        self._parser: Parser | None = None
        self._intake: Intake | None = None
        self._message = bytearray()
        self.incoming: Callable[[str | bytes], bytes] = lambda _message: b""
        self.busy: Callable[[], bool] = _never
        super().__init__(transport, open)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # what came with the handshake is passed on when the client may have left
            return
        if self._intake is None:
            self._parser = Parser(SERVER, state=State.OPEN, max_size=self._max_size)
            self._intake = Intake(self.transport, self._take, asyncio.get_running_loop(), blocked=self.full)
        self._intake.receive(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._intake:
            self._intake.block()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._intake:
            self._intake.unblock()

    def go_on(self, rest: float = 0) -> None:
        """The last message has been answered: the next one is taken up after so many seconds."""
        if self._intake:
            self._intake.go_on(rest)

    def _take(self, data: bytes, at: int) -> int:
        assert self._parser
        if self.busy():
            return 0
        piece = data[at : at + FRAMES]
        self._parser.receive_data(piece)
        for event in self._parser.events_received():
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):  # type: ignore[union-attr]
                self._message += event.data  # type: ignore[union-attr]
                if event.fin:  # type: ignore[union-attr]
                    message, self._message = bytes(self._message), bytearray()
                    self.write(frames(self.incoming(message)))
        if replies := b"".join(self._parser.data_to_send()):  # pongs, and the answer to a close
            self.write(replies)
        if self._parser.close_expected():
            self._end(b"")
        return len(piece)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._intake:
            self._intake.end()
        del self.incoming, self.busy

    def close(self, code: int, reason: str = "") -> None:
        self._end(frame(0x8, struct.pack("!H", code) + reason.encode()[:123]))

    def hand_over(self, _head: bytes = b"") -> "Socket | None":
        """It is handed over already. None: the client has left."""
        return None if self.transport.is_closing() else self

    def shutdown(self) -> None:
        self.transport.close()


def _never() -> bool:
    return False
