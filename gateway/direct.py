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

EXTENSION = "gateway.direct"
"""Where a scope holds the connection that it came from, for an answer that needs nothing more of ASGI."""


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
        self.write(LAST_CHUNK)
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn's word to each connection at its end; the hub has closed this one before."""
        self.transport.close()


class Socket(Stream):
    """A WebSocket after its handshake. The parser is made when a client says something, which most never do."""

    __slots__ = ("_max_size", "_parser", "_parts", "incoming")

    def __init__(self, transport: asyncio.Transport, open: set[Any], max_size: int) -> None:
        self._max_size = max_size
        self._parser: Parser | None = None
        self._parts: list[bytes] = []
        self.incoming: Callable[[str | bytes], bytes] = lambda _message: b""
        super().__init__(transport, open)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = Parser(SERVER, state=State.OPEN, max_size=self._max_size)
        self._parser.receive_data(data)
        for event in self._parser.events_received():
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):  # type: ignore[union-attr]
                self._parts.append(bytes(event.data))  # type: ignore[union-attr]
                if event.fin:  # type: ignore[union-attr]
                    message = b"".join(self._parts)
                    self._parts.clear()
                    self.write(frames(self.incoming(message)))
        for reply in self._parser.data_to_send():  # pongs, and the answer to a close
            if reply:
                self.write(reply)
        if self._parser.close_expected():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        del self.incoming

    def close(self, code: int) -> None:
        self.write(frame(0x8, struct.pack("!H", code)))
        self.transport.close()

    def shutdown(self) -> None:
        self.transport.close()
