"""Which headers go on to the backend and back, and what is added on the way. No I/O."""

from collections.abc import Iterable

from multidict import CIMultiDict
from starlette.types import Scope

from gateway.transports.reply import Header

_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
               b"trailer", b"transfer-encoding", b"upgrade"}  # fmt: skip
"""Headers that speak of one connection only (RFC 9110, 7.6.1)."""

_OURS = {b"host", b"expect"}
_X_FORWARDED = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}

CLIENTS_HOST = "*"
"""A `host` that stands for what the client said."""


class Introduction:
    """What the backend is told of a client: as which Host it was called, and who asked.

    `forwarded`: "x" for X-Forwarded-For, -Host and -Proto, "rfc7239" for Forwarded, "both", or "off" to pass on what
    came and add nothing.
    """

    def __init__(self, host: str, forwarded: str) -> None:
        self._host = host
        self._x = forwarded in {"x", "both"}
        self._rfc = forwarded in {"rfc7239", "both"}
        self._dropped = _OURS | (_X_FORWARDED if self._x else set()) | ({b"forwarded"} if self._rfc else set())

    def of(self, scope: Scope) -> CIMultiDict[str]:
        """A request's headers as the backend gets them. Each hop adds itself to those before it."""
        headers: list[Header] = scope["headers"]
        kept = CIMultiDict([(n.decode("latin-1"), v.decode("latin-1")) for n, v in end_to_end(headers, self._dropped)])
        told = {name: value.decode("latin-1") for name, value in headers}
        client = scope["client"][0] if scope["client"] else "unknown"
        proto = "https" if scope["scheme"] in {"https", "wss"} else "http"
        host = told.get(b"host", "")
        kept["Host"] = host if self._host == CLIENTS_HOST else self._host
        if self._x:
            kept["X-Forwarded-For"] = _after(headers, b"x-forwarded-for", client)
            kept["X-Forwarded-Host"] = host
            kept["X-Forwarded-Proto"] = proto
        if self._rfc:
            node = f'"[{client}]"' if ":" in client else client
            kept["Forwarded"] = _after(headers, b"forwarded", f"for={node};host={_quoted(host)};proto={proto}")
        return kept


def end_to_end(headers: Iterable[Header], without: Iterable[bytes] = ()) -> list[Header]:
    """The headers, in lower case, without those of one connection, the ones that its Connection header names too."""
    headers = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP.union(without)
    for name, value in headers:
        if name == b"connection":
            dropped.update(part.strip().lower() for part in value.split(b","))
    return [header for header in headers if header[0] not in dropped]


def _after(headers: Iterable[Header], name: bytes, own: str) -> str:
    """What the hops before said, and our own word after it."""
    return ", ".join([*(value.decode("latin-1") for key, value in headers if key == name), own])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
