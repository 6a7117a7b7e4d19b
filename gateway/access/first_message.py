"""A WebSocket whose first message is its token: browsers give a WebSocket no headers."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.grants import Grant, set_grant
from gateway.access.tokens import TokenError
from gateway.direct import EXTENSION, Socket
from gateway.transports.websocket import with_handshake

WITHIN = 10.0
"""Seconds that the message may take to come."""

POLICY = 1008


class _Auth(msgspec.Struct, tag_field="type", tag="auth"):
    token: str


Check = Callable[[str], Awaitable[Grant]]


async def after_first_message(app: ASGIApp, check: Check, scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts the handshake, reads `{"type":"auth","token":…}`, and goes on as if the token had come with it."""
    if direct := scope.get("extensions", {}).get(EXTENSION):
        if socket := direct.hand_over():
            await _on_socket(socket, app, check, scope)
        return None
    await receive()
    await send({"type": "websocket.accept"})

    async def heard() -> str | bytes | None:
        message = await receive()
        return None if message["type"] == "websocket.disconnect" else message.get("text") or message.get("bytes") or b""

    if (refusal := await _refusal(heard, check, scope)) is None:
        return await app(scope, with_handshake(receive), _without_accept(send))
    if refusal:
        await send({"type": "websocket.close", "code": POLICY, "reason": refusal})
    return None


class _First:
    """The first message of a bare connection, or that its client has left."""

    def __init__(self, socket: Socket) -> None:
        self._message: asyncio.Future[str | bytes | None] = asyncio.get_running_loop().create_future()
        self._left = asyncio.Event()
        socket.incoming, socket.busy, socket.lost = self._hear, self._message.done, self._leave

    def _hear(self, message: str | bytes | None) -> bytes:
        if not self._message.done():
            self._message.set_result(message)
        return b""

    def _leave(self) -> None:
        self._left.set()
        self._hear(None)

    async def heard(self) -> str | bytes | None:
        return await self._message

    async def receive(self) -> Message:
        """Messages come to the socket itself: ASGI is only told of the end."""
        await self._left.wait()
        return {"type": "websocket.disconnect"}


async def _on_socket(socket: Socket, app: ASGIApp, check: Check, scope: Scope) -> None:
    """On the bare connection: it costs no more than one whose token came with the handshake."""
    first = _First(socket)

    async def send(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            socket.close(POLICY, f"HTTP {message['status']}")

    if (refusal := await _refusal(first.heard, check, scope)) is None:
        scope["extensions"][EXTENSION] = socket
        await app(scope, with_handshake(first.receive), send)
    elif refusal:
        socket.close(POLICY, refusal)


async def _refusal(heard: Callable[[], Awaitable[str | bytes | None]], check: Check, scope: Scope) -> str | None:
    """Why whoever sent the first message is not served; None where he is, and "" where he has left."""
    try:
        async with asyncio.timeout(WITHIN):
            message = await heard()
        if message is None:
            return ""
        set_grant(scope, await check(msgspec.json.decode(message, type=_Auth).token))
    except (TimeoutError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "A token is needed first"
    except TokenError as error:
        return str(error)
    return None


def _without_accept(send: Send) -> Send:
    """A refusal, too, can only be the end of the connection now."""

    async def sending(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            await send({"type": "websocket.close", "code": POLICY, "reason": f"HTTP {message['status']}"})
        elif message["type"] in {"websocket.send", "websocket.close"}:
            await send(message)

    return sending
