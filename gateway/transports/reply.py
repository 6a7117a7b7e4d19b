"""Whole answers: a status, a JSON body and what goes with it."""

from typing import NamedTuple

from starlette.types import Scope, Send

JSON = (b"content-type", b"application/json")
ALWAYS = (JSON, (b"cache-control", b"no-cache"), (b"vary", b"Accept"))


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ALWAYS

    @property
    def tag(self) -> str:
        return dict(self.headers).get(b"etag", b"").decode()


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Answers a request; refuses a WebSocket handshake with the same answer (ASGI "Websocket Denial Response")."""
    prefix = "websocket.http." if scope["type"] == "websocket" else "http."
    headers = [*reply.headers]
    body = reply.body
    if reply.status not in (204, 304):
        headers.append((b"content-length", str(len(body)).encode()))
    if scope.get("method") == "HEAD":
        body = b""
    await send({"type": f"{prefix}response.start", "status": reply.status, "headers": headers})
    await send({"type": f"{prefix}response.body", "body": body})
