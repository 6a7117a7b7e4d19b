"""Which headers go on to the backend and back, and what is added on the way. No I/O."""

from collections.abc import Iterable

from multidict import CIMultiDict
from starlette.types import Scope

from gateway.access.proxies import USER
from gateway.transports.reply import Header

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that speak of one connection only (RFC 9110, 7.6.1)."""

_NONE: frozenset[bytes] = frozenset()

_OURS = {b"host", b"expect"}
_X_FORWARDED = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}

CLIENTS_HOST = "*"
"""A `host` that stands for what the client said."""


class Introduction:
    """What the backend is told of a client: as which Host it was called, and who asked.

    `forwarded`: "x" for X-Forwarded-For, -Host and -Proto, "rfc7239" for Forwarded, "both", or "off" to pass on what
    came and add nothing. `user_header` comes from a trusted proxy or is dropped.
    """

    def __init__(self, host: str, forwarded: str, user_header: str = "") -> None:
        self._host = host
        self._x = forwarded in {"x", "both"}
        self._rfc = forwarded in {"rfc7239", "both"}
        own = (_X_FORWARDED if self._x else set()) | ({b"forwarded"} if self._rfc else set())
        self._dropped = HOP_BY_HOP | _OURS | own
        self._from_nobody = self._dropped | {user_header.lower().encode("latin-1")}

    def of(self, scope: Scope) -> CIMultiDict[str]:
        """A request's headers as the backend gets them. Each hop adds itself to those before it."""
        headers: list[Header] = scope["headers"]
        kept = [
            (n.decode("latin-1"), v.decode("latin-1"))
            for n, v in end_to_end(headers, self._dropped if USER in scope else self._from_nobody)
        ]
        client = scope["client"][0] if scope["client"] else "unknown"
        proto = "https" if scope["scheme"] in {"https", "wss"} else "http"
        host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
        kept.append(("Host", host if self._host == CLIENTS_HOST else self._host))
        if self._x:
            kept += [
                ("X-Forwarded-For", _after(headers, b"x-forwarded-for", client)),
                ("X-Forwarded-Host", host),
                ("X-Forwarded-Proto", proto),
            ]
        if self._rfc:
            node = f'"[{client}]"' if ":" in client else client
            own = f"for={node};host={_quoted(host)};proto={proto}"
            kept.append(("Forwarded", _after(headers, b"forwarded", own)))
        return CIMultiDict(kept)


def end_to_end(headers: Iterable[Header], dropped: frozenset[bytes]) -> list[Header]:
    """The headers, in lower case, without `dropped`, and without those that their Connection header names."""
    kept, listed = [], _NONE
    for name, value in headers:
        lower = name.lower()
        if lower == b"connection":
            listed = listed.union([part.strip().lower() for part in value.split(b",")])
        elif lower not in dropped:
            kept.append((lower, value))
    return [header for header in kept if header[0] not in listed] if listed else kept


def _after(headers: Iterable[Header], name: bytes, own: str) -> str:
    """What the hops before said, and our own word after it."""
    return ", ".join([*(value.decode("latin-1") for key, value in headers if key == name), own])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
