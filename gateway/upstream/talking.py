"""A WebSocket passed on: messages both ways until either side ends it."""

import asyncio

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL


async def talk(
    session: aiohttp.ClientSession,
    target: URL,
    headers: CIMultiDict[str],
    *,
    max_message: int,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Raises aiohttp's errors where the backend does not take the handshake; then nothing has been answered yet."""
    await receive()  # the handshake
    for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
        headers.popall(name, None)
    async with session.ws_connect(
        target, headers=headers, protocols=scope["subprotocols"], max_msg_size=max_message, autoping=True
    ) as backend:
        await send({"type": "websocket.accept", "subprotocol": backend.protocol})
        there = asyncio.create_task(_to_backend(receive, backend))
        back = asyncio.create_task(_to_client(backend, send))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)


async def _to_backend(receive: Receive, backend: aiohttp.ClientWebSocketResponse) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message.get("text") is not None:
            await backend.send_str(message["text"])
        else:
            await backend.send_bytes(message["bytes"])
    await backend.close(code=message.get("code") or 1000)


async def _to_client(backend: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in backend:
        key = "text" if message.type is aiohttp.WSMsgType.TEXT else "bytes"
        await send({"type": "websocket.send", key: message.data})
    code = backend.close_code or 1001
    await send({"type": "websocket.close", "code": 1001 if code == 1006 else code})
