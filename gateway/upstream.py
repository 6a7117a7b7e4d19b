"""In front of a backend: what is not the gateway's own goes there and comes back as it is, in constant memory.

On aiohttp's client: its parser is C, it gives headers as they came, and leaves bodies encoded when told to.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from gateway.direct import EXTENSION
from gateway.transports.reply import JSON, Header, Reply, send_reply

log = logging.getLogger("gateway.upstream")

_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
               b"trailer", b"transfer-encoding", b"upgrade"}  # fmt: skip
"""Headers that speak of one connection only (RFC 9110, 7.6.1)."""

_OURS = {b"host", b"expect", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
_GIVEN = (b"date",)  # our server says when it answers

_NONE_OF_ITS_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Upstream:
    """An ASGI app that passes requests and WebSockets on to a backend. Use while `running` is entered.

    `base` is the backend's URL; `host` is what it is told as Host, its own address if empty. `connect` and `idle` are
    seconds until a connection must stand, and that a backend may say nothing.
    """

    def __init__(self, base: str, *, host: str = "", connect: float = 5, idle: float = 300) -> None:
        self._base = URL(base)
        self._host = host or self._base.raw_authority
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=65_536,
            max_line_size=65_536,
            skip_auto_headers=_NONE_OF_ITS_OWN,
            timeout=self._timeout,
        ) as self._session:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["raw_path"].startswith(
            b"/"
        ):  # `OPTIONS *`, `CONNECT host:port`: it would read on in our host name
            return await _fail(scope, send, 400, "Only a path is passed on")
        if any(part in {".", ".."} for part in scope["path"].replace("\\", "/").split("/")):
            return await _fail(scope, send, 400, "A path with dot segments is not passed on")
        exchange = self._talk if scope["type"] == "websocket" else self._pass
        try:
            await exchange(scope, receive, send)
        except TimeoutError:
            await _fail(scope, send, 504, "The backend did not answer in time")
        except aiohttp.WSServerHandshakeError as refusal:
            await _fail(scope, send, refusal.status, "The backend refused the WebSocket")
        except aiohttp.ClientError as error:
            log.debug("%s: %s", self._base, error)
            await _fail(scope, send, 502, "The backend cannot be reached")

    def _target(self, scope: Scope) -> URL:
        """The same path and query, byte for byte: what is encoded stays so."""
        query: bytes = scope["query_string"]
        path = scope["raw_path"].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        return URL(str(self._base.origin()) + self._base.raw_path.rstrip("/") + path, encoded=True)

    def _headers(self, scope: Scope) -> CIMultiDict[str]:
        headers = scope["headers"]
        kept = CIMultiDict((n.decode("latin-1"), v.decode("latin-1")) for n, v in _end_to_end(headers, _OURS))
        told: dict[bytes, str] = {name: value.decode("latin-1") for name, value in headers}
        client = scope["client"][0] if scope["client"] else "unknown"
        before = told.get(b"x-forwarded-for", "")
        kept["Host"] = self._host
        kept["X-Forwarded-For"] = f"{before}, {client}" if before else client
        kept["X-Forwarded-Host"] = told.get(b"host", "")
        kept["X-Forwarded-Proto"] = "https" if scope["scheme"] in {"https", "wss"} else "http"
        return kept

    # Requests

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        names = {name for name, value in scope["headers"] if value != b"0"}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        reading = asyncio.create_task(body.read(asyncio.current_task()))
        started = False
        try:
            async with self._session.request(
                scope["method"],
                self._target(scope),
                headers=self._headers(scope),
                data=body.parts() if has_body else None,
                allow_redirects=False,
            ) as response:
                headers = [*_end_to_end(response.raw_headers, _GIVEN)]
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                started = True
                async for part in response.content.iter_any():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not body.client_left:
                raise
        except (aiohttp.ClientError, TimeoutError) as error:
            if not started:
                raise
            _cut(scope, error)
        finally:
            reading.cancel()

    # WebSockets

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the handshake
        headers = self._headers(scope)
        for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
            headers.popall(name, None)
        async with self._session.ws_connect(
            self._target(scope), headers=headers, protocols=scope["subprotocols"], max_msg_size=0, autoping=True
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


class _Body:
    """A request's body as it comes, and whether the client has left: one reads, for both come by `receive`."""

    def __init__(self, receive: Receive) -> None:
        self.client_left = False
        self._receive = receive
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    async def read(self, exchange: "asyncio.Task[None] | None") -> None:
        """Ends the exchange when the client leaves."""
        while (message := await self._receive())["type"] != "http.disconnect":
            if message.get("body"):
                await self._parts.put(message["body"])
            if not message.get("more_body"):
                await self._parts.put(None)
        self.client_left = True
        if exchange:
            exchange.cancel()

    async def parts(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part


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
        said: Message = {"type": "websocket.send", key: message.data}
        await send(said)
    code = backend.close_code or 1001
    await send({"type": "websocket.close", "code": 1001 if code == 1006 else code})


def _end_to_end(headers: Iterable[Header], without: Iterable[bytes]) -> Iterable[Header]:
    """The headers without those of one connection, the ones that its Connection header names among them."""
    headers = [(name.lower(), value) for name, value in headers]
    listed = {part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")}
    dropped = _HOP_BY_HOP | listed | set(without)
    return [(name, value) for name, value in headers if name not in dropped]


def _cut(scope: Scope, error: Exception) -> None:
    """Half an answer has gone out: only the end of its connection can say that the rest is missing."""
    log.warning("an answer of the backend broke off: %s", error)
    direct = scope.get("extensions", {}).get(EXTENSION)
    if not direct:
        raise error
    direct.cut()


async def _fail(scope: Scope, send: Send, status: int, sentence: str) -> None:
    body = msgspec.json.encode({"error": sentence})
    await send_reply(scope, send, Reply(status, body, (JSON,)))
