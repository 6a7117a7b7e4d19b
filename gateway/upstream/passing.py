"""In front of a backend: what is not the gateway's own goes there and comes back as it is, in constant memory.

On aiohttp's client: its parser is C, it gives headers as they came, and leaves bodies encoded when told to.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import msgspec
from starlette.types import Receive, Scope, Send
from yarl import URL

from gateway.direct import EXTENSION
from gateway.transports.reply import BESIDE, JSON, Header, Reply, send_reply
from gateway.upstream import kickoff
from gateway.upstream.client import Client
from gateway.upstream.headers import HOP_BY_HOP, Introduction, end_to_end
from gateway.upstream.talking import talk

log = logging.getLogger("gateway.upstream")

_NOT_BACK = HOP_BY_HOP | {b"date"}  # our server says when it answers

_NONE_OF_ITS_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

HELD = 0.2
"""Seconds that a small JSON reply may take to come whole; one that is slower is passed on as it comes."""


class Upstream:
    """An ASGI app that passes requests and WebSockets on to a backend. Use while `running` is entered.

    `base` is the backend's URL; `host` is what it is told as Host, its own address if empty. `connect` and `idle` are
    seconds until a connection must stand, and that a backend may say nothing; `max_message` the most bytes of a
    WebSocket message. `learn` is told of each task that a reply has started, before its client is.
    """

    def __init__(
        self,
        base: str,
        learn: Callable[[str], None],
        *,
        host: str = "",
        forwarded: str = "x",
        user_header: str = "",
        connect: float = 5,
        idle: float = 300,
        max_message: int = 65_536,
    ) -> None:
        self._base = URL(base)
        self._learn = learn
        self._target = str(self._base.origin()) + self._base.raw_path.rstrip("/")
        host = host or self._base.raw_authority
        self._introduction = Introduction(host, forwarded, user_header)
        self._home = kickoff.Home(self._base, host)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=idle)
        self._max_message = max_message
        self._session: aiohttp.ClientSession
        self._loop: asyncio.AbstractEventLoop

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
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
        if not scope["raw_path"].startswith(b"/"):  # `OPTIONS *`, `CONNECT host:port`: read on in our host name
            return await _fail(scope, send, 400, "Only a path is passed on")
        path: str = scope["path"]
        if "." in path and not {".", ".."}.isdisjoint(path.replace("\\", "/").split("/")):
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

    def _url(self, scope: Scope) -> URL:
        """The same path and query, byte for byte: what is encoded stays so."""
        query: bytes = scope["query_string"]
        path: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        return URL(self._target + path.decode("latin-1"), encoded=True)

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await talk(
            self._session,
            self._url(scope),
            self._introduction.of(scope),
            max_message=self._max_message,
            scope=scope,
            receive=receive,
            send=send,
        )

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, self._loop)
        answered = False
        try:
            async with self._session.request(
                scope["method"],
                self._url(scope),
                headers=self._introduction.of(scope),
                data=client.body() if client.has_body else None,
                allow_redirects=False,
            ) as response:
                answered = True
                await self._answer(scope, send, response)
        except asyncio.CancelledError:
            if not client.left:
                raise
        except (aiohttp.ClientError, TimeoutError) as error:
            if not answered:
                raise
            _cut(scope, error)
        finally:
            client.done()

    async def _answer(self, scope: Scope, send: Send, response: aiohttp.ClientResponse) -> None:
        headers = end_to_end(response.raw_headers, _NOT_BACK)
        if any(name == b"access-control-allow-origin" for name, _ in headers):
            scope[BESIDE] = ()  # the backend has its own rules for pages
        if response.status in {201, 202} or response.status // 100 == 3:
            headers = [self._moved(scope, header) for header in headers]
        content = response.content
        body = content.read_nowait()
        may_start = _may_start_a_task(response)
        if may_start and not content.at_eof():
            body = await _rest(response, body)
        if content.at_eof() and scope["method"] != "HEAD":  # it all came at once, and goes so
            if may_start:
                headers, body = self._look_into(scope, headers, body)
            headers = [header for header in headers if header[0] != b"content-length"]
            return await send_reply(scope, send, Reply(response.status, body, tuple(headers)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        async for part in content.iter_any():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        return await send({"type": "http.response.body", "body": b""})

    def _look_into(self, scope: Scope, headers: list[Header], body: bytes) -> tuple[list[Header], bytes]:
        """Learns of the task that a reply starts, and leads who follows its `url` here."""
        encoding = b",".join([value for name, value in headers if name == b"content-encoding"])
        text = kickoff.plain(body, encoding)
        started = kickoff.read(text, self._home, _own(scope)) if text else None
        if started is None:
            return headers, body
        self._learn(started.id)
        if started.body == text:
            return headers, body
        return [header for header in headers if header[0] != b"content-encoding"], started.body

    def _moved(self, scope: Scope, header: Header) -> Header:
        """A redirection to the backend's own address stays here."""
        name, value = header
        if name != b"location":
            return header
        return name, self._home.left(value.decode("latin-1"), _own(scope)).encode("latin-1")


def _own(scope: Scope) -> str:
    """The gateway's address, as the client called it."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not host and scope.get("server"):
        host = "{}:{}".format(*scope["server"])
    return f"{scope['scheme']}://{host}"


def _may_start_a_task(response: aiohttp.ClientResponse) -> bool:
    return 200 <= response.status < 300 and response.content_type.endswith("json")


async def _rest(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """Waits a moment for the rest of a small reply, of which `body` is there: what then is, whether all or not."""
    content, length = response.content, response.content_length
    if length is None or length <= kickoff.MOST:
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD):
                while not content.at_eof() and len(body) <= kickoff.MOST:
                    body += await content.readany()
    return body


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
