"""An HTTP/2 client for tests, that says which streams it reads and which it leaves."""

import socket
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.harness import Gateway


class Client:
    """One connection. Of streams in `stalled` nothing is acknowledged: their windows stay shut once they are full."""

    def __init__(self, one: Gateway, window: int = 65_535) -> None:
        self.socket = socket.create_connection(("127.0.0.1", one.port), 20)
        self.wire = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.wire.initiate_connection()
        self.wire.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.wire.increment_flow_control_window(1 << 30)
        self.authority = f"127.0.0.1:{one.port}"
        self.stalled: set[int] = set()
        self.bodies: dict[int, bytearray] = defaultdict(bytearray)
        self.heads: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.closed = False
        self.unread = bytearray()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.wire.data_to_send())

    def ask(self, path: str, *more: tuple[str, str], method: str = "GET", ends: bool = True) -> int:
        """Sends a request; returns its stream."""
        stream: int = self.wire.get_next_available_stream_id()
        named = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]
        self.wire.send_headers(stream, [*named, *more], end_stream=ends)
        self.flush()
        return stream

    def sse(self, path: str) -> int:
        return self.ask(path, ("accept", "text/event-stream"))

    def reset(self, stream: int) -> None:
        self.wire.reset_stream(stream, 8)
        self.flush()

    def read(self, until: Callable[[], Any], seconds: float = 10) -> None:
        """Reads until something is so, and fails where it does not come about."""
        end = time.monotonic() + seconds
        while not until():
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            assert not self.closed, "the connection is closed"
            try:
                self._take(self.socket.recv(65_536))
            except ConnectionError:
                self.closed = True

    def _take(self, data: bytes) -> None:
        self.closed = not data
        self.unread += data
        while len(self.unread) >= 9 and len(self.unread) >= (size := 9 + int.from_bytes(self.unread[:3])):
            self._take_frame(bytes(self.unread[:size]))
            del self.unread[:size]
        if not self.closed:
            self.flush()

    def _take_frame(self, frame: bytes) -> None:
        for event in self.wire.receive_data(frame):
            if isinstance(event, ResponseReceived):
                self.heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
                self._acknowledge(event)
            elif isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, StreamReset):
                self.resets[event.stream_id] = int(event.error_code)
            elif isinstance(event, ConnectionTerminated):
                self.goodbye = int(event.error_code or 0)
                if (event.last_stream_id or 0) > max(self.bodies, default=0):  # what there is goes on, which h2 forbids
                    self.wire.state_machine.state = ConnectionState.CLIENT_OPEN

    def _acknowledge(self, event: DataReceived) -> None:
        size = event.flow_controlled_length
        if not size:
            return
        with suppress(ProtocolError):  # the end of the stream, or of the connection, came with it
            self.wire.increment_flow_control_window(size)
            if event.stream_id not in self.stalled:
                self.wire.increment_flow_control_window(size, event.stream_id)

    def answer(self, stream: int) -> tuple[str, bytes]:
        """The whole answer on a stream."""
        self.read(lambda: stream in self.ended)
        return self.heads[stream][":status"], bytes(self.bodies[stream])

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
