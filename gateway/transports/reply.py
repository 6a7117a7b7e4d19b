"""Whole answers: a status, a JSON body and what goes with it."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing

from starlette.types import Scope, Send

from gateway.direct import EXTENSION

JSON = (b"content-type", b"application/json")
ALWAYS = (JSON, (b"vary", b"Accept, Origin"))

BESIDE = "gateway.beside"
"""Where a scope holds headers that go beside those of any answer to it."""

Header = tuple[bytes, bytes]


class Reply:
    """An answer that can be sent again and again."""

    __slots__ = ("body", "head", "headers", "status", "tag")

    def __init__(self, status: int, body: bytes, headers: tuple[Header, ...] = ALWAYS, *, tag: str = "") -> None:
        self.status, self.body, self.tag = status, body, tag
        if tag:
            headers += ((b"etag", b'"%b"' % tag.encode()),)
        if status not in (204, 304):
            headers += ((b"content-length", str(len(body)).encode()),)
        self.headers = headers
        self.head = head_of(headers)


class LongReply:
    """An answer whose body is made as its client takes it. It may be sent once."""

    def __init__(self, pieces: Callable[[], AsyncIterator[bytes]], *, tag: str) -> None:
        self.status, self.tag = 200, tag
        self.headers = (*ALWAYS, (b"etag", b'"%b"' % tag.encode()))
        self._pieces = pieces

    async def send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        if scope["method"] != "HEAD":
            async with aclosing(self._pieces()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class State:
    """The answer that shows one state, and the 304 for who has it."""

    __slots__ = ("not_modified", "ok")

    def __init__(self, tag: str, body: bytes) -> None:
        self.ok = Reply(200, body, tag=tag)
        self.not_modified = Reply(304, b"", tag=tag)

    def to(self, known: set[str]) -> Reply:
        """What a client gets that has the states of these tags (If-None-Match)."""
        return self.not_modified if known and (self.ok.tag in known or "*" in known) else self.ok


def head_of(headers: Iterable[Header]) -> bytes:
    """Headers as they go over the wire, with the empty line at their end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers]) + b"\r\n"


def length_of(headers: Iterable[Header]) -> int:
    """How long a request's body is said to be; 0 where it has none, or is chunked."""
    return next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


def has_body(headers: Iterable[Header]) -> bool:
    """Whether a request with these headers has a body (RFC 9112, 6.3)."""
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Answers a request; refuses a WebSocket handshake with the same answer (ASGI "Websocket Denial Response")."""
    body = b"" if scope.get("method") == "HEAD" else reply.body
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    direct = scope.get("extensions", {}).get(EXTENSION) if prefix == "http" else None
    if direct and direct.answer(reply.status, reply.head, body):
        return
    await send({"type": f"{prefix}.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": f"{prefix}.response.body", "body": body})
