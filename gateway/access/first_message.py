"""A WebSocket whose first message is its token: browsers give a WebSocket no headers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.grants import Grant, set_grant
from gateway.access.tokens import TokenError
from gateway.direct import EXTENSION

WITHIN = 10.0
"""Seconds that the message may take to come."""

POLICY = 1008


class _Auth(msgspec.Struct, tag_field="type", tag="auth"):
    token: str


Check = Callable[[str], Awaitable[Grant]]


async def after_first_message(app: ASGIApp, check: Check, scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts the handshake, reads `{"type":"auth","token":…}`, and goes on as if the token had come with it."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        async with asyncio.timeout(WITHIN):
            message = await receive()
        if message["type"] == "websocket.disconnect":
            return None
        said = msgspec.json.decode(message.get("text") or message.get("bytes") or b"", type=_Auth)
        set_grant(scope, await check(said.token))
    except (TimeoutError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return await send({"type": "websocket.close", "code": POLICY, "reason": "A token is needed first"})
    except TokenError as error:
        return await send({"type": "websocket.close", "code": POLICY, "reason": str(error)})
    with suppress(KeyError):
        del scope["extensions"][EXTENSION]  # the handshake is over: it cannot be handed over any more
    return await app(scope, _with_handshake(receive), _without_accept(send))


def _with_handshake(receive: Receive) -> Receive:
    handshake: list[Message] = [{"type": "websocket.connect"}]

    async def receiving() -> Message:
        return handshake.pop() if handshake else await receive()

    return receiving


def _without_accept(send: Send) -> Send:
    """A refusal, too, can only be the end of the connection now."""

    async def sending(message: Message) -> None:
        if message["type"] == "websocket.http.response.start":
            await send({"type": "websocket.close", "code": POLICY, "reason": f"HTTP {message['status']}"})
        elif message["type"] in {"websocket.send", "websocket.close"}:
            await send(message)

    return sending
