"""How blocks of bytes go over a bare connection: as chunks of HTTP/1.1, or as frames of WebSocket. No I/O."""

import struct

PONG = b"\x8a\x00"
"""An unsolicited pong: a heartbeat that no client answers (RFC 6455, 5.5.3)."""


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1); nothing for nothing, because an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole, unmasked WebSocket frame, as servers send it (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def frames(lines: bytes) -> bytes:
    """A text frame of each line."""
    return b"".join([frame(0x1, line) for line in lines.splitlines()])
