"""The places that touch uvicorn's internals: its protocols, taught to hand a connection over (see `direct`).

uvicorn does the same itself when it upgrades a connection to WebSocket. What is relied on is pinned in pyproject.toml
and held by the tests: `connections`, `cycle`, `parser`, `flow`, `default_headers`, and for WebSocket `conn`,
`response`, `handshake_complete` and `close_timer`.
"""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from gateway.direct import EXTENSION, Socket, Stream

Headers = list[tuple[bytes, bytes]]


class HttpProtocol(HttpToolsProtocol):
    """Offers each HTTP/1.1 request in its scope to be answered over the bare connection."""

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() == "1.1":
            self.scope["extensions"] = {EXTENSION: self._hand_over}  # type: ignore[dict-item]
        super().on_headers_complete()

    def _hand_over(self, headers: Headers) -> Stream | None:
        """Answers the request with an endless chunked body. None: the client has left."""
        if self.parser is None or self.transport.is_closing():
            return None
        self.connections.discard(self)
        self.flow.resume_reading()
        stream = Stream(self.transport, self.connections)
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        ending = b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        stream.write(b"".join([STATUS_LINE[200], *lines, ending]))
        self.cycle.disconnected = True  # so that nobody waits for its answer
        del self.cycle, self.scope, self.headers
        self.parser = None  # type: ignore[assignment]
        return stream


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers each handshake in its scope to be accepted over the bare connection."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self._hand_over  # type: ignore[assignment]

    def _hand_over(self, _headers: Headers) -> Socket | None:
        """Accepts the handshake. None: the client has left."""
        if self.disconnected or self.transport.is_closing():
            return None
        self.connections.discard(self)
        socket = Socket(self.transport, self.connections)
        self.conn.send_response(self.response)
        socket.write(b"".join(self.conn.data_to_send()))
        self.handshake_complete = True
        self.close_timer = self.loop.call_later(0, _nothing)  # else the connection is closed when the app returns
        return socket


def _nothing() -> None:
    """For a timer that only has to be there."""
