"""WebSocket: over the bare connection where our own server offers it, over plain ASGI anywhere else."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.direct import EXTENSION
from gateway.hub import Hub
from gateway.limits import Seat
from gateway.outlets import Pipe
from gateway.slices import Slice
from gateway.subscription import Subscription
from gateway.transports.streaming import Subscribe, leave
from gateway.wire import Encoding

Incoming = Callable[[Subscription, str | bytes], bytes]
"""Takes a client's message; what it returns is the answer, empty for none."""


async def converse(
    hub: Hub,
    subscribe: Subscribe,
    incoming: Incoming,
    *,
    seat: Seat,
    encoding: Encoding,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Accepts the handshake and serves the subscription until either side ends it.

    A message is taken up when the subscription has been given all that was asked for before.
    """
    if direct := scope.get("extensions", {}).get(EXTENSION):
        if outlet := direct.hand_over():
            seat.handed_on = True
            subscription = subscribe(outlet, encoding.direct)
            outlet.incoming = partial(incoming, subscription)
            outlet.busy = partial(_waits, subscription)
            outlet.lost = partial(leave, hub, subscription, seat)
            subscription.answered = outlet.go_on
            outlet.go_on()
        return
    socket, pipe = WebSocket(scope, receive, send), Pipe()
    await socket.accept()
    subscription = subscribe(pipe, encoding)
    try:
        await _exchange(socket, pipe, subscription, incoming)
    finally:
        hub.unsubscribe(subscription)


def _waits(subscription: Subscription) -> bool:
    """Whether a subscription has not been given yet what was asked for last."""
    return not subscription.synced


async def _exchange(socket: WebSocket, pipe: Pipe, subscription: Subscription, incoming: Incoming) -> None:
    """Blocks out and messages in, until either side ends it."""
    listening = asyncio.create_task(_listen(socket, pipe, subscription, incoming))
    speaking = asyncio.create_task(_speak(socket, pipe))
    try:
        await asyncio.wait((speaking, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (speaking, listening):
            task.cancel()
        for outcome in await asyncio.gather(speaking, listening, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome


async def _listen(socket: WebSocket, pipe: Pipe, subscription: Subscription, incoming: Incoming) -> None:
    answered = asyncio.Event()
    subscription.answered = answered.set
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        while _waits(subscription):
            await answered.wait()
            answered.clear()
        await pipe.emptied()
        current, text = Slice(), message.get("text")
        pipe.write(incoming(subscription, text if text is not None else message.get("bytes") or b""))
        await asyncio.sleep(current.rest if current.over else 0)


async def _speak(socket: WebSocket, pipe: Pipe) -> None:
    async for block in pipe:
        for message in block.splitlines():
            await socket.send_text(message.decode())
    await socket.close(pipe.code)


def with_handshake(receive: Receive) -> Receive:
    """A `receive` that begins with the handshake once more: it was taken to see whether the client leaves."""
    handshake: list[Message] = [{"type": "websocket.connect"}]

    async def receiving() -> Message:
        return handshake.pop() if handshake else await receive()

    return receiving


def error(code: str, message: str) -> bytes:
    """An `error` message: a code for machines, a sentence for people."""
    return msgspec.json.encode({"type": "error", "code": code, "message": message}) + b"\n"
