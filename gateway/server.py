"""Our uvicorn: the sockets it listens on, and an end that leaves no stream hanging."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from gateway.app import Gateway
from gateway.handover import HttpProtocol, WebSocketProtocol
from gateway.settings import Settings

log = logging.getLogger("gateway.server")


BACKLOG = 65_535
"""Connections that may wait to be accepted; the system takes what it allows (on Linux net.core.somaxconn)."""


UNSENT = 32 * 1024
"""Bytes that may wait in the kernel to be sent: they cannot be conflated, and are old by the time they go."""


class BindError(OSError):
    """An address that cannot be listened on; the text says which and why."""


class Server(uvicorn.Server):
    """Serves the app on sockets that are bound already.

    uvicorn waits for open responses before it shuts the app down, and tells streams nothing: they are ended here
    first. A signal ends it with exit status 0, a second one at once.
    """

    def __init__(self, app: Gateway, settings: Settings, on_start: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=type(
                    "Http",
                    (HttpProtocol,),
                    {"head_deadline": settings.head_deadline, "max_head": settings.max_head},
                ),
                ws=WebSocketProtocol,
                ws_per_message_deflate=False,  # costs tens of kilobytes a connection
                ws_max_size=settings.max_message,
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
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_start:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
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


def listen(binds: list[str]) -> list[socket.socket]:
    """Sockets for `HOST:PORT` addresses, on each address the host has. Raises BindError."""
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets += _listen(bind)
    except OSError:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _listen(bind: str) -> list[socket.socket]:
    host, colon, port_text = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port_text.isdecimal() or int(port_text) > 65_535:
        raise BindError(f"{bind!r} is not HOST:PORT")
    port = int(port_text)
    found: list[socket.socket] = []
    trouble: OSError | None = None
    for family, address in _addresses(host, bind):
        try:
            opened = _open(family, address, port)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # no IPv6 here, or no IPv4
                trouble = error
                continue
            for other in found:
                other.close()
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
            raise BindError(f"{bind} {reason}") from None
        found.append(opened)
        port = opened.getsockname()[1]  # port 0: the same one on both families
    if not found:
        raise BindError(f"{bind} cannot be bound: {trouble.strerror if trouble else 'no such address'}")
    return found


def _addresses(host: str, bind: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "localhost":  # some systems list only one of them, and Node.js takes the other
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise BindError(f"{bind}: there is no host {host!r}") from None
    return list(dict.fromkeys((row[0], str(row[4][0])) for row in rows))


def _open(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what a connection inherits
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        opened.bind((address, port))
        opened.listen(BACKLOG)  # tells now whether another one listens there
    except OSError:
        opened.close()
        raise
    return opened
