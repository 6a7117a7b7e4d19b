"""Our uvicorn, with an end that leaves no stream hanging."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from gateway.app import Gateway
from gateway.certificate import Certificate
from gateway.handover import HttpProtocol
from gateway.handshake import WebSocketProtocol
from gateway.parts import Parts
from gateway.settings import Settings
from gateway.sockets import BACKLOG, prepare

log = logging.getLogger("gateway.server")


class Server(uvicorn.Server):
    """Serves the app on sockets that are bound already.

    uvicorn waits for open responses before it shuts the app down, and tells streams nothing: they are ended here
    first. A signal ends it, a second one calls `at_once`; so does that the app has failed, which `failed` tells then.
    """

    def __init__(
        self,
        app: Gateway,
        settings: Settings,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[[], None] | None = None,
        at_once: Callable[[], None] = lambda: os._exit(0),
    ) -> None:
        self._http: Any = _http(settings)  # a class of its own: its attributes are this server's
        self._ws: Any = type("WebSocket", (WebSocketProtocol,), {})
        super().__init__(
            uvicorn.Config(
                app,
                http=self._http,
                ws=self._ws,
                ws_per_message_deflate=False,  # costs tens of kilobytes a connection
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
        self._app = app
        self._sockets: list[socket.socket] = []
        self._on_start, self._on_stop, self._at_once = on_start, on_stop, at_once
        self._certificate: Certificate | None = None
        if settings.tls_cert:
            protocols = ("h2", "http/1.1") if settings.http2 else ("http/1.1",)
            self._certificate = Certificate(settings.tls_cert, settings.tls_key, protocols)

        self._limit(settings)

    @property
    def parts(self) -> Parts:
        """Those of this process."""
        return self._app.engine.parts

    @property
    def failed(self) -> bool:
        return bool(self.parts.failure)

    def take(self, settings: Settings) -> None:
        """Goes on with these settings: at once where that can be, at connections with those that come."""
        self._app.take(settings)
        self._limit(settings)
        for opened in self._sockets:
            prepare(opened, settings.write_deadline)

    def _limit(self, settings: Settings) -> None:
        for protocol in (self._http, getattr(self._http, "http2", self._http)):
            protocol.head_deadline, protocol.max_head = settings.head_deadline, settings.max_head
            protocol.write_deadline, protocol.unsent = settings.write_deadline, self._app.engine.limits.unsent
        self._ws.max_message, self._ws.write_deadline = settings.max_message, settings.write_deadline
        self.config.ws_max_size = settings.upstream_message if settings.upstream else settings.max_message

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._sockets = sockets or []
        async with self._certificate.running(self.parts) if self._certificate else nullcontext():
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate:
            self.config.ssl = self._certificate.context
        await super().startup(sockets)
        if self._on_start:
            self._on_start()

    async def main_loop(self) -> None:
        async with self.parts.running("server", super().main_loop) as looping:
            await looping

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.failed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop:
            self._on_stop()
        for server in self.servers:  # nobody comes in any more, so that all who are there can be told
            server.close()
        self._app.engine.hub.close()
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
            self._at_once()  # there is nothing to save: the folder has it all
        self.should_exit = True


def _http(settings: Settings) -> type[HttpProtocol]:
    """The protocol of a new connection; its limits are set on it."""
    if not settings.http2:
        return type("Http", (HttpProtocol,), {})
    from gateway.http2.choice import Protocol  # noqa: PLC0415 - an extra
    from gateway.http2.connection import Connection  # noqa: PLC0415

    return type("Http", (Protocol,), {"http2": type("Http2", (Connection,), {})})
