"""WebSocket: over the bare connection where our own server offers it, over plain ASGI anywhere else."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.direct import EXTENSION
from gateway.hub import Hub
from gateway.outlets import Pipe
from gateway.subscription import Subscription
from gateway.transports.streaming import Subscribe
from gateway.wire import Encoding

Incoming = Callable[[Subscription, str | bytes], bytes]
"""Takes a client's message; what it returns is the answer, empty for none."""


async def converse(
    hub: Hub,
    subscribe: Subscribe,
    incoming: Incoming,
    *,
    encoding: Encoding,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Accepts the handshake and serves the subscription until either side ends it."""
    if direct := scope.get("extensions", {}).get(EXTENSION):
        if outlet := direct.hand_over():
            subscription = subscribe(outlet, encoding.direct)
            outlet.incoming = partial(incoming, subscription)
            outlet.lost = partial(hub.unsubscribe, subscription)
        return
    socket, pipe = WebSocket(scope, receive, send), Pipe()
    await socket.accept()
    subscription = subscribe(pipe, encoding)
    try:
        await _exchange(socket, pipe, partial(incoming, subscription))
    finally:
        hub.unsubscribe(subscription)


async def _exchange(socket: WebSocket, pipe: Pipe, incoming: Callable[[str | bytes], bytes]) -> None:
    """Blocks out and messages in, until either side ends it."""

    async def listen() -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            pipe.write(incoming(text if text is not None else message.get("bytes") or b""))

    async def speak() -> None:
        async for block in pipe:
            for message in block.splitlines():
                await socket.send_text(message.decode())
        await socket.close(pipe.code)

    speaking, listening = asyncio.create_task(speak()), asyncio.create_task(listen())
    try:
        await asyncio.wait((speaking, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (speaking, listening):
            task.cancel()
        for outcome in await asyncio.gather(speaking, listening, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome


def error(code: str, message: str) -> bytes:
    """An `error` message: a code for machines, a sentence for people."""
    return msgspec.json.encode({"type": "error", "code": code, "message": message}) + b"\n"
