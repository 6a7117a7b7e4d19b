"""Clients that behave badly: each bounded in bytes, seconds and connections."""

import contextlib
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.harness import Gateway

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
STANDSTILL = 4.0
"""Seconds without a byte taken after which a flood is held off for good."""

MOST_KEPT = 64 * 1024 * 1024

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def head(path: str, *lines: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "")).encode()


def handshake(path: str, *lines: str) -> bytes:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return head(path, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key, *lines)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """A client's WebSocket frame; its mask is zero."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b""
    length = length or b"\xff" + size.to_bytes(8)
    return bytes([fin << 7 | reserved << 4 | opcode]) + length + bytes(4) + payload


class Raw:
    """A connection whose bytes are said as they are, and read when it is told to."""

    def __init__(self, one: Gateway, *, buffer: int = 4_096) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", one.port))
        self.received = bytearray()
        self.closed = False

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @classmethod
    def talking(cls, one: Gateway, path: str, *lines: str) -> "Raw":
        """A WebSocket after its handshake."""
        raw = cls(one)
        raw.say(handshake(path, *lines))
        raw.hear(10, lambda: b"\r\n\r\n" in raw.received)
        assert raw.received.startswith(b"HTTP/1.1 101"), bytes(raw.received[:100])
        return raw

    def say(self, data: bytes) -> None:
        self.socket.settimeout(10)
        self.socket.sendall(data)

    def hear(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Reads until the other side closes, for so many seconds, or until it is enough."""
        end = time.monotonic() + seconds
        while not self.closed and not enough() and time.monotonic() < end:
            self._read(65_536, 0.1)

    def _read(self, most: int, seconds: float) -> None:
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            try:
                data = self.socket.recv(most)
            except ConnectionError:
                data = b""
            self.closed = not data
            if len(self.received) < MOST_KEPT:
                self.received += data

    def flood(
        self, data: bytes, *, most: int, seconds: float, over: Callable[[], bool] = lambda: False, reads: int = 0
    ) -> int:
        """Says the same again and again, until so many bytes or seconds, or until nobody takes it. Returns the bytes.

        Between two sends it reads up to `reads` bytes.
        """
        now = taken = time.monotonic()
        end, sent, at, view = now + seconds, 0, 0, memoryview(data)
        while sent < most and now < end and now < taken + STANDSTILL and not over() and not self.closed:
            self.socket.settimeout(0.05)
            try:
                size = self.socket.send(view[at : at + 262_144])
            except TimeoutError:
                size = 0
            except OSError:
                self.closed = True
                break
            at, sent, now = (at + size) % len(data), sent + size, time.monotonic()
            taken = now if size else taken
            if reads:
                self._read(reads, 0)
        return sent

    @property
    def statuses(self) -> Counter[str]:
        return Counter(status.decode() for status in STATUS.findall(self.received))


class Crowd:
    """Many connections: each says its own bytes, all at once, and keeps the beginning of what it hears."""

    def __init__(self, one: Gateway, says: Sequence[bytes], *, buffer: int = 0, sources: int = 1) -> None:
        self.sockets: list[socket.socket] = []
        self.says = says
        self.heard = [b""] * len(says)
        self.closed = [False] * len(says)
        self._ready = selectors.DefaultSelector()
        for n in range(len(says)):
            opened = socket.socket()
            self.sockets.append(opened)
            if buffer:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            opened.settimeout(20)
            if sources > 1:
                opened.bind((f"127.0.0.{1 + n % sources}", 0))
            opened.connect(("127.0.0.1", one.port))
            opened.setblocking(False)
            self._ready.register(opened, selectors.EVENT_READ, n)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._ready.close()
        for opened in self.sockets:
            opened.close()

    def say(self) -> None:
        for opened, said in zip(self.sockets, self.says, strict=True):
            with contextlib.suppress(ConnectionError):
                opened.sendall(said)

    def hear(self, seconds: float, enough: Callable[[], bool] = lambda: False, most: int = 65_536) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not enough():
            for key, _ in self._ready.select(0.1):
                self._take(key.data, most)

    def _take(self, n: int, most: int) -> None:
        try:
            data = self.sockets[n].recv(65_536)
        except ConnectionError:
            data = b""
        if data and len(self.heard[n]) < most:
            self.heard[n] += data
        if not data:
            self.closed[n] = True
            self._ready.unregister(self.sockets[n])

    @property
    def statuses(self) -> list[str]:
        """Of each the first answer's; `open` where none came, `none` where it was closed without one."""
        found = [STATUS.match(heard) for heard in self.heard]
        return [
            answer[1].decode() if answer else "none" if closed else "open"
            for answer, closed in zip(found, self.closed, strict=True)
        ]

    def answered(self) -> int:
        return sum(status != "open" for status in self.statuses)
