"""Which protocol a new connection speaks."""

import asyncio

from uvicorn.protocols.http.auto_zttp_impl import HTTP2_PREFACE as PREFACE

from gateway.handover import HttpProtocol
from gateway.http2.connection import Connection


class Protocol(HttpProtocol):
    """HTTP/1.1, until a connection says that it is HTTP/2: by ALPN over TLS, by its first bytes else."""

    http2: type[Connection]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._first: bytes | None = b""
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted:
            self._first = None
            if encrypted.selected_alpn_protocol() == "h2":
                self._become_http2(b"")

    def data_received(self, data: bytes) -> None:
        if self._first is None:
            return super().data_received(data)
        first = self._first + data
        if first.startswith(PREFACE):
            self._become_http2(first)
        elif PREFACE.startswith(first):
            self._first = first
        else:
            self._first = None
            super().data_received(first)
        return None

    def _become_http2(self, first: bytes) -> None:
        self._stop_reading_timer()
        self._intake.end()
        self.connections.discard(self)
        other = self.http2(self.config, self.server_state, self.app_state, self.loop)
        self.transport.set_protocol(other)
        other.connection_made(self.transport)
        if first:
            other.data_received(first)
