"""One request on an HTTP/2 connection, and the stream that it may leave behind."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zttp
from starlette.types import Message, Send
from uvicorn.protocols.http.zttp_h2_impl import RequestResponseCycle

from gateway.handover import log_answer
from gateway.limits import peer_of
from gateway.transports.reply import BESIDE

if TYPE_CHECKING:
    from gateway.http2.connection import Connection

ROOM = 16 * 1024
"""Bytes that may wait for a client's window, on each stream."""

CANCEL = 8


def _nobody() -> None:
    """Stands where no hub has put its callback yet."""


class Exchange:
    """Offers itself in the scope of each request, to be answered directly (`gateway.direct.EXTENSION`)."""

    chunked = False

    def __init__(self, connection: "Connection", cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle = connection, cycle

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        """Sends a whole answer; `head` is its header lines, with the empty one. False: not now."""
        if len(body) > ROOM or self._has_left() or self._connection.flow.write_paused:
            return False
        self._begin(status, head, ends=not body)
        if body:
            self._cycle.stream.send_data(body)
            self._cycle.stream.end_message()
        self._connection.send_soon(len(head) + len(body))
        self._cycle.message_event.set()
        self._cycle.on_response(self._cycle.stream.stream_id)
        self._cycle.on_response = _ignore
        return True

    def hand_over(self, head: bytes) -> "Stream | None":
        """Answers with an endless body, and gives the stream away. None: the client has left."""
        cycle, connection = self._cycle, self._connection
        if self._has_left():
            return None
        self._begin(200, head, ends=False)
        connection.send_soon(len(head))
        connection.server_state.total_requests += 1
        cycle.on_response = _ignore
        return Stream(connection, cycle.stream)

    def cut(self) -> None:
        """Ends a stream whose answer cannot be finished."""
        self._cycle.abort_stream()
        self._cycle.message_event.set()

    def paced(self, send: Send) -> Send:
        """`send`, which comes back when the client has room for more; who has none for too long is cut off."""

        async def send_paced(message: Message) -> None:
            if self._has_left():
                return
            body = message.get("body", b"")
            start = 0
            while len(body) - start > ROOM:
                await send({"type": message["type"], "body": body[start : start + ROOM], "more_body": True})
                await self._has_room(len(body) - start)
                start += ROOM
            await send({**message, "body": body[start:]} if start else message)
            await self._has_room(len(body) - start)

        return send_paced

    def _has_left(self) -> bool:
        """Whether there is nobody to answer. The parser of a connection that is being closed takes no answers."""
        if self._connection.transport.is_closing():
            self._cycle.disconnected = True
        return self._cycle.disconnected

    async def _has_room(self, held: int) -> None:
        """Waits until the client takes more; so many bytes are held for it meanwhile."""
        connection, cycle = self._connection, self._cycle
        if self._has_left() or connection.has_room(cycle.stream):
            return
        room, peer = asyncio.Event(), peer_of({"client": cycle.scope["client"]})
        connection.when_room(cycle.stream, room.set)
        connection.unsent.take(peer, held)
        try:
            async with asyncio.timeout(connection.write_deadline):
                await room.wait()
        except TimeoutError:
            self.cut()
        finally:
            connection.unsent.give_back(peer, held)

    def _begin(self, status: int, head: bytes, *, ends: bool) -> None:
        cycle, scope = self._cycle, self._cycle.scope
        if cycle.access_log:
            log_answer(cycle.access_logger, scope, status)
        headers: list[Any] = [line.split(b": ", 1) for line in head.split(b"\r\n") if line]
        headers = [*cycle.default_headers, *scope.get(BESIDE, ()), *map(tuple, headers)]  # type: ignore[misc]
        cycle.stream.send_response(status, headers, ends)
        cycle.response_started = cycle.response_complete = True


class Stream:
    """An outlet (`gateway.subscription.Outlet`) that is a stream of an HTTP/2 connection.

    `lost` is called once, when the client has left. It stands among the connection's cycles, as one that has nothing
    left to do: `body`, `message_event` and `response_complete` are theirs.
    """

    __slots__ = ("_connection", "_stream", "drained", "full", "lost")

    body = b""
    message_event = asyncio.Event()  # nobody waits for it
    response_complete = True

    def __init__(self, connection: "Connection", stream: zttp.Stream) -> None:
        self._connection, self._stream = connection, stream
        self.full = False
        self.drained: Callable[[], None] = _nobody
        self.lost: Callable[[], None] = _nobody
        connection.cycles[stream.stream_id] = self

    def write(self, block: bytes) -> None:
        if not block or not self._is_open():
            return
        self._stream.send_data(block)
        self._connection.send_soon(len(block))
        if not self._connection.has_room(self._stream):
            self.full = True
            self._connection.when_room(self._stream, self._drain)

    def close(self, _code: int) -> None:
        if self._is_open():
            self._stream.end_message()
            self._connection.send_soon(0)
            self._leave()

    def abort(self) -> None:
        """Ends a stream that takes nothing; where its whole connection takes nothing, that."""
        if self._connection.flow.write_paused:
            self._connection.transport.abort()
        elif self._is_open():
            self._stream.reset(CANCEL)
            self._connection.send_soon(0)
            self._leave()

    def end(self) -> None:
        """The client has left, or was sent away."""
        lost, self.drained, self.lost = (
            self.lost,
            _nobody,
            _nobody,
        )  # the subscription holds this outlet: no cycle stays
        lost()

    def _is_open(self) -> bool:
        connection = self._connection
        return not connection.transport.is_closing() and connection.cycles.get(self._stream.stream_id) is self

    def _drain(self) -> None:
        self.full = False
        self.drained()

    def _leave(self) -> None:
        del self._connection.cycles[self._stream.stream_id]
        self._connection.on_stream_closed()
        self.end()


def _ignore(_stream_id: int) -> None:
    """For a cycle whose stream was answered already."""
