"""Our uvicorn, with an end that leaves no stream hanging."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from gateway.app import Gateway
from gateway.certificate import Certificate
from gateway.handover import HttpProtocol, WebSocketProtocol
from gateway.settings import Settings
from gateway.sockets import BACKLOG

log = logging.getLogger("gateway.server")


class Server(uvicorn.Server):
    """Serves the app on sockets that are bound already.

    uvicorn waits for open responses before it shuts the app down, and tells streams nothing: they are ended here
    first. A signal ends it with exit status 0, a second one at once.
    """

    def __init__(
        self,
        app: Gateway,
        settings: Settings,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_http(settings),
                ws=type("WebSocket", (WebSocketProtocol,), {"max_message": settings.max_message}),
                ws_per_message_deflate=False,  # costs tens of kilobytes a connection
                ws_max_size=settings.upstream_message if settings.upstream else settings.max_message,
                loop="auto",
                log_config=None,
                access_log=settings.access_log,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=settings.grace,
                lifespan="on",
            )
        )
        self.ending_signals: tuple[int, ...] = HANDLED_SIGNALS
        self._engine = app.engine
        self._on_start, self._on_stop = on_start, on_stop
        self._certificate: Certificate | None = None
        if settings.tls_cert:
            protocols = ("h2", "http/1.1") if settings.http2 else ("http/1.1",)
            self._certificate = Certificate(settings.tls_cert, settings.tls_key, protocols)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        async with self._certificate.running() if self._certificate else nullcontext():
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate:
            self.config.ssl = self._certificate.context
        await super().startup(sockets)
        if self._on_start:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop:
            self._on_stop()
        for server in self.servers:  # nobody comes in any more, so that all who are there can be told
            server.close()
        self._engine.hub.close()
        await asyncio.sleep(0)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # who has not read the last words by now
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {sig: signal.signal(sig, self.handle_exit) for sig in self.ending_signals}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(0)  # there is nothing to save: the folder has it all
        self.should_exit = True


def _http(settings: Settings) -> type[HttpProtocol]:
    """The protocol of a new connection, with its limits."""
    limits: dict[str, object] = {"head_deadline": settings.head_deadline, "max_head": settings.max_head}
    if not settings.http2:
        return type("Http", (HttpProtocol,), limits)
    from gateway.http2.choice import Protocol  # noqa: PLC0415 - an extra
    from gateway.http2.connection import Connection  # noqa: PLC0415

    http2 = type("Http2", (Connection,), {**limits, "write_deadline": settings.write_deadline})
    return type("Http", (Protocol,), {**limits, "http2": http2})
